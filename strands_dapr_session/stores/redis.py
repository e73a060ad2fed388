"""A store in Redis without a sidecar, that a sidecar can go on with: ``redis://host:port/0?app_id=NAME``.

Keys, hashes and rules are those of Dapr's own Redis component (``state.redis``, version 1), so that a session begun
through a sidecar can be read and continued without one, and back. Dapr puts its application id before every key;
``app_id`` says which. A component with another ``keyPrefix`` needs ``key_prefix``: the text before the ``||``, or
nothing for the strategy ``none``. ``rediss://`` speaks TLS. Options: ``retry_seconds``, ``timeout``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from redis import asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from strands_dapr_session import io_thread
from strands_dapr_session.errors import StoreError, StoreUnavailableError
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

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from strands_dapr_session.stores.url import StoreURL

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DEFAULT_APP_ID = "strands-dapr-session"
_DEFAULT_TIMEOUT = 5.0
_CONNECTIONS = 16
_KEYS_READ_AT_ONCE = 32
_KEYS_DELETED_AT_ONCE = 128

# The component's own, word for word. ARGV: the ETag or 0, the value, and 0 for first-write.
_SET = """
local etag = redis.pcall("HGET", KEYS[1], "version");
if type(etag) == "table" then
  redis.call("DEL", KEYS[1]);
end;
local fwr = redis.pcall("HGET", KEYS[1], "first-write");
if not etag or type(etag)=="table" or etag == "" or etag == ARGV[1] or (not fwr and ARGV[1] == "0") then
  redis.call("HSET", KEYS[1], "data", ARGV[2]);
  if ARGV[3] == "0" then
    redis.call("HSET", KEYS[1], "first-write", 0);
  end;
  return redis.call("HINCRBY", KEYS[1], "version", 1)
else
  return error("failed to set key " .. KEYS[1])
end"""
_CONFLICT = "failed to set key"
_NO_ETAG = "0"

# Failures of the connection, of a server that is loading or failing over, and of the way there.
_TRANSIENT = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    OSError,
)
_TRANSIENT_WORDS = ("LOADING", "MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "UNBLOCKED")


def from_url(url: StoreURL) -> RedisStore:
    """Make the store of a ``redis://`` or ``rediss://`` URL."""
    app_id = url.text("app_id", _DEFAULT_APP_ID)
    prefix = url.text("key_prefix", app_id) or ""
    retry = RetryPolicy(budget=url.seconds("retry_seconds", RetryPolicy().budget))
    timeout = url.seconds("timeout", _DEFAULT_TIMEOUT)
    url.no_more_options()
    database = url.path.strip("/")
    if not url.host or (database and not database.isdecimal()) or "||" in prefix:
        raise url.error("expected redis://host:port/0?app_id=NAME")
    name = f"{url.shown}?key_prefix={prefix}"
    return RedisStore(url.server, prefix, name=name, retry=retry, timeout=timeout)


class RedisStore(StateStore):
    """Values in hashes of Redis, as Dapr's component writes them."""

    is_proven = True

    def __init__(
        self, url: str, prefix: str, *, name: str, retry: RetryPolicy | None = None, timeout: float = _DEFAULT_TIMEOUT
    ) -> None:
        """Name the server; nothing is contacted yet.

        Args:
            url: The server, as the client library takes it.
            prefix: What Dapr puts before the ``||`` of every key: the application id, unless it was told otherwise;
                empty if it puts nothing there.
            name: The URL for messages, without secrets.
            retry: How long to go on while the server does not answer.
            timeout: Seconds after which one call is given up.
        """
        self.name = name
        self.capabilities = StoreCapabilities(replace_revives=True)
        self._prefix = f"{prefix}||" if prefix else ""
        self._url = url
        self._retry = retry or RetryPolicy()
        self._timeout = timeout
        self._opened = False
        self._client: aioredis.Redis | None = None
        self._in_use = asyncio.Semaphore(_CONNECTIONS)
        self._generation = io_thread.generation()

    async def open(self) -> None:
        """See `StateStore.open`."""
        if not self._opened:
            await self._patiently(lambda client: client.ping())
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
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Entry] = {}
        for at in range(0, len(wanted), _KEYS_READ_AT_ONCE):
            page = wanted[at : at + _KEYS_READ_AT_ONCE]
            hashes: list[list[Any]] = await self._patiently(self._reader(page))
            for key, (data, version) in zip(page, hashes, strict=True):
                if version is not None:
                    found[key] = Entry(data or b"", version.decode())
        return found

    async def create(self, key: str, value: bytes) -> None:
        """See `StateStore.create`."""
        await self._set(key, value, _NO_ETAG)

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """See `StateStore.replace`. Writes a key that is gone, and counts its ETags from 1 again."""
        if not etag.isdecimal() or etag == _NO_ETAG:
            raise KeyConflict(key)  # no ETag of Redis, and 0 would mean "none given"
        await self._set(key, value, etag)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `StateStore.delete_many`."""
        for key in keys:
            check_key(key)
        for at in range(0, len(keys), _KEYS_DELETED_AT_ONCE):
            await self._patiently(self._deleter(keys[at : at + _KEYS_DELETED_AT_ONCE]))

    async def close(self) -> None:
        """See `StateStore.close`."""
        client, self._client = self._client, None
        if client is not None and self._generation == io_thread.generation():
            await client.aclose()

    def _reader(self, keys: list[str]) -> Callable[[aioredis.Redis], Awaitable[list[Any]]]:
        def read(client: aioredis.Redis) -> Awaitable[list[Any]]:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.hmget(self._prefix + key, "data", "version")
            return pipeline.execute()

        return read

    def _deleter(self, keys: Sequence[str]) -> Callable[[aioredis.Redis], Awaitable[Any]]:
        names = [self._prefix + key for key in keys]
        return lambda client: client.delete(*names)

    async def _set(self, key: str, value: bytes, etag: str) -> None:
        check_write(key, value, self.capabilities.max_value_bytes)
        client = self._connected()
        try:
            async with self._in_use:
                await client.eval(_SET, 1, self._prefix + key, etag, value, "0")
        except (exceptions.RedisError, OSError) as error:
            if isinstance(error, exceptions.ResponseError) and _CONFLICT in str(error):
                raise KeyConflict(key) from error
            if _is_transient(error):
                raise OutcomeUnknown(key, error) from error
            raise self._refusal(error) from error

    async def _patiently(self, call: Callable[[aioredis.Redis], Awaitable[T]]) -> T:
        """Make a call that may be repeated, until it succeeds, is refused, or the budget is spent."""
        backoff = Backoff(self._retry)
        while True:
            client = self._connected()
            try:
                async with self._in_use:
                    return await call(client)
            except (exceptions.RedisError, OSError) as error:
                if not _is_transient(error):
                    raise self._refusal(error) from error
                last = error
            if not await backoff.pause():
                raise StoreUnavailableError(
                    f"{self.name}: no answer for {self._retry.budget:g} s ({last}). What was acknowledged before is "
                    "safe; try again later."
                ) from last

    def _refusal(self, error: Exception) -> StoreError:
        return StoreError(f"{self.name}: {error}")

    def _connected(self) -> aioredis.Redis:
        if self._generation != io_thread.generation():
            io_thread.abandon(self._client)
            self._client, self._generation = None, io_thread.generation()
        if self._client is None:
            # Bounded by a semaphore: the library's own blocking pool lets busy callers starve others.
            self._in_use = asyncio.Semaphore(_CONNECTIONS)
            pool: aioredis.ConnectionPool = aioredis.ConnectionPool.from_url(
                self._url,
                max_connections=_CONNECTIONS,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                # The client would send a write again after a lost reply, and take its own first copy for a conflict.
                # That would be settled, too; but what is repeated, and for how long, is decided in one place.
                retry=Retry(NoBackoff(), 0),
            )
            self._client = aioredis.Redis.from_pool(pool)
        return self._client


def _is_transient(error: Exception) -> bool:
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return False  # a ConnectionError by descent
    return isinstance(error, _TRANSIENT) or any(word in str(error) for word in _TRANSIENT_WORDS)
