"""How invocations end that fail: what the agent keeps of them, and what it still owes."""

from __future__ import annotations

from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, BeforeInvocationEvent, BeforeToolCallEvent
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import DaprSessionManager, StoreError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore, outage
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import said


class World:
    """What survives a process, and what really ran.

    Attributes:
        breaks: The tool during which the store goes away, once.
    """

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.ran: list[str] = []
        self.breaks = ""

    def agent(self) -> Agent:
        @tool
        def look(name: str) -> str:
            """Look."""
            self.ran.append(name)
            self.break_in(name)
            return name

        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person."""
            answer = str(tool_context.interrupt("may I"))
            self.ran.append(answer)
            self.break_in("ask")
            return answer

        script: Any = {
            "look": [[("look", {"name": "a"})], [("look", {"name": "b"}), ("look", {"name": "c"})], "looked"],
            "ask": [[("ask", {})], [("look", {"name": "a"})], "asked"],
            "then": ["then it was"],
        }
        return Agent(
            model=ScriptedModel(script),
            tools=[look, ask],
            session_manager=DaprSessionManager("s", store=self.store, on_busy="steal"),
            callback_handler=None,
            tool_executor=SequentialToolExecutor(),
        )

    def break_in(self, name: str) -> None:
        if name == self.breaks:
            self.breaks = ""
            self.store.plan = outage(0, 10**9)

    def mend(self) -> None:
        self.store.plan = lambda _: None


@pytest.fixture
def world() -> World:
    return World()


def plain(agent: Agent) -> list[Any]:
    return [(message["role"], message["content"]) for message in agent.messages]


@pytest.mark.parametrize("where", ["a", "b", "c"])
def test_what_was_not_recorded_is_no_part_of_what_goes_on(world: World, where: str) -> None:
    whole = World().agent()
    whole("look")
    world.breaks = where
    agent = world.agent()
    with pytest.raises(StoreError):
        agent("look")
    world.mend()

    assert str(agent("look")).strip() == "looked"

    assert plain(agent) == plain(whole) == plain(world.agent())


def test_what_is_added_to_an_agent_after_that_stays(world: World) -> None:
    agent = world.agent()
    agent("then")
    world.store.plan = outage(0, 10**9)
    with pytest.raises(StoreError):
        agent("look")
    world.mend()
    agent.messages.append({"role": "user", "content": [{"text": "By the way."}]})

    assert str(agent("look")).strip() == "looked"

    assert said(agent) == said(world.agent()) == ["then", "By the way.", "look"]


@pytest.mark.parametrize("prompt", ["ask", None])
@pytest.mark.parametrize("where", ["ask", "a"])
def test_whoever_answered_when_the_store_was_away_is_not_held_to_answer(
    world: World, where: str, prompt: str | None
) -> None:
    agent = world.agent()
    result = agent("ask")
    answers: Any = [
        {"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts or []
    ]
    world.breaks = where
    with pytest.raises(StoreError):
        agent(answers)
    world.mend()

    again = agent(prompt)

    assert str(again).strip() == "asked"
    assert world.ran == (["yes", "yes", "a"] if where == "ask" else ["yes", "a", "a"])
    assert said(world.agent()) == ["ask"]


@pytest.mark.parametrize("prompt", ["ask", None])
def test_whoever_answered_before_a_failure_is_not_held_to_answer(world: World, prompt: str | None) -> None:
    agent = world.agent()
    result = agent("ask")
    answers: Any = [
        {"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts or ()
    ]
    down = [True]

    def stop(event: BeforeToolCallEvent) -> None:
        if down:
            down.clear()
            raise ConnectionError("down", event.tool_use["name"])

    agent.add_hook(stop, BeforeToolCallEvent)
    with pytest.raises(Exception, match="down"):
        agent(answers)

    assert str(agent(prompt)).strip() == "asked"
    assert world.ran == ["yes", "a"]
    assert said(world.agent()) == ["ask"]


def test_a_further_prompt_that_is_refused_is_owed_and_nothing_is_recorded_behind_it(world: World) -> None:
    agent = world.agent()

    def resume(event: AfterInvocationEvent) -> None:
        if event.result is not None and said(agent) == ["look"]:
            event.resume = "then"

    def refuse(event: BeforeInvocationEvent) -> None:
        if "then" in str(event.messages):
            event.cancel = "enough"

    agent.add_hook(resume, AfterInvocationEvent)
    agent.add_hook(refuse, BeforeInvocationEvent)
    assert str(agent("look")).strip() == "enough"

    other = world.agent()
    assert "enough" not in str(other.messages)
    assert str(other()).strip() == "then it was"
    assert said(other) == ["look", "then"]
