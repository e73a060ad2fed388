"""A store with keys of one's own, which are deleted afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING

from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.stores.base import KeyConflict, StateStore
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.stores.settle import settle_create, settle_replace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

    from strands_dapr_session.stores.base import Entry

EVERY_BYTE = bytes(range(256)) + b"\xff\xfe\x00\x00"
"""All byte values, text in no encoding, and zeros at the end."""


class Bench:
    """A store, and what checks need around it."""

    def __init__(self, store: StateStore, retry: RetryPolicy) -> None:
        """Take a store; its keys will be like no others."""
        self.store = store
        self._retry = retry
        self._prefix = f"check.{uuid.uuid4().hex}."
        self._keys: list[str] = []

    def key(self, name: str) -> str:
        """Return a key that is deleted afterwards."""
        key = self._prefix + name
        self._keys.append(key)
        return key

    def adopt(self, key: str) -> None:
        """Delete this key too afterwards."""
        self._keys.append(key)

    def through(self, store: StateStore) -> Bench:
        """Return a bench on another way to the same store. Its keys are to be asked from this one."""
        return Bench(store, self._retry)

    def value(self, size: int = 0) -> bytes:
        """Return bytes like no others, of any kind, at least 276."""
        return (uuid.uuid4().bytes + EVERY_BYTE).ljust(size, b"\xa5")

    async def create(self, key: str, value: bytes) -> None:
        """Create a key and settle the outcome."""
        await settle_create(self.store, key, value, self._retry)

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """Replace a key and settle the outcome."""
        await settle_replace(self.store, key, value, etag, self._retry)

    async def etag(self, key: str) -> str:
        """Read the ETag of a key that exists."""
        entry = await self.store.get(key)
        return entry.etag if entry else ""

    async def clean(self) -> None:
        """Delete all keys."""
        await self.store.delete_many(self._keys)


@contextlib.asynccontextmanager
async def bench(store: StateStore, retry: RetryPolicy | None = None) -> AsyncIterator[Bench]:
    """Give a bench, and clean it afterwards, whatever happened."""
    made = Bench(store, retry or RetryPolicy())
    try:
        yield made
    finally:
        # What went wrong before says more than that the store still fails.
        with contextlib.suppress(StoreUnavailableError):
            await made.clean()


async def race(writes: Iterable[Awaitable[None]]) -> tuple[list[int], list[Entry | None]]:
    """Make settled writes of one key at the same time.

    Returns:
        The positions of those that were applied, and what the others found instead.
    """
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    won: list[int] = []
    found: list[Entry | None] = []
    for position, outcome in enumerate(outcomes):
        if outcome is None:
            won.append(position)
        elif isinstance(outcome, KeyConflict):
            found.append(outcome.found)
        else:
            raise outcome
    return won, found
