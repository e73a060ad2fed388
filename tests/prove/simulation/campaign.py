"""The campaign: many schedules, a few at a time in processes of their own, which end without any tidying up."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from strands_dapr_session.testing.compare import Run
from strands_dapr_session.testing.ledger import Entry
from tests.prove import seeds
from tests.prove.campaign import Campaign, Findings
from tests.prove.seeds import Told
from tests.prove.simulation import agents, orchestrators
from tests.prove.simulation.schedule import Schedule

PER_PROGRAM = 8
"""Schedules of one program: it runs undisturbed only once."""

_BATCH = 40

EXPECTED = {
    "kill at send",
    "kill at applied",
    "kill at reply",
    "kill at tool-start",
    "kill at tool-end",
    "kill at model-start",
    "kill at model-end",
    "pause at send",
    "pause at reply",
    "pause at tool-start",
    "cut at send",
    "zombie",
    "sidecar down",
    "request lost",
    "reply lost",
    "cut before it was applied",
    "cut after it was applied",
    "applied after it had failed",
    "sent twice",
    "slow request",
    "INTERNAL before it was applied",
    "INTERNAL after it was applied",
    "ABORTED before it was applied",
    "ABORTED after it was applied",
    "a second death",
    "asleep during a deletion",
    "rivals",
    "takeover",
    "overtaken",
    "packed",
    "fenced",
}


LEAST = {"kill at send", "kill at applied", "takeover", "packed", "rivals", "request lost", "reply lost", "sent twice"}


class Runner:
    """Runs schedules one after the other, and remembers the program that they share."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self._number: int | None = None
        self._program: Any = None
        self._build: Any = None
        self._reference: Run | None = None
        self._counts: dict[str, int] = {}
        self.schedule: Schedule | None = None

    def run(self, seed: int) -> Told:
        """Run one schedule; returns which faults happened, and what was wrong."""
        number = seed // PER_PROGRAM
        if number != self._number:
            shape = _SHAPES[self._shape]
            self._program, self._build = shape.make(f"{self._shape} {number}"), shape.build
            alone = Schedule(self._program, f"{self._shape} alone {number}", build=self._build)
            self._reference = alone.alone()
            if wrong := [entry for entry in alone.world.ledger if _is_wrong(entry)]:
                raise AssertionError(f"program {number} fails even when it is left alone: {wrong[0]}")
            self._counts = dict(alone.processes[0].passed)
            self._number = number
        assert self._reference is not None
        schedule = self.schedule = Schedule(self._program, f"{self._shape} {seed}", build=self._build)
        outcome = schedule.run(self._reference, self._counts)
        return outcome.world.faults + _seen(schedule), outcome.stories


_SHAPES: dict[str, Any] = {"agents": agents, "orchestrators": orchestrators}


def _is_wrong(entry: Entry) -> bool:
    result = entry.details.get("result")
    return entry.kind in ("raised", "failed") or (isinstance(result, dict) and result.get("status") == "failed")


def _seen(schedule: Schedule) -> Counter[str]:
    """Count what came of the faults."""
    ledger = schedule.world.ledger
    kills = sum(entry.kind == "death" and entry["how"] == "killed" for entry in ledger)
    raised = [entry["error"] for entry in ledger if entry.kind == "raised"]
    case = schedule.case
    return Counter(
        {
            "kill": kills,
            "a second death": int(kills > 1),
            "rivals": int(schedule.had_rivals),
            "takeover": sum(record[3] for record in case.journal.acquisitions().values()),
            "overtaken": sum(bool(stint.overtaken) for stint in case.stints),
            "packed": int(case.journal.head is not None),
            "fenced": sum("FencedError" in error for error in raised),
            "store unavailable": sum("UnavailableError" in error or "NotFoundError" in error for error in raised),
        }
    )


def in_a_process(function: Callable[[], Any]) -> Any:
    """Call a function that runs schedules in a process of its own, which ends without any tidying up.

    What belongs to dead processes of a schedule must never be collected: their `finally` blocks would run.
    """
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)

    def work() -> None:
        _prepare()
        theirs.send(function())
        os._exit(0)

    process = context.Process(target=work)
    process.start()
    theirs.close()
    try:
        return mine.recv()
    finally:
        process.join()


def _prepare() -> None:
    gc.disable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None


@contextmanager
def begin(shape: str) -> Iterator[Callable[[int], Told]]:
    """Run schedules in a process that does nothing else. See `in_a_process`."""
    _prepare()
    yield Runner(shape).run
    sys.stdout.flush()
    os._exit(0)


def run_shape(options: Namespace, shape: str, campaign: str) -> Findings:
    """Run the schedules of the seeds, of programs of one shape."""
    replay = f"python -m tests.prove {campaign} --seeds {{seed}}"
    expected = EXPECTED | _SHAPES[shape].EXPECTED
    return seeds.run(options, lambda _: begin(shape), replay=replay, expected=expected, least=LEAST, batch=_BATCH)


CAMPAIGN = Campaign(
    "simulation",
    "seeded schedules of agents in whole processes over a simulated sidecar",
    lambda options: run_shape(options, "agents", "simulation"),
    lambda parser: seeds.add_arguments(parser, workers=os.cpu_count() or 1, expect_from=400),
    small=("--seeds", "0:600", "--minutes", "2"),
    full=("--seeds", "0:20000", "--state", "prove-simulation.json"),
)
