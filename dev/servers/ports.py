"""Ports that stay ours: also while the server that uses them is down, and beside other test runs on the machine."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_LOWEST = 20_000


class ReservedPort:
    """A free port on loopback, reserved against everyone who reserves ports this way, until it is released.

    Binding to port 0 would take one from the range that the kernel gives to outgoing connections. While a server is
    down, a client that keeps dialing its port could then be given that very port as its source: it would talk to
    itself, and the server could never bind again. So this takes ports from below that range.
    """

    def __init__(self) -> None:
        candidates = range(_LOWEST, _lowest_ephemeral_port())
        for number in random.sample(candidates, len(candidates)):
            lock = _try_lock(number)
            if lock is not None:
                if _is_free(number):
                    self.number = number
                    self._lock = lock
                    return
                os.close(lock)
        raise RuntimeError(f"no free port from {candidates.start} to {candidates.stop}")

    def release(self) -> None:
        """Let others have it."""
        os.close(self._lock)


def _try_lock(number: int) -> int | None:
    directory = Path(tempfile.gettempdir()) / f"strands-dapr-session-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    # The kernel drops the lock with the process, so that a crashed run leaves no reservation behind.
    lock = os.open(directory / str(number), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of a server that is gone may linger without keeping its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _lowest_ephemeral_port() -> int:
    try:
        setting = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        return 32_768
    return max(int(setting.split()[0]), _LOWEST + 1_000)
