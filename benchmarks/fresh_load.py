"""One load in a fresh process: what a worker that takes a session over pays. Run by `measures.load`.

The clock starts when Strands and the session manager's package are imported, which `measures.imports` measures by
itself, and stops when the agent has its messages. Connecting is part of it.
"""

from __future__ import annotations

import importlib
import json
import logging
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    """Load once and print what it took."""
    wanted = json.loads(sys.argv[1])
    from benchmarks.places import Addresses  # noqa: PLC0415 - imports are part of what is measured
    from benchmarks.subjects import agent_with, load, subject  # noqa: PLC0415

    logging.disable(logging.WARNING)
    chosen = subject(Addresses(**wanted["at"]), wanted["subject"], wanted["store"])
    importlib.import_module(chosen.module)
    agent_with(None)
    before, peak = resource.getrusage(resource.RUSAGE_SELF), _peak_kib()
    began = time.perf_counter()
    agent = load(chosen, wanted["session"], wanted["messages"])
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {
        "wall_ms": wall * 1000,
        "cpu_ms": cpu * 1000,
        "peak_mib": (_peak_kib() - peak) / 1024,
        "messages": len(agent.messages),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _peak_kib() -> int:
    """Read the most memory that this program had. `getrusage` counts what its parent had before the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
