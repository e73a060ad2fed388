"""What never returns in a worker: the run goes on or fails, and what comes late counts for nothing."""

from __future__ import annotations

import signal
import time

import pytest
from strands import Agent

from strands_dapr_session import DaprSessionManager, Run, RunFailedError
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.workflow.conftest import Stage
from tests.integration.workflow.program import LIMIT, LIMITED

pytestmark = pytest.mark.newest_dependencies  # Strands 1.62 has deadlines; Dapr's workflow SDK is in dapr since 1.19.

ONE_OF_EACH = [
    ("tool", "hang_thread"),
    ("tool-again", "hang"),
    ("model", "model"),
    ("invocation", "hang_thread"),
    ("silence", "model"),
]
"""What is limited, and what hangs."""

EVERY_CASE = [
    *ONE_OF_EACH,
    ("tool", "hang"),
    ("tool-again", "hang_thread"),
    ("model-again", "model"),
    ("invocation", "hang"),
    ("invocation", "model"),
    ("silence", "hang"),
    ("silence", "hang_thread"),
]

GIVES_UP = ("tool",)
"""Limits after which the model hears of it, and the run goes on."""

TRIES_AGAIN_HERE = ("tool-again", "model-again")
"""Limits after which the same attempt tries the same again."""


@pytest.fixture
def two_workers(stage: Stage) -> None:
    stage.start(*LIMITED, count=2 - sum(worker.is_running for worker in stage.workers))


def submit(stage: Stage, limit: str, what: str, fate: str, times: int = 1) -> tuple[Run, str]:
    name = f"{fate}-{limit}-{what}"
    return stage.client().submit(limit, session_id=name, prompt=f"hang {what} {name} {times}"), name


def said(stage: Stage, session_id: str) -> list[str]:
    """What an agent that is restored from a session remembers of what tools and models said."""
    manager = DaprSessionManager(session_id, store=stage.store)
    agent = Agent(model=ScriptedModel([]), session_manager=manager, callback_handler=None)
    found = []
    for message in agent.messages[1:]:
        for block in message["content"]:
            if "toolResult" in block:
                found.append(block["toolResult"]["content"][0]["text"])
            if "text" in block:
                found.append(block["text"])
    return found


def check_end(  # noqa: PLR0913, PLR0917  (they are what a case is)
    stage: Stage, run: Run, limit: str, what: str, name: str, tries: int, *, has_hung: bool = True
) -> None:
    """Check what a run came to, of which every try hung but the last.

    Args:
        stage: Where it ran.
        run: The run.
        limit: What was limited.
        what: What hung.
        name: The name of its session and gate.
        tries: How many tries there should have been in the end. Where workers die or freeze there may be more: one that
            gets no time to beat for a lease loses its run as well.
        has_hung: It was given up on, and not only taken from a worker.
    """
    if has_hung and limit == "invocation":
        with pytest.raises(RunFailedError, match="took longer than it may") as failed:
            run.result(timeout=60)
        assert failed.value.error_type == "ParkedError"
        run.restart()
    answer = str(run.result(timeout=60)).strip()
    counts = stage.counts(name)
    assert counts.keys() == {1}
    assert counts[1] == tries if name.startswith("hang-") else counts[1] >= tries
    if has_hung and limit in GIVES_UP:
        assert "may or may not have taken effect" in answer
    else:
        assert answer == f"answer {counts[1]}"
    before = said(stage, name)
    assert before == ([answer, answer] if what != "model" else [answer])
    stage.open(name)
    if what == "hang_thread":  # nobody could stop it: now it says something, or its process is dead
        stage.until(lambda: stage.entries("late", name), "the thread that was left alone")
    # Everything that comes late has come when a worker has run something else since.
    after = stage.client().submit(limit, session_id=name, prompt="say after")
    assert str(after.result(timeout=60)).strip() == "after"
    assert said(stage, name) == [*before, "say after", "after"]
    assert str(run.result()).strip() == answer


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize(("limit", "what"), EVERY_CASE)
def test_what_hangs_is_given_up_on(stage: Stage, limit: str, what: str) -> None:
    run, name = submit(stage, limit, what, "hang")
    check_end(stage, run, limit, what, name, tries=1 if limit in GIVES_UP else 2)
    ended = [attempt.ended for attempt in run.status().attempts]
    details = [attempt.detail for attempt in run.status().attempts]
    if limit in GIVES_UP + TRIES_AGAIN_HERE:
        assert ended == ["completed"]
    else:
        # The second attempt at an invocation that took too long finds it parked.
        assert ended == (["failed"] * (2 if limit == "invocation" else 1)) + ["completed"]
        assert "DeadlineError" in details[0]


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize(("limit", "what"), ONE_OF_EACH)
def test_a_worker_is_killed_while_something_hangs(stage: Stage, limit: str, what: str) -> None:
    """The time that is limited for each try begins anew; that of an invocation goes on."""
    run, name = submit(stage, limit, what, "kill", times=2)
    first = stage.started(name, 1)
    stage.worker_of(first).kill()
    stage.until(lambda: stage.started(name, 1).pid != first.pid, "the takeover")
    check_end(stage, run, limit, what, name, tries=2 if limit in GIVES_UP else 3)
    assert run.status().attempts[0].ended == "lost"


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize(("limit", "what"), ONE_OF_EACH)
def test_a_worker_is_frozen_for_longer_than_it_may_take(stage: Stage, limit: str, what: str) -> None:
    """When it thaws its time is over, but somebody else has the run, or has ended it."""
    hanging = 2 if limit == "invocation" else 1
    run, name = submit(stage, limit, what, "freeze", times=hanging)
    first = stage.started(name, 1)
    frozen = stage.worker_of(first)
    frozen.signal(signal.SIGSTOP)
    stage.until(lambda: stage.started(name, 1).pid != first.pid, "the takeover")
    stage.until(lambda: run.status().phase in {"completed", "failed"}, "the end")
    stage.until(lambda: time.time() > first.at + 2 * LIMIT, "its time to be over")
    before = run.status()
    assert before.attempts[0].ended == "lost"
    frozen.signal(signal.SIGCONT)
    taken = f"{frozen.pid} strands_dapr_session.workflow.endings WARNING invocation_id=<{run.invocation_id}>"
    stage.until(lambda: taken in stage.logs(), "the thawed one to notice")
    assert run.status() == before
    check_end(stage, run, limit, what, name, tries=hanging + 1, has_hung=limit == "invocation")
    pid = str(frozen.pid)
    stage.until(lambda: pid in {card.worker.split("/")[2] for card in stage.cards()}, "it to be known again")


def test_nobody_else_is_there_when_a_frozen_worker_thaws(stage: Stage) -> None:
    """It still has the run: its own time is over, and it gives up by itself."""
    for worker in stage.workers:
        worker.kill()
    (worker,) = stage.start(*LIMITED)
    run, name = submit(stage, "tool", "hang_thread", "alone")
    first = stage.started(name, 1)
    worker.signal(signal.SIGSTOP)
    stage.until(lambda: time.time() > first.at + LIMIT, "its time to be over")
    worker.signal(signal.SIGCONT)
    check_end(stage, run, "tool", "hang_thread", name, tries=1)
    assert [attempt.ended for attempt in run.status().attempts] == ["completed"]


def test_the_time_of_an_invocation_goes_on_while_nobody_works_on_it(stage: Stage) -> None:
    for worker in stage.workers:
        worker.kill()
    (worker,) = stage.start(*LIMITED)
    run, name = submit(stage, "invocation", "hang", "gone")
    first = stage.started(name, 1)
    worker.kill()
    stage.until(lambda: time.time() > first.at + 2 * LIMIT, "its time to be over")
    stage.start(*LIMITED)
    with pytest.raises(RunFailedError, match="took longer than it may"):
        run.result(timeout=60)
    assert stage.counts(name) == {1: 1}
    run.restart()
    assert str(run.result(timeout=60)).strip() == "answer 2"


def test_a_hang_that_is_not_to_be_tried_again_fails_the_run(stage: Stage) -> None:
    for worker in stage.workers:
        worker.kill()
    stage.start(*LIMITED, retry_on=[])
    run, name = submit(stage, "silence", "hang_thread", "strict")
    with pytest.raises(RunFailedError, match="recorded nothing") as failed:
        run.result(timeout=60)
    assert failed.value.error_type == "DeadlineError"
    run.restart()
    assert str(run.result(timeout=60)).strip() == "answer 2"
    stage.open(name)
