"""Timing in this process and in fresh ones, interleaved so that what the machine does meanwhile hits all alike."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

K = TypeVar("K")


def timed(action: Callable[[], object]) -> float:
    """Measure an action in milliseconds, with the garbage of others out of the way.

    What it returns is kept until the time is taken: to throw 5,000 messages away takes 6 ms.
    """
    gc.collect()
    began = time.perf_counter()
    result = action()
    ended = time.perf_counter()
    del result
    return (ended - began) * 1000


def interleaved(actions: Mapping[K, Callable[[], float]], repeat: int) -> dict[K, list[float]]:
    """Measure several things in turn, many times."""
    found: dict[K, list[float]] = {key: [] for key in actions}
    for _ in range(repeat):
        for key, action in actions.items():
            found[key].append(action())
    return found


def in_fresh_process(module: str, argument: dict[str, Any]) -> dict[str, Any]:
    """Run a module of the benchmarks in a new interpreter, and read the JSON that it prints.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", json.dumps(argument)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"benchmarks.{module} {argument} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
