"""Load with a window: a session of any length of which the conversation manager keeps the last 40 messages.

Also how long the head of a journal becomes: the one document that changes, and that every load reads. For a million
messages the journal is written into a store in memory, with every one of its commits and packs (`life`).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import timing, wire
from benchmarks.life import live
from benchmarks.results import Row
from benchmarks.subjects import OURS, Ours, fill_window, load

if TYPE_CHECKING:
    from benchmarks.bench import Bench

LENGTHS = (500, 5000, 50_000)
WINDOW = 40
LIVES = (10_000, 1_000_000)

_REPEAT = 20
_STORE = "redis"


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    at = bench.places.with_dapr()
    ours = Ours(at, _STORE)
    lengths = bench.sizes(LENGTHS)
    for length in lengths:
        bench.say(f"filling a session of {length} messages, {WINDOW} of them live")
        fill_window(ours, f"window-{length}", length, WINDOW)
    actions = {length: partial(_timed, ours, f"window-{length}") for length in lengths}
    loads = timing.interleaved(actions, bench.repeat(_REPEAT))
    rows = [
        Row.of(OURS, {"messages": length, "window": WINDOW, "store": _STORE}, "load", "ms", values)
        for length, values in loads.items()
    ]
    for length in lengths:
        with wire.counted() as counted:
            ours.forget(f"window-{length}")
            load(ours, f"window-{length}", WINDOW)
            trips = wire.round_trips(counted.take())
        setting: dict[str, str | int] = {"messages": length, "window": WINDOW, "store": _STORE}
        rows.append(Row.single(OURS, setting, "round trips of a load", "", trips))
    for length in bench.sizes(LIVES):
        bench.say(f"writing a session of {length} messages into memory")
        life = asyncio.run(live(f"life-{length}", length, WINDOW))
        rows.append(Row.single(OURS, {"messages": length, "window": WINDOW}, "longest head", "B", life.longest_head))
    return rows


def _timed(ours: Ours, session: str) -> float:
    """Load as a process does that has loaded other sessions, but not this one."""
    ours.forget(session)
    return timing.timed(partial(load, ours, session, WINDOW))
