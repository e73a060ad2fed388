"""Three workers, runs in flight, and one worker killed with SIGKILL every few seconds. All runs finish.

Starts everything itself: Redis, Dapr's placement, scheduler and sidecar, the workers, and others for those killed.

    python examples/workers_demo.py [--runs 12] [--kill-every 3]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dev.servers import RedisServer, RedisState, WorkflowStack
from strands_dapr_session import AgentClient
from strands_dapr_session.testing.ledger import Ledger

if TYPE_CHECKING:
    from strands_dapr_session import Run

WORKER = Path(__file__).with_name("order_worker.py")
WORKERS = 3
STEPS = ("charge_card", "reserve_stock", "book_courier")
DEADLINE_SECONDS = 180.0
COLORS = {"pending": "yellow", "running": "cyan", "completed": "green", "failed": "red"}


@dataclass
class Crew:
    """The worker processes of the demo."""

    environment: dict[str, str]
    directory: Path
    alive: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: int = 0

    def start(self) -> None:
        """Start one more."""
        with (self.directory / "workers.log").open("ab") as log:
            command = [sys.executable, str(WORKER), str(self.directory / "ledger")]
            self.alive.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def kill_one(self) -> int:
        """Kill one of them, as a crash would, and start another; tell which."""
        victim = self.alive.pop(random.randrange(len(self.alive)))
        victim.kill()
        victim.wait()
        self.killed += 1
        self.start()
        return victim.pid

    def close(self) -> None:
        """End them all."""
        for process in self.alive:
            process.terminate()
        for process in self.alive:
            process.wait()


def show(runs: list[Run], ledger: Ledger, crew: Crew, news: str) -> tuple[Table, bool]:
    """Draw how everything stands, and tell whether all runs are over."""
    table = Table(title=f"{news}\nworkers {[process.pid for process in crew.alive]}, killed so far: {crew.killed}")
    for column in ("run", "phase", "worker", "attempts", "tool runs"):
        table.add_column(column)
    started = Counter((entry["order"], entry["name"]) for entry in ledger.entries("start"))
    is_over = True
    for run in runs:
        status = run.status()
        is_over = is_over and status.phase == "completed"
        color = COLORS.get(status.phase, "white")
        pid = status.worker.split("/")[2] if status.worker else ""
        counts = "  ".join(f"{name} {started[run.invocation_id, name] or '·'}" for name in STEPS)
        attempts = " → ".join(attempt.ended or "…" for attempt in status.attempts)
        table.add_row(run.invocation_id, f"[{color}]{status.phase}[/{color}]", pid, attempts, counts)
    return table, is_over


def main() -> None:
    """Run the demo, and fail if a run does not finish or a recorded result was computed twice."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--kill-every", type=float, default=3.0, metavar="SECONDS")
    options = parser.parse_args()
    console = Console()
    console.print("starting Redis, placement, scheduler and a sidecar …")
    with (
        tempfile.TemporaryDirectory() as name,
        RedisServer() as redis,
        WorkflowStack([RedisState("statestore", redis.address, actors=True)], app_id="demo") as stack,
    ):
        os.environ |= stack.daprd.client_environment
        ledger = Ledger(Path(name) / "ledger")
        crew = Crew(dict(os.environ), Path(name))
        try:
            for _ in range(WORKERS):
                crew.start()
            client = AgentClient()
            runs = [
                client.submit(
                    "orders", session_id=f"order-{n}", prompt=f"Process order-{n}", invocation_id=f"order-{n}"
                )
                for n in range(options.runs)
            ]
            watch(console, runs, ledger, crew, options.kill_every)
        finally:
            crew.close()
        judge(console, runs, ledger, crew)


def watch(console: Console, runs: list[Run], ledger: Ledger, crew: Crew, kill_every: float) -> None:
    """Kill a worker every few seconds, until every run has finished."""
    began = time.monotonic()
    # The first kill comes when there is something to lose.
    next_kill = float("inf")
    news = "no worker has been killed yet"
    with Live(console=console, auto_refresh=False) as live:
        while True:
            table, is_over = show(runs, ledger, crew, news)
            live.update(table, refresh=True)
            now = time.monotonic()
            if is_over:
                return
            if now - began > DEADLINE_SECONDS:
                raise SystemExit("the runs have not finished in time")
            if next_kill == float("inf") and ledger.entries("end"):
                next_kill = now + 0.5
            if now >= next_kill:
                news = f"[bold red]✗ SIGKILL[/bold red] worker {crew.kill_one()}"
                next_kill = now + kill_every
            time.sleep(0.1)


def judge(console: Console, runs: list[Run], ledger: Ledger, crew: Crew) -> None:
    """Say what became of everything."""
    for run in runs:
        run.result(timeout=1)
    began, ended, results = len(ledger.entries("start")), len(ledger.entries("end")), len(runs) * len(STEPS)
    console.print(
        f"\n[bold green]All {len(runs)} runs have finished[/bold green], through {crew.killed} kills. For {results} "
        f"results {began} tool calls began: {began - ended} were killed midway, and {ended - results} had just ended, "
        "not yet recorded."
    )


if __name__ == "__main__":
    main()
