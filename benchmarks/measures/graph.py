"""What durability adds to a graph of ten nodes, each an agent that uses a tool once: round trips, bytes, milliseconds.

Beside it the same graph without a session manager, and with Strands' own `FileSessionManager`, which keeps results of
nodes but not what goes on inside them. Models answer at once: with real ones, commits travel while they think.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strands import Agent, tool
from strands.multiagent import GraphBuilder
from strands.session import FileSessionManager

from benchmarks import wire
from benchmarks.results import Row
from benchmarks.subjects import OURS
from benchmarks.timing import interleaved, timed
from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.places import Addresses
    from benchmarks.wire import Wire

_NODES = 10
_REPEAT = 30
_NONE = "no session manager"
_FILES = "FileSessionManager"
_READS = frozenset({"GetState", "GetBulkState"})

_numbers = itertools.count()


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    at = bench.places.with_dapr()
    rows = []
    for shape in ("chain", "fan-out"):
        bench.say(f"graph: {shape}")
        with wire.counted() as counted:
            rows += _on_the_wire(counted, at, shape)
        rows.append(_in_files(shape))
        rows += _in_time(at, shape, bench.repeat(_REPEAT))
    return rows


def _on_the_wire(counted: Wire, at: Addresses, shape: str) -> list[Row]:
    """Count the calls of a run in a new session, after one that did what a process does once."""
    setting: dict[str, str | int] = {"store": "redis", "nodes": _NODES, "graph": shape}
    _graph(shape, _ours(at, "redis"))("go")
    graph = _graph(shape, _ours(at, "redis"))
    counted.take()
    graph("go")
    calls = counted.take()
    sent = sum(call.sent for call in calls)
    return [
        Row.single(OURS, setting, "round trips in a run", "", len(calls)),
        Row.single(OURS, setting, "of these, reads", "", sum(call.method in _READS for call in calls)),
        Row.single(OURS, setting, "bytes sent in a run", "B", sent),
    ]


def _in_files(shape: str) -> Row:
    """Count what `FileSessionManager` writes, as the kernel counts it for the process."""
    setting: dict[str, str | int] = {"store": "files", "nodes": _NODES, "graph": shape}
    with tempfile.TemporaryDirectory() as directory:
        graph = _graph(shape, _files(directory))
        before = _written()
        graph("go")
        return Row.single(_FILES, setting, "bytes sent in a run", "B", _written() - before)


def _written() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["wchar"])


def _in_time(at: Addresses, shape: str, repeat: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        managers: dict[tuple[str, str], Callable[[], Any]] = {
            (_NONE, ""): lambda: None,
            (OURS, "sqlite"): partial(_ours, at, "sqlite"),
            (OURS, "redis"): partial(_ours, at, "redis"),
            (_FILES, "files"): partial(_files, directory),
        }
        runs = {subject: partial(_timed_run, shape, manager) for subject, manager in managers.items()}
        found = interleaved(runs, repeat)
    base = statistics.median(found[_NONE, ""])
    rows = []
    for (subject, store), values in found.items():
        setting: dict[str, str | int] = {"store": store, "nodes": _NODES, "graph": shape}
        rows.append(Row.of(subject, setting, "a run", "ms", values))
        if subject != _NONE:
            rows.append(Row.of(subject, setting, "added to a run", "ms", [value - base for value in values]))
    return rows


def _timed_run(shape: str, manager: Callable[[], Any]) -> float:
    graph = _graph(shape, manager())
    return timed(partial(graph, "go"))


def _ours(at: Addresses, store: str) -> DaprSessionManager:
    # A lease so long that no heartbeat falls into the run.
    return DaprSessionManager(f"graph-{next(_numbers)}", store=at.store(store), lease=600)


def _files(directory: str) -> FileSessionManager:
    return FileSessionManager(f"graph-{next(_numbers)}", storage_dir=directory)


def _graph(shape: str, manager: Any) -> Any:
    builder = GraphBuilder()
    names = [f"node{number}" for number in range(_NODES)]
    for name in names:
        builder.add_node(_agent(name), name)
    if shape == "chain":
        edges = list(itertools.pairwise(names))
    else:
        first, *middle, last = names
        edges = [(first, name) for name in middle] + [(name, last) for name in middle]
    for one, other in edges:
        builder.add_edge(one, other)
    builder.set_max_node_executions(2 * _NODES)
    if manager is not None:
        builder.set_session_manager(manager)
    return builder.build()


def _agent(name: str) -> Agent:
    @tool
    async def look_up(order: int) -> str:
        """Look an order up."""
        return f"order {order}: " + "two parcels, the second one late. " * 5

    script: list[Any] = [[("look_up", {"order": 4711})], f"{name} has read it. " * 10]
    return Agent(name=name, model=ScriptedModel(script, name=name), tools=[look_up], callback_handler=None)
