"""A store in this process's memory: for tests, for trying things out, and for checking the protocol exhaustively.

Nothing awaits inside a verb, so on one event loop each verb is one atomic step.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from strands_dapr_session.stores.base import (
    DEFAULT_MAX_VALUE_BYTES,
    Entry,
    KeyConflict,
    StateStore,
    StoreCapabilities,
    check_key,
    check_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strands_dapr_session.stores.url import StoreURL


def _random_etag() -> str:
    return uuid.uuid4().hex


def from_url(url: StoreURL) -> MemoryStore:
    """Make the store of a ``memory://name`` URL."""
    url.no_more_options()
    if url.path:
        raise url.error("expected memory://name")
    return MemoryStore(url.host)


class MemoryStore(StateStore):
    """Values in a dict. Lost when the process ends."""

    is_proven = True

    def __init__(
        self,
        name: str = "",
        *,
        max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
        new_etag: Callable[[], str] = _random_etag,
    ) -> None:
        """Make an empty store, shared with nobody; `open_store` shares those that have a name.

        Args:
            name: For messages.
            max_value_bytes: The longest value that a key may hold.
            new_etag: Makes the ETag of every write; never twice the same.
        """
        self.name = f"memory://{name}"
        self.capabilities = StoreCapabilities(max_value_bytes=max_value_bytes)
        self._new_etag = new_etag
        self._entries: dict[str, Entry] = {}

    def keys(self) -> list[str]:
        """All keys, sorted; for tests."""
        return sorted(self._entries)

    async def open(self) -> None:
        """Nothing to reach."""

    async def get(self, key: str) -> Entry | None:
        """See `StateStore.get`."""
        check_key(key)
        return self._entries.get(key)

    async def get_many(
        self,
        keys: Sequence[str],
        *,
        sizes: Mapping[str, int] | None = None,  # noqa: ARG002 - it needs no pages
    ) -> dict[str, Entry]:
        """See `StateStore.get_many`."""
        for key in keys:
            check_key(key)
        return {key: self._entries[key] for key in keys if key in self._entries}

    async def create(self, key: str, value: bytes) -> None:
        """See `StateStore.create`."""
        check_write(key, value, self.capabilities.max_value_bytes)
        if key in self._entries:
            raise KeyConflict(key)
        self._entries[key] = Entry(bytes(value), self._new_etag())

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """See `StateStore.replace`."""
        check_write(key, value, self.capabilities.max_value_bytes)
        current = self._entries.get(key)
        if current is None or current.etag != etag:
            raise KeyConflict(key)
        self._entries[key] = Entry(bytes(value), self._new_etag())

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `StateStore.delete_many`."""
        for key in keys:
            check_key(key)
        for key in keys:
            self._entries.pop(key, None)

    async def close(self) -> None:
        """Nothing to drop: the values stay."""
