"""What a Redis server says when it will not write, and when it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis import Redis

from dev.servers import RedisServer
from strands_dapr_session import io_thread
from strands_dapr_session.errors import StoreError, StoreUnavailableError
from strands_dapr_session.stores import KeyConflict, OutcomeUnknown, open_store, settle_create
from strands_dapr_session.stores.redis import RedisStore
from strands_dapr_session.stores.retry import RetryPolicy

QUICK = RetryPolicy(budget=0.2, first_delay=0.01)
PATIENT = RetryPolicy(budget=60)


@pytest.fixture
async def store(own_redis: RedisServer) -> AsyncIterator[RedisStore]:
    made = RedisStore(own_redis.url, "app", name="redis://own", retry=QUICK)
    await io_thread.run(made.open())
    yield made
    await io_thread.run(made.close())


@pytest.fixture
def admin(own_redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(own_redis.url) as client:
        yield client


def out_of_memory(admin: Redis) -> Callable[[], object]:
    admin.config_set("maxmemory", "1")
    return lambda: admin.config_set("maxmemory", "0")


def read_only(admin: Redis) -> Callable[[], object]:
    admin.replicaof("127.0.0.1", "1")
    return lambda: admin.replicaof("NO", "ONE")


def without_replicas(admin: Redis) -> Callable[[], object]:
    admin.config_set("min-replicas-to-write", "1")
    return lambda: admin.config_set("min-replicas-to-write", "0")


@pytest.mark.parametrize("trouble", [out_of_memory, read_only, without_replicas], ids=lambda trouble: trouble.__name__)
async def test_a_server_that_does_not_write_for_now(
    store: RedisStore, admin: Redis, trouble: Callable[[Redis], Callable[[], object]]
) -> None:
    await io_thread.run(store.create("before", b"1"))
    end = trouble(admin)
    with pytest.raises(OutcomeUnknown):
        await io_thread.run(store.create("k", b"1"))
    with pytest.raises(StoreUnavailableError, match="'k'"):
        await io_thread.run(settle_create(store, "k", b"1", QUICK))
    assert await io_thread.run(store.get("before")) is not None
    end()
    await io_thread.run(settle_create(store, "k", b"1", PATIENT))


async def test_a_wrong_password_is_told_and_not_shown(own_redis: RedisServer) -> None:
    store = open_store(f"redis://user:hunter2@{own_redis.address}/0")
    with pytest.raises(StoreError, match="invalid username-password") as caught:
        await io_thread.run(store.open())
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreError, match="invalid username-password"):
        await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.close())


async def test_a_key_that_is_something_else_is_told(store: RedisStore, admin: Redis) -> None:
    admin.set("app||k", "text")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await io_thread.run(store.get("k"))


@pytest.mark.parametrize("etag", ["0", "", "no number", "-1"])
async def test_an_etag_that_redis_would_take_for_none_never_overwrites(
    store: RedisStore, admin: Redis, etag: str
) -> None:
    admin.hset("app||k", mapping={"data": "1", "version": "1"})  # as a last-write leaves it
    with pytest.raises(KeyConflict):
        await io_thread.run(store.replace("k", b"2", etag))
    assert admin.hget("app||k", "data") == b"1"


async def test_a_server_that_is_not_there() -> None:
    store = RedisStore("redis://127.0.0.1:1", "app", name="redis://nowhere", retry=QUICK)
    with pytest.raises(StoreUnavailableError, match=r"redis://nowhere: no answer for 0\.2 s"):
        await io_thread.run(store.open())
    await io_thread.run(store.close())
