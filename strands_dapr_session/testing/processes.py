"""Starting the processes of a crash test: forked from a warm server in milliseconds, or each from nothing."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from strands_dapr_session.testing import forkserver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strands_dapr_session.testing.worker import Job

_POLL = 0.002


class Process(ABC):
    """A running process.

    Attributes:
        pid: Its id.
    """

    pid: int

    @abstractmethod
    def wait(self, timeout: float = 120.0) -> int:
        """Wait for its end; returns its exit status, or the number of the signal that ended it, negative.

        Raises:
            TimeoutError: It still runs.
        """

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait_until_stopped(self, timeout: float = 30.0) -> None:
        """Wait until it has been stopped by SIGSTOP.

        Raises:
            TimeoutError: It still runs, or has ended.
        """
        deadline = time.monotonic() + timeout
        while _state(self.pid) not in ("T", "t"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} was not stopped in {timeout} s")
            time.sleep(_POLL)


class Starter(ABC):
    """Starts processes."""

    @abstractmethod
    def start(self, job: Job, log: Path) -> Process:
        """Start a process that does a job; what it prints goes to the end of a file."""

    @abstractmethod
    def close(self) -> None:
        """End what was started for starting."""


class Spawner(Starter):
    """Starts a new interpreter for each process: seconds, and exactly what users do."""

    def start(self, job: Job, log: Path) -> Process:
        """See `Starter.start`."""
        with tempfile.NamedTemporaryFile(delete=False, suffix=".job") as file:
            file.write(pickle.dumps(job))
        with log.open("ab") as output:
            command = [sys.executable, "-m", "strands_dapr_session.testing.worker", file.name]
            return _Spawned(subprocess.Popen(command, stdout=output, stderr=output), Path(file.name))  # noqa: S603

    def close(self) -> None:
        """See `Starter.close`."""


class _Spawned(Process):
    def __init__(self, process: subprocess.Popen[bytes], job: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._job = job

    def wait(self, timeout: float = 120.0) -> int:
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s") from error
        self._job.unlink(missing_ok=True)
        return status


class ForkServer(Starter):
    """Forks processes from one that has imported everything, and started neither threads nor gRPC.

    They see the modules as they were when the server was started, and nothing of this process.
    """

    def __init__(self, modules: Iterable[str] = ()) -> None:
        """Start the server.

        Args:
            modules: What to import besides this package: the modules of the programs.
        """
        self._connection, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), pickle.dumps(sys.path).hex(), *modules]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "strands_dapr_session.testing.forkserver", *arguments],
                pass_fds=[theirs.fileno()],
            )
        self._ended: dict[int, int] = {}

    def start(self, job: Job, log: Path) -> Process:
        """See `Starter.start`."""
        forkserver.send(self._connection, (job, str(log)))
        while True:
            kind, pid, status = self._receive(60.0)
            if kind == "started":
                self._ended.pop(pid, None)  # of another process, which had the same number long ago
                return _Forked(self, pid)
            self._ended[pid] = status

    def status_of(self, pid: int, timeout: float) -> int:
        """Wait for the end of a process; returns its exit status.

        Raises:
            TimeoutError: It still runs.
        """
        while pid not in self._ended:
            _, ended, status = self._receive(timeout)
            self._ended[ended] = status
        return self._ended[pid]

    def _receive(self, timeout: float) -> tuple[str, int, int]:
        self._connection.settimeout(timeout)
        message = forkserver.receive(self._connection)
        if message is None:
            raise RuntimeError("the fork server has ended; what it printed says why")
        kind, pid, status = message
        return kind, pid, status

    def close(self) -> None:
        """End the server and all processes that still run."""
        self._connection.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Forked(Process):
    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._server = server

    def wait(self, timeout: float = 120.0) -> int:
        return self._server.status_of(self.pid, timeout)


def end(process: Process) -> None:
    """Kill a process, whatever it does."""
    with suppress(ProcessLookupError):
        process.signal(signal.SIGKILL)
    process.wait()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
