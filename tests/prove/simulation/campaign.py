"""The campaign: many schedules, a few at a time in processes of their own, which end without any tidying up."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from strands_dapr_session.testing.compare import Run
from tests.prove.campaign import Campaign, Findings, Violation
from tests.prove.simulation import agents
from tests.prove.simulation.schedule import Schedule

PER_PROGRAM = 8
"""Schedules of one program: it runs undisturbed only once."""

_BATCH = 40
_LONGEST_BATCH = 600.0

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
    "rivals",
    "takeover",
    "overtaken",
    "packed",
    "fenced",
}


class Runner:
    """Runs schedules one after the other, and remembers the program that they share."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self._number: int | None = None
        self._program: Any = None
        self._reference: Run | None = None
        self._counts: dict[str, int] = {}
        self.schedule: Schedule | None = None

    def run(self, seed: int) -> tuple[Counter[str], list[tuple[str, str]]]:
        """Run one schedule; returns which faults happened, and what was wrong."""
        number = seed // PER_PROGRAM
        if number != self._number:
            self._program = _MAKE[self._shape](f"{self._shape} {number}")
            alone = Schedule(self._program, f"{self._shape} alone {number}")
            self._reference = alone.alone()
            self._counts = dict(alone.processes[0].passed)
            self._number = number
        assert self._reference is not None
        schedule = self.schedule = Schedule(self._program, f"{self._shape} {seed}")
        outcome = schedule.run(self._reference, self._counts)
        return outcome.world.faults + _seen(schedule), outcome.stories


_MAKE: dict[str, Any] = {"agents": agents.make}


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


def _work(shape: str, seeds: range, results: Connection) -> None:
    """Run schedules in a process of its own. See `in_a_process`."""
    _prepare()
    runner = Runner(shape)
    for seed in seeds:
        try:
            faults, stories = runner.run(seed)
        except Exception:  # noqa: BLE001 - a mistake of the campaign is a finding too
            faults, stories = Counter[str](), [("the campaign itself", traceback.format_exc())]
        results.send((seed, faults, stories))
    results.close()
    os._exit(0)


def schedules(shape: str, seeds: range, workers: int, deadline: float | None) -> Iterator[Any]:
    """Run schedules in several processes; yields what became of each, in any order."""
    context = multiprocessing.get_context("fork")
    batches = [seeds[at : at + _BATCH] for at in range(0, len(seeds), _BATCH)][::-1]
    running: dict[Connection, Any] = {}
    while batches or running:
        while batches and len(running) < workers and (deadline is None or time.monotonic() < deadline):
            mine, theirs = context.Pipe(duplex=False)
            batch = batches.pop()
            process = context.Process(target=_work, args=(shape, batch, theirs))
            process.start()
            theirs.close()
            running[mine] = (process, batch, time.monotonic())
        if not running:
            return
        for ready in multiprocessing.connection.wait(list(running), timeout=1.0):
            assert isinstance(ready, Connection)
            try:
                yield ready.recv()
            except EOFError:
                running.pop(ready)[0].join()
        for connection, (process, batch, begun) in list(running.items()):
            if time.monotonic() - begun > _LONGEST_BATCH:
                process.kill()
                running.pop(connection)
                yield batch[0], Counter[str](), [("no schedule hangs", f"one of the seeds {batch} did not come back")]


def run(options: Namespace) -> Findings:
    """Run the schedules of the seeds."""
    findings = Findings(expected=set() if len(options.seeds) < options.expect_from else set(EXPECTED))
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else None
    begun = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"schedules of {options.shape}", total=len(options.seeds))
        for seed, faults, stories in schedules(options.shape, options.seeds, options.workers, deadline):
            findings.runs += 1
            findings.faults += faults
            replay = f"python -m tests.prove simulation --shape {options.shape} --seeds {seed}"
            findings.violations += [Violation(invariant, story, replay) for invariant, story in stories]
            progress.advance(task)
    seconds = time.monotonic() - begun
    findings.figures["schedules a second"] = round(findings.runs / seconds, 1) if seconds else 0
    findings.figures["shape"] = options.shape
    return findings


def add_arguments(parser: ArgumentParser) -> None:
    """Say what can be chosen."""
    parser.add_argument("--shape", choices=sorted(_MAKE), default="agents", help="what runs")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="schedules at a time")
    parser.add_argument(
        "--expect-from", type=int, default=400, help="number of schedules from which every fault must have happened"
    )


CAMPAIGN = Campaign(
    "simulation",
    "seeded schedules of whole processes over a simulated sidecar",
    run,
    add_arguments,
    small=("--seeds", "0:600"),
    full=("--seeds", "0:20000"),
)
