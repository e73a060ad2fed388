"""What is cancelled ends as cancelled, also where its end cannot be recorded: whoever cancelled waits for that."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from strands import Agent, tool
from strands.hooks import BeforeModelCallEvent, BeforeToolCallEvent
from strands.multiagent import GraphBuilder, Swarm

from strands_dapr_session import DaprSessionManager, FencedError, StoreUnavailableError
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore, LoseRequest
from strands_dapr_session.testing.model import ScriptedModel

PATIENCE = 20.0
"""Seconds after which something counts as hanging."""

ran: list[str] = []


@tool
async def work() -> str:
    """Work."""
    ran.append("work")
    return "worked"


def part_of(kind: str, agent: Agent, manager: DaprSessionManager) -> Any:
    """Make an agent the only node of a graph or swarm; or leave it as it is."""
    if kind == "agent":
        return agent
    if kind == "swarm":
        return Swarm([agent], id="g", session_manager=manager)
    builder = GraphBuilder().set_graph_id("g").set_max_node_executions(9).set_session_manager(manager)
    builder.add_node(agent, "n")
    return builder.build()


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
async def test_a_worker_that_was_overtaken_ends_though_an_agent_is_in_the_middle_of_its_batch(kind: str) -> None:
    """Its tool, and one of the agent that it is a tool of, find out at the same time. One cancels the other."""
    store = MemoryStore()
    other = Journal(store, "s", "g", settings=JournalSettings(on_busy="steal"))
    about_to_start, may_start = [], asyncio.Event()

    async def steal(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] != "work":
            return
        about_to_start.append(event.agent.name)
        if len(about_to_start) > 1:
            await other.acquire()
            may_start.set()
        await may_start.wait()

    manager = DaprSessionManager("s", store=store, in_doubt={"work": "never_twice"})
    helper = Agent(
        name="helper",
        model=ScriptedModel([[("work", {})], "helped"], name="helper"),
        tools=[work],
        callback_handler=None,
    )
    agent = Agent(
        name="n",
        agent_id="g",
        model=ScriptedModel([[("helper", {"input": "help"}), ("work", {})], "done"]),
        tools=[helper.as_tool(), work],
        session_manager=manager if kind == "agent" else None,
        callback_handler=None,
    )
    for each in (agent, helper):
        each.add_hook(steal, BeforeToolCallEvent)
    call = asyncio.ensure_future(part_of(kind, agent, manager).invoke_async("go"))
    ended, _ = await asyncio.wait([call], timeout=PATIENCE)

    assert ended, "it hangs"
    with pytest.raises(FencedError):
        await call
    assert sorted(about_to_start) == ["helper", "n"]
    assert ran == []


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
async def test_an_error_is_told_to_whoever_calls_while_a_cancellation_is_dealt_with(kind: str) -> None:
    store = FaultyStore(MemoryStore())
    manager = DaprSessionManager("s", store=store)
    agent = Agent(
        name="n",
        model=ScriptedModel(["done"], on_call=lambda _: setattr(store, "plan", lambda _: LoseRequest())),
        session_manager=manager if kind == "agent" else None,
        callback_handler=None,
    )
    called = part_of(kind, agent, manager)
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        with pytest.raises(StoreUnavailableError):
            await called.invoke_async("go")


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
async def test_an_agent_that_is_a_tool_is_not_busy_when_the_call_that_failed_is_made_again(kind: str) -> None:
    """It was in the middle of saying something. Strands leaves it there until it is collected, which may be never."""
    speaks, trouble = asyncio.Event(), [ValueError("down")]

    async def fail(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "work" and trouble:
            await speaks.wait()
            raise trouble.pop()

    helper = Agent(name="helper", model=ScriptedModel(["helped"], name="helper"), callback_handler=None)
    helper.add_hook(lambda _: speaks.set(), BeforeModelCallEvent)
    manager = DaprSessionManager("s", store=MemoryStore())
    turns: Any = [[("helper", {"input": "help"}), ("work", {})], "done"]
    agent = Agent(
        name="a",
        agent_id="g",
        model=ScriptedModel(turns),
        tools=[helper.as_tool(), work],
        session_manager=manager if kind == "agent" else None,
        callback_handler=None,
    )
    agent.add_hook(fail, BeforeToolCallEvent)
    called = part_of(kind, agent, manager)
    gc.disable()
    try:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(called.invoke_async("T"), PATIENCE)
        assert not trouble
        await asyncio.wait_for(called.invoke_async("T"), PATIENCE)
    finally:
        gc.enable()
    results = [block["toolResult"] for block in agent.messages[2]["content"]]
    assert [(each["status"], each["content"][0]["text"].strip()) for each in results] == [
        ("success", "helped"),
        ("success", "worked"),
    ]
    assert all("stream" not in vars(each) for each in agent.tool_registry.registry.values())


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
async def test_an_agent_that_is_a_tool_may_be_called_again_in_the_same_call(kind: str) -> None:
    """Strands does not read its stream on behind the result, and it is busy until that is let go of."""
    helper = Agent(name="helper", model=ScriptedModel(["helped"], name="helper"), callback_handler=None)
    manager = DaprSessionManager("s", store=MemoryStore())
    again = [("helper", {"input": "help"})]
    agent = Agent(
        name="a",
        agent_id="g",
        model=ScriptedModel([[*again, ("work", {})], again, again, "done"]),
        tools=[helper.as_tool(), work],
        session_manager=manager if kind == "agent" else None,
        callback_handler=None,
    )
    await asyncio.wait_for(part_of(kind, agent, manager).invoke_async("T"), PATIENCE)
    blocks = [
        block["toolResult"] for message in agent.messages for block in message["content"] if "toolResult" in block
    ]
    assert [each["status"] for each in blocks] == ["success"] * 4


async def test_agents_may_share_a_tool_that_is_an_agent_and_end_in_any_order() -> None:
    """What watches the tool for one of them ends with its call, and stops nothing that the other has asked for."""
    helper = Agent(name="helper", model=ScriptedModel(["helped"], name="helper"), callback_handler=None)
    shared, uses = helper.as_tool(), []
    has_used, speaks, has_failed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def speak(event: BeforeModelCallEvent) -> None:
        uses.append(event)
        if len(uses) > 1:
            speaks.set()
            await has_failed.wait()

    async def fail(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "work":
            has_used.set()
            await speaks.wait()
            raise ValueError("down")

    def agent(name: str, *script: Any) -> Agent:
        manager = DaprSessionManager(name, store=MemoryStore())
        model = ScriptedModel([[("helper", {"input": "help"})], *script, "done"])
        return Agent(name=name, model=model, tools=[shared, work], session_manager=manager, callback_handler=None)

    helper.add_hook(speak, BeforeModelCallEvent)
    one, other = agent("one", [("work", {})]), agent("other")
    one.add_hook(fail, BeforeToolCallEvent)
    first = asyncio.ensure_future(one.invoke_async("T"))
    await asyncio.wait_for(has_used.wait(), PATIENCE)
    second = asyncio.ensure_future(other.invoke_async("T"))
    with pytest.raises(Exception, match="down"):
        await asyncio.wait_for(first, PATIENCE)
    has_failed.set()
    await asyncio.wait_for(second, PATIENCE)
    assert other.messages[2]["content"][0]["toolResult"]["status"] == "success"
    assert "stream" not in vars(shared)
