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
SCRIPT: list[Any] = [
    [("work", {"n": 1}), ("work", {"n": 2}), ("work", {"n": 3})],
    [("work", {"n": 4})],
    [("work", {"n": 5}), ("work", {"n": 6})],
    "done",
]
"""Two batches and a single call, then the answer."""

CALLS = sum(len(turn) for turn in SCRIPT if isinstance(turn, list))


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
        async def work(n: int) -> str:
            """Work."""
            execution = uuid.uuid4().hex
            ledger.note("start", run=session_id, n=n, execution=execution)
            await asyncio.sleep(random.uniform(0.02, 0.8))
            return execution

        return Agent(
            model=ScriptedModel(SCRIPT),
            tools=[work],
            session_manager=session_manager,
            agent_id=AGENT,
            callback_handler=None,
        )

    # None of the runs kills its worker: however often one is hit, it is not to be parked.
    AgentWorker(AGENT, build, store=options.store, lease=options.lease, max_attempts=1000, drain=1.0).run()
