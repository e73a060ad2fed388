"""What needs a stack, or workers, of its own: frozen workers, whole machines that die, sidecars that lack something."""

from __future__ import annotations

import signal

import pytest

from dev.servers import Daprd, RedisServer, RedisState, WorkflowStack
from strands_dapr_session import (
    AgentClient,
    AgentWorker,
    ConfigurationError,
    RunCancelledError,
    RunFailedError,
    WorkflowUnavailableError,
    WrongApplicationError,
    io_thread,
)
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.workflow.offers import Offers
from strands_dapr_session.workflow.runs import Runs
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


def test_a_run_may_be_submitted_before_there_is_a_worker(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.workflow.engine._ANSWERS_WITHIN", 0.5)
    client = stage.client()
    early = client.submit("agent", session_id="early", prompt="ask early")
    cancelled = client.submit("agent", session_id="cancelled", prompt="say cancelled")
    cancelled.cancel()
    assert early.status().phase == cancelled.status().phase == "pending"
    (worker,) = stage.start("agent")
    with pytest.raises(RunCancelledError):
        cancelled.result(timeout=30)
    stage.until(lambda: early.status().phase == "waiting", "the question")
    # Its workflow was begun by the worker that found it: the answer arrives although that one is gone.
    worker.kill()
    question = early.status().interrupts[0]["id"]
    early.respond([{"interruptResponse": {"interruptId": question, "response": "yes"}}])
    (worker,) = stage.start("agent")
    assert str(early.result(timeout=30)).strip() == "thanks"
    worker.kill()


def test_a_run_that_dapr_accepts_and_forgets_is_taken_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dapr does so when the last worker leaves at that moment. Nobody waits for the result, which might help.
    (worker,) = stage.start("agent")

    async def forget(*_: object) -> bool:
        return True

    monkeypatch.setattr("strands_dapr_session.workflow.engine.Engine.schedule", forget)
    monkeypatch.setattr("strands_dapr_session.workflow.engine.Engine.wake", forget)
    run = stage.client().submit("agent", session_id="forgotten", prompt="ask forgotten")
    stage.until(lambda: run.status().phase == "waiting", "the question")
    question = run.status().interrupts[0]["id"]
    run.respond([{"interruptResponse": {"interruptId": question, "response": "yes"}}])
    stage.until(lambda: run.status().phase == "completed", "the end")
    assert stage.counts("forgotten") == {1: 1}
    # What is over is not laid out any more, nor what never was.
    offers = Offers(open_store(stage.store))
    io_thread.run_sync(offers.lay_out("agent", "never submitted", at_once=True))
    stage.until(lambda: io_thread.run_sync(offers.look(["agent"])) == {"agent": {}}, "the offers to be taken away")
    run.purge()
    worker.kill()


def test_a_run_that_waits_for_another_one_takes_no_place(stage: Stage) -> None:
    workers = stage.start("narrow=agent", count=2, max_concurrent_runs=1)
    client = stage.client()
    first = client.submit("narrow", session_id="narrow", prompt="batch narrow")
    stage.started("narrow", 3)
    second = client.submit("narrow", session_id="narrow", prompt="say second")
    stage.until(lambda: [each.ended for each in second.status().attempts] == ["put off"], "it to be put off")
    assert first.invocation_id == io_thread.run_sync(Runs(open_store(stage.store)).state(second.invocation_id)).behind
    # There is one place besides that of the first, and it is free for other sessions.
    for number in range(3):
        other = client.submit("narrow", session_id=f"narrow-{number}", prompt=f"say {number}")
        assert str(other.result(timeout=30)).strip() == str(number)
    assert first.status().phase == "running"
    stage.open("narrow")
    assert str(second.result(timeout=30)).strip() == "second"
    assert [each.ended for each in second.status().attempts] == ["put off", "completed"]  # nobody tried meanwhile
    for worker in workers:
        worker.kill()


def test_a_run_that_waits_for_somebody_who_is_no_worker_leaves_its_place_to_others(stage: Stage) -> None:
    # The lease is longer than anything here waits: with its place, the run would keep the worker from all others.
    (worker,) = stage.start("outside=agent", max_concurrent_runs=1, lease=600)
    journal = Journal(open_store(stage.store), "outside", "default")
    io_thread.run_sync(journal.acquire())
    client = stage.client()
    run = client.submit("outside", session_id="outside", prompt="say inside")
    stage.until(lambda: "busy" in [each.ended for each in run.status().attempts], "it to be put off")
    for number in range(3):
        other = client.submit("outside", session_id=f"outside-{number}", prompt=f"say {number}")
        assert str(other.result(timeout=30)).strip() == str(number)
    assert not run.status().attempts[-1].ended.startswith("completed")
    io_thread.run_sync(journal.release())
    assert str(run.result(timeout=30)).strip() == "inside"
    worker.kill()


def test_others_go_on_when_a_worker_is_frozen(stage: Stage) -> None:
    stage.start("agent", count=3)
    run = stage.client().submit("agent", session_id="frozen", prompt="batch frozen")
    first = stage.started("frozen", 3)
    stage.recorded("frozen", 2)
    frozen = stage.worker_of(first)
    frozen.signal(signal.SIGSTOP)
    stage.until(lambda: stage.started("frozen", 3).pid != first.pid, "the takeover")
    # New runs that Dapr gives to the frozen one are not lost on it.
    for number in range(6):
        new = stage.client().submit("agent", session_id=f"new-{number}", prompt=f"say {number}")
        assert str(new.result(timeout=30)).strip() == str(number)
    frozen.signal(signal.SIGCONT)
    stage.until(lambda: "another worker has taken the run over" in stage.logs(), "the thawed one to notice")
    stage.open("frozen")
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("frozen") == {1: 1, 2: 1, 3: 2}
    assert [attempt.ended for attempt in run.status().attempts] == ["lost", "completed"]
    # It works again, and is one of the crew.
    pids = {worker.pid for worker in stage.workers if worker.is_running}
    stage.until(lambda: {int(card.worker.split("/")[2]) for card in stage.cards()} == pids, "it to be known again")


def test_everything_dies_and_is_started_again(stage: Stage) -> None:
    runs = [stage.client().submit("agent", session_id=f"all-{n}", prompt=f"batch all-{n}") for n in range(4)]
    for number in range(4):
        stage.started(f"all-{number}", 3)
        stage.recorded(f"all-{number}", 2)
    for worker in stage.workers:
        worker.kill()
    servers = (stage.stack.daprd, stage.stack.scheduler, stage.stack.placement, stage.redis)
    for server in servers:
        server.kill()
    for server in reversed(servers):
        server.start()
    for number in range(4):
        stage.open(f"all-{number}")
    stage.start("agent", count=2, wait=False)
    for number, run in enumerate(runs):
        assert str(run.result(timeout=60)).strip() == "done"
        assert stage.counts(f"all-{number}") == {1: 1, 2: 1, 3: 2}


def test_a_run_that_no_worker_can_run_is_given_up(stage: Stage) -> None:
    for worker in stage.workers:
        worker.kill()
    (worker,) = stage.start("rare=agent")
    run = stage.client().submit("rare", session_id="rare", prompt="batch rare")
    stage.started("rare", 3)
    worker.kill()
    stage.start("agent", misfit_timeout=0)
    with pytest.raises(RunFailedError, match="no worker knows the agent 'rare'") as failed:
        run.result(timeout=30)
    assert failed.value.error_type == "UnknownAgentError"


def test_a_sidecar_of_another_application_is_refused(stage: Stage) -> None:
    # Both prefix keys with the component's name, so that they see each other's runs; their workflows they do not share.
    shared = {"keyPrefix": "name"}
    with RedisServer() as redis:
        state = RedisState("statestore", redis.address, actors=True, metadata=shared)
        with WorkflowStack([state], app_id="workers") as stack, WorkflowStack([state], app_id="web") as web:
            other = Stage(stack, redis, stage.place, stage.nursery)
            other.start("agent")
            client = AgentClient(store=f"dapr://statestore?address={web.daprd.address}")
            with pytest.raises(WrongApplicationError, match=r"application 'workers'.*'web'"):
                client.submit("agent", session_id="s", prompt="say hello")
            other.close()


def test_a_sidecar_without_scheduler_or_actors_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.workflow.engine.CHECK_SECONDS", 0.2)
    with RedisServer() as redis, Daprd([RedisState("statestore", redis.address, actors=True)]) as daprd:
        store = f"dapr://statestore?address={daprd.address}"
        with pytest.raises(WorkflowUnavailableError, match="placement service"):
            AgentClient(store=store).submit("agent", session_id="s", prompt="say hello")
        with pytest.raises(WorkflowUnavailableError, match="placement service"):
            AgentWorker("agent", lambda _: None, store=store).start()
        address = daprd.address
    with pytest.raises(WorkflowUnavailableError, match="no Dapr sidecar answers"):
        AgentClient(store="memory://alone", sidecar=address).submit("agent", session_id="s", prompt="say hello")


RESILIENCY = """
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: store-policies}
spec:
  policies:
    retries:
      thrice: {policy: constant, duration: 50ms, maxRetries: 3}
    timeouts:
      short: 2s
    circuitBreakers:
      wary: {maxRequests: 1, timeout: 1s, trip: consecutiveFailures >= 50}
  targets:
    components:
      statestore:
        outbound: {retry: thrice, timeout: short, circuitBreaker: wary}
"""


def test_policies_of_resiliency_for_the_store_are_safe(stage: Stage) -> None:
    with RedisServer() as redis, WorkflowStack([RedisState("statestore", redis.address, actors=True)]) as stack:
        stack.daprd.stop()
        state = RedisState("statestore", redis.address, actors=True)
        with Daprd(
            [state],
            app_id="resilient",
            resiliency=RESILIENCY,
            placement=stack.placement,
            scheduler=stack.scheduler,
        ) as daprd:
            stack.daprd = daprd
            other = Stage(stack, redis, stage.place, stage.nursery)
            (first, _) = other.start("agent", count=2)
            run = other.client().submit("agent", session_id="resilient", prompt="batch resilient")
            victim = other.worker_of(other.started("resilient", 3))
            other.recorded("resilient", 2)
            victim.kill()
            other.open("resilient")
            assert str(run.result(timeout=30)).strip() == "done"
            assert other.counts("resilient") == {1: 1, 2: 1, 3: 2}
            assert "resiliencies=<store-policies>" in other.logs()
            other.close()
            assert not first.is_running


def test_a_worker_without_agents_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one agent"):
        AgentWorker(store="memory://none").start()
    with pytest.raises(ConfigurationError, match="needs build="):
        AgentWorker("agent", store="memory://none")
    with pytest.raises(ConfigurationError, match="already"):
        AgentWorker("agent", print, store="memory://none").register("agent", print)
    with pytest.raises(ConfigurationError, match="lease"):
        AgentWorker("agent", print, store="memory://none", lease=0)
