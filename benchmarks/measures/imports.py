"""What importing the package adds to importing Strands, and what making a session manager costs.

Each import runs in a fresh interpreter, in turn with the others, and says itself how long it took.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import timing
from benchmarks.results import Row
from benchmarks.subjects import OURS, Ours

if TYPE_CHECKING:
    from benchmarks.bench import Bench

STRANDS = "import strands"
PACKAGE = "import strands, strands_dapr_session"
MANAGER = "import strands; from strands_dapr_session import DaprSessionManager"

_REPEAT = 5
_MADE = 300
_PROGRAM = "import time; began = time.perf_counter(); {}; print((time.perf_counter() - began) * 1000)"


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    bench.say("importing in fresh interpreters")
    actions = {statement: partial(_import, statement) for statement in (STRANDS, PACKAGE, MANAGER)}
    found = timing.interleaved(actions, bench.repeat(_REPEAT))
    rows = [Row.of(statement, {}, "import", "ms", values) for statement, values in found.items()]
    at = bench.places.with_dapr()
    for store in ("redis", "sqlite"):
        ours = Ours(at, store)
        ours.manager("first")
        made = [timing.timed(partial(ours.manager, f"made-{number}")) for number in range(bench.repeat(_MADE))]
        rows.append(Row.of(OURS, {"store": store}, "making another one", "ms", made))
    return rows


def _import(statement: str) -> float:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM.format(statement)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
