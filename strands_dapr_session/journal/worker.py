"""This process as a worker: its name, what it holds, and whether other workers of this machine are gone.

A worker's name tells the boot of its machine, its process namespace, its process id and start time. Whoever shares the
first two can ask the kernel whether the process is still there. Everybody else goes by its heartbeat.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.layout import worker_key
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.frames import open_sealed, seal

if TYPE_CHECKING:
    from strands_dapr_session.records.records import Acquired

_TOKEN_BYTES: Final = 8
_GIVEN_UP_KEPT: Final = 256
_DEAD_STATES: Final = ("Z", "X", "x")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is; the last four are empty where the system does not tell."""

    token: str
    host: str
    pid: str
    boot: str
    namespace: str
    started: str

    @property
    def name(self) -> str:
        """The one string that an acquisition holds."""
        return f"{self.token}/{self.host}/{self.pid}/{self.boot}/{self.namespace}/{self.started}"

    @classmethod
    def of_this_process(cls) -> Identity:
        """Find out who this process is."""
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64]
        pid = os.getpid()
        return cls(secrets.token_hex(_TOKEN_BYTES), host, str(pid), _boot(), _namespace(), _started(pid))

    @classmethod
    def parse(cls, name: str) -> Identity | None:
        """Read a name; None if it is no such name."""
        fields = name.split("/")
        if len(fields) != len(cls.__slots__) or not re.fullmatch(r"[0-9a-f]{1,64}", fields[0]):
            return None
        return cls(*fields)

    def is_neighbour(self, here: Identity) -> bool:
        """Tell whether both can ask the same kernel for each other's processes."""
        if not (self.boot and self.namespace and self.started and self.pid.isdigit()):
            return False
        return (self.boot, self.namespace) == (here.boot, here.namespace)

    def is_gone(self, here: Identity) -> bool:
        """Tell whether the process surely does not run any more."""
        if not self.is_neighbour(here):
            return False
        try:
            os.kill(int(self.pid), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass  # there, but somebody else's
        found = _stat(int(self.pid))
        # Nothing found may mean that /proc hides other users' processes.
        return found is not None and (found[0] in _DEAD_STATES or found[1] != self.started)


class ThisProcess:
    """The worker that this process is; the one instance is `this_process`."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._held: dict[str, weakref.ref[object]] = {}
        self._given_up: deque[str] = deque(maxlen=_GIVEN_UP_KEPT)
        self._presumed_dead: set[str] = set()

    @property
    def identity(self) -> Identity:
        """Who this process is."""
        with self._lock:
            if self._identity is None:
                self._identity = Identity.of_this_process()
            return self._identity

    @property
    def name(self) -> str:
        """See `Workers.name`."""
        return self.identity.name

    def hold(self, acquisition: str, holder: object) -> None:
        """Say that an acquisition is about to be made, and by what; it counts as held while that object lives."""
        with self._lock:
            self._held[acquisition] = weakref.ref(holder)

    def let_go(self, acquisition: str, *, released: bool) -> None:
        """Say that an acquisition is not held any more, whether or not the journal says so too."""
        with self._lock:
            self._held.pop(acquisition, None)
            if not released:
                self._given_up.append(acquisition)

    def holds(self, acquisition: str) -> bool:
        """Tell whether an acquisition is held by an object of this process."""
        with self._lock:
            holder = self._held.get(acquisition)
            return holder is not None and holder() is not None

    def is_alive(self, owner: Acquired) -> bool | None:
        """See `Workers.is_alive`."""
        other = Identity.parse(owner.worker)
        if other is None:
            return None
        if other.token == self.identity.token:
            return self.holds(owner.acquisition)
        return False if owner.worker in self._presumed_dead or other.is_gone(self.identity) else None

    def presume_dead(self, worker: str) -> None:
        """Say that a worker has been silent for a lease, so that nobody here waits for another one."""
        self._presumed_dead.add(worker)

    def presume_alive(self, worker: str) -> None:
        """Say that a worker has been heard of again."""
        self._presumed_dead.discard(worker)

    def heartbeat_key(self, owner: Acquired) -> str | None:
        """See `Workers.heartbeat_key`."""
        other = Identity.parse(owner.worker)
        return None if other is None else worker_key(other.token)

    def has_given_up(self, owner: Acquired, heartbeat: bytes | None) -> bool:
        """See `Workers.has_given_up`."""
        key = self.heartbeat_key(owner)
        if heartbeat is None or key is None:
            return False
        try:
            _, given_up = unpack_value(open_sealed(key, heartbeat), key=key)
        except (StoredDataError, TypeError, ValueError):
            return False  # it is only polite to wait longer
        return type(given_up) is list and owner.acquisition in given_up

    def heartbeat(self, count: int) -> tuple[str, bytes]:
        """Make the next heartbeat: its key and value."""
        key = worker_key(self.identity.token)
        with self._lock:
            lost = [name for name, holder in self._held.items() if holder() is None]
            for name in lost:  # collected without a word: nobody will release these
                del self._held[name]
            self._given_up.extend(lost)
            return key, seal(key, pack_value([count, list(self._given_up)]))

    def after_fork(self) -> None:
        """Become another worker: what the parent holds is not held here."""
        self._begin()


def describe(name: str) -> str:
    """Say who a worker is, for messages."""
    worker = Identity.parse(name)
    return f"worker {name!r}" if worker is None else f"process {worker.pid} on {worker.host!r}"


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return re.sub(r"[^0-9]", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return ""


def _started(pid: int) -> str:
    found = _stat(pid)
    return found[1] if found else ""


def _stat(pid: int) -> tuple[str, str] | None:
    """Get the state and the start time of a process, in ticks since the boot."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else None  # noqa: PLR2004 - see proc(5)


def _read(path: str) -> str:
    if sys.platform != "linux":
        return ""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


this_process: Final = ThisProcess()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=this_process.after_fork)
