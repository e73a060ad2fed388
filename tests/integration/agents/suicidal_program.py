"""An agent with a tool that kills its process, as one does that runs out of memory."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from strands import Agent, tool

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

LEDGER = Path(os.environ.get("LEDGER", "ledger"))


@tool
def harmless() -> str:
    """Do nothing."""
    return "nothing"


@tool
def explode() -> str:
    """Kill the process, unless somebody has mended it."""
    with LEDGER.open("a") as file:
        file.write("boom\n")
    if not LEDGER.with_suffix(".mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "no boom"


def build(session_id: str, store: Any = None) -> Agent:
    """Build the agent of a session."""
    return Agent(
        model=ScriptedModel({"Go": [[("harmless", {})], [("explode", {})], "Gone."]}),
        tools=[harmless, explode],
        session_manager=DaprSessionManager(session_id, store=store, max_attempts=2, lease=0.5),
        callback_handler=None,
    )


if __name__ == "__main__":
    agent = build("s")
    if sys.argv[1:] == ["restart"]:
        agent._session_manager.restart(agent)  # type: ignore[union-attr]
    print(agent("Go"))
