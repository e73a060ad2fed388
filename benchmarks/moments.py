"""When something happened, as the processes that are measured write it down, by the clock of the machine."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Times:
    """A file of moments. Not synced to disk: that would be most of what is measured."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what: str, run: str) -> None:
        """Write down that something happens now."""
        os.write(self._file, f"{time.time():.6f} {os.getpid()} {what} {run}\n".encode())


@dataclass(frozen=True)
class Moment:
    """One line of the file.

    Attributes:
        at: Seconds since the epoch.
        pid: In which process.
    """

    at: float
    pid: int


def moments(path: Path, what: str, run: str) -> list[Moment]:
    """Read when something happened in a run; nothing if the file is not there."""
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return [Moment(float(at), int(pid)) for at, pid, kind, name in lines if (kind, name) == (what, run)]


def gaps(path: Path, what: str, run: str) -> list[float]:
    """Get the milliseconds from each time that something happened in a run to the next."""
    return [(after.at - before.at) * 1000 for before, after in itertools.pairwise(moments(path, what, run))]


def wait(found: Callable[[], list[Moment]], count: int, timeout: float) -> Moment:
    """Wait until something has happened so often.

    Raises:
        TimeoutError: It did not, within so many seconds.
    """
    deadline = time.monotonic() + timeout
    while len(so_far := found()) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"happened {len(so_far)} times in {timeout:.0f} s instead of {count}")
        time.sleep(0.002)
    return so_far[count - 1]
