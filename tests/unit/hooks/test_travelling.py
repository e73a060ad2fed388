"""Which records travel at once, and which wait for the next ones: only such as could be worked out without them."""

from __future__ import annotations

from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import BeforeModelCallEvent, MessageAddedEvent
from strands.multiagent import GraphBuilder

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.records import Derived, DocumentSet, Noted, Record, Spliced
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


@tool
def look_up() -> str:
    """Look something up."""
    return "found"


@tool(context=True)
def note_down(tool_context: ToolContext) -> str:
    """Note something down."""
    tool_context.agent.state.set("noted", value=True)
    return "noted"


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was handed over to wait for the next records."""
    seen: list[str] = []
    append = Journal.append_with_next

    def watched(journal: Journal, *records: Record) -> None:
        if records:
            seen.append(" ".join(map(described, records)))
        append(journal, *records)

    monkeypatch.setattr(Journal, "append_with_next", watched)
    return seen


def described(record: Record) -> str:
    match record:
        case Spliced():
            return "results" if any(type(body) is Derived for body in record.bodies) else "message"
        case DocumentSet():
            return record.name
        case Noted():
            return record.kind
        case _:
            return type(record).__name__


def build(script: Any, **options: Any) -> Agent:
    manager = DaprSessionManager("s", store=MemoryStore())
    return Agent(
        model=ScriptedModel(script),
        tools=[look_up, note_down],
        session_manager=manager,
        callback_handler=None,
        **options,
    )


def test_a_prompt_and_messages_of_recorded_results_wait(waiting: list[str]) -> None:
    build([[("look_up", {})], [("note_down", {}), ("look_up", {})], "done"])("go")
    assert waiting == ["message progress", *2 * ["results progress"]]


def test_results_that_only_their_message_holds_do_not_wait(waiting: list[str]) -> None:
    agent = build([[("look_up", {})], "done"])

    def rewrite(event: MessageAddedEvent) -> None:
        for block in event.message["content"]:
            if "toolResult" in block:
                block["toolResult"]["content"] = [{"text": "something else"}]

    agent.hooks.add_callback(MessageAddedEvent, rewrite)
    agent("go")
    assert waiting == ["message progress"]


def test_what_else_changed_does_not_wait(waiting: list[str]) -> None:
    agent = build([[("look_up", {})], "done"])

    def change(event: MessageAddedEvent) -> None:
        if event.agent.messages[1:]:
            event.agent.state.set("messages", len(event.agent.messages))

    agent.hooks.add_callback(MessageAddedEvent, change)
    agent("go")
    assert waiting == ["message progress"]


def test_a_message_from_elsewhere_does_not_wait(waiting: list[str]) -> None:
    agent = build({"go": [[("look_up", {})]], "and hurry": ["done"]})

    async def steer(event: BeforeModelCallEvent) -> None:
        if len(event.agent.messages) > 1:
            await event.agent._append_messages({"role": "user", "content": [{"text": "and hurry"}]})

    agent.hooks.add_callback(BeforeModelCallEvent, steer)
    agent("go")
    assert waiting == ["message progress", "results progress"]


def test_a_visit_that_begins_waits_unless_it_is_another_attempt(waiting: list[str]) -> None:
    store = MemoryStore()

    def graph(last: Any) -> Any:
        builder = GraphBuilder()
        for name, answer in (("a", "done"), ("b", last)):
            model = ScriptedModel([[("look_up", {})], answer], name=name)
            builder.add_node(Agent(name=name, model=model, tools=[look_up], callback_handler=None), name)
        builder.add_edge("a", "b")
        builder.set_graph_id("g").set_max_node_executions(9)
        return builder.set_session_manager(DaprSessionManager("s", store=store)).build()

    with pytest.raises(Exception, match="down"):
        graph(RuntimeError("down"))("go")
    begin = ["InvocationStarted conversation_manager_state progress status", "message progress"]
    assert waiting == [*begin, "results progress", "batch", *begin, "results progress"]
    waiting.clear()
    graph("done")("go")
    assert waiting == []
