"""An agent on Strands' own OpenAI provider, which may be told to die inside one of three parallel tools."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from strands import Agent, tool
from strands.models.openai import OpenAIModel

from strands_dapr_session import DaprSessionManager

STORE, SERVER, LEDGER = sys.argv[1:4]
DIES = "--die" in sys.argv


def note(name: str) -> None:
    with Path(LEDGER).open("a") as ledger:
        ledger.write(f"{name}\n")


@tool
async def charge(order: int) -> str:
    """Charge the customer."""
    note("charge")
    return f"charged {order}"


@tool
def reserve(order: int) -> str:
    """Reserve the goods."""
    note("reserve")
    return f"reserved {order}"


@tool
async def ship(order: int) -> str:
    """Ship the goods."""
    note("ship")
    if DIES:
        await asyncio.sleep(1)  # the others are done and recorded by then
        os.kill(os.getpid(), signal.SIGKILL)
    return f"shipped {order}"


def main() -> None:
    model = OpenAIModel(client_args={"api_key": "none", "base_url": SERVER}, model_id="gpt-test")
    manager = DaprSessionManager("order", store=STORE)
    agent = Agent(model=model, tools=[charge, reserve, ship], callback_handler=None, session_manager=manager)
    result = agent("Process order 4711")
    print(json.dumps({"answer": str(result).strip(), "usage": result.metrics.accumulated_usage["totalTokens"]}))


if __name__ == "__main__":
    main()
