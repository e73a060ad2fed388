"""The past of a session is told exactly, and another one begins in it, in every store, packed or not."""

from __future__ import annotations

import asyncio
import copy
import secrets
from dataclasses import replace
from typing import Any

import pytest
from strands import Agent, tool

from strands_dapr_session import DaprSessionManager, SessionExistsError, SessionNotFoundError, io_thread, read_timeline
from strands_dapr_session.stores import StateStore
from strands_dapr_session.testing.model import ScriptedModel


@tool
async def look() -> str:
    """Look."""
    return "seen " * 200


def agent_on(store: StateStore, session_id: str) -> Agent:
    manager = DaprSessionManager(session_id, store=store)
    manager._journal_settings = replace(manager._journal_settings, compact_slots=3)
    return Agent(
        model=ScriptedModel([[("look", {}), ("look", {})], "done"]),
        tools=[look],
        session_manager=manager,
        callback_handler=None,
    )


def live(store: StateStore, session_id: str) -> None:
    """Work, look back, fork every end, go on in a fork, and delete everything."""
    agent = agent_on(store, session_id)
    seen: list[Any] = []
    for number in range(4):
        agent.state.set("call", {"number": number})
        agent("go")
        io_thread.run_sync(agent._session_manager._recordings.find(agent).journal._packer.finished())  # type: ignore[union-attr]
        seen.append(copy.deepcopy((agent.messages, agent.state.get())))
    timeline = read_timeline(session_id, store=store)
    ends = [step.number for step in timeline.steps if step.can_fork]
    then = [timeline.at(number).agent for number in ends]
    assert [(each.messages, each.state) for each in then] == seen
    forks = [f"{session_id}-{number}" for number in ends]
    for fork, number, expected in zip(forks, ends, seen, strict=True):
        timeline.fork(fork, number)
        forked = agent_on(store, fork)
        assert (forked.messages, forked.state.get()) == expected
        with pytest.raises(SessionExistsError):
            timeline.fork(fork, number)
    DaprSessionManager(session_id, store=store).delete()
    last = agent_on(store, forks[-1])
    last("go")
    assert last.messages[: len(seen[-1][0])] == seen[-1][0]
    assert agent_on(store, forks[-1]).messages == last.messages
    for fork in forks:
        DaprSessionManager(fork, store=store).delete()
        with pytest.raises(SessionNotFoundError):
            read_timeline(fork, store=store)


async def test_the_past_is_told_and_forked(store: StateStore) -> None:
    await asyncio.to_thread(live, store, f"past-{secrets.token_hex(4)}")
