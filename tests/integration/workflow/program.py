"""A worker with the agents of these tests. What its tools do, they write down in a ledger, and wait for files."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

from strands import Agent, tool

from strands_dapr_session import AgentWorker, DaprSessionManager
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.model import ScriptedModel

PLACE = Path(os.environ.get("WORKFLOW_TEST_PLACE", "."))
LEDGER = Ledger(PLACE / "ledger")


async def gate(name: str) -> None:
    """Wait until a test opens a gate."""
    while not (PLACE / f"open-{name}").exists():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.01)


@tool
async def step(run: str, n: int) -> str:
    """Do a step."""
    LEDGER.note("start", run=run, n=n)
    LEDGER.note("end", run=run, n=n)
    return f"step {n}"


@tool
async def gated(run: str, n: int) -> str:
    """Do a step, when the test says so."""
    LEDGER.note("start", run=run, n=n)
    await gate(run)
    LEDGER.note("end", run=run, n=n)
    return f"gated {n}"


def batch(run: str) -> list[Any]:
    """Three tools at once, the last of which waits for its gate."""
    return [[("step", {"run": run, "n": 1}), ("step", {"run": run, "n": 2}), ("gated", {"run": run, "n": 3})], "done"]


class Script(dict[str, Any]):
    """Turns for any prompt: ``"batch <run>"``, ``"say <text>"``."""

    def __missing__(self, prompt: str) -> Any:
        kind, _, rest = prompt.partition(" ")
        if kind == "batch":
            return batch(rest)
        return [rest]


def build_agent(session_id: str, session_manager: DaprSessionManager) -> Agent:  # noqa: ARG001 - as users write it
    return Agent(
        model=ScriptedModel(Script()), tools=[step, gated], session_manager=session_manager, callback_handler=None
    )


AGENTS: dict[str, Any] = {"agent": build_agent}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("agents", nargs="+")
    arguments.add_argument("--options", type=json.loads, default={})
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    worker = AgentWorker({name: AGENTS[name] for name in options.agents}, **options.options)
    LEDGER.note("worker", agents=options.agents)
    worker.run()


if __name__ == "__main__":
    main()
