"""What is said when Dapr's workflow SDK is missing, and how its sidecar is found."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest

from strands_dapr_session import AgentClient, AgentWorker, WorkflowUnavailableError, io_thread
from strands_dapr_session.workflow import engine as engine_module
from strands_dapr_session.workflow.engine import Engine, sidecar_of


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
