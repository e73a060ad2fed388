"""A run goes on by itself when its worker, the sidecar or everything dies."""

from __future__ import annotations

import pytest

from strands_dapr_session import InvocationConflictError
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


@pytest.fixture(scope="module", autouse=True)
def workers(stage: Stage) -> None:
    stage.start("agent", count=2)


def test_the_same_run_is_had_again_by_its_id(stage: Stage) -> None:
    client = stage.client()
    first = client.submit("agent", session_id="same", prompt="say hello", invocation_id="same-1")
    assert str(first.result(timeout=30)).strip() == "hello"
    again = client.submit("agent", session_id="same", prompt="say hello", invocation_id="same-1")
    assert again.result(timeout=30).message == first.result(timeout=60).message  # type: ignore[union-attr]
    assert len(again.status().attempts) == 1
    with pytest.raises(InvocationConflictError, match="another prompt"):
        client.submit("agent", session_id="same", prompt="say goodbye", invocation_id="same-1")


def test_prompts_and_results_of_any_length_pass(stage: Stage) -> None:
    text = "0123456789abcdef" * 400_000  # longer than what a sidecar puts into one message
    run = stage.client().submit("agent", session_id="long", prompt=f"say {text}")
    assert str(run.result(timeout=30)).strip() == text


def test_another_worker_goes_on_when_one_is_killed(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="killed", prompt="batch killed")
    first = stage.started("killed", 3)
    stage.recorded("killed", 2)
    stage.worker_of(first).kill()
    stage.until(lambda: stage.entries("start", "killed")[-1].pid != first.pid, "the takeover")
    stage.open("killed")
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("killed") == {1: 1, 2: 1, 3: 2}
    assert [attempt.ended for attempt in run.status().attempts] == ["lost", "completed"]
    stage.start("agent")


def test_a_run_that_is_delivered_twice_runs_once(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="twice", prompt="batch twice")
    stage.started("twice", 3)
    stage.stack.daprd.kill()
    stage.stack.daprd.start()
    # Only when a worker has taken the second delivery can it be said that it starts nothing.
    other = stage.client().submit("agent", session_id="after", prompt="say after")
    assert str(other.result(timeout=30)).strip() == "after"
    stage.open("twice")
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("twice") == {1: 1, 2: 1, 3: 1}
    assert len(run.status().attempts) == 1


def test_a_run_waits_for_the_next_worker(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="alone", prompt="batch alone")
    stage.started("alone", 3)
    stage.recorded("alone", 2)
    for worker in stage.workers:
        worker.kill()
    stage.open("alone")
    stage.start("agent", count=2, wait=False)
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("alone") == {1: 1, 2: 1, 3: 2}
