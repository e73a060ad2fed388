"""Hearing at once of the end of a process on the same machine, where the system can tell. All on the I/O loop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from strands_dapr_session.journal.worker import Identity, this_process

if TYPE_CHECKING:
    from collections.abc import Iterable


class Vigil:
    """Watches processes by their descriptors (Linux 5.3). Elsewhere it hears nothing; nobody relies on it."""

    def __init__(self) -> None:
        self._watched: dict[str, int] = {}
        self._alarm = asyncio.Event()

    def keep(self, workers: Iterable[str]) -> None:
        """Watch the processes of these workers, as far as they are on this machine, and no others."""
        wanted = set(workers)
        for worker in self._watched.keys() - wanted:
            self._stop(worker)
        for worker in wanted - self._watched.keys():
            self._begin(worker)

    async def wait(self, seconds: float) -> None:
        """Wait, but no longer than until one of them ends."""
        try:
            await asyncio.wait_for(self._alarm.wait(), seconds)
        except asyncio.TimeoutError:
            return
        self._alarm.clear()

    def _begin(self, worker: str) -> None:
        identity = Identity.parse(worker)
        if identity is None or not hasattr(os, "pidfd_open") or not identity.is_neighbour(this_process.identity):
            return
        try:
            descriptor = os.pidfd_open(int(identity.pid))
        except OSError:
            return  # gone already, which everybody sees who looks
        self._watched[worker] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._heard, worker)

    def _heard(self, worker: str) -> None:
        asyncio.get_running_loop().remove_reader(self._watched[worker])  # it would be told again and again
        self._alarm.set()

    def _stop(self, worker: str) -> None:
        descriptor = self._watched.pop(worker)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
