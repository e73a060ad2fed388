"""A thousand sessions in one process that commit at the same time, beside a flood of the same writes by the bare API.

Also how late the caller's event loop is meanwhile, with other sessions of 5000 messages being loaded in another thread
or not; and the same number of sessions in eight processes.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import flood, floor, timing
from benchmarks.conversation import conversation
from benchmarks.results import Row
from benchmarks.subjects import OURS, Ours, load

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.places import Addresses

SESSIONS, COMMITS, PROCESSES, LOADED = 1000, 20, 8, 5000

_REPEAT = 2
_NAMES = {"ours": OURS, "raw": floor.NAME}


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    at = bench.places.with_dapr()
    sessions, commits = (SESSIONS // 10, COMMITS // 4) if bench.quick else (SESSIONS, COMMITS)
    rows: list[Row] = []
    for store in ("redis", "postgres"):
        bench.say(f"{sessions} sessions in one process on {store}")
        found: dict[str, list[flood.Flood]] = {kind: [] for kind in flood.KINDS}
        for _ in range(bench.repeat(_REPEAT)):
            for kind, run in flood.KINDS.items():
                found[kind].append(asyncio.run(run(at, store, sessions, commits)))
        setting: dict[str, str | int] = {"store": store, "sessions": sessions, "processes": 1}
        for kind, floods in found.items():
            rows += [
                Row.of(_NAMES[kind], setting, "commits", "1/s", [each.per_second for each in floods]),
                Row.of(_NAMES[kind], setting, "stall of the caller, p99", "ms", [each.p99_stall for each in floods]),
            ]
    rows.append(_measure_with_loads(bench, at, sessions, commits))
    return rows + _measure_processes(bench, at, sessions, commits)


def _measure_with_loads(bench: Bench, at: Addresses, sessions: int, commits: int) -> Row:
    """Load long sessions all the time in a thread."""
    length = LOADED // 10 if bench.quick else LOADED
    bench.say(f"the same while sessions of {length} messages are loaded")
    ours = Ours(at, "redis")
    ours.fill("flood-loaded", conversation(length))
    over = threading.Event()

    def go_on_loading() -> None:
        while not over.is_set():
            load(ours, "flood-loaded", length)

    loading = threading.Thread(target=go_on_loading)
    loading.start()
    try:
        floods = [asyncio.run(flood.ours(at, "redis", sessions, commits)) for _ in range(bench.repeat(_REPEAT))]
    finally:
        over.set()
        loading.join()
    setting: dict[str, str | int] = {"store": "redis", "sessions": sessions, "meanwhile loaded": length}
    return Row.of(OURS, setting, "stall of the caller, p99", "ms", [each.p99_stall for each in floods])


def _measure_processes(bench: Bench, at: Addresses, sessions: int, commits: int) -> list[Row]:
    bench.say(f"{PROCESSES} processes of {sessions // PROCESSES} sessions")
    rows = []
    for kind, name in _NAMES.items():
        rates = [several_processes(at, kind, sessions, commits) for _ in range(bench.repeat(_REPEAT))]
        setting: dict[str, str | int] = {"store": "redis", "sessions": sessions, "processes": PROCESSES}
        rows.append(Row.of(name, setting, "commits", "1/s", rates))
    return rows


def several_processes(at: Addresses, kind: str, sessions: int, commits: int) -> float:
    """Flood Redis from several processes at the same time; get the writes in a second of all together."""
    wanted = {
        "at": at.plain(),
        "kind": kind,
        "store": "redis",
        "sessions": sessions // PROCESSES,
        "commits": commits,
    }
    with ThreadPoolExecutor(PROCESSES) as pool:
        runs = list(pool.map(partial(timing.in_fresh_process, "flood"), [wanted] * PROCESSES))
    # They begin when they are ready, about at the same time. Each tells what it got while it shared the servers.
    rates: list[float] = [run["writes"] / (run["ended"] - run["began"]) for run in runs]
    return sum(rates)
