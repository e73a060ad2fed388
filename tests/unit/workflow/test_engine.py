"""What is said when Dapr's workflow SDK is missing, and how its sidecar is found."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from strands_dapr_session import AgentClient, AgentWorker, WorkflowUnavailableError, io_thread
from strands_dapr_session.stores.dapr.sidecar import CallFailed
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.workflow import engine as engine_module
from strands_dapr_session.workflow.engine import Engine, sidecar_of
from strands_dapr_session.workflow.orchestration import ANSWERED, WORKFLOW


class Sidecar:
    """A workflow client whose answers are given; None is success."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        async def answer(*_: object, **__: object) -> None:
            error = self.answers.pop(0)
            if error is not None:
                raise error

        return answer


def refusal(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


def engine_of(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine("127.0.0.1:1")
    monkeypatch.setattr(engine, "_connected", lambda: sidecar)
    return engine


@pytest.mark.newest_dependencies
def test_a_sidecar_that_begins_or_ends_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Sidecar(*[refusal(grpc.StatusCode.UNAVAILABLE, "connection refused")] * 2, None)
    assert io_thread.run_sync(engine_of(sidecar, monkeypatch).wake("a workflow"))
    assert not sidecar.answers


@pytest.mark.newest_dependencies
@pytest.mark.parametrize(
    "details",
    [
        "failed to create actor: actor type dapr.internal.default.x.workflow not registered",
        "failed to create workflow instance: operations on actor reminders are only possible on hosted actor types",
        "actor is closed, cannot handle AddWorkflowEvent",
        "remote actor moved",
    ],
)
def test_what_a_sidecar_says_whose_workers_come_and_go_is_no_error(
    details: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = Sidecar(refusal(grpc.StatusCode.UNKNOWN, details))
    assert not io_thread.run_sync(engine_of(sidecar, monkeypatch).wake("a workflow"))


@pytest.mark.newest_dependencies
def test_a_sidecar_that_refuses_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Sidecar(refusal(grpc.StatusCode.PERMISSION_DENIED, "no"), None)
    with pytest.raises(WorkflowUnavailableError, match=r"could not wake .*PERMISSION_DENIED: no"):
        io_thread.run_sync(engine_of(sidecar, monkeypatch).wake("a workflow"))
    assert len(sidecar.answers) == 1


@pytest.mark.newest_dependencies
def test_a_sidecar_that_does_not_answer_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_ANSWERS_WITHIN", 0.01)

    class Silent:
        async def raise_workflow_event(self, *_: object, **__: object) -> None:
            await asyncio.Event().wait()

    engine = Engine("127.0.0.1:1")
    monkeypatch.setattr(engine, "_connected", Silent)
    assert not io_thread.run_sync(engine.wake("a workflow"))


def test_without_the_sdk_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dapr.ext.workflow", "dapr.ext.workflow.aio"):
        monkeypatch.setitem(sys.modules, name, None)
    for make in (lambda: AgentClient(store="memory://"), lambda: AgentWorker("agent", print, store="memory://")):
        with pytest.raises(WorkflowUnavailableError, match=r"pip install .strands-dapr-session\[workflow\]"):
            make()


@pytest.mark.parametrize(
    ("store", "address"),
    [
        (None, None),
        ("statestore", None),
        ("redis://localhost?address=1", None),
        ("dapr://statestore", None),
        ("dapr://statestore?address=127.0.0.1:5001", "127.0.0.1:5001"),
        ("dapr://statestore?timeout=1&address=127.0.0.1:5001&consistency=strong", "127.0.0.1:5001"),
    ],
)
def test_the_sidecar_is_the_one_of_the_store(store: str | None, address: str | None) -> None:
    assert sidecar_of(store) == address


# -- what a sidecar must have -----------------------------------------------------------------------------------------


def metadata(*, actors: bool = True, placement: bool = True, scheduler: bool = True, resiliencies: Any = ()) -> Any:
    """Make what a sidecar says of itself."""
    return SimpleNamespace(
        id="app",
        registered_components=[
            SimpleNamespace(capabilities=["ETAG"]),
            SimpleNamespace(capabilities=["ETAG", "ACTOR"] if actors else ["TTL"]),
        ],
        actor_runtime=SimpleNamespace(host_ready=placement),
        scheduler=SimpleNamespace(connected_addresses=["127.0.0.1:50006"] if scheduler else []),
        resiliencies=[SimpleNamespace(name=name) for name in resiliencies],
    )


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the sidecar answers, one after the other; the last one for ever."""
    answers: list[Any] = []

    class Asked:
        async def call(self, method: str, *_: object) -> Any:
            assert method == "GetMetadata"
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(engine_module, "sidecar_at", lambda _: Asked())
    monkeypatch.setattr(engine_module, "CHECK_SECONDS", 0.05)
    return answers


@pytest.mark.newest_dependencies
def test_a_sidecar_that_has_everything(says: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    says.append(metadata())
    assert io_thread.run_sync(Engine("127.0.0.1:1").check()) == "app"
    assert not caplog.records


@pytest.mark.newest_dependencies
@pytest.mark.parametrize(
    ("lacks", "told"),
    [("actors", "actorStateStore"), ("placement", "placement service"), ("scheduler", "resume_abandoned")],
)
def test_what_a_sidecar_lacks_is_told_with_what_to_do(says: list[Any], lacks: str, told: str) -> None:
    lacking: dict[str, Any] = {lacks: False}
    says.append(metadata(**lacking))
    with pytest.raises(WorkflowUnavailableError, match=rf"127.0.0.1:1 cannot run workflows: .*{told}"):
        io_thread.run_sync(Engine("127.0.0.1:1").check())
    says[:] = [metadata(**lacking), CallFailed(grpc.StatusCode.UNAVAILABLE, "begins"), metadata()]
    assert io_thread.run_sync(Engine("127.0.0.1:1").check()) == "app"  # it had just been started


@pytest.mark.newest_dependencies
def test_no_sidecar_is_told_with_what_to_do(says: list[Any]) -> None:
    says.append(CallFailed(grpc.StatusCode.UNAVAILABLE, "connection refused"))
    with pytest.raises(WorkflowUnavailableError, match=r"no Dapr sidecar answers at 127.0.0.1:1 .*refused.* dapr run"):
        io_thread.run_sync(Engine("127.0.0.1:1").check())


@pytest.mark.newest_dependencies
def test_resiliency_policies_are_named(says: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    says.append(metadata(resiliencies=["slow", "often"]))
    assert io_thread.run_sync(Engine("127.0.0.1:1").check()) == "app"
    assert "resiliencies=<often, slow>" in caplog.text


# -- what is asked of it ----------------------------------------------------------------------------------------------


@pytest.mark.newest_dependencies
def test_a_workflow_begins_at_once_and_names_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any, Any]] = []

    class Client:
        def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, None]]:
            async def take(*arguments: object, **options: object) -> None:
                asked.append((name, arguments, options))

            return take

    engine = Engine("127.0.0.1:1")
    monkeypatch.setattr(engine, "_connected", Client)
    assert io_thread.run_sync(engine.schedule("workflow", "run"))
    assert io_thread.run_sync(engine.wake("workflow"))
    io_thread.run_sync(engine.purge("workflow"))
    scheduled, woken, purged = asked
    assert scheduled[0] == "schedule_new_workflow"
    assert scheduled[1] == (WORKFLOW,)
    assert scheduled[2]["input"] == {"invocation_id": "run"}
    assert scheduled[2]["instance_id"] == "workflow"
    assert scheduled[2]["start_at"].timestamp() < time.time()
    assert woken == ("raise_workflow_event", ("workflow", ANSWERED), {"data": True})
    assert purged == ("purge_workflow", ("workflow",), {})


@pytest.mark.newest_dependencies
@pytest.mark.parametrize("details", ["an active workflow with ID 'x' already exists", "no such instance exists"])
def test_what_is_there_already_or_gone_already_is_well(details: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Sidecar(refusal(grpc.StatusCode.UNKNOWN, details))
    assert io_thread.run_sync(engine_of(sidecar, monkeypatch).schedule("workflow", "run"))


@pytest.mark.newest_dependencies
def test_a_sidecar_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RetryPolicy", lambda: RetryPolicy(budget=0.02))
    sidecar = Sidecar(*[refusal(grpc.StatusCode.UNAVAILABLE, "connection refused")] * 1000)
    with pytest.raises(WorkflowUnavailableError, match=r"could not schedule .*Nothing is lost"):
        io_thread.run_sync(engine_of(sidecar, monkeypatch).schedule("workflow", "run"))


@pytest.mark.newest_dependencies
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (None, None),
        (SimpleNamespace(runtime_status=SimpleNamespace(name="RUNNING")), "RUNNING"),
        (refusal(grpc.StatusCode.UNKNOWN, "not registered"), None),
        (asyncio.TimeoutError(), None),
    ],
    ids=["unknown", "runs", "refused", "silent"],
)
def test_how_a_workflow_stands_as_far_as_anybody_says(
    answer: Any, status: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        async def get_workflow_state(self, *_: object, **__: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    engine = Engine("127.0.0.1:1")
    monkeypatch.setattr(engine, "_connected", Client)
    assert io_thread.run_sync(engine.status("workflow")) == status


@pytest.mark.newest_dependencies
def test_a_child_has_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, made, abandoned = Engine("https://dapr.example.org:8443"), list[dict[str, Any]](), list[object]()

    def make(**options: Any) -> object:
        made.append(options)
        return object()

    monkeypatch.setattr(engine._sdk.aio, "DaprWorkflowClient", make)
    monkeypatch.setattr(io_thread, "abandon", abandoned.append)
    client = engine._connected()
    assert engine._connected() is client
    assert (made[0]["host"], made[0]["port"]) == ("https://dapr.example.org", "8443")
    generation = io_thread.generation()
    monkeypatch.setattr(io_thread, "generation", lambda: generation + 1)
    assert engine._connected() is not client
    assert engine._connected() is engine._connected()
    assert abandoned == [client]
    assert len(made) == 2


@pytest.mark.newest_dependencies
def test_a_sidecar_that_gives_no_work_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        def __init__(self, **options: Any) -> None:
            assert options["maximum_concurrent_activity_work_items"] == 7

        def register_workflow(self, *_: object, **__: object) -> None: ...

        def register_activity(self, *_: object, **__: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("no hello")

    engine = Engine("127.0.0.1:1")
    monkeypatch.setattr(engine._sdk, "WorkflowRuntime", Runtime)

    async def attend(_: str) -> str:
        return "done"

    with pytest.raises(WorkflowUnavailableError, match=r"127.0.0.1:1 gives no work: no hello"):
        engine.serve(attend, 7)
