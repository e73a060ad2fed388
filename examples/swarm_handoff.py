"""Kills a swarm between a handoff and the tool beside it: the handoff is kept, and every tool that was done stays done.

The first agent hands the case over and, in the same turn, writes to the customer; the process dies while it writes. By
default on SQLite in a temporary directory; no model provider is needed, the models follow a script.

    python examples/swarm_handoff.py [--store URL] [--picture handoff.svg]

The last process draws what became of each node in it; that needs `pip install strands-dapr-session[picture]`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from strands import Agent, tool
from strands.multiagent import Swarm

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

TASK = "My parcel arrived broken"
LEDGER = Path(os.devnull)


def note(what: str) -> None:
    """Append a line to the ledger, past every buffer and outside of any session."""
    with LEDGER.open("a") as ledger:
        ledger.write(f"{os.getpid()} {what}\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def build_swarm(session_manager: DaprSessionManager, *, is_doomed: bool) -> Swarm:
    """Make the swarm."""

    @tool
    async def find_order() -> str:
        """Find the order."""
        note("find_order")
        return "order 4711"

    @tool
    async def write_to_customer() -> str:
        """Write to the customer."""
        await asyncio.sleep(0.3)
        note("write_to_customer")
        if is_doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        return "written"

    @tool
    async def refund() -> str:
        """Pay the price back."""
        note("refund")
        return "paid back"

    def agent(name: str, *turns: Any) -> Agent:
        model = ScriptedModel(list(turns), on_call=lambda _: note(f"model of {name}"))
        tools: list[Any] = [find_order, write_to_customer, refund]
        return Agent(name=name, model=model, tools=tools, callback_handler=None)

    handoff = {"agent_name": "payments", "message": "please pay it back", "context": {"order": 4711}}
    front_desk = agent(
        "front_desk",
        [("find_order", {}), ("handoff_to_agent", handoff), ("write_to_customer", {})],
        "Our payments desk takes over.",
    )
    payments = agent("payments", [("refund", {})], "The money is on its way.")
    return Swarm([front_desk, payments], session_manager=session_manager, id="service")


def work(store: str, picture: Path | None, *, is_doomed: bool) -> None:
    """Be one process: the same program each time."""
    session_manager = DaprSessionManager("case-4711", store=store)
    swarm = build_swarm(session_manager, is_doomed=is_doomed)
    result = swarm(TASK)
    if picture:
        from strands_dapr_session.picture import draw  # noqa: PLC0415 - an extra, which not everybody has

        picture.write_text(draw(swarm, session_manager.tally(swarm)))
    path = " -> ".join(node.node_id for node in result.node_history)
    print(result.status.value, "-", path, "-", str(result.results["payments"].result).strip())


def main() -> None:
    """Start, kill, start; then count."""
    global LEDGER  # noqa: PLW0603 - tools are plain functions and find it here
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", help="as in DaprSessionManager(store=...)")
    parser.add_argument("--picture", type=Path, help="where to write a picture of the last process, as SVG")
    parser.add_argument("--ledger", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--doomed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ledger:
        LEDGER = options.ledger
        work(options.store, options.picture, is_doomed=options.doomed)
        return
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        ledger = Path(name, "ledger")
        store = options.store or f"sqlite:///{name}/runs.db"
        command = [sys.executable, __file__, "--store", store, "--ledger", str(ledger)]
        subprocess.run([*command, "--doomed"], capture_output=True, check=False)
        first = Counter(line.partition(" ")[2] for line in ledger.read_text().splitlines())
        console.print("killed while it wrote to the customer; the handoff was done")
        command += ["--picture", options.picture] if options.picture else []
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        both = Counter(line.partition(" ")[2] for line in ledger.read_text().splitlines())
    table = Table("what ran", "process 1", "process 2", "in all")
    for what in sorted(both):
        table.add_row(what, str(first[what] or ""), str(both[what] - first[what] or ""), str(both[what]))
    console.print(table)
    console.print(output.strip())
    twice = {what for what in both if both[what] > 1 and not what.startswith("model")}
    if "front_desk -> payments" not in output or twice != {"write_to_customer"}:
        raise SystemExit("expected the handoff to be kept, and only the tool that was killed to run again")


if __name__ == "__main__":
    main()
