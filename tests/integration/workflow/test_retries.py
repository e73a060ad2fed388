"""What fails in a worker is tried as often as its policy says, whoever tries it, and when it is due."""

from __future__ import annotations

import pytest

from strands_dapr_session import RunFailedError
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.records import Tried
from strands_dapr_session.stores.locate import open_store
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.

AGENTS = ("persistent", "model-twice")


@pytest.fixture(autouse=True)
def _workers(stage: Stage) -> None:
    stage.start(*AGENTS, count=2 - sum(worker.is_running for worker in stage.workers))


def failed(stage: Stage, session_id: str, attempt: int) -> Tried:
    """Wait until so many attempts in a row are recorded as failures; give the last one."""
    journal = Journal(open_store(stage.store), session_id, "default")

    def newest() -> Tried | None:
        return next((t for t in journal.load_sync().scope("").tries.values() if t.attempt == attempt), None)

    found: Tried = stage.until(newest, f"failure {attempt}")
    return found


@pytest.mark.parametrize("what", ["flaky", "model"])
def test_counts_and_times_survive_workers_that_are_killed_between_attempts(stage: Stage, what: str) -> None:
    """Neither do they add up with the attempts of workers: each death is at another place."""
    name = f"killed-{what}"
    run = stage.client().submit("persistent", session_id=name, prompt=f"flaky {what} {name} 3")
    due = []
    for attempt in (1, 2):
        failure = failed(stage, name, attempt)
        due.append(failure.at + (failure.delay or 0))
        stage.worker_of(stage.started(name, 1)).kill()
        stage.start(*AGENTS)
    assert str(run.result(timeout=60)).strip() == "answer 4"
    starts = stage.entries("start", name)
    assert len(starts) == 4
    assert len({entry.pid for entry in starts}) >= 3
    assert all(entry.at >= time for entry, time in zip(starts[1:], due, strict=False))
    # More may be lost where a worker gets no time to beat for a lease.
    *lost, last = [attempt.ended for attempt in run.status().attempts]
    assert last == "completed"
    assert lost[:2] == ["lost", "lost"]


@pytest.mark.parametrize("what", ["flaky", "model"])
def test_what_fails_for_good_was_tried_so_often_and_no_more(stage: Stage, what: str) -> None:
    name = f"vain-{what}"
    run = stage.client().submit("persistent", session_id=name, prompt=f"flaky {what} {name} 99")
    failed(stage, name, 1)
    stage.worker_of(stage.started(name, 1)).kill()
    if what == "flaky":
        assert "failure 4" in str(run.result(timeout=60))
    else:
        with pytest.raises(RunFailedError, match="failure 4") as error:
            run.result(timeout=60)
        assert error.value.error_type == "ConnectionError"
    assert stage.counts(name) == {1: 4}
    assert len(run.status().attempts) == 2


def test_a_model_that_hangs_is_asked_as_often_as_its_policy_says(stage: Stage) -> None:
    """And not as often again by each of five attempts of a worker, which tries again what hangs without a policy."""
    run = stage.client().submit("model-twice", session_id="twice", prompt="hang model twice 99")
    with pytest.raises(RunFailedError, match="the model did not answer") as error:
        run.result(timeout=60)
    assert error.value.error_type == "DeadlineError"
    assert stage.counts("twice") == {1: 2}
    assert [attempt.ended for attempt in run.status().attempts] == ["failed"]
    stage.open("twice")
    run.restart()
    assert str(run.result(timeout=60)).strip() == "answer 3"
