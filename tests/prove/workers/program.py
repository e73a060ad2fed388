"""The worker of the campaign: an agent whose tools take a while, and write down every execution."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import uuid
from typing import Any

from strands import Agent, tool

from strands_dapr_session import AgentWorker, DaprSessionManager
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.model import ScriptedModel

AGENT = "proof"
TURNS = ((1, 2, 3), (4,), (5, 6))
"""Two batches of calls and a single one; then comes the answer."""

CALLS = sum(map(len, TURNS))


class _Script(dict[str, list[Any]]):
    """The turns of a run, whose name is the prompt."""

    def __missing__(self, run: str) -> list[Any]:
        return [*([("work", {"run": run, "n": n}) for n in turn] for turn in TURNS), "done"]


def main(given: list[str]) -> None:
    """Work until told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger")
    parser.add_argument("store")
    parser.add_argument("--lease", type=float)
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    ledger = Ledger(options.ledger)

    def build(session_id: str, session_manager: DaprSessionManager) -> Agent:
        @tool
        async def work(run: str, n: int) -> str:
            """Work."""
            execution = uuid.uuid4().hex
            ledger.note("start", run=run, n=n, execution=execution)
            await asyncio.sleep(random.uniform(0.02, 0.8))
            return execution

        del session_id  # the session manager knows it
        return Agent(
            model=ScriptedModel(_Script()),
            tools=[work],
            session_manager=session_manager,
            agent_id=AGENT,
            callback_handler=None,
        )

    # None of the runs kills its worker: however often one is hit, it is not to be parked.
    AgentWorker(AGENT, build, store=options.store, lease=options.lease, max_attempts=1000, drain=1.0).run()
