"""A minute of benchmarks for every change: `python -m benchmarks.smoke` fails when something has become slower.

Machines differ and are busy, so no time is compared with a constant. Each check compares what this package takes with
what something else takes for the same work in the same run, in turn, many times; the fastest quarter counts, which a
busy machine disturbs least. A check that exceeds its limit is measured again, from the beginning: it fails when it does
so four times.

The limits are about 1.4 times what was measured when they were set, so that half as much again does not pass.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks import floor, timing, wire
from benchmarks.conversation import conversation
from benchmarks.measures.step import alternate
from benchmarks.places import Places
from benchmarks.results import percentile
from benchmarks.subjects import Ours, Snapshot, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.places import Addresses

_ATTEMPTS = 4
_QUARTER = 25
_LENGTH = 1000
_REPEAT = 24
_STEPS = 300
_OLD = 1000


@dataclass(frozen=True)
class Check:
    """A ratio that must not be exceeded.

    Attributes:
        name: What is compared with what.
        limit: The most that is let pass.
        measure: Measures the ratio.
    """

    name: str
    limit: float
    measure: Callable[[], float]


@dataclass(frozen=True)
class Verdict:
    """What became of a check: its last ratio, and whether it passed."""

    check: Check
    ratio: float
    passed: bool


def judge(checks: Iterable[Check]) -> list[Verdict]:
    """Carry checks out, until they pass or have had their attempts."""
    verdicts = []
    for check in checks:
        ratio = math.inf
        for _ in range(_ATTEMPTS):
            ratio = check.measure()
            if ratio <= check.limit:
                break
        verdicts.append(Verdict(check, ratio, ratio <= check.limit))
    return verdicts


def fast(values: list[float]) -> float:
    """Get what the fastest quarter does not exceed."""
    return percentile(values, _QUARTER)


def checks(at: Addresses) -> list[Check]:
    """List what is checked."""
    return [
        Check("load 1000 on Redis / read and decode", 3.0, partial(_load_over_raw, at)),
        Check("load 1000 on SQLite / Snapshot on files", 0.55, partial(_load_over_snapshot, at)),
        Check("round trips of a load", 3, partial(_round_trips, at, again=False)),
        Check("round trips of a load again", 1, partial(_round_trips, at, again=True)),
        Check("step on Redis / raw SaveState", 2.1, partial(_step, at, "redis")),
        Check("step on SQLite / raw INSERT", 3.1, partial(_step, at, "sqlite")),
    ]


def _load_over_raw(at: Addresses) -> float:
    messages = conversation(_LENGTH)
    ours, raw = Ours(at, "redis"), floor.RawState(at)
    session = _new_session()
    ours.fill(session, messages)
    stored = floor.RawConversation.write(raw, "smoke", messages)
    found = _interleaved(partial(load, ours, session, _LENGTH), stored.read)
    raw.close()
    return found


def _load_over_snapshot(at: Addresses) -> float:
    messages = conversation(_LENGTH)
    ours, snapshot = Ours(at, "sqlite"), Snapshot(at)
    session = _new_session()
    ours.fill(session, messages)
    snapshot.fill(session, messages)
    return _interleaved(partial(load, ours, session, _LENGTH), partial(load, snapshot, session, _LENGTH))


def _interleaved(ours: Callable[[], object], other: Callable[[], object]) -> float:
    actions = {"ours": partial(timing.timed, ours), "other": partial(timing.timed, other)}
    found = timing.interleaved(actions, _REPEAT)
    return fast(found["ours"]) / fast(found["other"])


def _round_trips(at: Addresses, *, again: bool) -> float:
    ours = Ours(at, "redis")
    session = _new_session()
    ours.fill(session, conversation(100))
    with wire.counted() as counted:
        load(ours, session, 100)
        counted.take()
        if not again:
            ours.forget(session)
        load(ours, session, 100)
        return wire.round_trips(counted.take())


def _step(at: Addresses, store: str) -> float:
    found = asyncio.run(alternate(at, store, _STEPS, _OLD))
    return max(fast(found.young), fast(found.old)) / fast(found.raw)


def _new_session() -> str:
    return f"smoke-{time.monotonic_ns()}"


def main() -> int:
    """Check, and tell."""
    logging.disable(logging.WARNING)
    with Places() as places:
        verdicts = judge(checks(places.with_dapr()))
    table = Table("check", "ratio", "limit", "")
    for verdict in verdicts:
        table.add_row(
            verdict.check.name,
            f"{verdict.ratio:.2f}",
            f"{verdict.check.limit:.2f}",
            "" if verdict.passed else "[bold red]slower[/bold red]",
        )
    Console().print(table)
    return not all(verdict.passed for verdict in verdicts)


if __name__ == "__main__":
    sys.exit(main())
