"""Damage: whatever happens to stored bytes, a typed error names the key, and nothing is invented, changed or executed.

Values of real sessions are damaged in every way of `ways`, and given to the codec directly, to a load and a resumed
run from a store in memory, and to loads from SQLite and through a real sidecar. In `guided` a fuzzer chooses the bytes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
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

EVERY = {"directly": 1, "loaded": 40, "resumed": 400, "from SQLite": 1, "through a sidecar": 2}
"""Of how many values one is looked at in each way."""

_SHARE = 500
"""Of so many values one is looked at in SQLite and behind a sidecar."""

_PART = 10_000
"""Values that one process looks at in a row."""

_MOST_VIOLATIONS = 20


def run(options: Namespace) -> Findings:
    """Damage so many values, in several processes."""
    seed, count = options.seeds.start, options.count
    if options.only is not None:
        return in_memory(seed, range(options.only, options.only + 1))
    parts = [range(start, min(start + _PART, count)) for start in range(0, count, _PART)]
    findings = Findings()
    with ProcessPoolExecutor(options.at_once, mp_context=multiprocessing.get_context("spawn")) as processes:
        parts_found = processes.map(in_memory, [seed] * len(parts), parts)
        for found in track(parts_found, f"damaging {count:,} values", total=len(parts)):
            findings.merge(found)
    if not options.in_memory:
        findings.merge(in_stores(seed, range(count // _SHARE)))
    findings.figures["bytes of memory more that were allowed"] = MOST_MEMORY
    return findings


def in_memory(seed: int, numbers: range) -> Findings:
    """Damage values, and read, load and resume what they belong to from stores in memory."""
    stored = stored_sessions()
    with bounded_memory():
        return damage(stored, {"directly": read_directly, "loaded": load, "resumed": go_on}, seed, numbers)


def in_stores(seed: int, numbers: range) -> Findings:
    """Damage values in SQLite, and in Redis behind a real sidecar."""
    stored = stored_sessions()
    with _sqlite() as sqlite, _sidecar() as sidecar, bounded_memory():
        judges = {"from SQLite": _through(sqlite, stored), "through a sidecar": _through(sidecar, stored)}
        return damage(stored, judges, seed, numbers)


def damage(stored: list[Stored], judges: Mapping[str, Judge], seed: int, numbers: range) -> Findings:
    """Damage values, chosen by a seed and their numbers.

    Args:
        stored: The sessions.
        judges: In which ways to look at them.
        seed: Of chance.
        numbers: Which.
    """
    findings = Findings(expected={*ACCIDENTS, *FORGERIES, *judges})
    refusals: dict[str, int] = {}
    material = [(Material(each.values, each.versions), each.rows) for each in stored]
    kinds = [*ACCIDENTS, *FORGERIES]
    with alarm_clock() as wind:
        for number in numbers:
            chance = random.Random(f"{seed} {number}")
            which = chance.randrange(len(stored))
            values, rows = material[which]
            damaged = values.damage(chance, chance.choice(chance.choice(rows)), kinds)
            if damaged is None:
                continue
            findings.runs += 1
            findings.faults[damaged.kind] += 1
            for way, judge in judges.items():
                if len(numbers) > 1 and number % EVERY[way]:
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
    findings.figures = dict(sorted(refusals.items()))
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


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="how many values")
    parser.add_argument("--in-memory", action="store_true", help="without SQLite and a sidecar")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="the one value that failed before")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, metavar="N", help="in so many processes")


CAMPAIGN = Campaign(
    "damage",
    "Damages stored values in every way and sees that they are refused in order.",
    run,
    _arguments,
    small=("--count", "30000"),
    full=("--count", "1150000"),  # of which one in nine changes nothing
)
