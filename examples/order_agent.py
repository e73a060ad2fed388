"""An agent that processes an order with three tools at once. Start it, kill it, start it again.

Needs no model provider: the model follows a script. Every start and end of a tool is appended to a ledger file, outside
of any session, so that one can count what really ran.

    python examples/order_agent.py --session order-4711 --ledger /tmp/ledger.txt
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from strands import Agent, tool
from strands.session.file_session_manager import FileSessionManager

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from strands.session.session_manager import SessionManager

PROMPT = "Process order 4711"
LEDGER = Path(os.devnull)


def note(event: str, name: str) -> None:
    """Append a line to the ledger, past every buffer."""
    with LEDGER.open("a") as ledger:
        ledger.write(f"{time.time():.3f} {os.getpid()} {event} {name}\n")
        ledger.flush()
        os.fsync(ledger.fileno())


async def work(name: str, seconds: float) -> str:
    """Take some time, as a payment or a warehouse does."""
    note("start", name)
    await asyncio.sleep(seconds)
    note("end", name)
    return f"{name}: done"


@tool
async def charge_card(order: int) -> str:
    """Charge the customer's card."""
    return await work("charge_card", 0.2) + f" for order {order}"


@tool
async def reserve_stock(order: int) -> str:
    """Reserve the goods in the warehouse."""
    return await work("reserve_stock", 0.4) + f" for order {order}"


@tool
async def book_courier(order: int) -> str:
    """Book a courier."""
    return await work("book_courier", 1.5) + f" for order {order}"


def build_agent(session_manager: SessionManager) -> Agent:
    """Make the agent; only its session manager differs between the runs of the demo."""
    model = ScriptedModel(
        [
            [("charge_card", {"order": 4711}), ("reserve_stock", {"order": 4711}), ("book_courier", {"order": 4711})],
            "Order 4711 is paid, reserved and on its way.",
        ],
        on_call=lambda _: note("model", "call"),
    )
    return Agent(
        model=model,
        tools=[charge_card, reserve_stock, book_courier],
        session_manager=session_manager,
        callback_handler=None,
    )


def main() -> None:
    """Run the agent until it is done, or somebody kills it."""
    global LEDGER  # noqa: PLW0603 - tools are plain functions and find it here
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--session", required=True)
    arguments.add_argument("--ledger", type=Path, required=True)
    arguments.add_argument("--store", help="as in DaprSessionManager(store=...)")
    arguments.add_argument("--file", type=Path, help="use Strands' FileSessionManager in this directory instead")
    options = arguments.parse_args()
    LEDGER = options.ledger
    manager: SessionManager = (
        FileSessionManager(options.session, storage_dir=str(options.file))
        if options.file
        else DaprSessionManager(options.session, store=options.store)
    )
    agent = build_agent(manager)
    note("process", "ready")
    result = agent(PROMPT)
    note("process", "finished")
    print(str(result).strip())


if __name__ == "__main__":
    main()
