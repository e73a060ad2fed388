"""Giving an agent back what is recorded of it, and refusing what does not describe one, before it is touched."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager

from strands_dapr_session import DamagedDataError, DaprSessionManager, io_thread
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import DocumentSet, InvocationStarted, Record, Spliced
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


@pytest.mark.parametrize("message", [["role", "content"], {"role": "user"}, {"content": []}], ids=repr)
def test_what_is_no_message_is_refused(world: World, message: Any) -> None:
    forge(world, Spliced("", 0, 0, (pack_value(message),)))

    refused(world, "no role or no content")


PROGRESS_OF_NONE: list[dict[str, Any]] = [
    {},
    {"messages": "1", "batches": 0, "usage": {}, "latency": 0},
    {"messages": 1, "batches": None, "usage": {}, "latency": 0},
    {"messages": 1, "batches": 0, "usage": 1, "latency": 0},
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
    "no prompt": lambda _, print_: (7, print_),
    "a prompt of no messages": lambda _, print_: ([["user"], None], print_),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_run_that_cannot_go_on_is_refused(world: World, change: Any) -> None:
    world.fail("look", "b")
    last = Journal(world.store, "s", "default").load_sync().scope("").invocation
    assert last is not None
    prompt, fingerprint = change(unpack_value(last.prompt), unpack_value(last.fingerprint))
    forge(world, InvocationStarted("", last.id, last.key, pack_value(prompt), pack_value(fingerprint), 2))

    refused(world, "do not describe an agent")


@pytest.mark.parametrize("name", ["interrupt_state", "conversation_manager_state"])
def test_a_state_of_another_kind_is_refused(world: World, name: str) -> None:
    forge(world, DocumentSet("", name, pack_value([1])))

    refused(world, "do not describe an agent")


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
