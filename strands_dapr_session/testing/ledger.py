"""What really happened, written down outside of any store: one line for each fact, safe on disk before the next one."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact.

    Attributes:
        at: Seconds since the epoch.
        pid: The process that wrote it.
        kind: What kind of fact.
        details: The rest of it.
    """

    at: float
    pid: int
    kind: str
    details: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Get a detail."""
        return self.details[name]

    def __str__(self) -> str:
        """Show it in one line."""
        details = " ".join(f"{name}={_short(value)}" for name, value in self.details.items())
        return f"{self.pid:>7} {self.kind:<12} {details}"


class Ledger:
    """A file of facts, appended to by one process after the other."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; nothing is opened yet."""
        self.path = Path(path)
        self._lock = threading.Lock()
        self._file: int | None = None

    def note(self, kind: str, **details: Any) -> None:
        """Append a fact. It is on disk when this returns."""
        line = json.dumps({"at": time.time(), "pid": os.getpid(), "kind": kind, **details}) + "\n"
        with self._lock:
            if self._file is None:
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                # The process before may have died in the middle of a line.
                line = "\n" + line
            os.write(self._file, line.encode())
            os.fsync(self._file)

    def entries(self, *kinds: str) -> list[Entry]:
        """Read all facts so far, or those of some kinds."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = [entry for line in lines if (entry := _parse(line)) is not None]
        return [entry for entry in found if not kinds or entry.kind in kinds]


_current: Ledger | None = None


def current() -> Ledger:
    """Get the ledger of the process that a crash test started, for tools and models that look up what happened.

    Raises:
        RuntimeError: This process was not started by one.
    """
    if _current is None:
        raise RuntimeError("no ledger: this process was not started by a crash test")
    return _current


def use(ledger: Ledger) -> None:
    """Make a ledger the current one of this process."""
    global _current  # noqa: PLW0603 - one ledger a process
    _current = ledger


def _parse(line: str) -> Entry | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None  # the end of a process, or the blank before the next
    return Entry(fields.pop("at"), fields.pop("pid"), fields.pop("kind"), fields)


def _short(value: Any, limit: int = 100) -> str:
    text = json.dumps(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
