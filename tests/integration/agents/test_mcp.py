"""Tools of a real MCP server: recorded results are not asked for again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.newest_dependencies  # the server is written for mcp 2, which the oldest Strands does not know


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.integration.agents.mcp_program", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_killed_beside_tools_of_a_server(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    arguments = (f"sqlite:///{tmp_path}/runs.db", str(ledger))
    killed = run(*arguments, "--die")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run(*arguments)
    assert resumed.stdout.split() == ["2", "4", "last", "6"], resumed.stderr
    assert sorted(ledger.read_text().splitlines()) == ["double 1", "double 2", "double 3"]
