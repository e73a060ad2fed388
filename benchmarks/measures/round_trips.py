"""Round trips to the sidecar in an agent's run: how many are made, and how many are waited for.

Calls are counted by a gRPC interceptor. How many of them the agent waits for is measured, not deduced: every call is
made longer by a fixed time, and the run becomes longer by that time for each call that was waited for. The model takes
as long for each answer as three calls, like one that thinks: what travels meanwhile is not waited for.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from strands import Agent, tool

from benchmarks import wire
from benchmarks.results import Row
from benchmarks.subjects import OURS, Ours, agent_with
from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from strands.types.content import Messages
    from strands.types.streaming import StreamEvent

    from benchmarks.bench import Bench
    from benchmarks.wire import Wire

_DELAY = 0.06
"""Seconds by which each call is made longer: far more than all else that a turn takes."""

_THINKING = 3.5 * _DELAY
_TURNS = 4
"""Few enough that the log is not packed meanwhile, which reads."""

_READS = frozenset({"GetState", "GetBulkState"})
_TOOLS, _WITHIN = 10, 0.005


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    ours = Ours(bench.places.with_dapr(), "redis")
    rows = []
    with wire.counted() as counted:
        _agent(ours, "trips-warm", 0)("go")  # what a process does once: metadata, proof of the store
        for case, session in (("new session", "trips-new"), ("same process", "trips-same"), ("restored", "trips-old")):
            bench.say(f"round trips: {case}")
            rows += _measure_case(counted, ours, case, session)
        rows.append(_measure_batch(counted, ours))
    return rows


def _measure_case(counted: Wire, ours: Ours, case: str, session: str) -> list[Row]:
    setting: dict[str, str | int] = {"store": "redis", "session": case}
    none, calls = _waited(counted, _runner(ours, case, f"{session}-0", 0))
    some, calls_of_some = _waited(counted, _runner(ours, case, f"{session}-{_TURNS}", _TURNS))
    begin = next(index for index, call in enumerate(calls_of_some) if call.method == "SaveState")
    reads = [call for call in calls_of_some[begin:] if call.method in _READS]
    return [
        Row.single(OURS, setting, "waited for at start and end", "", none),
        Row.single(OURS, setting, "waited for in a turn with tools", "", (some - none) / _TURNS),
        Row.single(OURS, setting, "made in a turn with tools", "", (len(calls_of_some) - len(calls)) / _TURNS),
        Row.single(OURS, setting, "reads after the acquisition was written", "", len(reads)),
        Row.single(OURS, setting, "made in all", "", len(calls_of_some)),
    ]


class _Thinker(ScriptedModel):
    """A model that takes its time."""

    async def stream(self, messages: Messages, *args: Any, **kwargs: Any) -> AsyncIterator[StreamEvent]:
        """Think, and answer."""
        await asyncio.sleep(_THINKING)
        async for event in super().stream(messages, *args, **kwargs):
            yield event


def _agent(ours: Ours, session: str, turns: int) -> Agent:
    # A lease so long that no heartbeat falls into the run.
    manager = DaprSessionManager(session, store=ours.at.store(ours.store), lease=600)
    agent = agent_with(manager, turns)
    agent.model = _Thinker([*([("look_up", {"order": number})] for number in range(turns)), "done"])
    return agent


def _runner(ours: Ours, case: str, session: str, turns: int) -> Callable[[], Callable[[], object]]:
    """Give what makes an agent that is about to be called, and returns its call."""

    def prepare() -> Callable[[], object]:
        name = f"{session}-{time.monotonic_ns()}"
        if case == "new session":
            return partial(_agent(ours, name, turns), "go")
        agent = _agent(ours, name, turns)
        agent("before")
        if case == "restored":
            agent = _agent(ours, name, turns)
        return partial(agent, "go")

    return prepare


def _waited(counted: Wire, prepare: Callable[[], Callable[[], object]]) -> tuple[float, list[wire.Call]]:
    """Run as it is and with every call made longer; get how many were waited for, and all that were made."""
    call = prepare()
    counted.take()
    plain = _seconds(call)
    made = counted.take()
    call = prepare()
    counted.delay = _DELAY
    try:
        slowed = _seconds(call)
    finally:
        counted.delay = 0.0
    return round((slowed - plain) / _DELAY, 1), made


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _measure_batch(counted: Wire, ours: Ours) -> Row:
    """Count the commits of a batch of tools that end within milliseconds of each other."""

    @tool
    async def look_up(order: int) -> str:
        """Look an order up."""
        await asyncio.sleep(0.02 + _WITHIN * order / _TOOLS)
        return f"order {order}"

    script: list[Any] = [[("look_up", {"order": number}) for number in range(_TOOLS)], "done"]
    agent = Agent(
        model=ScriptedModel(script),
        tools=[look_up],
        callback_handler=None,
        session_manager=ours.manager("trips-batch"),
    )
    counted.take()
    agent("go")
    # The first commit begins the invocation, the second holds the calls, the last one the end.
    commits = sum(call.method == "SaveState" for call in counted.take()) - 3
    return Row.single(OURS, {"store": "redis", "tools": _TOOLS}, "commits of tools that end within 5 ms", "", commits)
