"""The heartbeat of this process in one store: one key, rewritten while any invocation runs.

An invocation that is over before the first beat is due writes none at all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from asyncio import sleep  # by name: a user's test that replaces `asyncio.sleep` must not make a heart race
from typing import TYPE_CHECKING

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DurableSessionError
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from strands_dapr_session.records.records import Acquired
    from strands_dapr_session.stores.base import StateStore

logger = logging.getLogger(__name__)

_BEATS_PER_LEASE = 3


class Heart:
    """Beats for the acquisitions of this process in one store. All methods but `of` run on the I/O thread."""

    def __init__(self, store: StateStore) -> None:
        self._store = weakref.ref(store)
        self._leases: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._count = 0
        self._key: str | None = None
        self._removals: set[asyncio.Task[None]] = set()

    @staticmethod
    def of(store: StateStore) -> Heart:
        """Get the heart of a store."""
        heart = _hearts.get(store)
        if heart is None:
            heart = _hearts.setdefault(store, Heart(store))
        return heart

    def begin(self, acquisition: str, lease: float) -> None:
        """Beat for an acquisition while this process holds it."""
        self._leases[acquisition] = lease
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._beat())

    def leave(self, acquisition: str) -> None:
        """Take the key away with the last journal: it is about to be released.

        So whoever is killed holds a journal, and is buried by those who take it over, or leaves no key behind. The
        heart skips its next beat; if the release takes longer than that, it beats again.
        """
        self._leaving.add(acquisition)
        if self._key is not None and all(name in self._leaving for name in self._leases if this_process.holds(name)):
            self._spawn(self._remove())

    def bury(self, owner: Acquired) -> None:
        """Remove the heartbeat of a worker whose journal this one took over.

        If it died, nobody else would. If it did not, it beats again.
        """
        key = this_process.heartbeat_key(owner)
        if key is not None and owner.worker != this_process.name:
            self._spawn(self._delete(key))

    async def stop(self) -> None:
        """Remove the key: the process is about to end."""
        if self._task is not None:
            self._task.cancel()
        await self._remove()

    def _spawn(self, removal: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(removal)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _beat(self) -> None:
        interval = min(self._leases.values()) / _BEATS_PER_LEASE
        skipped: set[str] = set()
        try:
            while True:
                await sleep(interval)
                self._leases = {name: lease for name, lease in self._leases.items() if this_process.holds(name)}
                self._leaving &= self._leases.keys()
                skipped &= self._leases.keys()
                if not self._leases:
                    break
                interval = min(self._leases.values()) / _BEATS_PER_LEASE
                if self._leases.keys() <= self._leaving - skipped:
                    skipped |= self._leaving
                    continue
                await self._write()
        finally:
            self._task = None  # whoever begins from here on starts another one
        await self._remove()

    async def _write(self) -> None:
        """Write one beat. One that gets lost does no harm: the next is on its way."""
        store = self._store()
        if store is None:
            return
        async with self._writing:
            self._count += 1
            key, value = this_process.heartbeat(self._count)
            self._key = key
            try:
                present = await store.get(key)
                if present is None:
                    await store.create(key, value)
                else:
                    await store.replace(key, value, present.etag)
            except (KeyConflict, OutcomeUnknown, DurableSessionError) as error:
                logger.warning("store=<%s>, error=<%s> | a heartbeat was lost", store.name, error)

    async def _remove(self) -> None:
        async with self._writing:
            key, self._key = self._key, None
            if key is not None:
                await self._delete(key)

    async def _delete(self, key: str) -> None:
        store = self._store()
        if store is None:
            return
        try:
            await store.delete_many([key])
        except DurableSessionError as error:
            logger.warning("store=<%s>, key=<%s>, error=<%s> | the heartbeat is left behind", store.name, key, error)


_hearts: weakref.WeakKeyDictionary[StateStore, Heart] = weakref.WeakKeyDictionary()


async def _stop_all() -> None:
    for heart in list(_hearts.values()):
        await heart.stop()


def _after_fork() -> None:
    for heart in list(_hearts.values()):
        io_thread.abandon(heart)
    _hearts.clear()


io_thread.close_at_exit(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
