"""Giving an agent back what is recorded of it, and refusing what does not describe one, before it is touched."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager

from strands_dapr_session import DamagedDataError, DaprSessionManager, io_thread
from strands_dapr_session.hooks import parking
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.hooks.invocation import STATUS
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import (
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    Spliced,
    ToolFinished,
)
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import results, said
from tests.unit.hooks.test_opening import World


@pytest.fixture
def world() -> World:
    return World()


def forge(world: World, *records: Record) -> None:
    async def write() -> None:
        journal = Journal(world.store, "s", "default")
        await journal.acquire()
        await journal.release(*records)

    io_thread.run_sync(write())


def refused(world: World, why: str) -> None:
    with pytest.raises(DamagedDataError, match=why) as damaged:
        world.agent()
    assert damaged.value.key == "s/default"


NO_MESSAGES: list[Any] = [["role", "content"], {"role": "user"}, {"content": []}, {"role": 1, "content": []}]


@pytest.mark.parametrize("message", NO_MESSAGES, ids=repr)
def test_what_is_no_message_is_refused(world: World, message: Any) -> None:
    forge(world, Spliced("", 0, 0, (pack_value(message),)))

    refused(world, "no role or no content")


@pytest.mark.parametrize("content", [None, 7, {"text": "x"}, [7], [None]], ids=repr)
def test_content_that_is_none_is_refused(world: World, content: Any) -> None:
    forge(world, Spliced("", 0, 0, (pack_value({"role": "user", "content": content}),)))

    refused(world, "the content of a message")


@pytest.mark.parametrize("content", ["text", ["text"], ({"text": "x"},), []], ids=repr)
def test_content_that_only_a_users_model_takes_is_restored(world: World, content: Any) -> None:
    forge(world, Spliced("", 0, 0, (pack_value({"role": "user", "content": content}),)))

    assert world.agent().messages == [{"role": "user", "content": content}]


PROGRESS_OF_NONE: list[dict[str, Any]] = [
    {},
    {"messages": "1", "batches": 0, "usage": {}, "latency": 0},
    {"messages": 1, "batches": None, "usage": {}, "latency": 0},
    {"messages": 1, "batches": 0, "usage": 1, "latency": 0},
    {"messages": 1, "batches": 0, "usage": {"inputTokens": "7"}, "latency": 0},
    {"messages": 1, "batches": 0, "usage": {}, "latency": None},
    {"messages": 1, "batches": 0, "usage": {}, "latency": 0, "asked": [1]},
]


@pytest.mark.parametrize("progress", PROGRESS_OF_NONE, ids=repr)
def test_a_run_whose_progress_is_none_is_refused(world: World, progress: dict[str, Any]) -> None:
    world.fail("look", "b")
    forge(world, DocumentSet("", PROGRESS, pack_value(progress)))

    refused(world, "do not describe an agent")


def test_the_progress_of_a_finished_run_is_not_looked_at(world: World) -> None:
    world.agent()("go")
    forge(world, DocumentSet("", PROGRESS, pack_value({})))

    assert said(world.agent()) == ["go"]


FORGED: dict[str, Any] = {
    "no tools": lambda prompt, print_: (prompt, {name: print_[name] for name in print_ if name != "tools"}),
    "no system prompt": lambda prompt, print_: (
        prompt,
        {name: print_[name] for name in print_ if name != "system_prompt"},
    ),
    "no model": lambda prompt, print_: (prompt, {name: print_[name] for name in print_ if name != "model"}),
    "no fingerprint": lambda prompt, _: (prompt, None),
    "a list of tools": lambda prompt, print_: (prompt, {**print_, "tools": ["look"]}),
    "no prompt": lambda _, print_: (7, print_),
    "a prompt of no messages": lambda _, print_: ([["user"], None], print_),
    "a prompt without content": lambda _, print_: ([[["user", None, {}]], None], print_),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_run_that_cannot_go_on_is_refused(world: World, change: Any) -> None:
    world.fail("look", "b")
    last = Journal(world.store, "s", "default").load_sync().scope("").invocation
    assert last is not None
    prompt, fingerprint = change(unpack_value(last.prompt), unpack_value(last.fingerprint))
    forge(world, InvocationStarted("", last.id, last.key, pack_value(prompt), pack_value(fingerprint), 2))

    refused(world, "do not describe an agent")


NAMES_OF_DOCUMENTS = ["state", "interrupt_state", "conversation_manager_state", "model_state"]


@pytest.mark.parametrize("document", [[1], ["k", "v"], "x", 1, None], ids=repr)
@pytest.mark.parametrize("name", NAMES_OF_DOCUMENTS)
def test_a_state_of_another_kind_is_refused(world: World, name: str, document: Any) -> None:
    forge(world, DocumentSet("", name, pack_value(document)))

    refused(world, "do not describe an agent")


NO_INTERRUPTS: dict[str, Any] = {
    "nothing": {},
    "no context": {"interrupts": {}, "activated": False},
    "a list of interrupts": {"interrupts": [], "context": {}, "activated": False},
    "an interrupt that is none": {"interrupts": {"i": "x"}, "context": {}, "activated": False},
    "a list as context": {"interrupts": {}, "context": [], "activated": False},
    "active by a number": {"interrupts": {}, "context": {}, "activated": 1},
    "results that are none": {"interrupts": {}, "context": {"tool_results": [7]}, "activated": True},
    "results in a dictionary": {"interrupts": {}, "context": {"tool_results": {}}, "activated": True},
    "a batch that is none": {"interrupts": {}, "context": {}, "activated": True, "pending_tool_execution": [1]},
    "a batch without results": {
        "interrupts": {},
        "context": {},
        "activated": True,
        "pending_tool_execution": {"assistant_message": {"role": "assistant", "content": []}},
    },
}


@pytest.mark.parametrize("state", NO_INTERRUPTS.values(), ids=NO_INTERRUPTS)
def test_interrupts_that_are_none_are_refused(world: World, state: Any) -> None:
    forge(world, DocumentSet("", "interrupt_state", pack_value(state)))

    refused(world, "do not describe an agent|none of a tool")


NO_STATUS: dict[str, Any] = {
    "a list": lambda _: [],
    "no state": lambda status: {name: status[name] for name in status if name != "state"},
    "another state": lambda status: {**status, "state": "finished"},
    "a list as state": lambda status: {**status, "state": ["running"]},
    "attempts in words": lambda status: {**status, "attempt": "two"},
    "tries in words": lambda status: {**status, "tries": "two"},
    "a place by name": lambda status: {**status, "place": "there"},
    "a time in words": lambda status: {**status, "began": "now"},
    "answers by number": lambda status: {**status, "answers": [1]},
    "a text of answers": lambda status: {**status, "answers": "answers"},
    "calls in doubt by number": lambda status: {**status, "asking": 1},
    "results by number": lambda status: {**status, "settled": [1]},
    "a stop that is none": lambda status: {**status, "stop": True},
}


@pytest.mark.parametrize("change", NO_STATUS.values(), ids=NO_STATUS)
def test_a_status_that_is_none_is_refused_wherever_it_is_read(world: World, change: Any) -> None:
    world.fail("look", "b")
    journal = Journal(world.store, "s", "default")
    forge(world, Noted("", STATUS, pack_value(change(unpack_value(journal.load_sync().scope("").notes[STATUS])))))

    refused(world, "do not describe an agent")
    for work in (parking.restart, parking.give_up):
        with pytest.raises(DamagedDataError, match="do not describe an agent"):
            io_thread.run_sync(work(journal))
        assert world.is_free


@pytest.mark.parametrize("result", [7, {"status": "success"}, {"toolUseId": 7}], ids=repr)
def test_a_result_that_is_none_of_a_tool_is_refused(world: World, result: Any) -> None:
    world.fail("look", "b")
    (recorded,) = Journal(world.store, "s", "default").load_sync().scope("").results
    forge(world, ToolFinished("", recorded, pack_value(result)))

    refused(world, "none of a tool")


NO_RESULTS: list[Any] = [
    7,
    {},
    {"stop_reason": 1, "message": {"role": "assistant", "content": []}},
    {"stop_reason": "end_turn"},
    {"stop_reason": "end_turn", "message": {"role": "assistant"}},
    {"stop_reason": "end_turn", "message": {"role": "assistant", "content": []}, "usage": {"inputTokens": "x"}},
    {"stop_reason": "end_turn", "message": {"role": "assistant", "content": []}, "usage_of_call": 7},
    {"stop_reason": "end_turn", "message": {"role": "assistant", "content": []}, "latency": "long"},
    {"stop_reason": "end_turn", "message": {"role": "assistant", "content": []}, "output": {}},
]


@pytest.mark.parametrize("result", NO_RESULTS, ids=repr)
def test_a_recorded_result_that_is_none_is_not_handed_out(world: World, result: Any) -> None:
    world.agent()("go", invocation_state={"invocation_id": "one"})
    last = Journal(world.store, "s", "default").load_sync().scope("").invocation
    assert last is not None
    begun = InvocationStarted("", "another", "two", last.prompt, last.fingerprint, 1)
    forge(world, begun, InvocationFinished("", "another", "end_turn", pack_value(result)))

    with pytest.raises(DamagedDataError, match=r"do not describe an agent|no role or no content"):
        world.agent()("go", invocation_state={"invocation_id": "two"})
    assert world.is_free
    assert str(world.agent()("go", invocation_state={"invocation_id": "one"})).strip() == "went"


def test_another_conversation_manager_begins_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def agent(manager: Any) -> Agent:
        return Agent(
            model=ScriptedModel(["done"]),
            conversation_manager=manager,
            session_manager=DaprSessionManager("s", store=world.store),
            callback_handler=None,
        )

    first = agent(SlidingWindowConversationManager())
    first.conversation_manager.removed_message_count = 3
    first("go")
    assert agent(SlidingWindowConversationManager()).conversation_manager.removed_message_count == 3

    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        other = agent(NullConversationManager())

    assert "another conversation manager than the recorded one" in caplog.text
    assert said(other) == ["go"]
    assert other.conversation_manager.removed_message_count == 0


def test_messages_that_are_given_later_yield_to_those_that_are_recorded(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.agent()("go")

    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        agent = Agent(
            model=ScriptedModel(["done"]),
            messages=[{"role": "user", "content": [{"text": "given"}]}],
            session_manager=DaprSessionManager("s", store=world.store),
            callback_handler=None,
        )

    assert said(agent) == ["go"]
    assert "messages given to the agent are replaced" in caplog.text


def test_what_was_just_added_stays_when_others_have_gone_on(world: World) -> None:
    agent, other = world.agent(), world.agent()
    agent("go")
    other("then")
    agent.messages.append({"role": "user", "content": [{"text": "added"}]})

    agent("look")

    assert said(agent) == said(world.agent()) == ["go", "then", "added", "look"]
    assert results(agent) == ["a", "b"]
