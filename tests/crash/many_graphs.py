"""A process that runs fifty graphs at once, and dies after so many tools: ``many_graphs STORE LEDGER TOOLS``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from strands import Agent, tool
from strands.multiagent import GraphBuilder

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.model import ScriptedModel

GRAPHS = 50
TOOLS = 4
"""Runs of tools in each graph."""


def graph(number: int, store: str, ledger: Ledger, last: int) -> Any:
    """Make one: two nodes at the same time, which another joins."""

    @tool
    async def work(name: str) -> str:
        """Work."""
        await asyncio.sleep(0.01)
        ledger.note("ran", what=f"{number}{name}")
        if len(ledger.entries("ran")) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"did {name}"

    def agent(name: str, *tools: str) -> Agent:
        script: list[Any] = [*([("work", {"name": each})] for each in tools), f"done {name}"]
        return Agent(name=name, model=ScriptedModel(script, name=name), tools=[work], callback_handler=None)

    builder = GraphBuilder()
    builder.add_node(agent("a", "a1", "a2"), "a")
    builder.add_node(agent("b", "b1"), "b")
    builder.add_node(agent("c", "c1"), "c")
    builder.add_edge("a", "c")
    builder.add_edge("b", "c")
    manager = DaprSessionManager(f"many-{number}", store=store, lease=60.0)
    return builder.set_max_node_executions(9).set_session_manager(manager).build()


async def main(store: str, path: str, last: int) -> None:
    """Run them all."""
    ledger = Ledger(path)
    graphs = [graph(number, store, ledger, last) for number in range(GRAPHS)]
    results = await asyncio.gather(*(each.invoke_async("Work", {"invocation_id": "1"}) for each in graphs))
    ledger.note("ended", statuses=sorted({result.status.value for result in results}), count=len(results))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
