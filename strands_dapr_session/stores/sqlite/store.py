"""A store in one SQLite file, for one machine: several processes may use it at the same time.

``sqlite:///relative.db`` or ``sqlite:////absolute.db``, with ``?synchronous=normal`` to trade durability for speed: the
default, *full*, makes every acknowledged write survive a loss of power; *normal* only the death of the process.

Writes that wait go together into one transaction, each with its own outcome, so that one sync to disk serves them all.
Reads have a connection of their own and wait for no writer. The file must not be on a network file system.
"""

from __future__ import annotations

import sqlite3
import uuid
from typing import TYPE_CHECKING, NoReturn, TypeVar

from strands_dapr_session.errors import ConfigurationError, StoreError, StoreUnavailableError
from strands_dapr_session.stores.base import (
    Entry,
    KeyConflict,
    OutcomeUnknown,
    StateStore,
    StoreCapabilities,
    check_key,
    check_write,
)
from strands_dapr_session.stores.retry import Backoff, RetryPolicy
from strands_dapr_session.stores.sqlite.file import SqliteFile, is_transient, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from strands_dapr_session.stores.url import StoreURL

T = TypeVar("T")

_TABLE = "strands_dapr_session"
_SCHEMA = f"""CREATE TABLE IF NOT EXISTS {_TABLE} (
    key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, etag TEXT NOT NULL)"""
_GET = f"SELECT value, etag FROM {_TABLE} WHERE key = ?"  # noqa: S608 - the table's name is a constant
_CREATE = f"INSERT INTO {_TABLE} (key, value, etag) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"  # noqa: S608
_REPLACE = f"UPDATE {_TABLE} SET value = ?, etag = ? WHERE key = ? AND etag = ?"  # noqa: S608
_DELETE = f"DELETE FROM {_TABLE} WHERE key = ?"  # noqa: S608


def from_url(url: StoreURL) -> SqliteStore:
    """Make the store of a ``sqlite:///path`` URL."""
    path = url.path[1:]
    synchronous = url.choice("synchronous", "full", "normal")
    url.no_more_options()
    if url.host or not path:
        raise url.error("expected sqlite:///relative.db or sqlite:////absolute.db")
    if path == ":memory:":
        raise url.error("SQLite keeps that apart for every connection; use memory://name")
    return SqliteStore(path, synchronous=synchronous)


class SqliteStore(StateStore):
    """Values in a table of an SQLite file."""

    is_proven = True

    def __init__(self, path: str, *, synchronous: str = "full", retry: RetryPolicy | None = None) -> None:
        """Name the file; nothing is opened yet.

        Args:
            path: The file, made when it does not exist; its directory must exist.
            synchronous: "full" or "normal", see the module.
            retry: How long to go on while other processes keep the file locked.
        """
        self._file = SqliteFile(path, synchronous, _SCHEMA)
        self._retry = retry or RetryPolicy()
        self._opened = False
        self.name = f"sqlite:///{self._file.path}"
        self.capabilities = StoreCapabilities(serial_writes=True)

    async def open(self) -> None:
        """See `StateStore.open`; makes the file and its table."""
        if self._opened:
            return
        self._file.check_directory()
        try:
            await self._patiently(lambda: self._file.write(lambda _: None))
        except sqlite3.Error as error:
            raise ConfigurationError(f"{self.name}: {error}. {refusal(error)}".rstrip()) from error
        self._opened = True

    async def get(self, key: str) -> Entry | None:
        """See `StateStore.get`."""
        return (await self.get_many([key])).get(key)

    async def get_many(
        self,
        keys: Sequence[str],
        *,
        sizes: Mapping[str, int] | None = None,  # noqa: ARG002 - it needs no pages
    ) -> dict[str, Entry]:
        """See `StateStore.get_many`."""
        for key in keys:
            check_key(key)

        def read(db: sqlite3.Connection) -> dict[str, Entry]:
            rows = ((key, db.execute(_GET, (key,)).fetchone()) for key in keys)
            return {key: Entry(row[0], row[1]) for key, row in rows if row is not None}

        try:
            return await self._patiently(lambda: self._file.read(read))
        except sqlite3.Error as error:
            self._refuse(error)

    async def create(self, key: str, value: bytes) -> None:
        """See `StateStore.create`."""
        check_write(key, value, self.capabilities.max_value_bytes)
        await self._write(key, lambda db: db.execute(_CREATE, (key, value, uuid.uuid4().hex)).rowcount)

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """See `StateStore.replace`."""
        check_write(key, value, self.capabilities.max_value_bytes)
        await self._write(key, lambda db: db.execute(_REPLACE, (value, uuid.uuid4().hex, key, etag)).rowcount)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `StateStore.delete_many`."""
        for key in keys:
            check_key(key)

        def delete(db: sqlite3.Connection) -> None:
            db.executemany(_DELETE, [(key,) for key in keys])

        try:
            await self._patiently(lambda: self._file.write(delete))
        except sqlite3.Error as error:
            self._refuse(error)

    async def close(self) -> None:
        """See `StateStore.close`."""
        await self._file.close()

    async def _write(self, key: str, statement: Callable[[sqlite3.Connection], int]) -> None:
        """Run a statement that changes one row or none."""
        try:
            changed = await self._file.write(statement)
        except sqlite3.Error as error:
            if is_transient(error):
                raise OutcomeUnknown(key, error) from error
            self._refuse(error)
        if not changed:
            raise KeyConflict(key)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat what is safe to repeat while the file is locked or the disk hiccups."""
        backoff = Backoff(self._retry)
        while True:
            try:
                return await attempt()
            except sqlite3.Error as error:
                if not is_transient(error):
                    raise
                if not await backoff.pause():
                    raise StoreUnavailableError(f"{self.name}: {error}, for longer than was to be waited") from error

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        raise StoreError(f"{self.name}: {error}. {refusal(error)}".rstrip()) from error
