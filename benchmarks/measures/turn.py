"""What a turn with one tool adds to an agent, beside the same agent without a session manager.

A whole agent runs a script of turns, each a model call that answers at once and a tool that returns 4 KB. Runs of all
session managers alternate; what an agent without one takes in the same round is taken off.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import timing
from benchmarks.results import Row
from benchmarks.subjects import DAPR_EXT, FILE, NONE, OURS, SNAPSHOT, agent_with, subject

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.subjects import Subject

TURNS = 50

_REPEAT = 9
_CASES = (
    (NONE, "none"),
    (OURS, "redis"),
    (OURS, "postgres"),
    (OURS, "sqlite"),
    (FILE, "files"),
    (SNAPSHOT, "files"),
    (DAPR_EXT, "redis"),
)


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    at = bench.places.with_dapr()
    turns = TURNS // 5 if bench.quick else TURNS
    bench.say(f"agents of {turns} turns")
    actions = {case: partial(_run, subject(at, *case), turns) for case in _CASES}
    found = timing.interleaved(actions, bench.repeat(_REPEAT))
    plain = found.pop((NONE, "none"))
    rows = [Row.of(NONE, {"turns": turns}, "turn", "ms", plain)]
    for (name, store), values in found.items():
        added = [value - alone for value, alone in zip(values, plain, strict=True)]
        rows.append(Row.of(name, {"store": store, "turns": turns}, "added to a turn", "ms", added))
    return rows


def _run(subject: Subject, turns: int) -> float:
    """Run a new agent to its end, and get the milliseconds of a turn."""
    agent = agent_with(subject.manager(f"turn-{time.monotonic_ns()}"), turns)
    return timing.timed(lambda: asyncio.run(agent.invoke_async("go"))) / turns
