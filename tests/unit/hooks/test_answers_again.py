"""Answers that are given again to a live agent whose call with them failed, since the store was away."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from strands import Agent, ToolContext, tool

from strands_dapr_session import DaprSessionManager, StoreUnavailableError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Fault, FaultyStore, LoseReply, LoseRequest
from strands_dapr_session.testing.model import ScriptedModel


class World:
    """A store that can be away, and what a tool was answered."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.answers: list[str] = []

    def build(self) -> Agent:
        @tool(context=True)
        def ask(tool_context: ToolContext, question: str) -> str:
            """Ask a person."""
            answer = str(tool_context.interrupt(question))
            self.answers.append(f"{question}: {answer}")
            return answer

        @tool
        def look() -> str:
            """Look."""
            return "seen"

        turns: list[Any] = [[("ask", {"question": "one"}), ("look", {})], [("ask", {"question": "two"})], "done"]
        manager = DaprSessionManager("s", store=self.store, on_busy="steal")
        return Agent(
            model=ScriptedModel(turns), tools=[ask, look], session_manager=manager, agent_id="a", callback_handler=None
        )

    def lose(self, fault: Fault | None, first: int = 0) -> None:
        """Let every call fail from the one that is so many calls away."""
        start = len(self.store.calls) + first
        self.store.plan = lambda call: fault if call.number > start else None


def answers_to(result: Any) -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]


def contents(agent: Agent) -> list[Any]:
    return [message["content"] for message in agent.messages]


@pytest.mark.parametrize("question", [1, 2])
@pytest.mark.parametrize("fault", [LoseRequest(), LoseReply()], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("times", [1, 2])
def test_answers_are_taken_again_wherever_the_store_went_away(question: int, fault: Fault, times: int) -> None:
    expected = World().build()
    first = expected("go")
    whole = expected(answers_to(expected(answers_to(first))))
    assert str(whole).strip() == "done"
    failed = 0
    for number in itertools.count():
        world = World()
        agent = world.build()
        result = agent("go")
        if question == 2:
            result = agent(answers_to(result))
        answers = answers_to(result)
        for attempt in range(times):
            world.lose(fault, 0 if attempt else number)
            try:
                agent(answers)
            except StoreUnavailableError:
                failed += 1
                continue
            assert failed >= 4 * times  # it makes no more calls of the store
            return
        world.lose(None)
        result = agent(answers)
        if question == 1:
            assert [each.name for each in result.interrupts or ()] == ["two"], f"away from call {number} on"
            result = agent(answers_to(result))
        assert result.stop_reason == "end_turn", f"away from call {number} on"
        assert str(result).strip() == "done"
        assert contents(agent) == contents(expected)
        assert set(world.answers) == {"one: yes", "two: yes"}
        assert contents(world.build()) == contents(expected)
