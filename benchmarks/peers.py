"""Load time and cost of a step beside Strands' own session managers, as ratios within one run.

    python -m benchmarks.peers [--messages 500 1000 5000] [--repeat 5]

Embedded SQLite for ours, local files for theirs: the same disk, no server in between. Loading is measured as a user
meets it: `Agent(...)` with a new session manager in a warm process. A step is one model turn that calls one tool and
gets 4 KB back, added to what the same agent costs without a session manager. Repetitions are interleaved; medians with
minimum and maximum are printed. Absolute times depend on the machine; the ratios should not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from strands import Agent, tool
from strands.session.file_session_manager import FileSessionManager

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands.session.session_manager import SessionManager
    from strands.types.content import Message

with contextlib.suppress(ImportError):
    from strands.session import SnapshotSessionManager
    from strands.storage import LocalFileStorage

TOOL_RESULT = ("2026-11-23T02:08:11Z order=4711 sku=88412 quantity=3 warehouse=OSL status=reserved\n" * 50)[:4000]
OURS = "DaprSessionManager"
TURNS = 100


@dataclass
class Series:
    """One figure of one session manager, measured several times."""

    milliseconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.milliseconds)

    def __str__(self) -> str:
        """Median, minimum and maximum."""
        return f"{self.median:8.2f}  ({min(self.milliseconds):.2f} to {max(self.milliseconds):.2f})"


def managers(directory: Path) -> dict[str, Callable[[str], SessionManager]]:
    """List what is compared: each makes a manager for a session id."""
    made: dict[str, Callable[[str], SessionManager]] = {
        OURS: lambda session: DaprSessionManager(session, store=f"sqlite:///{directory / 'ours.db'}"),
        "FileSessionManager": lambda session: FileSessionManager(session, storage_dir=str(directory / "file")),
    }
    if "SnapshotSessionManager" in globals():
        made["SnapshotSessionManager"] = lambda session: SnapshotSessionManager(
            session, storage=LocalFileStorage(str(directory / "snapshot")), save_latest_on="message"
        )
    return made


def conversation(length: int) -> list[Message]:
    """Make messages as agents have them: tool calls, results of 4 KB, usage."""
    metadata: Any = {
        "usage": {"inputTokens": 2100, "outputTokens": 84, "totalTokens": 2184},
        "metrics": {"latencyMs": 912},
    }
    messages: list[Message] = []
    for number in range(length // 2):
        use: Any = {"toolUseId": f"tooluse_{number:08d}", "name": "look_up", "input": {"order": number, "full": True}}
        text = f"{number} {TOOL_RESULT}"
        messages.append({"role": "assistant", "content": [{"toolUse": use}], "metadata": metadata})
        result: Any = {"toolUseId": use["toolUseId"], "status": "success", "content": [{"text": text}]}
        messages.append({"role": "user", "content": [{"toolResult": result}]})
    return messages


def agent_with(manager: SessionManager | None, turns: int = 0) -> Agent:
    """Make an agent whose model calls one tool in each of so many turns."""

    @tool
    def look_up(order: int) -> str:
        """Look an order up."""
        return f"{order} {TOOL_RESULT}"

    script: list[Any] = [[("look_up", {"order": number})] for number in range(turns)]
    return Agent(
        model=ScriptedModel([*script, "done"]), tools=[look_up], callback_handler=None, session_manager=manager
    )


def fill(manager: SessionManager, messages: list[Message]) -> None:
    """Store a conversation, through what every session manager has."""
    agent = agent_with(manager)
    for message in messages:
        agent.messages.append(message)
        if isinstance(manager, FileSessionManager):
            manager.append_message(message, agent)
    manager.sync_agent(agent)


def timed(action: Callable[[], object]) -> float:
    """Measure an action in milliseconds, with the garbage of others out of the way."""
    gc.collect()
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def measure_load(directory: Path, lengths: list[int], repeat: int) -> dict[int, dict[str, Series]]:
    """Measure `Agent(...)` on sessions of several lengths."""
    found: dict[int, dict[str, Series]] = {}
    for length in lengths:
        messages = conversation(length)
        makers = managers(directory)
        for make in makers.values():
            fill(make(f"load-{length}"), messages)
        found[length] = {name: Series() for name in makers}
        for _ in range(repeat):
            for name, make in makers.items():
                found[length][name].milliseconds.append(timed(partial(load, make, length)))
    return found


def load(make: Callable[[str], SessionManager], length: int) -> None:
    """Make an agent with a stored session."""
    if len(agent_with(make(f"load-{length}")).messages) != length:
        raise RuntimeError("the session was not loaded whole")


def measure_step(directory: Path, repeat: int) -> dict[str, Series]:
    """Measure what a turn with one tool adds to an agent without a session manager."""
    makers = managers(directory)
    found = {name: Series() for name in makers}
    for round_number in range(repeat):
        plain = timed(partial(run, agent_with(None, TURNS))) / TURNS
        for name, make in makers.items():
            agent = agent_with(make(f"step-{name}-{round_number}"), TURNS)
            found[name].milliseconds.append(timed(partial(run, agent)) / TURNS - plain)
    return found


def run(agent: Agent) -> None:
    """Run the agent's script."""
    asyncio.run(agent.invoke_async("go"))


def show(console: Console, title: str, rows: dict[str, dict[str, Series]]) -> None:
    """Print figures, and each peer's as a multiple of ours."""
    table = Table(title=title, title_justify="left")
    names = list(next(iter(rows.values())))
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for label, series in rows.items():
        ours = series[OURS].median
        cells = (
            f"{series[name]}" + (f"  {series[name].median / ours:.1f} x" if name != OURS and ours > 0 else "")
            for name in names
        )
        table.add_row(label, *cells)
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[500, 1000, 5000])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as name:
        loads = measure_load(Path(name), options.messages, options.repeat)
        show(console, "load, ms", {f"{length} messages": series for length, series in loads.items()})
        steps = measure_step(Path(name), options.repeat)
        show(console, f"added to a turn with one tool, {TURNS} turns, ms", {"step": steps})


if __name__ == "__main__":
    main()
