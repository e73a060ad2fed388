"""Signals to a process and all of its descendants, as Linux's /proc knows them."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal


def signal_family(pid: int, number: signal.Signals) -> list[int]:
    """Send a signal to the process and all of its descendants, and return whom it was sent to.

    The parent comes first: one that is stopped or dead makes no more children while we go on.
    """
    _signal(pid, number)
    descendants = _descendants(pid)
    for descendant in descendants:
        _signal(descendant, number)
    return [pid, *descendants]


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    status = _status(pid)
    return status is not None and status[0] != "Z"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (status := _status(int(entry.name))):
            children[int(status[1])].append(int(entry.name))
    found = [pid]
    for ancestor in found:  # It grows while we walk it, generation after generation.
        found += children[ancestor]
    return found[1:]


def _status(pid: int) -> list[str] | None:
    """Return the process's state, its parent, and so on, or None when it is gone."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The program's name, in parentheses, may hold anything.
    return line.rpartition(")")[2].split()
