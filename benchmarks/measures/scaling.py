"""What one write costs every part, and what several sidecars on one Redis carry: what docs/scaling.md rests on.

Each sidecar gets a process of its own that floods it with commits of many sessions. The processor time of client,
sidecar and Redis is read from the kernel before and after. All of them share the cores of one machine, so more sidecars
do not carry more here; what each part takes for a write is what the model needs (`capacity`), and it is checked against
what the machine carried.
"""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import timing
from benchmarks.capacity import fit, simulate
from benchmarks.places import REDIS, Addresses
from benchmarks.results import Row
from benchmarks.subjects import OURS
from dev.servers import Daprd, RedisServer, RedisState
from strands_dapr_session.journal import registry
from strands_dapr_session.journal.layout import random_name

if TYPE_CHECKING:
    from benchmarks.bench import Bench

SIDECARS = (1, 2, 4)
SESSIONS, COMMITS = 256, 80
STORED = (100_000, 1_000_000, 10_000_000)
BEYOND = (1, 2, 4, 8, 16, 32, 64)

_TICKS = os.sysconf("SC_CLK_TCK")
_MODEL = "the model"
_MEASURED = "measured"


def measure(bench: Bench) -> list[Row]:
    """Measure, fit, and go on by simulation."""
    commits = COMMITS // 4 if bench.quick else COMMITS
    runs = {}
    for sidecars in SIDECARS:
        bench.say(f"{sidecars} sidecars on one Redis")
        runs[sidecars] = _run(bench, sidecars, commits)
    costs = fit(list(runs.values()))
    cores = len(os.sched_getaffinity(0))
    rows = [
        Row.single("client", {}, "processor time of a commit", "µs", costs.client * 1e6),
        Row.single("sidecar", {}, "processor time of a commit", "µs", costs.sidecar * 1e6),
        Row.single("Redis", {}, "processor time of a commit", "µs", costs.store * 1e6),
    ]
    for sidecars, run in runs.items():
        setting: dict[str, str | int] = {"sidecars": sidecars, "cores together": cores}
        rows += [
            Row.single(_MEASURED, setting, "commits", "1/s", run["writes"] / run["seconds"]),
            Row.single(_MODEL, setting, "commits", "1/s", costs.on_one_machine(cores)),
        ]
    for sessions in STORED:
        size = len(_registry_document(sessions))
        rows.append(Row.single(OURS, {"sessions": sessions}, "document of the registry", "B", size))
    bench.say("beyond this machine")
    for sidecars in BEYOND:
        beyond: dict[str, str | int] = {"sidecars": sidecars, "cores of each sidecar and its clients": 2}
        rows += [
            Row.single(_MODEL, beyond, "commits", "1/s", costs.with_machines(sidecars, cores=2)),
            Row.single("simulation", beyond, "commits", "1/s", simulate(costs, sidecars, cores=2)),
        ]
    return rows


def _registry_document(sessions: int) -> bytes:
    """Make one of the 1024 documents that list so many sessions."""
    names = {uuid.uuid4().hex: {"default": registry.Place(random_name(), [])} for _ in range(sessions // 1024)}
    return registry._write_shard("strands:sessions:0", names)  # noqa: SLF001 - without filling a store with millions


def _run(bench: Bench, count: int, commits: int) -> dict[str, float]:
    with RedisServer() as redis:
        sidecars = [Daprd([RedisState(REDIS, redis.address)], app_id="scaling").start() for _ in range(count)]
        try:
            at = [Addresses(str(bench.places.path), each.address, str(each.http_port)) for each in sidecars]
            pids = [each.pid for each in sidecars]
            before = _seconds(pids), _seconds([redis.pid])
            with ThreadPoolExecutor(count) as pool:
                clients = list(pool.map(lambda where: _flood(where, SESSIONS // count, commits), at))
            after = _seconds(pids), _seconds([redis.pid])
        finally:
            for each in sidecars:
                each.close()
    return {
        "writes": sum(client["writes"] for client in clients),
        "seconds": max(client["ended"] for client in clients) - min(client["began"] for client in clients),
        "client": sum(client["processor"] for client in clients),
        "sidecar": after[0] - before[0],
        "store": after[1] - before[1],
    }


def _flood(at: Addresses, sessions: int, commits: int) -> dict[str, Any]:
    wanted = {"at": at.plain(), "kind": "ours", "store": "redis", "sessions": sessions, "commits": commits}
    return timing.in_fresh_process("flood", wanted)


def _seconds(pids: list[int]) -> float:
    """Processor time of processes so far."""
    found = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / _TICKS
    return found
