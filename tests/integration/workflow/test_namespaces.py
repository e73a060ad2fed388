"""Workers of which one cannot see the other's process: another PID namespace, as in another container or machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.journal.worker import Identity, this_process
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.workflow.crew import Card
from strands_dapr_session.workflow.keys import card_key
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.

LEASE = 3.0
ELSEWHERE = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child"]
PROGRAM = f"""
import socket, sys
socket.gethostname = lambda: "elsewhere"
from tests.integration.workflow.program import main
main(["agent", "--options", '{json.dumps({"lease": LEASE})}'])
"""


@pytest.fixture(autouse=True, scope="module")
def _needs_namespaces() -> None:
    try:
        made = subprocess.run([*ELSEWHERE, "true"], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if made.returncode:
        pytest.skip(f"this user may not make namespaces: {made.stderr.strip()}")


Start = Callable[[], tuple[Card, Callable[[], None]]]
"""Starts a worker; gives its card, and what kills it."""


@pytest.fixture
def inside(stage: Stage) -> Iterator[Start]:
    """Start workers that are process 1 of a namespace of their own, as every container's is."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[Card, Callable[[], None]]:
        before = stage.cards()
        environment = os.environ | stage.stack.daprd.client_environment | {"WORKFLOW_TEST_PLACE": str(stage.place)}
        command = [*ELSEWHERE, sys.executable, "-c", PROGRAM]
        with (stage.place / "worker-inside.log").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return new_card(stage, before), started[-1].kill

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def outside(stage: Stage) -> Iterator[Start]:
    """Start workers beside this process."""

    def start() -> tuple[Card, Callable[[], None]]:
        before = stage.cards()
        (worker,) = stage.start("agent", lease=LEASE)
        return new_card(stage, before), worker.kill

    yield start
    for worker in stage.workers:
        worker.kill()


def new_card(stage: Stage, before: list[Card]) -> Card:
    """Wait for the card of a worker that was started; those of the dead stay until somebody buries them."""
    known = {card.worker for card in before}
    found: Card = stage.until(
        lambda: next((card for card in stage.cards() if card.worker not in known), None), "the worker to begin"
    )
    return found


def beats(stage: Stage, card: Card, count: int) -> None:
    """Wait until a worker has said so often that it lives; it looks at the others more often than that."""
    store, key = open_store(stage.store), card_key(card.worker.split("/")[0])
    for _ in range(count):
        before = io_thread.run_sync(store.get(key))
        stage.until(lambda before=before: io_thread.run_sync(store.get(key)) != before, "a beat")  # type: ignore[misc]


@pytest.mark.parametrize("victim", ["inside", "outside"])
def test_a_worker_elsewhere_is_taken_over_after_its_lease_and_not_before(
    stage: Stage, inside: Start, outside: Start, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_one, other = (inside, outside) if victim == "inside" else (outside, inside)
    card, kill = first_one()
    run = stage.client().submit("agent", session_id=victim, prompt=f"batch {victim}")
    first = stage.started(victim, 3)
    stage.recorded(victim, 2)
    other_card, _ = other()
    cards = (card, other_card)

    # Its process id is that of another process where the others are: it is asked for nowhere, and nobody is misled.
    stranger = Identity.parse(cards[victim == "outside"].worker)
    assert stranger is not None
    assert stranger.pid == "1"
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: pytest.fail("a process of another namespace was asked for"))
        patch.setattr(os, "pidfd_open", lambda *_: pytest.fail("a process of another namespace was asked for"))
        assert not stranger.is_neighbour(this_process.identity)
        assert not stranger.is_gone(this_process.identity)
    for each in cards:
        beats(stage, each, 4)  # more than a lease
    assert stage.counts(victim)[3] == 1
    assert len(run.status().attempts) == 1

    kill()
    killed = time.time()
    stage.until(lambda: len([e for e in stage.entries("start", victim) if e["n"] == 3]) == 2, "the takeover")
    print(f"taken over {stage.started(victim, 3).at - killed:.2f} s after the kill, lease {LEASE} s")
    stage.open(victim)
    assert str(run.result(timeout=60)).strip() == "done"
    assert stage.counts(victim) == {1: 1, 2: 1, 3: 2}
    assert stage.started(victim, 3).pid != first.pid
    assert [attempt.ended for attempt in run.status().attempts] == ["lost", "completed"]
