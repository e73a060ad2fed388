"""Fifty graphs at once in one process, which is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from strands_dapr_session.testing.ledger import Ledger
from tests.crash.conftest import Place
from tests.crash.many_graphs import GRAPHS, TOOLS


def test_fifty_graphs_are_killed_twice_and_all_finish(dapr_place: Place, workshop: Path) -> None:
    path = workshop / "ledger"
    statuses = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.crash.many_graphs", dapr_place.url, path, str(last)],
            check=False,
            timeout=100,
        ).returncode
        for last in (30, 150, 0)
    ]

    ledger = Ledger(path)
    assert statuses == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert [dict(entry.details) for entry in ledger.entries("ended")] == [{"statuses": ["completed"], "count": GRAPHS}]
    ran = Counter(entry["what"] for entry in ledger.entries("ran"))
    assert len(ran) == GRAPHS * TOOLS
    # What was under way when a process died is in doubt and runs again: at most two tools of each graph, each time.
    assert max(ran.values()) <= 3
    assert ran.total() - len(ran) <= 2 * 2 * GRAPHS
    first = {entry["what"] for entry in ledger.entries("ran")[:10]}  # long before the first process died
    assert all(ran[what] <= 2 for what in first)
