"""The campaign: submit, disturb, wait, and judge by a ledger that no store has anything to do with."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.nursery import Child, Nursery
from dev.servers import RedisServer, RedisState, WorkflowStack
from strands_dapr_session import AgentClient, DurableSessionError, Run, io_thread
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.ledger import Entry, Ledger
from tests.prove.campaign import Campaign, Findings, Violation
from tests.prove.workers.program import AGENT, CALLS

_FINISHED_WITHIN = 900.0
_LEASE = 1.5
_LONGEST_STOP = 3 * _LEASE
_LOG_LINES = 15
_QUEUE = 5
"""Runs in a row that are submitted to one session, every other time: each waits for those before it."""

_KINDS = 4
_FEW = 4
"""Runs that are left to end in peace, once all are submitted."""


@dataclass
class _World:
    """The stack, the workers, and what is done to them."""

    stack: WorkflowStack
    nursery: Nursery
    place: Path
    chance: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    workers: list[Child] = field(default_factory=list)
    stopped: dict[Child, float] = field(default_factory=dict)
    due: list[str] = field(default_factory=list)

    @property
    def store(self) -> str:
        return f"dapr://statestore?address={self.stack.daprd.address}"

    def start_worker(self) -> None:
        arguments = [str(self.place / "ledger"), self.store, "--lease", str(_LEASE)]
        environment = os.environ | self.stack.daprd.client_environment
        self.workers.append(self.nursery.start(arguments, environment, self.place / "workers.log"))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def kill(self) -> None:
        victim = self.workers.pop(self.chance.randrange(len(self.workers)))
        self.stopped.pop(victim, None)
        victim.kill()
        self.start_worker()

    def end(self) -> None:
        """Tell one to end, as a deployment does; another takes its place."""
        victim = self.workers.pop(self.chance.randrange(len(self.workers)))
        self.stopped.pop(victim, None)
        victim.signal(signal.SIGCONT)
        victim.signal(signal.SIGTERM)
        self.start_worker()

    def stop(self) -> None:
        """Freeze one; it goes on later, often as a zombie that others have taken for dead."""
        awake = [worker for worker in self.workers if worker not in self.stopped]
        if awake:
            victim = self.chance.choice(awake)
            victim.signal(signal.SIGSTOP)
            self.stopped[victim] = time.monotonic() + self.chance.uniform(0.2, _LONGEST_STOP)

    def wake(self, now: float) -> None:
        for worker in [worker for worker, until in self.stopped.items() if now >= until]:
            worker.signal(signal.SIGCONT)
            del self.stopped[worker]

    def restart_daprd(self) -> None:
        self.stack.daprd.kill()
        self.stack.daprd.start()

    def disturb(self) -> None:
        """Do something to somebody: one of each kind first, then the frequent kinds more often."""
        kinds: dict[str, tuple[Callable[[], None], int]] = {
            "worker killed": (self.kill, 6),
            "worker stopped": (self.stop, 4),
            "worker told to end": (self.end, 2),
            "daprd restarted": (self.restart_daprd, 1),
        }
        if not self.due:
            self.due = [name for name, (_, often) in kinds.items() for _ in range(often if self.faults else 1)]
            self.chance.shuffle(self.due)
        name = self.due.pop()
        kinds[name][0]()
        self.faults[name] += 1


def run(options: Namespace) -> Findings:
    """Go through all seeds."""
    findings = Findings(expected={"worker killed", "worker stopped", "worker told to end", "daprd restarted"})
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    with Nursery("tests.prove.workers.program") as nursery:
        for seed in options.seeds:
            if time.monotonic() > deadline:
                break
            findings.merge(_run_seed(seed, options, nursery))
    return findings


def _run_seed(seed: int, options: Namespace, nursery: Nursery) -> Findings:
    with ExitStack() as closing:
        place = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="prove-workers-")))
        redis = closing.enter_context(RedisServer(durable=True))
        stack = closing.enter_context(WorkflowStack([RedisState("statestore", redis.address, actors=True)]))
        world = _World(stack, nursery, place, random.Random(seed))
        closing.callback(world.close)
        for _ in range(options.workers):
            world.start_worker()
        client = AgentClient(store=world.store)
        findings = _judge(world, _go_through(world, client, options), Ledger(place / "ledger"))
        replay = f"python -m tests.prove workers --seeds {seed} --runs {options.runs} --every {options.every}"
        findings.violations = [Violation(each.invariant, each.story, replay) for each in findings.violations]
        return findings


def _go_through(world: _World, client: AgentClient, options: Namespace) -> list[Run]:
    """Submit runs, a few at a time, and disturb until all are over."""
    runs: list[Run] = []
    open_runs: list[Run] = []
    next_fault = time.monotonic() + options.every
    deadline = time.monotonic() + _FINISHED_WITHIN
    while time.monotonic() < deadline and (len(runs) < options.runs or open_runs or len(world.faults) < _KINDS):
        try:
            if len(runs) < options.runs and len(open_runs) < options.at_once:
                name = f"run-{len(runs)}"
                run = client.submit(AGENT, session_id=_session_of(len(runs)), prompt=name, invocation_id=name)
                runs.append(run)
                open_runs.append(run)
                continue
            open_runs = [run for run in open_runs if run.status().phase not in {"completed", "failed", "cancelled"}]
        except DurableSessionError:
            time.sleep(0.2)  # the sidecar is away; to submit again is no other run
        now = time.monotonic()
        world.wake(now)
        if now >= next_fault and (len(open_runs) > _FEW or len(runs) < options.runs or len(world.faults) < _KINDS):
            world.disturb()
            next_fault = now + world.chance.uniform(0.5, 1.5) * options.every
        time.sleep(0.05)
    world.wake(float("inf"))
    return runs


def _session_of(number: int) -> str:
    first = number - number % _QUEUE
    return f"session-{first}" if first % (2 * _QUEUE) else f"session-{number}"


def _judge(world: _World, runs: list[Run], ledger: Ledger) -> Findings:
    """Compare what was recorded with what was done."""
    findings = Findings(runs=len(runs), faults=world.faults)
    executions: dict[tuple[str, int], list[Entry]] = {}
    for entry in ledger.entries("start"):
        executions.setdefault((entry["run"], entry["n"]), []).append(entry)
    store = open_store(world.store)
    attempts: Counter[int] = Counter()
    for number, each in enumerate(runs):
        status = each.status()
        attempts[len(status.attempts)] += 1
        if status.phase != "completed":
            findings.violations.append(Violation("every run finishes", f"{status}\n{_log(world)}", ""))
            continue
        results = _results(Journal(store, _session_of(number), AGENT), each.invocation_id)
        if len(results) != CALLS:
            findings.violations.append(Violation("no result is lost", f"{each.invocation_id}: {results}", ""))
        for n, recorded in results.items():
            done = executions.get((each.invocation_id, n), [])
            if not done or done[-1]["execution"] != recorded:
                # Whoever begins a tool has seen all that was recorded: the last to begin is the one whose result stays.
                story = f"{each.invocation_id}: tool {n} was recorded as {recorded}\n" + "\n".join(map(str, done))
                findings.violations.append(Violation("no recorded tool runs again", f"{story}\n{status}", ""))
    again = sum(len(done) - 1 for done in executions.values())
    findings.figures = {
        "tool calls": len(runs) * CALLS,
        "tool calls that were hit and ran again": again,
        "runs that needed another worker": sum(count for number, count in attempts.items() if number > 1),
    }
    return findings


def _results(journal: Journal, run: str) -> dict[int, str]:
    """Read the recorded results of a run by the number of the call."""
    found: dict[int, str] = {}
    calls: dict[str, dict[str, Any]] = {}
    for packed in io_thread.run_sync(_messages(journal)):
        for block in unpack_value(packed)["content"]:
            if "toolUse" in block:
                calls[block["toolUse"]["toolUseId"]] = block["toolUse"]["input"]
            if "toolResult" in block:
                call = calls[block["toolResult"]["toolUseId"]]
                if call["run"] == run:
                    found[call["n"]] = block["toolResult"]["content"][0]["text"]
    return found


async def _messages(journal: Journal) -> list[bytes]:
    return (await journal.load()).scope("").messages


def _log(world: _World) -> str:
    return "\n".join((world.place / "workers.log").read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=1000, help="runs for each seed")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=40, help="how many runs are under way")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two faults, on average")


CAMPAIGN = Campaign(
    "workers",
    "runs over workers that are killed, stopped and told to end, and a sidecar that is restarted",
    run,
    _add_arguments,
    small=("--seeds", "1", "--runs", "200", "--every", "1"),
    full=("--seeds", "1:4", "--runs", "1000"),
)
