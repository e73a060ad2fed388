"""Importing the session manager takes along what an agent needs, and no more: it is part of every cold start."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
import strands
before = set(sys.modules)
from strands_dapr_session import DaprSessionManager
print(*set(sys.modules) - before)
"""


@pytest.fixture(scope="module")
def imported() -> set[str]:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _PROGRAM], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "unwanted",
    [
        "strands.multiagent",
        "strands_dapr_session.multiagent.root",
        "strands_dapr_session.testing",
        "strands_dapr_session.stores.conformance",
        "strands_dapr_session.stores.dapr",
        "strands_dapr_session.workflow",
        "strands_dapr_session.cli",
        "dapr",
        "grpc",
        "redis",
        "sqlite3",
        "rich",
    ],
)
def test_the_session_manager_imports_only_what_an_agent_needs(imported: set[str], unwanted: str) -> None:
    assert "strands_dapr_session.session_manager" in imported
    assert not [name for name in imported if name == unwanted or name.startswith(f"{unwanted}.")]
