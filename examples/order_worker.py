"""A worker that processes orders, three tools at once. Needs no model provider: the model follows a script.

dapr run --app-id orders -- python examples/order_worker.py /tmp/ledger
"""

from __future__ import annotations

import asyncio
import random
import sys

from strands import Agent, tool

from strands_dapr_session import AgentWorker, DaprSessionManager
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.model import ScriptedModel

LEDGER = Ledger(sys.argv[1])


async def work(order: str, name: str) -> str:
    """Take some time, as a payment or a warehouse does."""
    LEDGER.note("start", order=order, name=name)
    await asyncio.sleep(random.uniform(0.5, 4))
    LEDGER.note("end", order=order, name=name)
    return f"{name}: done for {order}"


@tool
async def charge_card(order: str) -> str:
    """Charge the customer's card."""
    return await work(order, "charge_card")


@tool
async def reserve_stock(order: str) -> str:
    """Reserve the goods in the warehouse."""
    return await work(order, "reserve_stock")


@tool
async def book_courier(order: str) -> str:
    """Book a courier."""
    return await work(order, "book_courier")


def build_agent(session_id: str, session_manager: DaprSessionManager) -> Agent:
    """Make the agent for an order, whose session is named after it."""
    order = {"order": session_id}
    script = [
        [("charge_card", order), ("reserve_stock", order)],
        [("book_courier", order)],
        f"{session_id} is paid, reserved and on its way.",
    ]
    return Agent(
        model=ScriptedModel(script),
        tools=[charge_card, reserve_stock, book_courier],
        session_manager=session_manager,
        agent_id="orders",
        callback_handler=None,
    )


if __name__ == "__main__":
    AgentWorker("orders", build=build_agent).run()
