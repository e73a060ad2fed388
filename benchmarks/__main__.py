"""Measure: `python -m benchmarks [NAME ...]`. Without names everything, as `make bench` does.

What is measured replaces what the results file knows of the same measures; the others stay. Each measure runs in a
process of its own, so that none inherits another's garbage.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench
from benchmarks.places import Places
from benchmarks.results import LATEST, Results
from benchmarks.tables import table

MEASURES = (
    "load",
    "window",
    "step",
    "turn",
    "round_trips",
    "bytes",
    "concurrency",
    "scaling",
    "memory",
    "imports",
    "changes",
    "workers",
    "graph",
    "peers",
)


def main() -> int:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(":")[0])
    parser.add_argument("measures", nargs="*", metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="few repetitions and small sizes: does everything work?")
    parser.add_argument("--results", type=Path, default=LATEST, help="the file to keep the results in")
    options = parser.parse_args()
    unknown = set(options.measures) - set(MEASURES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join(MEASURES)}")
    if len(options.measures) == 1:
        _measure(options.measures[0], options.results, quick=options.quick)
        return 0
    flags = ["--quick"] if options.quick else []
    failed = [
        name
        for name in options.measures or MEASURES
        if subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks", name, "--results", options.results, *flags],
            check=False,
        ).returncode
    ]
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return bool(failed)


def _measure(name: str, path: Path, *, quick: bool) -> None:
    logging.disable(logging.WARNING)
    console = Console(width=160)
    began = time.monotonic()
    with Places() as places:
        rows = importlib.import_module(f"benchmarks.measures.{name}").measure(Bench(places, console, quick))
        _close_stores()
    results = Results.load(path)
    results.take(name, rows, quick=quick, seconds=time.monotonic() - began)
    results.save(path)
    console.print(table(name, rows))


def _close_stores() -> None:
    """Say good-bye to the stores while their servers are still there."""
    from strands_dapr_session import io_thread  # noqa: PLC0415 - after the imports that are measured

    io_thread._at_exit()  # noqa: SLF001 - what the interpreter would do after the servers are gone


if __name__ == "__main__":
    sys.exit(main())
