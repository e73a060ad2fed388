"""The store in Redis, over a stand-in for the server: what is asked of it, and what becomes of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis import asyncio as aioredis
from redis import exceptions

from strands_dapr_session import io_thread
from strands_dapr_session.errors import StoreError, StoreUnavailableError
from strands_dapr_session.stores import open_store
from strands_dapr_session.stores import redis as redis_module
from strands_dapr_session.stores.base import Entry, KeyConflict, OutcomeUnknown
from strands_dapr_session.stores.conformance import CHECKS, Check, name_of, run_check
from strands_dapr_session.stores.redis import RedisStore
from strands_dapr_session.stores.retry import RetryPolicy


class Server:
    """Hashes as the store's script leaves them in Redis.

    Attributes:
        calls: What was asked for, one name for each round trip.
        failures: Raised by the next calls, instead of doing anything.
        at_once: How many calls were under way at the same time, at most.
    """

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.calls: list[str] = []
        self.failures: list[Exception] = []
        self.asked: list[str] = []
        self.now = self.at_once = 0

    async def _answer(self, call: str) -> None:
        self.calls.append(call)
        self.now += 1
        self.at_once = max(self.at_once, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if self.failures:
            raise self.failures.pop(0)

    async def ping(self) -> None:
        await self._answer("ping")

    async def eval(self, script: str, count: int, *keys_and_arguments: Any) -> int:
        key, etag, value, first_write = keys_and_arguments
        assert (script, count, first_write) == (redis_module._SET, 1, "0")
        await self._answer("eval")
        found = self.hashes.get(key)
        if found is not None and found["version"] != etag.encode():
            raise exceptions.ResponseError(f"failed to set key {key}")
        version = 1 if found is None else int(found["version"]) + 1
        self.hashes[key] = {"data": value, "version": b"%d" % version}
        return version

    async def delete(self, *keys: str) -> None:
        await self._answer(f"delete {len(keys)}")
        for key in keys:
            self.hashes.pop(key, None)

    async def aclose(self) -> None:
        self.calls.append("close")

    def pipeline(self, *, transaction: bool) -> Server:
        assert not transaction
        self.asked = []
        return self

    def hmget(self, key: str, *fields: str) -> None:
        assert fields == ("data", "version")
        self.asked.append(key)

    async def execute(self) -> list[list[bytes | None]]:
        asked = self.asked
        await self._answer(f"hmget {len(asked)}")
        return [[self.hashes.get(key, {}).get(field) for field in ("data", "version")] for key in asked]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> RedisStore:
    monkeypatch.setattr(aioredis.Redis, "from_pool", lambda _: server)
    retry = RetryPolicy(budget=0.05, first_delay=0.001)
    return RedisStore("redis://localhost", "app", name="redis://shown", retry=retry)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_conformance(store: RedisStore, server: Server, check: Check) -> None:
    await run_check(store, check)
    assert server.hashes == {}


async def test_keys_are_those_of_dapr(store: RedisStore, server: Server) -> None:
    await store.create("k", b"v")
    await RedisStore("redis://localhost", "", name="without a prefix").create("k", b"w")
    assert server.hashes == {
        "app||k": {"data": b"v", "version": b"1"},
        "k": {"data": b"w", "version": b"1"},
    }


async def test_it_is_opened_once(store: RedisStore, server: Server) -> None:
    await store.open()
    await store.open()
    assert server.calls == ["ping"]


async def test_so_many_keys_are_read_and_deleted_at_once(store: RedisStore, server: Server) -> None:
    keys = [f"k{number}" for number in range(150)]
    for key in keys:
        await store.create(key, key.encode())
    server.calls.clear()
    assert await store.get_many([*keys, *keys, "none"]) == {key: Entry(key.encode(), "1") for key in keys}
    assert server.calls == ["hmget 32"] * 4 + ["hmget 23"]
    server.calls.clear()
    await store.delete_many(keys)
    assert server.calls == ["delete 128", "delete 22"]
    assert server.hashes == {}


async def test_a_key_with_a_version_exists_and_one_without_does_not(store: RedisStore, server: Server) -> None:
    server.hashes |= {"app||empty": {"version": b"7"}, "app||other": {"data": b"v"}}
    assert await store.get_many(["empty", "other"]) == {"empty": Entry(b"", "7")}


@pytest.mark.parametrize("etag", ["0", "", "no number", "-1"])
async def test_what_is_no_etag_is_a_conflict_and_not_sent(store: RedisStore, server: Server, etag: str) -> None:
    with pytest.raises(KeyConflict):
        await store.replace("k", b"v", etag)
    assert server.calls == []


TRANSIENT: list[Exception] = [
    exceptions.ConnectionError("gone"),
    exceptions.TimeoutError("late"),
    exceptions.ReadOnlyError("a replica"),
    exceptions.OutOfMemoryError("full"),
    exceptions.ClusterDownError("down"),
    exceptions.TryAgainError("moving"),
    OSError("no route"),
    *(exceptions.ResponseError(f"{word} for now") for word in redis_module._TRANSIENT_WORDS),
]
FINAL: list[Exception] = [
    exceptions.ResponseError("WRONGTYPE"),
    exceptions.AuthenticationError("who?"),
    exceptions.AuthorizationError("not you"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
async def test_what_may_be_over_soon_is_read_again_and_leaves_writes_unknown(
    store: RedisStore, server: Server, error: Exception
) -> None:
    server.failures = [error, error]
    assert await store.get("k") is None
    server.failures = [error]
    await store.delete_many(["k"])
    server.failures = [error]
    with pytest.raises(OutcomeUnknown):
        await store.create("k", b"v")
    assert server.calls == ["hmget 1"] * 3 + ["delete 1"] * 2 + ["eval"]


@pytest.mark.parametrize("error", FINAL, ids=str)
async def test_what_stays_so_is_told_at_once(store: RedisStore, server: Server, error: Exception) -> None:
    verbs: list[Callable[[], Any]] = [
        store.open,
        lambda: store.get("k"),
        lambda: store.create("k", b"v"),
        lambda: store.delete_many(["k"]),
    ]
    for verb in verbs:
        server.failures = [error]
        with pytest.raises(StoreError, match=r"redis://shown: ") as caught:
            await verb()
        assert not isinstance(caught.value, StoreUnavailableError)
    assert len(server.calls) == len(verbs)


async def test_no_answer_within_the_budget(store: RedisStore, server: Server) -> None:
    server.failures = [exceptions.ConnectionError("gone")] * 1000
    with pytest.raises(StoreUnavailableError, match=r"no answer for 0\.05 s \(gone\)"):
        await store.get("k")
    assert 1 < len(server.calls) < 1000


async def test_so_many_calls_at_a_time(store: RedisStore, server: Server) -> None:
    await asyncio.gather(*(store.create(f"k{number}", b"v") for number in range(40)))
    assert server.at_once == 16
    server.at_once = 0
    await asyncio.gather(*(store.get(f"k{number}") for number in range(40)))
    assert server.at_once == 16


async def test_a_closed_store_connects_again(
    store: RedisStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def from_pool(pool: object) -> Server:
        made.append(pool)
        return server

    monkeypatch.setattr(aioredis.Redis, "from_pool", from_pool)
    await store.close()
    await store.get("k")
    await store.get("k")
    assert len(made) == 1
    await store.close()
    await store.close()
    await store.get("k")
    assert server.calls == ["hmget 1", "hmget 1", "close", "hmget 1"]
    assert len(made) == 2


async def test_a_forked_child_connects_anew_and_leaves_its_parents_connection_alone(
    store: RedisStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned: list[object] = []
    await store.get("k")
    monkeypatch.setattr(io_thread, "abandon", abandoned.append)
    monkeypatch.setattr(io_thread, "generation", lambda: -1)
    await store.get("k")
    await store.get("k")
    assert abandoned == [server]
    monkeypatch.setattr(io_thread, "generation", lambda: -2)
    await store.close()
    assert server.calls == ["hmget 1"] * 3


@pytest.mark.parametrize(
    ("options", "prefix", "budget", "timeout"),
    [
        ("", "strands-dapr-session||", RetryPolicy().budget, 5.0),
        ("?app_id=orders&retry_seconds=7", "orders||", 7.0, 5.0),
        ("?app_id=orders&key_prefix=name&timeout=2", "name||", RetryPolicy().budget, 2.0),
        ("?key_prefix=", "", RetryPolicy().budget, 5.0),
    ],
)
async def test_what_a_url_says(
    options: str, prefix: str, budget: float, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[Any] = []

    def from_pool(pool: Any) -> Server:
        pools.append(pool)
        return Server()

    monkeypatch.setattr(aioredis.Redis, "from_pool", from_pool)
    store = open_store(f"redis://localhost:1234/2{options}")
    assert isinstance(store, RedisStore)
    assert (store._prefix, store._retry.budget) == (prefix, budget)
    await store.get("k")
    (pool,) = pools
    told = pool.connection_kwargs
    assert (told["host"], told["port"], told["db"]) == ("localhost", 1234, 2)
    assert told["socket_timeout"] == told["socket_connect_timeout"] == timeout
    assert told["retry"]._retries == 0  # the client would send a write again, and take its own copy for a conflict
    assert pool.max_connections == 16


async def test_keys_that_no_store_can_have_are_not_sent(store: RedisStore, server: Server) -> None:
    for verb in (store.get_many, store.delete_many):
        with pytest.raises(ValueError, match="key"):
            await verb(["k", ""])
    assert server.calls == []
