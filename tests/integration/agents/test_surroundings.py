"""What surrounds an agent in real programs: tests with replaced parts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strands import Agent, tool

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


@tool
def work() -> str:
    """Work."""
    return "worked"


def agent_on(store: MemoryStore, session: str = "s") -> Agent:
    return Agent(
        model=ScriptedModel([[("work", {})], "done"]),
        tools=[work],
        session_manager=DaprSessionManager(session, store=store),
        callback_handler=None,
    )


@pytest.mark.timeout(20)
def test_a_sleep_that_does_not_wait_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of retries replace `asyncio.sleep` for the whole process, and with it for our heartbeat."""

    async def no_sleep(*_: Any) -> None: ...

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    agent = agent_on(MemoryStore())
    for _ in range(3):
        assert str(agent("go")).strip() == "done"


def test_an_option_that_does_not_exist_is_refused() -> None:
    options: Any = {"retries": 3}
    with pytest.raises(TypeError, match="'retries'"):
        DaprSessionManager("s", store="memory://", **options)
