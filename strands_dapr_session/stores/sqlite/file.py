"""An SQLite file as two lanes: one connection that writes, in grouped transactions, and one that reads."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from strands_dapr_session import io_thread
from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.stores.sqlite.lane import Job, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_BUSY_SECONDS = 5.0
"""How long SQLite itself waits for another process's transaction."""

_TRANSIENT = ("locked", "disk I/O error", "interrupted", "locking protocol")
_ADVICE = {
    "unable to open": "Is the path a directory, or not permitted to this user?",
    "readonly": "The file or its directory may not be written by this user.",
    "full": "Make room on the disk, then run again: what was acknowledged before is safe.",
    "not a database": "The file is something else; it was left as it is. Name another path.",
    "malformed": "The file is damaged; it was left as it is. `sqlite3 FILE .recover` may save what is readable.",
}


def is_transient(error: sqlite3.Error) -> bool:
    """Whether the same may succeed later. Judged by the message: the code came with Python 3.11."""
    return any(words in str(error) for words in _TRANSIENT)


def refusal(error: sqlite3.Error) -> str:
    """What to do about an error, as a sentence; empty when there is nothing to advise."""
    return next((advice for words, advice in _ADVICE.items() if words in str(error)), "")


class SqliteFile:
    """Runs functions of a connection, on threads of its own, opened when first used."""

    def __init__(self, path: str, synchronous: str, schema: str) -> None:
        """Name the file.

        Args:
            path: The file; a relative path is relative to the directory of now.
            synchronous: "full" or "normal".
            schema: A statement that makes the table if it is not there.
        """
        self.path = str(Path(path).absolute())
        self._synchronous = synchronous
        self._schema = schema
        self._generation = io_thread.generation()
        self._start()
        _files.add(self)

    def _start(self) -> None:
        self._writer = _Side("write", partial(self._connect, query_only=False), in_transaction=True)
        self._reader = _Side("read", partial(self._connect, query_only=True), in_transaction=False)

    def check_directory(self) -> None:
        """Refuse a path whose directory does not exist, which SQLite reports in a way that helps nobody."""
        parent = Path(self.path).parent
        if not parent.is_dir():
            raise ConfigurationError(f"sqlite:///{self.path}: the directory {parent} does not exist; make it first")

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a transaction, together with others that wait; returns when that is committed."""
        self._leave_parent_behind()
        return await self._writer.do(function)

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that only reads."""
        self._leave_parent_behind()
        return await self._reader.do(function)

    async def close(self) -> None:
        """Close both connections; the next call opens them again."""
        self._leave_parent_behind()
        await self._writer.close()
        await self._reader.close()

    def _leave_parent_behind(self) -> None:
        if self._generation != io_thread.generation():
            self._generation = io_thread.generation()
            io_thread.abandon((self._writer, self._reader))
            self._start()

    def prepare_fork(self) -> None:
        """Close the connections and hold both sides still. See `_before_fork`."""
        self._writer.hold()
        self._reader.hold()

    def end_fork(self) -> None:
        """Let both sides go on."""
        self._reader.release()
        self._writer.release()

    def _connect(self, *, query_only: bool) -> sqlite3.Connection:
        # A connection is used by one thread at a time, but closed by the one that forks.
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
            db.execute(f"PRAGMA query_only = {int(query_only)}")
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigurationError(f"sqlite:///{self.path}: this file system cannot hold it (journal mode {mode!r})")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        # Without it, macOS acknowledges a sync before the disk has written anything. Elsewhere it changes nothing.
        db.execute(f"PRAGMA fullfsync = {int(self._synchronous == 'full')}")
        db.execute(self._schema)


class _Side:
    """A connection and the lane that uses it."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], *, in_transaction: bool) -> None:
        self._name = f"strands-dapr-session-sqlite-{name}"
        self._connect = connect
        self._carry_out = self._in_transaction if in_transaction else self._plainly
        self._lane: Lane[sqlite3.Connection] | None = None
        self._db: sqlite3.Connection | None = None
        self._in_use = threading.Lock()

    async def do(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._lane is None:
            self._lane = Lane(self._name, self._work)
        return await self._lane.do(function)

    async def close(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            await lane.stop()
        with self._in_use:
            self._disconnect()

    def hold(self) -> None:
        self._in_use.acquire()
        self._disconnect()

    def release(self) -> None:
        self._in_use.release()

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _work(self, group: list[Job[sqlite3.Connection]]) -> None:
        with self._in_use:
            if self._db is None:
                self._db = self._connect()
            self._carry_out(self._db, group)

    def _plainly(self, db: sqlite3.Connection, group: list[Job[sqlite3.Connection]]) -> None:
        for job in group:
            try:
                job.run(db)
            except sqlite3.Error as error:
                job.fail(error)

    def _in_transaction(self, db: sqlite3.Connection, group: list[Job[sqlite3.Connection]]) -> None:
        try:
            db.execute("BEGIN IMMEDIATE")
            for job in group:
                job.run(db)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


_files: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_held: list[SqliteFile] = []


def _before_fork() -> None:
    # SQLite keeps its locks in tables per process and per file. A child inherits the tables but not the locks, even
    # for connections that it opens itself, and would then read and write as if it held them. So no connection may be
    # open at the moment of a fork.
    for file in list(_files):
        file.prepare_fork()
        _held.append(file)


def _after_fork() -> None:
    # In the child too: nobody uses the sides there any more, but the next fork will want to hold them.
    while _held:
        _held.pop().end_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
