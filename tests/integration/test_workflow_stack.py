"""Dapr workflows run on the stack of `dev.servers`."""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import Any

import pytest

from dev.servers import WorkflowStack

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # The SDK never closes the event loop of its worker.
def test_a_workflow_calls_its_activity(workflow_stack: WorkflowStack, monkeypatch: pytest.MonkeyPatch) -> None:
    from dapr.ext.workflow import (  # noqa: PLC0415  (the oldest dapr has none)
        DaprWorkflowClient,
        DaprWorkflowContext,
        WorkflowActivityContext,
        WorkflowRuntime,
    )

    for key, value in workflow_stack.daprd.client_environment.items():
        monkeypatch.setenv(key, value)

    def double(_context: WorkflowActivityContext, number: int) -> int:
        return 2 * number

    def workflow(context: DaprWorkflowContext, number: int) -> Generator[Any, Any, int]:
        doubled: int = yield context.call_activity(double, input=number)
        return doubled

    runtime = WorkflowRuntime(host="127.0.0.1", port=str(workflow_stack.daprd.port))
    runtime.register_workflow(workflow)
    runtime.register_activity(double)
    runtime.start()
    try:
        client = DaprWorkflowClient(host="127.0.0.1", port=str(workflow_stack.daprd.port))
        instance = client.schedule_new_workflow(workflow, input=21)
        state = client.wait_for_workflow_completion(instance, timeout_in_seconds=20)
        assert state is not None
        assert state.serialized_output == "42"
    finally:
        runtime.shutdown()
        gc.collect()
