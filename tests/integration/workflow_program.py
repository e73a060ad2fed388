"""Doubles a number in a Dapr workflow and prints it; finds the sidecar as every Dapr program does."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

from dapr.ext.workflow import DaprWorkflowClient, DaprWorkflowContext, WorkflowActivityContext, WorkflowRuntime


def double(_context: WorkflowActivityContext, number: int) -> int:
    return 2 * number


def workflow(context: DaprWorkflowContext, number: int) -> Generator[Any, Any, int]:
    doubled: int = yield context.call_activity(double, input=number)
    return doubled


def main() -> None:
    port = os.environ["DAPR_GRPC_PORT"]
    runtime = WorkflowRuntime(host="127.0.0.1", port=port)
    runtime.register_workflow(workflow)
    runtime.register_activity(double)
    runtime.start()
    try:
        client = DaprWorkflowClient(host="127.0.0.1", port=port)
        instance = client.schedule_new_workflow(workflow, input=21)
        state = client.wait_for_workflow_completion(instance, timeout_in_seconds=20)
        print(state.serialized_output if state else "no state")
    finally:
        runtime.shutdown()


if __name__ == "__main__":
    main()
