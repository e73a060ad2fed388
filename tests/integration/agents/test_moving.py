"""Sessions that other session managers keep can be moved to ours, as README says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.session.file_session_manager import FileSessionManager
from strands.session.session_manager import SessionManager

from strands_dapr_session import DaprSessionManager, StoreUnavailableError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore, LoseReply, LoseRequest
from strands_dapr_session.testing.model import ScriptedModel

ran: list[str] = []


@tool(context=True)
def ask(tool_context: ToolContext) -> str:
    """Ask."""
    answer = str(tool_context.interrupt("question"))
    ran.append(answer)
    return f"they said {answer}"


@tool
def work() -> str:
    """Work."""
    ran.append("work")
    return "worked"


SCRIPT: Any = [[("work", {}), ("ask", {})], "thanks"]


def build(session_manager: SessionManager) -> Agent:
    return Agent(
        agent_id="clerk",
        model=ScriptedModel(SCRIPT),
        tools=[ask, work],
        session_manager=session_manager,
        conversation_manager=SlidingWindowConversationManager(6),
        callback_handler=None,
    )


def in_files(directory: Path) -> SessionManager:
    return FileSessionManager("order-1", storage_dir=str(directory))


def in_snapshots(directory: Path) -> SessionManager:
    from strands.session import SnapshotSessionManager  # noqa: PLC0415 - the oldest Strands has none
    from strands.storage import LocalFileStorage  # noqa: PLC0415

    manager: SessionManager = SnapshotSessionManager("order-1", storage=LocalFileStorage(str(directory)))
    return manager


def move(old: SessionManager, new: DaprSessionManager) -> None:
    """Move the conversation of an agent, as README says."""
    agent = build(new)
    agent.load_snapshot(build(old).take_snapshot(preset="session"))
    new.sync_agent(agent)


def yes(result: Any) -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]


@pytest.mark.parametrize(
    "other",
    [in_files, pytest.param(in_snapshots, marks=pytest.mark.newest_dependencies)],  # the oldest Strands has no such one
)
def test_a_session_is_moved_in_the_middle_of_a_question(
    other: Callable[[Path], SessionManager], tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/ours.db"
    old = build(other(tmp_path))
    old(yes(old("first")))
    old.state.set("customer", "ACME")
    asked = old("second")
    ran.clear()

    move(other(tmp_path), DaprSessionManager("order-1", store=store))
    new = build(DaprSessionManager("order-1", store=store))

    assert new.messages == old.messages
    assert new.state.get() == {"customer": "ACME"}
    assert new.conversation_manager.get_state() == old.conversation_manager.get_state()
    assert new(yes(asked)).stop_reason == "end_turn"
    assert ran == ["yes"]  # the work is not done again
    again = build(DaprSessionManager("order-1", store=store))
    assert again.messages == new.messages
    assert [block["toolResult"]["content"][0]["text"] for block in again.messages[-2]["content"]] == [
        "worked",
        "they said yes",
    ]


@pytest.mark.parametrize("fault", [LoseRequest(), LoseReply()], ids=["request lost", "reply lost"])
def test_what_was_moved_goes_on_wherever_the_store_goes_away(fault: Any, tmp_path: Path) -> None:
    old = build(in_files(tmp_path))
    asked = old("first")
    inner = MemoryStore()
    move(in_files(tmp_path), DaprSessionManager("order-1", store=inner))
    moved = dict(inner._entries)
    old(yes(asked))
    for number in range(99):
        inner._entries = dict(moved)
        store = FaultyStore(inner)
        agent = build(DaprSessionManager("order-1", store=store))
        start = len(store.calls) + number
        store.plan = lambda call, start=start: fault if call.number > start else None  # type: ignore[misc]
        ran.clear()
        try:
            agent(yes(asked))
        except StoreUnavailableError:
            store.plan = lambda _: None
        else:
            assert number > 3
            return
        again = build(DaprSessionManager("order-1", store=inner))
        assert again(yes(asked)).stop_reason == "end_turn", number
        assert [each["role"] for each in again.messages] == [each["role"] for each in old.messages]
        assert set(ran) == {"yes"}
