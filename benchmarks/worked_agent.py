"""The agent that workers work on, ours and others: a model that answers at once and tools that do next to nothing.

Model and tools write down when they are called. It needs Strands and nothing that this package depends on, so that it
runs in the environments of peers as well.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from strands import Agent, tool

from benchmarks.worked_script import AGENT, NAP, Script, is_first
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from pathlib import Path

    from strands.session.session_manager import SessionManager

    from benchmarks.moments import Times


def build_agent(times: Times, directory: Path, session_manager: SessionManager | None = None) -> Agent:
    """Make the agent, durable or plain."""

    @tool
    async def tick(n: int) -> str:
        """Do next to nothing."""
        return f"tick {n}"

    @tool
    async def nap(n: int) -> str:
        """Do nothing for a while."""
        await asyncio.sleep(NAP)
        return f"nap {n}"

    @tool
    async def hang(run: str) -> str:
        """Hang in the first process that comes here, and be done at once in the next."""
        times.note("tool", run)
        if not is_first(directory, run):
            return "done"
        await asyncio.sleep(3600)
        return "never"

    def called(messages: Any) -> None:
        times.note("model", str(messages[0]["content"][0].get("text", "")).rpartition(" ")[2])

    return Agent(
        model=ScriptedModel(Script(), on_call=called),
        tools=[tick, nap, hang],
        session_manager=session_manager,
        agent_id=AGENT,
        callback_handler=None,
    )
