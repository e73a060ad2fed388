"""The process that outlives ours and ends what it started.

`PR_SET_PDEATHSIG`, the usual way, fires when the *thread* that started the server ends, is lost when the server changes
its user, and removes no directory. A pipe closes exactly when the process is gone, by whatever way.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from dev.servers.processes import is_running, signal_family

_LONGEST_WAIT = 10.0


class Reaper:
    """Kills the processes and removes the directories that were given to it, once this process has ended."""

    def __init__(self) -> None:
        # In its own session, so that Ctrl-C on our terminal doesn't end it before its work is done.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import reap; reap()"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        atexit.register(self._finish)

    def adopt_process(self, pid: int) -> None:
        """Kill this process at the end."""
        self._tell("adopt", "process", str(pid))

    def forget_process(self, pid: int) -> None:
        """Leave it: it has ended, and its number may become another's."""
        self._tell("forget", "process", str(pid))

    def adopt_directory(self, directory: Path) -> None:
        """Remove this directory at the end."""
        self._tell("adopt", "directory", str(directory))

    def forget_directory(self, directory: Path) -> None:
        """Leave it: it has been removed."""
        self._tell("forget", "directory", str(directory))

    def _tell(self, *words: str) -> None:
        assert self._process.stdin is not None  # noqa: S101  (it was asked to be a pipe)
        with self._lock:
            self._process.stdin.write("\t".join(words) + "\n")
            self._process.stdin.flush()

    def _finish(self) -> None:
        self._process.communicate(timeout=_LONGEST_WAIT)


_reaper: Reaper | None = None
_reaper_lock = threading.Lock()


def reaper() -> Reaper:
    """Return this process's reaper, started when it is first needed."""
    global _reaper  # noqa: PLW0603  (one for each process, and no process at import)
    with _reaper_lock:
        _reaper = _reaper or Reaper()
        return _reaper


def reap() -> None:
    """Be the reaper: wait until our parent has ended, then end what it started."""
    adopted: dict[str, None] = {}
    for line in sys.stdin:  # ends when our parent does
        verb, _, thing = line.rstrip("\n").partition("\t")
        if verb == "adopt":
            adopted[thing] = None
        else:
            adopted.pop(thing, None)
    names = [thing.partition("\t") for thing in adopted]
    killed = [
        victim for kind, _, name in names if kind == "process" for victim in signal_family(int(name), signal.SIGKILL)
    ]
    deadline = time.monotonic() + _LONGEST_WAIT / 2
    while any(map(is_running, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for kind, _, name in names:
        if kind == "directory":
            shutil.rmtree(name, ignore_errors=True)
