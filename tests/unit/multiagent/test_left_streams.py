"""Callers that leave the stream of a graph or swarm: nothing goes on behind their back, and the next call finishes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from strands import Agent, tool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import Status

from strands_dapr_session import DaprSessionManager, idempotency_key
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, FaultyStore
from strands_dapr_session.testing.model import ScriptedModel


class World:
    """What survives a process: a slow store, and what really happened."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.store = FaultyStore(self.inner, lambda call: Delay(0.002) if call.writes else None)
        self.ran: list[str] = []
        self.unrecorded: list[str] = []

    def agent(self, name: str, *turns: Any) -> Agent:
        @tool
        async def work(number: int) -> str:
            """Work."""
            self.ran.append(f"{name}{number}")
            if idempotency_key() is None:
                self.unrecorded.append(self.ran[-1])
            await asyncio.sleep(0.001 * number)
            return "worked"

        both: Any = [("work", {"number": 1}), ("work", {"number": 2})]
        model = ScriptedModel([both, *turns, f"done {name}"], on_call=lambda _: self.ran.append(f"model of {name}"))
        return Agent(name=name, model=model, tools=[work], callback_handler=None)

    def build(self, kind: str) -> Any:
        manager = DaprSessionManager("s", store=self.store)
        over: Any = [("handoff_to_agent", {"agent_name": "b", "message": "over", "context": {"found": 1}})]
        swarm = Swarm(
            [self.agent("a", over), self.agent("b")], id="g", session_manager=manager if kind == "swarm" else None
        )
        if kind == "swarm":
            return swarm
        builder = GraphBuilder()
        nodes = {"x": self.agent("x"), "y": self.agent("y"), "z": self.agent("z")}
        for name, node in (nodes | {"y": swarm} if kind == "nested" else nodes).items():
            builder.add_node(node, name)
        for one in "xy":
            builder.add_edge(one, "z", lambda state: {"x", "y"} <= state.results.keys())
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()

    def shown(self, orchestrator: Any, result: Any) -> Any:
        return {
            "status": result.status,
            "order": Counter(node.node_id for node in getattr(result, "execution_order", None) or result.node_history),
            "tokens": result.accumulated_usage["totalTokens"],
            "messages": {
                name: [(message["role"], message["content"]) for message in node.executor.messages]
                for name, node in orchestrator.nodes.items()
                if isinstance(node.executor, Agent) and name != "z"  # what it is told has no order
            },
            "shared": getattr(getattr(orchestrator, "shared_context", None), "context", None),
        }


async def leave(stream: Any, number: int, *, close: bool) -> bool:
    """Read so many events, and leave; false if there are not so many."""
    for _ in range(number):
        if "result" in await anext(stream):
            return False
    if close:
        await stream.aclose()
    return True


@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
async def test_the_next_call_goes_on_wherever_the_stream_was_left(
    kind: str, close: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pytest keeps of its complaints would keep the dropped stream alive.
    monkeypatch.setattr(logging.getLogger("opentelemetry.context"), "disabled", True)
    whole = World()
    undisturbed = whole.build(kind)
    expected = whole.shown(undisturbed, await undisturbed.invoke_async("T"))
    number = 1
    while True:
        number += 9 if close else 17
        world = World()
        orchestrator = world.build(kind)
        stream = orchestrator.stream_async("T")
        if not await leave(stream, number, close=close):
            break
        del stream

        again = world.build(kind) if close and number % 2 else orchestrator
        found = world.shown(again, await again.invoke_async("T"))

        assert found == expected, f"left after event {number}"
        tools = Counter(what for what in world.ran if not what.startswith("model"))
        assert set(tools.values()) <= {1, 2}, f"left after event {number}"
        assert world.unrecorded == []
        assert tools.keys() == {what for what in whole.ran if not what.startswith("model")}
        assert Journal(world.inner, "s", "g").load_sync().owner is None
    assert number > 20


@pytest.mark.newest_dependencies  # before Strands 1.6x it has not finished until its last event is read
async def test_a_node_of_a_swarm_that_had_finished_is_not_run_again() -> None:
    world = World()
    swarm = world.build("swarm")
    stream = swarm.stream_async("T")
    async for event in stream:
        if event.get("type") == "multiagent_node_stop":
            break
    await stream.aclose()

    again = world.build("swarm")
    assert (await again.invoke_async("T")).status == Status.COMPLETED

    assert Counter(world.ran)["model of a"] == 3
    tally = again.session_manager.tally(again)
    assert (tally["a"].replayed, tally["a"].run, tally["b"].run) == (1, 0, 1)


async def test_methods_of_agents_are_given_back() -> None:
    world = World()
    swarm = world.build("swarm")
    agent = swarm.nodes["a"].executor
    before = agent.stream_async
    agent.stream_async = before

    await swarm.invoke_async("T")

    assert vars(agent)["stream_async"] is before
    assert "stream_async" not in vars(swarm.nodes["b"].executor)
