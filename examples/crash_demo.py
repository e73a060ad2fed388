"""Kills an agent with SIGKILL in the middle of three parallel tools, and starts it again.

Once with `DaprSessionManager`, once with Strands' own `FileSessionManager`, and counts what ran. By default on SQLite;
with ``--store dapr`` on a real sidecar and Redis, both started here.

    python examples/crash_demo.py [--store dapr]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = Path(__file__).with_name("order_agent.py")
TOOLS = ("charge_card", "reserve_stock", "book_courier")
DEADLINE_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """A line of the ledger."""

    time: float
    pid: int
    event: str
    name: str


def read_ledger(path: Path) -> list[Entry]:
    """Read what really happened so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Entry(float(at), int(pid), event, name) for at, pid, event, name in (line.split() for line in lines)]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the agent's program as a user would."""
    return subprocess.Popen([sys.executable, str(AGENT), *arguments], stdout=subprocess.PIPE, text=True)


def run_and_kill(ledger: Path, arguments: list[str]) -> int:
    """Start the agent and kill its process once two of the three tools have ended; tell the process id."""
    process = start(arguments)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while sum(entry.event == "end" for entry in read_ledger(ledger)) < len(TOOLS) - 1:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the agent ended before it could be killed")
        time.sleep(0.01)
    time.sleep(0.1)  # leave the second result time to reach the store; killed earlier, its tool would be in doubt
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return process.pid


def run_to_end(arguments: list[str]) -> str:
    """Start the agent again and let it finish; tell its answer."""
    process = start(arguments)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    if process.returncode:
        raise SystemExit(f"the second run failed with exit status {process.returncode}")
    return output.strip()


def show(console: Console, title: str, ledger: list[Entry], killed: int) -> Counter[str]:
    """Print the timeline of both processes and count the runs of each tool."""
    console.print(f"\n[bold]{title}[/bold]")
    runs: Counter[str] = Counter()
    first = ledger[0].time
    began: dict[int, float] = {}
    shown_kill = False
    for entry in ledger:
        if entry.pid != killed and not shown_kill:
            console.print("             [bold red]✗ SIGKILL: the process is gone[/bold red]")
            shown_kill = True
        if entry.pid not in began:
            began[entry.pid] = entry.time
            which = "first" if entry.pid == killed else "second"
            console.print(f"  {entry.time - first:6.2f} s  [cyan]{which} process[/cyan], pid {entry.pid}")
        if entry.event == "start":
            runs[entry.name] += 1
            again = "  [red]again[/red]" if runs[entry.name] > 1 else ""
            console.print(f"  {entry.time - first:6.2f} s    {entry.name} started{again}")
        elif entry.event == "end":
            console.print(f"  {entry.time - first:6.2f} s    {entry.name} [green]ended[/green]")
        elif entry.event == "model":
            console.print(f"  {entry.time - first:6.2f} s    model called")
    return runs


@contextlib.contextmanager
def chosen_store(kind: str, directory: Path) -> Iterator[str]:
    """Provide the URL of a store; for ``dapr``, start Redis and a sidecar first."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'runs.db'}"
        return
    from dev.servers import Daprd, RedisServer, RedisState  # noqa: PLC0415 - only where servers are needed

    with RedisServer() as redis, Daprd([RedisState("statestore", redis.address)]) as daprd:
        yield f"dapr://statestore?address={daprd.address}"


def main() -> None:
    """Run both managers through the same crash."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", choices=["sqlite", "dapr"], default="sqlite")
    kind = parser.parse_args().store
    console = Console()
    counts: dict[str, Counter[str]] = {}
    answer = ""
    with tempfile.TemporaryDirectory() as name, chosen_store(kind, Path(name)) as url:
        directory = Path(name)
        titles = {"ours": f"DaprSessionManager ({kind})", "file": "Strands' FileSessionManager"}
        for which, where in (("ours", ["--store", url]), ("file", ["--file", name])):
            ledger = directory / f"ledger-{which}"
            arguments = ["--session", "order-4711", "--ledger", str(ledger), *where]
            killed = run_and_kill(ledger, arguments)
            finished = run_to_end(arguments)
            counts[which] = show(console, titles[which], read_ledger(ledger), killed)
            answer = finished if which == "ours" else answer
        table = Table(title="\nHow often each tool ran")
        table.add_column("tool")
        for title in titles.values():
            table.add_column(title, justify="right")
        for tool in TOOLS:
            table.add_row(tool, *(str(counts[which][tool]) for which in titles))
        console.print(table)
        console.print(f"The answer after the crash: [bold]{answer}[/bold]")
    if [counts["ours"][tool] for tool in TOOLS] != [1, 1, 2]:
        raise SystemExit("expected only book_courier, the tool that was killed, to run again")


if __name__ == "__main__":
    main()
