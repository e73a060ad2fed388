"""A process that has imported everything and started nothing, from which others are forked in no time."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from strands_dapr_session.testing.worker import Job

_HEADER: Final = struct.Struct("!I")
_PRELOADED: Final = (
    "strands_dapr_session.testing.worker",
    "strands_dapr_session.stores.dapr",
    "strands_dapr_session.stores.redis",
    "strands_dapr_session.stores.sqlite",
)


def send(connection: socket.socket, message: Any) -> None:
    """Send a message to the other end."""
    data = pickle.dumps(message)
    connection.sendall(_HEADER.pack(len(data)) + data)


def receive(connection: socket.socket) -> Any:
    """Receive a message; None when the other end is gone."""
    header = _exactly(connection, _HEADER.size)
    if header is None:
        return None
    data = _exactly(connection, _HEADER.unpack(header)[0])
    return None if data is None else pickle.loads(data)  # noqa: S301 - from our own other end


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            piece = connection.recv(size - len(data))
        except ConnectionError:
            return None
        if not piece:
            return None
        data += piece
    return data


class _Server:
    """Forks a child for each job and tells how it ended. When the other end goes, so do all children."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._children: set[int] = set()

    def serve(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.freeze()  # what is here now is never copied into a child only because it was looked at
        sources: list[Any] = [self._connection, reading]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if reading in ready:
                os.read(reading, 4096)
                self._reap()
            if self._connection in ready:
                job = receive(self._connection)
                if job is None:
                    break
                self._fork(*job)
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            send(self._connection, ("ended", pid, os.waitstatus_to_exitcode(status)))

    def _fork(self, job: Job, log: str) -> None:
        pid = os.fork()
        if pid:
            self._children.add(pid)
            send(self._connection, ("started", pid, 0))
            return
        status = 1
        try:
            self._become(log)
            status = _work(job)
        except BaseException:  # noqa: BLE001 - nothing of the child may run the parent's code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _become(self, log: str) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        self._connection.close()
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)


def _work(job: Job) -> int:
    from strands_dapr_session.testing.worker import work  # noqa: PLC0415 - imported long ago

    status = work(job)
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter would do, and `os._exit` does not
    return status


def main() -> None:
    """Serve the socket whose descriptor is the first argument; import the modules that the others name."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    sys.path[:] = pickle.loads(bytes.fromhex(sys.argv[2]))  # noqa: S301 - written by the process that starts us
    for name in (*_PRELOADED, *sys.argv[3:]):
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise SystemExit(f"importing started threads, which no fork survives: {threading.enumerate()}")
    _Server(connection).serve()


if __name__ == "__main__":
    main()
