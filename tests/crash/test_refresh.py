"""Two agents of one session in turn: whichever is called first catches up with what the other one did."""

from __future__ import annotations

from typing import Any

import pytest
from strands import Agent, ToolContext, tool

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool
def pack(what: str) -> str:
    """Pack something."""
    ran.append(what)
    return f"packed {what}"


@tool(context=True)
def ask(tool_context: ToolContext) -> str:
    """Ask a person."""
    return str(tool_context.interrupt("may I?"))


def member(store: StateStore, **options: Any) -> Agent:
    script: dict[str, list[Any]] = {
        "Ship it": [[("pack", {"what": "tea"}), ("ask", {})], "Shipped."],
        "Hello": ["Hello to you."],
    }
    manager = DaprSessionManager("shared", store=store)
    return Agent(
        model=ScriptedModel(script), tools=[pack, ask], session_manager=manager, callback_handler=None, **options
    )


def answers(result: Any, answer: str) -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": answer}} for each in result.interrupts]


def texts(agent: Agent) -> list[str]:
    return [block["text"] for message in agent.messages for block in message["content"] if "text" in block]


@pytest.mark.parametrize("prompt", ["Ship it", "Hello"])
def test_an_agent_that_is_called_while_another_waits_for_answers_asks_too(prompt: str) -> None:
    store = MemoryStore()
    one, other = member(store), member(store)
    assert one("Ship it").stop_reason == "interrupt"
    result = other(prompt)
    assert result.stop_reason == "interrupt"
    result = other(answers(result, "yes"))
    assert result.stop_reason == "end_turn"
    assert ran == ["tea"]
    assert texts(other)[:2] == ["Ship it", "Shipped."]
    assert len(other.messages[2]["content"]) == 2


def test_messages_given_to_an_agent_are_not_taken_twice() -> None:
    store = MemoryStore()
    before: Any = [
        {"role": "user", "content": [{"text": "Good morning"}]},
        {"role": "assistant", "content": [{"text": "Good morning to you"}]},
    ]
    one, other = member(store, messages=before[:]), member(store)
    other.state.set("known", value=True)
    DaprSessionManager.sync_agent(other._session_manager, other)  # type: ignore[arg-type]  # something is recorded
    one("Hello")
    assert texts(one) == ["Good morning", "Good morning to you", "Hello", "Hello to you."]
    assert texts(member(store)) == texts(one)
