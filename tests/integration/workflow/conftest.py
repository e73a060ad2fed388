"""A workflow stack over Redis, and worker processes to kill."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dev.nursery import Child, Nursery
from dev.servers import RedisServer, RedisState, WorkflowStack
from strands_dapr_session import AgentClient, io_thread
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.registry import roots_of
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.ledger import Entry, Ledger
from strands_dapr_session.workflow.crew import Card, list_cards

DEADLINE = 45.0
"""Seconds after which something that should happen has not: a limit for what hangs, no measure of how fast it is."""


class Stage:
    """A stack, the workers on it, and what they write down."""

    def __init__(self, stack: WorkflowStack, redis: RedisServer, place: Path, nursery: Nursery) -> None:
        self.stack = stack
        self.redis = redis
        self.place = place
        self.ledger = Ledger(place / "ledger")
        self.store = f"dapr://statestore?address={stack.daprd.address}"
        self.workers: list[Child] = []
        self.nursery = nursery

    def client(self) -> AgentClient:
        return AgentClient(store=self.store)

    def start(self, *agents: str, count: int = 1, wait: bool = True, **options: Any) -> list[Child]:
        """Start workers, and wait until they work."""
        environment = os.environ | self.stack.daprd.client_environment | {"WORKFLOW_TEST_PLACE": str(self.place)}
        arguments = [*agents, "--options", json.dumps({"lease": 1.5, **options})]
        started = []
        for _ in range(count):
            log = self.place / f"worker-{len(self.workers)}.log"
            started.append(self.nursery.start(arguments, environment, log))
            self.workers.append(started[-1])
        if wait:
            pids = {str(worker.pid) for worker in started}
            self.until(lambda: pids <= {card.worker.split("/")[2] for card in self.cards()}, "the workers to begin")
        return started

    def close(self) -> None:
        """Kill the workers that are left."""
        for worker in self.workers:
            worker.kill()

    def cards(self) -> list[Card]:
        return io_thread.run_sync(list_cards(open_store(self.store)))

    def open(self, gate: str) -> None:
        (self.place / f"open-{gate}").touch()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition; give what it gives."""
        deadline = time.monotonic() + DEADLINE
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < deadline, f"waited {DEADLINE} s for {what}\n{self.logs()}"
            time.sleep(0.01)

    def entries(self, kind: str, run: str) -> list[Entry]:
        return [entry for entry in self.ledger.entries(kind) if entry["run"] == run]

    def started(self, run: str, n: int) -> Entry:
        """Wait until a step has begun; give its newest beginning."""
        found: Entry = self.until(
            lambda: next((e for e in reversed(self.entries("start", run)) if e["n"] == n), None), f"step {n} of {run}"
        )
        return found

    def counts(self, run: str) -> dict[int, int]:
        """Count how often each step of a run began."""
        counts: dict[int, int] = {}
        for entry in self.entries("start", run):
            counts[entry["n"]] = counts.get(entry["n"], 0) + 1
        return counts

    def recorded(self, session_id: str, count: int) -> None:
        """Wait until so many results of the open batch are in the journal."""
        journal = Journal(open_store(self.store), session_id, "default")
        self.until(lambda: len(journal.load_sync().scope("").results) == count, f"{count} results")

    def recorded_anywhere(self, session_id: str, count: int) -> None:
        """Wait until so many results of open batches are in a session, whatever its roots are called."""
        store = open_store(self.store)

        def found() -> bool:
            roots = io_thread.run_sync(roots_of(Context(store, this_process), session_id))
            views = [Journal(store, session_id, root).load_sync() for root in roots]
            return sum(len(scope.results) for view in views for scope in view.scopes.values()) == count

        self.until(found, f"{count} results")

    def worker_of(self, entry: Entry) -> Child:
        return next(worker for worker in self.workers if worker.pid == entry.pid)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.place.glob("worker-*.log")))


@pytest.fixture(scope="package")
def nursery() -> Iterator[Nursery]:
    with Nursery("tests.integration.workflow.program") as started:
        yield started


@pytest.fixture(scope="module")
def stage(nursery: Nursery) -> Iterator[Stage]:
    with ExitStack() as closing:
        place = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="workers-")))
        redis = closing.enter_context(RedisServer(durable=True))
        stack = closing.enter_context(WorkflowStack([RedisState("statestore", redis.address, actors=True)]))
        stage = Stage(stack, redis, place, nursery)
        closing.callback(stage.close)
        yield stage
