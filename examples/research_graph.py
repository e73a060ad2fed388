"""Kills a research graph twice, and lets a third process finish it: how often did each node and tool run?

A planner fans out to three researchers, whose findings an editor joins. By default on SQLite in a temporary directory;
no model provider is needed, the models follow a script.

    python examples/research_graph.py [--store URL] [--picture research.svg]

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
from strands.multiagent import GraphBuilder

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

TASK = "Compare the three shipping routes"
ROUTES = ("suez", "panama", "arctic")
KILLS = ("read arctic", "edit")
"""What is under way when the first process dies, and when the second one does."""

LEDGER = Path(os.devnull)


def note(what: str) -> None:
    """Append a line to the ledger, past every buffer and outside of any session."""
    with LEDGER.open("a") as ledger:
        ledger.write(f"{os.getpid()} {what}\n")
        ledger.flush()
        os.fsync(ledger.fileno())


def build_graph(session_manager: DaprSessionManager, doomed: str) -> Any:
    """Make the graph; `doomed` is the tool run that kills the process."""

    @tool
    async def search(route: str) -> str:
        """Search for sources about a route."""
        await asyncio.sleep(0.1)
        note(f"search {route}")
        return f"three sources about {route}"

    @tool
    async def read(route: str) -> str:
        """Read the sources about a route."""
        await asyncio.sleep(0.1 if route == "suez" else 0.4)
        note(f"read {route}")
        if doomed == f"read {route}":
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{route} takes a while"

    @tool
    async def edit() -> str:
        """Put the findings into one text."""
        note("edit")
        if doomed == "edit":
            os.kill(os.getpid(), signal.SIGKILL)
        return "a text"

    def agent(name: str, *turns: Any) -> Agent:
        model = ScriptedModel(list(turns), on_call=lambda _: note(f"model of {name}"))
        return Agent(name=name, model=model, tools=[search, read, edit], callback_handler=None)

    builder = GraphBuilder()
    builder.add_node(agent("planner", f"Look at {', '.join(ROUTES)}."), "planner")
    builder.add_node(agent("editor", [("edit", {})], "Take Suez."), "editor")
    for route in ROUTES:
        turns = [("search", {"route": route})], [("read", {"route": route})], f"What there is to know about {route}."
        builder.add_node(agent(route, *turns), route)
        builder.add_edge("planner", route)
        builder.add_edge(route, "editor", all_researched)
    return builder.set_max_node_executions(10).set_session_manager(session_manager).set_graph_id("research").build()


def all_researched(state: Any) -> bool:
    """Let the editor begin when everybody is done."""
    return set(ROUTES) <= {node.node_id for node in state.completed_nodes}


def work(store: str, doomed: str, picture: Path | None) -> None:
    """Be one process: the same program each time."""
    session_manager = DaprSessionManager("routes", store=store)
    graph = build_graph(session_manager, doomed)
    result = graph(TASK)
    if picture:
        from strands_dapr_session.picture import draw  # noqa: PLC0415 - an extra, which not everybody has

        picture.write_text(draw(graph, session_manager.tally(graph)))
    print(result.status.value, "-", str(result.results["editor"].result).strip())


def main() -> None:
    """Start, kill, start, kill, start; then count."""
    global LEDGER  # noqa: PLW0603 - tools are plain functions and find it here
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", help="as in DaprSessionManager(store=...)")
    parser.add_argument("--picture", type=Path, help="where to write a picture of the last process, as SVG")
    parser.add_argument("--ledger", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--doomed", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ledger:
        LEDGER = options.ledger
        work(options.store, options.doomed, options.picture)
        return
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        ledger = Path(name, "ledger")
        store = options.store or f"sqlite:///{name}/runs.db"
        command = [sys.executable, __file__, "--store", store, "--ledger", str(ledger)]
        runs: list[Counter[str]] = []
        seen = 0
        for doomed in (*KILLS, ""):
            drawing = ["--picture", options.picture] if options.picture else []
            process = subprocess.run(
                [*command, *drawing, "--doomed", doomed], capture_output=True, text=True, check=False
            )
            lines = ledger.read_text().splitlines()
            runs.append(Counter(line.partition(" ")[2] for line in lines[seen:]))
            seen = len(lines)
            console.print(f"killed while it ran {doomed!r}" if process.returncode < 0 else process.stdout.strip())
    table = Table("what ran", *(f"process {number}" for number in range(1, 4)), "in all")
    for what in sorted(set().union(*runs)):
        counts = [run[what] for run in runs]
        table.add_row(what, *(str(count or "") for count in counts), str(sum(counts)))
    console.print(table)
    twice = {what for what in set().union(*runs) if sum(run[what] for run in runs) > 1 and "model" not in what}
    # A tool that is killed leaves no result: whether it took effect is in doubt, and it runs again.
    if not twice <= {"read arctic", "read panama", "edit"}:
        raise SystemExit(f"expected only what was under way to run again, not {sorted(twice)}")


if __name__ == "__main__":
    main()
