"""Recording where calls do not go as usual: at the same time, cut short by hooks, or beside what is owed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from strands import Agent, tool
from strands.hooks import AfterInvocationEvent, BeforeInvocationEvent
from strands.hooks.registry import HookOrder
from strands.tools.executors import SequentialToolExecutor
from strands.types.agent import ConcurrentInvocationMode

from strands_dapr_session import DaprSessionManager, StoreError, io_thread
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.records import InvocationFinished, InvocationStarted
from strands_dapr_session.strands_compat import LAST
from strands_dapr_session.testing.faults import FaultyStore, outage
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import results, said
from tests.unit.hooks.test_opening import World


@pytest.fixture
def world() -> World:
    return World()


def free_again(world: World) -> None:
    """Wait until the journal is free, which nobody who got an exception waits for."""
    end = time.monotonic() + 10
    while not world.is_free:
        assert time.monotonic() < end
        time.sleep(0.001)


def once(agent: Agent, event_type: Any, *, order: float = HookOrder.DEFAULT) -> None:
    """Let a hook of the agent raise the first time."""
    left = [ConnectionError("down")]

    def fail(_: Any) -> None:
        if left:
            raise left.pop()

    agent.add_hook(fail, event_type, order=order)


def recorded(world: World, kind: type) -> int:
    commits = io_thread.run_sync(read_history(world.store, "s", "default"))
    return sum(isinstance(record, kind) for _, records in commits for record in records)


# -- calls at the same time --------------------------------------------------------------------------------------------


async def test_calls_at_the_same_time_are_one_invocation_that_ends_with_the_last(world: World) -> None:
    is_over = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait for the other call."""
        await is_over.wait()
        return "waited"

    agent = Agent(
        model=ScriptedModel({"wait": [[("wait", {})]], "go": ["went", "waited"]}),
        tools=[wait],
        session_manager=DaprSessionManager("s", store=world.store),
        callback_handler=None,
        concurrent_invocation_mode=ConcurrentInvocationMode.UNSAFE_REENTRANT,
    )
    first = asyncio.create_task(agent.invoke_async("wait"))
    while len(agent.messages) < 2:  # noqa: ASYNC110  (that is no event)
        await asyncio.sleep(0)
    await agent.invoke_async("go")
    between = await Journal(world.store, "s", "default").load()
    assert between.owner is not None
    assert len(between.scope("").messages) == len(agent.messages)
    is_over.set()
    await first

    assert world.is_free
    assert recorded(world, InvocationStarted) == recorded(world, InvocationFinished) == 1
    assert said(world.agent()) == said(agent) == ["wait", "go"]


# -- hooks that raise --------------------------------------------------------------------------------------------------


def test_a_call_that_a_later_hook_ends_lets_others_go_on(world: World) -> None:
    agent = world.agent()
    once(agent, BeforeInvocationEvent, order=LAST + 1)
    with pytest.raises(Exception, match="down"):
        agent("go")
    free_again(world)

    assert str(world.agent()("go")).strip() == "went"


def test_a_call_that_a_later_hook_ends_can_be_made_again_at_once(world: World) -> None:
    agent = world.agent()
    once(agent, BeforeInvocationEvent, order=LAST + 1)
    with pytest.raises(Exception, match="down"):
        agent("go")

    assert str(agent("go")).strip() == "went"

    assert recorded(world, InvocationFinished) == 1
    assert said(agent) == said(world.agent()) == ["go"]


def test_a_call_whose_end_nobody_tells_is_ended_by_the_next(world: World) -> None:
    """Versions of Strands before 1.6x, and callers that drop a stream."""
    agent = world.agent()
    agent.tracer = agent.tracer._tracer  # type: ignore[attr-defined]
    once(agent, BeforeInvocationEvent, order=LAST + 1)
    with pytest.raises(Exception, match="down"):
        agent("go")

    assert str(agent("go")).strip() == "went"

    assert world.is_free
    assert recorded(world, InvocationFinished) == 1
    assert said(agent) == said(world.agent()) == ["go"]


def test_what_fails_after_a_run_does_not_undo_it(world: World) -> None:
    agent = world.agent()
    once(agent, AfterInvocationEvent)
    with pytest.raises(Exception, match="down"):
        agent("go", invocation_state={"invocation_id": "one"})
    free_again(world)
    world.down.add("model")

    assert str(world.agent()("go", invocation_state={"invocation_id": "one"})).strip() == "went"


# -- beside what is owed -----------------------------------------------------------------------------------------------


def test_a_call_that_a_hook_cancels_leaves_nothing_beside_what_is_owed(world: World) -> None:
    agent = world.fail("look", "b")
    cancels = [True]

    def cancel(event: BeforeInvocationEvent) -> None:
        event.cancel = "enough" if cancels else False

    agent.add_hook(cancel, BeforeInvocationEvent)
    assert str(agent("then")).strip() == "enough"
    assert "enough" not in str(agent.messages)
    cancels.clear()

    assert str(agent("look")).strip() == "looked"

    assert results(agent) == results(world.agent()) == ["a", "b"]
    assert "enough" not in str(world.agent().messages)


def test_what_a_tool_says_that_is_called_directly_is_recorded(world: World) -> None:
    agent = world.agent()
    agent("go")

    agent.tool.look(name="a")

    assert world.is_free
    assert results(world.agent()) == results(agent) == ["a"]


def test_nothing_is_recorded_behind_what_is_owed(world: World) -> None:
    world.fail("look", "b")
    agent = world.agent()
    before = Journal(world.store, "s", "default").load_sync().scope("").messages

    agent.tool.look(name="c")

    assert Journal(world.store, "s", "default").load_sync().scope("").messages == before
    assert str(world.agent()()).strip() == "looked"


# -- results that are handed out ---------------------------------------------------------------------------------------


def test_a_call_after_one_that_was_handed_out_gets_its_own_result(world: World) -> None:
    first = world.agent()("go", invocation_state={"invocation_id": "one"})
    agent = world.agent()
    again = agent("go", invocation_state={"invocation_id": "one"})
    assert str(again).strip() == "went"
    assert again.metrics.accumulated_usage == first.metrics.accumulated_usage

    assert str(agent("then")).strip() == "then it was"

    assert said(agent) == said(world.agent()) == ["go", "then"]


# -- before anything is recorded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [0, 1])
def test_an_agent_of_which_nothing_could_be_recorded_is_what_it_was_made_as(world: World, calls: int) -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    store = FaultyStore(world.store)
    agent = Agent(
        model=ScriptedModel({"go": ["went"], "look": [[("look", {})], "looked"]}),
        tools=[look],
        messages=[{"role": "user", "content": [{"text": "seed"}]}],
        state={"seed": 1},
        session_manager=DaprSessionManager("s", store=store, on_busy="steal"),
        callback_handler=None,
        tool_executor=SequentialToolExecutor(),
    )
    for _ in range(calls):
        agent("go")
    before = said(agent)
    works = [True]

    def break_down(event: BeforeInvocationEvent) -> None:
        if works:
            works.clear()
            event.agent.state.set("seed", 2)
            store.plan = outage(0, 10**9)

    agent.add_hook(break_down, BeforeInvocationEvent, order=LAST)
    with pytest.raises(StoreError):
        agent("look")
    store.plan = lambda _: None

    assert str(agent("look")).strip() == "looked"

    assert said(agent) == said(world.agent()) == [*before, "look"]
    assert agent.state.get("seed") == 1
