"""An agent with tools of an MCP server and one of its own, in which it may be told to die."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, cast

from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from strands import Agent, tool
from strands.tools.mcp import MCPClient

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

STORE, LEDGER = sys.argv[1:3]
DIES = "--die" in sys.argv
SERVER = Path(__file__).with_name("mcp_server.py")


@tool
def last() -> str:
    """Come last."""
    if DIES:
        time.sleep(1)  # the others are done and recorded by then
        os.kill(os.getpid(), signal.SIGKILL)
    return "last"


def main() -> None:
    parameters = StdioServerParameters(command=sys.executable, args=[str(SERVER), LEDGER])
    batch = [("double", {"number": 1}), ("double", {"number": 2}), ("last", {})]
    agent = Agent(
        model=ScriptedModel([batch, [("double", {"number": 3})], "done"]),
        # Strands' annotation still has the streams of an older mcp.
        tools=[MCPClient(cast("Any", lambda: stdio_client(parameters))), last],
        callback_handler=None,
        session_manager=DaprSessionManager("numbers", store=STORE),
    )
    agent("go")
    results = [
        block["toolResult"]["content"][0]["text"]
        for message in agent.messages
        for block in message["content"]
        if "toolResult" in block
    ]
    print(" ".join(results))
    agent.cleanup()


if __name__ == "__main__":
    main()
