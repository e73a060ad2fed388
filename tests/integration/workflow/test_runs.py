"""What can happen to a run besides going well: questions, answers, cancellation, errors, and workers of other kinds."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from strands_dapr_session import (
    AgentClient,
    ConfigurationError,
    InvocationConflictError,
    Run,
    RunCancelledError,
    RunFailedError,
    RunFinishedError,
    RunNotFoundError,
    RunNotWaitingError,
    RunTimeoutError,
    UnknownAgentError,
    io_thread,
)
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.keys import redis_keys
from strands_dapr_session.workflow.runs import Runs
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.

AGENTS = ("agent", "red", "blue", "one", "two", "pair", "team", "broken", "forgetful")


@pytest.fixture(scope="module", autouse=True)
def workers(stage: Stage) -> None:
    stage.start(*AGENTS, count=2, max_attempts=2)


@pytest.fixture
def client(stage: Stage) -> AgentClient:
    return stage.client()


def answer(run: Run, text: str) -> list[dict[str, Any]]:
    return [{"interruptResponse": {"interruptId": each["id"], "response": text}} for each in run.status().interrupts]


def waiting(stage: Stage, run: Run) -> None:
    stage.until(lambda: run.status().phase == "waiting", "the question")


# -- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_an_answer_lets_a_run_go_on_also_when_no_worker_was_left(stage: Stage, client: AgentClient, agent: str) -> None:
    question = f"may-i-{agent}"
    run = client.submit(agent, session_id=question, prompt=f"ask {question}")
    waiting(stage, run)
    status = run.status()
    assert status.worker == ""
    assert [(each["name"], each["reason"]) for each in status.interrupts] == [("question", question)]
    with pytest.raises(RunTimeoutError, match="waiting"):
        run.result(timeout=0.1)
    with pytest.raises(ConfigurationError, match="does not ask"):
        run.respond([{"interruptResponse": {"interruptId": "another", "response": "yes"}}])
    with pytest.raises(ConfigurationError, match="interruptResponse"):
        run.respond([{"yes": True}])
    yes = answer(run, "yes")
    run.respond(yes)
    run.respond(yes)  # a second time changes nothing
    assert run.result(timeout=30) is not None
    assert [entry["answer"] for entry in stage.entries("answered", question)] == ["yes"]
    assert stage.counts(question) == {1: 1}
    with pytest.raises(RunNotWaitingError, match="completed"):
        run.respond(yes)


def test_a_graph_goes_on_behind_the_node_that_asked_when_its_worker_is_killed(
    stage: Stage, client: AgentClient
) -> None:
    (victim,) = stage.start("relay")
    run = client.submit("relay", session_id="relay", prompt="ask relay")
    waiting(stage, run)
    run.respond(answer(run, "yes"))
    stage.started("relay", 2)
    (heir,) = stage.start("relay")
    victim.kill()
    stage.until(lambda: stage.started("relay", 2).pid == heir.pid, "the next worker")
    stage.open("relay")
    assert "second done" in str(run.result(timeout=30))
    assert [entry["answer"] for entry in stage.entries("answered", "relay")] == ["yes"]
    assert stage.counts("relay") == {1: 1, 2: 2}
    heir.kill()


# -- runs of one session ----------------------------------------------------------------------------------------------


def put_off(stage: Stage, run: Run) -> None:
    stage.until(lambda: [each.ended for each in run.status().attempts] == ["put off"], "it to wait for its turn")


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_a_run_waits_until_people_have_answered_another_one(stage: Stage, client: AgentClient, agent: str) -> None:
    session = f"queue-{agent}"
    first = client.submit(agent, session_id=session, prompt=f"ask {session}")
    waiting(stage, first)
    others = [client.submit(agent, session_id=session, prompt=f"say {number}") for number in range(3)]
    for other in others:
        put_off(stage, other)
        assert first.invocation_id in other.status().attempts[0].detail
    others[0].cancel()  # which is nothing to do with what the session waits for
    with pytest.raises(RunCancelledError):
        others[0].result(timeout=30)
    assert first.status().phase == "waiting"
    first.respond(answer(first, "yes"))
    assert first.result(timeout=30) is not None
    assert [entry["answer"] for entry in stage.entries("answered", session)] == ["yes"]
    for number in (1, 2):
        assert str(number) in str(others[number].result(timeout=30))


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_a_run_goes_on_when_the_one_before_it_is_cancelled(stage: Stage, client: AgentClient, agent: str) -> None:
    session = f"cancelled-{agent}"
    first = client.submit(agent, session_id=session, prompt=f"ask {session}")
    waiting(stage, first)
    second = client.submit(agent, session_id=session, prompt="say second")
    put_off(stage, second)
    first.cancel()
    assert "second" in str(second.result(timeout=30))


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_a_run_that_was_never_begun_is_cancelled_without_harm_to_others(
    stage: Stage, client: AgentClient, agent: str
) -> None:
    """As when its cancellation was there before any worker saw it."""
    session = f"harmless-{agent}"
    first = client.submit(agent, session_id=session, prompt=f"ask {session}")
    waiting(stage, first)
    runs = Runs(open_store(stage.store))
    io_thread.run_sync(runs.change(f"{session}-2", lambda now: now.to_cancel()))
    second = client.submit(agent, session_id=session, prompt="say second", invocation_id=f"{session}-2")
    with pytest.raises(RunCancelledError):
        second.result(timeout=30)
    first.respond(answer(first, "yes"))
    assert first.result(timeout=30) is not None
    assert stage.counts(session) == {1: 1}


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_a_run_comes_after_one_whose_worker_was_killed(stage: Stage, client: AgentClient, agent: str) -> None:
    """Whichever of the two a worker takes first: what is owed is finished first, and none of it twice."""
    session = f"owed-{agent}"
    name = f"{agent}-owed={agent}"
    (victim,) = stage.start(name)
    first = client.submit(f"{agent}-owed", session_id=session, prompt=f"batch {session}")
    stage.started(session, 3)
    stage.recorded_anywhere(session, 2)
    others = [client.submit(f"{agent}-owed", session_id=session, prompt=f"say {number}") for number in range(3)]
    victim.kill()
    stage.open(session)
    (heir,) = stage.start(name)
    assert str(first.result(timeout=60)).strip().startswith("done" if agent == "agent" else "first: done")
    for number, other in enumerate(others):
        assert str(number) in str(other.result(timeout=60))
    assert stage.counts(session) == {1: 1, 2: 1, 3: 2}
    heir.kill()


def test_a_run_that_failed_does_not_hold_up_its_session(client: AgentClient) -> None:
    first = client.submit("agent", session_id="failed-before", prompt="raise no luck")
    with pytest.raises(RunFailedError, match="no luck"):
        first.result(timeout=30)
    second = client.submit("agent", session_id="failed-before", prompt="say second")
    assert str(second.result(timeout=30)).strip() == "second"


def failed(run: Run, match: str) -> RunFailedError:
    with pytest.raises(RunFailedError, match=match) as found:
        run.result(timeout=30)
    return found.value


@pytest.mark.parametrize("agent", ["pair", "team"])
def test_a_graph_that_failed_is_restarted_or_given_up_before_its_session_takes_something_else(
    client: AgentClient, agent: str
) -> None:
    session = f"failed-{agent}"
    first = client.submit(agent, session_id=session, prompt="raise no luck", invocation_id=f"{session}-first")
    failed(first, "no luck")
    second = client.submit(agent, session_id=session, prompt="say second")
    error = failed(second, "has not finished the task 'raise no luck'")
    assert error.error_type == "UnfinishedRunError"
    assert f"It is run '{session}-first', which failed: restart() or abandon() that one" in str(error)
    first.restart()
    failed(first, "no luck")
    first.abandon()
    first.abandon()  # a second time changes nothing
    with pytest.raises(RunCancelledError, match="given up"):
        first.result(timeout=30)
    assert [attempt.ended for attempt in first.status().attempts] == ["failed", "failed", "cancelled"]
    first.abandon()
    second.restart()
    assert "second" in str(second.result(timeout=30))
    with pytest.raises(RunFinishedError, match="only runs that failed are restarted"):
        first.restart()


def test_what_nobody_is_there_to_give_up_is_given_up_by_the_next_worker(stage: Stage, client: AgentClient) -> None:
    (worker,) = stage.start("left=pair")
    first = client.submit("left", session_id="left", prompt="raise no luck")
    failed(first, "no luck")
    worker.kill()
    first.abandon()
    second = client.submit("left", session_id="left", prompt="say second")
    assert first.status().phase == "pending"
    (heir,) = stage.start("left=pair")
    with pytest.raises(RunCancelledError):
        first.result(timeout=30)
    stage.until(lambda: second.status().phase in {"completed", "failed"}, "the end")
    assert second.status().phase == "completed"
    heir.kill()


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_only_what_failed_is_given_up(stage: Stage, client: AgentClient, agent: str) -> None:
    session = f"kept-{agent}"
    with pytest.raises(RunNotFoundError, match="no run 'nothing'"):
        client.run("nothing").abandon()
    run = client.submit(agent, session_id=session, prompt=f"ask {session}")
    waiting(stage, run)
    with pytest.raises(RunFinishedError, match=r"is waiting: only runs that failed are abandoned; end it with cancel"):
        run.abandon()
    run.respond(answer(run, "yes"))
    assert run.result(timeout=30) is not None
    with pytest.raises(RunFinishedError, match="is completed: only runs that failed are abandoned; nothing of it"):
        run.abandon()
    broken = client.submit(agent, session_id=session, prompt="raise no luck")
    failed(broken, "no luck")
    broken.abandon()
    with pytest.raises(RunCancelledError):
        broken.result(timeout=30)


# -- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_a_run_that_waits_can_be_cancelled_and_leaves_its_session_free(
    stage: Stage, client: AgentClient, agent: str
) -> None:
    session = f"cancel-{agent}"
    run = client.submit(agent, session_id=session, prompt="ask nothing")
    waiting(stage, run)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=30)
    assert client.submit(agent, session_id=session, prompt="say free").result(timeout=30) is not None


@pytest.mark.parametrize("agent", ["agent", "pair"])
def test_a_run_that_runs_can_be_cancelled(stage: Stage, client: AgentClient, agent: str) -> None:
    session = f"stop-{agent}"
    run = client.submit(agent, session_id=session, prompt=f"batch {session}")
    stage.started(session, 3)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.result(timeout=30)
    run.cancel()  # again
    with pytest.raises(RunNotWaitingError):
        run.respond([{"interruptResponse": {"interruptId": "1", "response": "yes"}}])
    assert client.submit(agent, session_id=session, prompt="say free").result(timeout=30) is not None
    assert not stage.entries("end", session)[2:]  # the tool that waited was stopped


# -- agents -----------------------------------------------------------------------------------------------------------


def test_agents_of_one_process_are_never_mixed_up(client: AgentClient) -> None:
    runs = [
        (name, client.submit(name, session_id=f"{name}-{number}", prompt=f"number {number}"))
        for number in range(6)
        for name in ("red", "blue")
    ]
    for name, run in runs:
        assert str(run.result(timeout=30)).strip() == f"{name}: {name}"


def test_agents_without_ids_do_not_share_a_conversation(client: AgentClient) -> None:
    assert client.submit("one", session_id="both", prompt="say hello").result(timeout=30) is not None
    with pytest.raises(RunFailedError, match=r"Agent\(agent_id=") as failed:
        client.submit("two", session_id="both", prompt="say hello").result(timeout=30)
    assert failed.value.error_type == "ConfigurationError"


def test_an_agent_that_nobody_knows_is_refused_at_once(client: AgentClient) -> None:
    with pytest.raises(UnknownAgentError, match="Known: agent, blue"):
        client.submit("agnet", session_id="s", prompt="say hello")


def test_agents_that_cannot_run_durably_fail_their_run(client: AgentClient) -> None:
    with pytest.raises(RunFailedError, match="RuntimeError: no agent for lost"):
        client.submit("broken", session_id="lost", prompt="say hello").result(timeout=30)
    with pytest.raises(RunFailedError, match="without session_manager"):
        client.submit("forgetful", session_id="lost", prompt="say hello").result(timeout=30)


# -- failing ----------------------------------------------------------------------------------------------------------


def test_a_run_that_fails_says_why_and_can_be_restarted(client: AgentClient) -> None:
    run = client.submit("agent", session_id="failing", prompt="raise no luck")
    for number in (1, 2):
        with pytest.raises(RunFailedError, match="no luck") as failed:
            run.result(timeout=30)
        assert failed.value.error_type == "RuntimeError"
        assert len(run.status().attempts) == number
        run.restart()


@pytest.mark.parametrize("kind", ["batch", "blocked"])
def test_a_run_that_hangs_is_tried_again(stage: Stage, client: AgentClient, kind: str) -> None:
    (worker,) = stage.start("hasty")
    run = client.submit("hasty", session_id=f"hasty-{kind}", prompt=f"{kind} hasty-{kind}")
    number = 3 if kind == "batch" else 1
    stage.until(lambda: stage.counts(f"hasty-{kind}").get(number) == 2, "the second try")
    stage.open(f"hasty-{kind}")
    assert str(run.result(timeout=30)).strip() == "done"
    ended = [attempt.ended for attempt in run.status().attempts]
    assert ended == ["failed"] * (len(ended) - 1) + ["completed"]
    assert "DeadlineError" in run.status().attempts[0].detail
    worker.kill()


def test_a_run_that_kills_its_workers_is_parked_and_can_be_restarted(stage: Stage, client: AgentClient) -> None:
    run = client.submit("agent", session_id="deadly", prompt="deadly weapon")
    for number in range(1, 3):
        stage.until(lambda number=number: len(stage.entries("start", "weapon")) == number, "the next victim")  # type: ignore[misc]
        stage.worker_of(stage.entries("start", "weapon")[-1]).wait()
        stage.start(*AGENTS, wait=False, max_attempts=2)
    with pytest.raises(RunFailedError, match="parked") as failed:
        run.result(timeout=30)
    assert failed.value.error_type == "ParkedError"
    assert len(stage.entries("start", "weapon")) == 2
    stage.open("weapon")
    run.restart()
    assert str(run.result(timeout=30)).strip() == "done"


# -- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "blocked"])
def test_a_worker_that_is_told_to_end_hands_its_runs_over(stage: Stage, client: AgentClient, kind: str) -> None:
    (worker,) = stage.start("leaving=agent", drain=0.2, lease=30)
    run = client.submit("leaving", session_id=f"leaving-{kind}", prompt=f"{kind} leaving-{kind}")
    number = 3 if kind == "batch" else 1
    stage.started(f"leaving-{kind}", number)
    (other,) = stage.start("leaving=agent", drain=0.2, lease=30)
    worker.signal(signal.SIGTERM)
    worker.wait()
    # The lease is long: that the other one goes on shows that the session was released.
    stage.until(lambda: stage.started(f"leaving-{kind}", number).pid == other.pid, "the next worker")
    stage.open(f"leaving-{kind}")
    assert str(run.result(timeout=30)).strip() == "done"
    assert [attempt.ended for attempt in run.status().attempts] == ["drained", "completed"]
    other.signal(signal.SIGTERM)
    other.wait()
    assert {card.worker.split("/")[2] for card in stage.cards()}.isdisjoint({str(worker.pid), str(other.pid)})


def test_a_run_waits_for_a_worker_of_its_version(stage: Stage, client: AgentClient) -> None:
    """A rolling upgrade: what began with the old version is finished by it, though the new one is offered it too."""
    options: dict[str, Any] = {"session": {"drift": "refuse"}, "drain": 0.1}
    (old,) = stage.start("rolling=v1", **options)
    run = client.submit("rolling", session_id="rolling", prompt="batch rolling")
    stage.started("rolling", 3)
    (new,) = stage.start("rolling=v2", **options)
    old.kill()
    stage.until(lambda: any(a.ended == "refused" for a in run.status().attempts), "the refusal")
    stage.open("rolling")
    (again,) = stage.start("rolling=v1", **options)
    assert str(run.result(timeout=30)).strip() == "done"
    fresh = client.submit("rolling", session_id="fresh", prompt="say hello")
    assert str(fresh.result(timeout=30)).strip() == "hello"
    for worker in (new, again):
        worker.kill()


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_says_why(client: AgentClient) -> None:
    with pytest.raises(RunNotFoundError, match="no run 'nothing'"):
        client.run("nothing").status()
    with pytest.raises(RunNotFoundError):
        client.run("nothing").respond([{"interruptResponse": {"interruptId": "1", "response": "yes"}}])
    run = client.submit("agent", session_id="finished", prompt="say finished", invocation_id="finished")
    assert run.result(timeout=30) is not None
    with pytest.raises(RunFinishedError, match="completed"):
        run.cancel()
    with pytest.raises(RunFinishedError, match="only runs that failed"):
        run.restart()
    with pytest.raises(InvocationConflictError, match="another agent and session_id"):
        client.submit("red", session_id="another", prompt="say finished", invocation_id="finished")


def test_a_run_that_was_purged_leaves_nothing_behind(stage: Stage, client: AgentClient) -> None:
    text = "0123456789abcdef" * 40_000
    run = client.submit("agent", session_id="purged", prompt=f"say {text}", invocation_id="purged")
    assert run.result(timeout=30) is not None
    stage.until(lambda: any("strands:run:{purged}" in key for key in redis_keys(stage.redis.url)), "its keys")
    run.purge()
    run.purge()
    assert not [key for key in redis_keys(stage.redis.url) if "{purged}" in key and "strands:run:" in key]
    with pytest.raises(RunNotFoundError):
        run.status()
