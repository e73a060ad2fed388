"""Dapr workflows run on the stack of `dev.servers`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dev.servers import WorkflowStack

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


def test_a_workflow_calls_its_activity(workflow_stack: WorkflowStack) -> None:
    # In a process of its own: the SDK never closes the event loop of its worker, which some later test would be told.
    finished = subprocess.run(
        [sys.executable, "-m", "tests.integration.workflow_program"],
        env=os.environ | workflow_stack.daprd.client_environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stdout.split() == ["42"], finished.stderr
