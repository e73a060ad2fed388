"""What is said when Dapr's workflow SDK is missing, and how its sidecar is found."""

from __future__ import annotations

import sys

import pytest

from strands_dapr_session import AgentClient, AgentWorker, WorkflowUnavailableError
from strands_dapr_session.workflow.engine import sidecar_of


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
