"""Listing what really lies in a store, past the package: Dapr has no listing, but what is behind it has."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TypeAlias
from urllib.parse import urlsplit

from strands_dapr_session.errors import ConfigurationError

KeyLister: TypeAlias = Callable[[], list[str]]
"""Lists all keys of a store."""


def keys_of(url: str) -> KeyLister:
    """Find a way to list the keys of an SQLite file or a Redis server.

    Raises:
        ConfigurationError: The store is another one.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return lambda: _sqlite_keys(parts.path[1:])
    if parts.scheme in ("redis", "rediss"):
        return lambda: redis_keys(url.partition("?")[0])
    raise ConfigurationError(f"{url}: the keys of this store cannot be listed; say how with keys=")


def redis_keys(url: str) -> list[str]:
    """List the keys of a Redis server."""
    import redis  # noqa: PLC0415 - only where there is one

    with closing(redis.Redis.from_url(url)) as client:
        return sorted(key.decode() for key in client.scan_iter(count=1000))


def _sqlite_keys(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return sorted(key for (key,) in db.execute("SELECT key FROM strands_dapr_session"))
