"""Memory that a session manager adds: for each live message, and for each manager with its agent that does nothing.

Counted by `tracemalloc`, which sees what Python allocates, beside what the agent itself holds.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

from benchmarks.conversation import conversation
from benchmarks.results import Row
from benchmarks.subjects import NONE, OURS, Ours, agent_with, fill_window, load
from strands_dapr_session.records.codec import pack_value, unpack_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

LENGTH = 2000
LONG, WINDOW = 10_000, 40
MANAGERS = 200


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    ours = Ours(bench.places.with_dapr(), "redis")
    length, long = (LENGTH // 10, LONG // 10) if bench.quick else (LENGTH, LONG)
    bench.say("sessions to be loaded")
    ours.fill("memory", conversation(length))
    fill_window(ours, "memory-window", long, WINDOW)
    fill_window(ours, "memory-short", WINDOW, WINDOW)
    load(ours, "memory-short", WINDOW)
    packed = [pack_value(message) for message in conversation(length)]
    messages = _held(lambda: [unpack_value(each) for each in packed])
    alone = _held(lambda: agent_with(None))
    loaded = _held(lambda: load(ours, "memory", length))
    windowed = _held(lambda: load(ours, "memory-window", WINDOW))
    short = _held(lambda: load(ours, "memory-short", WINDOW))
    bench.say("idle managers")
    agents = _held(lambda: [agent_with(None) for _ in range(MANAGERS)])
    managed = _held(lambda: [agent_with(ours.manager(f"idle-{n}")) for n in range(MANAGERS)])
    setting: dict[str, str | int] = {"messages": length}
    return [
        Row.single(NONE, setting, "held for a live message", "B", messages / length),
        Row.single(OURS, setting, "added for a live message", "B", (loaded - alone - messages) / length),
        Row.single(
            OURS, {"messages": long, "live": WINDOW}, "added for history outside the window", "B", windowed - short
        ),
        Row.single(NONE, {"agents": MANAGERS}, "held by an idle agent", "B", agents / MANAGERS),
        Row.single(OURS, {"agents": MANAGERS}, "added by an idle manager", "B", (managed - agents) / MANAGERS),
    ]


def _held(make: Callable[[], object]) -> int:
    """Measure what remains allocated while the result is kept."""
    make()  # whatever is made once in a process
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = make()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return after - before
