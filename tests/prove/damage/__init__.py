"""Damage: whatever happens to stored bytes, a typed error names the key, and nothing is invented, changed or executed.

Values of real sessions are damaged in every way of `ways`, and given to the codec directly, to a load and a resumed
run from a store in memory, and to loads from SQLite and through a real sidecar. In `guided` a fuzzer chooses the bytes.
"""

from __future__ import annotations

import contextlib
import random
import resource
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.progress import track

from dev.servers import Daprd, RedisServer, RedisState
from strands_dapr_session import io_thread
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.locate import open_store
from tests.prove.campaign import Campaign, Findings, Violation
from tests.prove.damage.judging import (
    MOST_MEMORY,
    HangError,
    Outcome,
    ViolationError,
    alarm_clock,
    bounded_memory,
    go_on,
    load,
    load_through,
    read_directly,
)
from tests.prove.damage.stored import Stored, stored_sessions
from tests.prove.damage.ways import ACCIDENTS, FORGERIES, Damage, Material

Judge = Callable[[Stored, Damage], Outcome]

EVERY = {"directly": 1, "loaded": 20, "resumed": 200, "from SQLite": 1_000, "through a sidecar": 2_000}
"""Of how many values one is looked at in each way."""

_MOST_VIOLATIONS = 20


def run(options: Namespace) -> Findings:
    """Damage so many values."""
    judges: dict[str, Judge] = {"directly": read_directly, "loaded": load, "resumed": go_on}
    with contextlib.ExitStack() as stack:
        stored = stored_sessions()
        if not options.in_memory:
            judges["from SQLite"] = _through(stack.enter_context(_sqlite()), stored)
            judges["through a sidecar"] = _through(stack.enter_context(_sidecar()), stored)
        stack.enter_context(bounded_memory())
        return damage(stored, judges, options.seeds.start, options.count, only=options.only)


def damage(stored: list[Stored], judges: Mapping[str, Judge], seed: int, count: int, *, only: int = -1) -> Findings:
    """Damage so many values, chosen by a seed.

    Args:
        stored: The sessions.
        judges: In which ways to look at them.
        seed: Of chance.
        count: How many.
        only: The number of the one to look at; all of them if it is negative.
    """
    findings = Findings(expected={*ACCIDENTS, *FORGERIES, *judges})
    refusals: dict[str, int] = {}
    material = [(Material(each.values, each.versions), each.rows) for each in stored]
    kinds = [*ACCIDENTS, *FORGERIES]
    before = _peak()
    with alarm_clock() as wind:
        numbers = range(count) if only < 0 else [only]
        for number in track(numbers, f"damaging {count:,} values", disable=count < 50_000):
            chance = random.Random(f"{seed} {number}")
            which = chance.randrange(len(stored))
            values, rows = material[which]
            damaged = values.damage(chance, chance.choice(chance.choice(rows)), kinds)
            if damaged is None:
                continue
            findings.runs += 1
            findings.faults[damaged.kind] += 1
            for way, judge in judges.items():
                if (number + seed) % EVERY[way] and only < 0:
                    continue
                wind()
                findings.faults[way] += 1
                try:
                    outcome = judge(stored[which], damaged)
                except (ViolationError, HangError) as violation:
                    story = _told(violation, way, stored[which], damaged)
                    replay = f"python -m tests.prove damage --seeds {seed} --only {number}"
                    findings.violations.append(Violation("damage is refused in order", story, replay))
                    continue
                name = type(outcome.refused).__name__ if outcome.refused else "accepted"
                refusals[f"{way}: {name}"] = refusals.get(f"{way}: {name}", 0) + 1
            if len(findings.violations) >= _MOST_VIOLATIONS:
                break
    findings.figures = {
        **dict(sorted(refusals.items())),
        "bytes of memory more at the peak": _peak() - before,
        "bytes of memory more that were allowed": MOST_MEMORY,
    }
    return findings


def _told(violation: BaseException, way: str, stored: Stored, damaged: Damage) -> str:
    return (
        f"session {stored.name!r}, {way}: key {damaged.key!r} held {damaged.kind} "
        f"({len(damaged.value)} bytes, {damaged.value[:60].hex()}…)\n{violation}\ncaused by {violation.__cause__!r}"
    )


def _through(store: StateStore, stored: list[Stored]) -> Judge:
    """Put the sessions into a store, and load them from it."""

    async def write() -> None:
        await store.open()
        for each in stored:
            for key in each.keys:
                await store.create(key, each.values[key])

    io_thread.run_sync(write())
    return lambda each, damaged: load_through(store, each, damaged)


@contextlib.contextmanager
def _sqlite() -> Iterator[StateStore]:
    with tempfile.TemporaryDirectory(prefix="damage-") as name:
        yield open_store(f"sqlite:///{Path(name) / 'runs.db'}")


@contextlib.contextmanager
def _sidecar() -> Iterator[StateStore]:
    with RedisServer() as redis, Daprd([RedisState("statestore", redis.address)]) as daprd:
        yield open_store(f"dapr://statestore?address={daprd.address}")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="how many values")
    parser.add_argument("--in-memory", action="store_true", help="without SQLite and a sidecar")
    parser.add_argument("--only", type=int, default=-1, metavar="NUMBER", help="the one value that failed before")


CAMPAIGN = Campaign(
    "damage",
    "Damages stored values in every way and sees that they are refused in order.",
    run,
    _arguments,
    small=("--count", "30000"),
    full=("--count", "1000000"),
)
