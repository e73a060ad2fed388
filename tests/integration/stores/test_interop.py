"""A session begun through a sidecar goes on without one, and back."""

from __future__ import annotations

import asyncio

import pytest
from redis import Redis

from dev.servers import Daprd, RedisServer, RedisState
from strands_dapr_session import io_thread
from strands_dapr_session.stores import KeyConflict, StateStore, etag_of, open_store, settle_create, settle_replace
from strands_dapr_session.stores.bench import EVERY_BYTE
from tests.integration.stores.conftest import sidecar_url


async def hand_over(one: StateStore, other: StateStore) -> None:
    """Use a key by turns, each time under the ETag that the other wrote."""
    await settle_create(one, "k", EVERY_BYTE)
    with pytest.raises(KeyConflict) as caught:
        await settle_create(other, "k", b"other")
    assert caught.value.found == await one.get("k") == await other.get("k")
    for turn, (reader, writer) in enumerate([(one, other), (other, one), (one, one), (other, other)]):
        held = await reader.get("k")
        assert held is not None
        await settle_replace(writer, "k", b"turn %d" % turn, held.etag)
        with pytest.raises(KeyConflict):
            await settle_replace(reader, "k", b"late", held.etag)
        assert await etag_of(one, "k", b"turn %d" % turn) == await etag_of(other, "k", b"turn %d" % turn)
    assert await one.get_many(["k", "l"]) == await other.get_many(["k", "l"])
    await other.delete_many(["k"])
    assert await one.get("k") is None


async def race(one: StateStore, other: StateStore) -> None:
    """Create the same keys through both at the same time: one of them wins each."""
    for number in range(20):
        writes = [settle_create(store, f"r{number}", b"%d" % n) for n, store in enumerate([one, other] * 8)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert [outcome is None for outcome in outcomes].count(True) == 1
    await one.delete_many([f"r{number}" for number in range(20)])


@pytest.mark.parametrize(
    ("metadata", "options"),
    [
        ({}, "app_id=test-app"),
        ({}, "key_prefix=test-app"),
        ({"keyPrefix": "name"}, "key_prefix=states"),
        ({"keyPrefix": "Literal"}, "key_prefix=literal"),  # Dapr lowers it
        ({"keyPrefix": "none"}, "key_prefix="),
    ],
)
async def test_sidecar_and_redis_share_sessions(own_redis: RedisServer, metadata: dict[str, str], options: str) -> None:
    with Daprd([RedisState("states", own_redis.address, metadata=metadata)]) as daprd:
        dapr, direct = open_store(sidecar_url(daprd, "states")), open_store(f"{own_redis.url}?{options}")
        for store in (dapr, direct):
            await io_thread.run(store.open())
        await io_thread.run(hand_over(dapr, direct))
        await io_thread.run(hand_over(direct, dapr))
        await io_thread.run(race(dapr, direct))
        for store in (dapr, direct):
            await io_thread.run(store.close())


async def test_both_write_the_same_hash(own_redis: RedisServer) -> None:
    with Daprd([RedisState("states", own_redis.address)], app_id="a") as daprd:
        dapr, direct = open_store(sidecar_url(daprd, "states")), open_store(f"{own_redis.url}?app_id=a")
        await io_thread.run(settle_create(dapr, "dapr", EVERY_BYTE))
        await io_thread.run(settle_create(direct, "direct", EVERY_BYTE))
        await io_thread.run(settle_replace(dapr, "dapr", b"2", "1"))
        await io_thread.run(settle_replace(direct, "direct", b"2", "1"))
        client = Redis.from_url(own_redis.url)
        expected = {b"data": b"2", b"version": b"2", b"first-write": b"0"}
        assert client.hgetall("a||dapr") == client.hgetall("a||direct") == expected
        client.close()
        for store in (dapr, direct):
            await io_thread.run(store.close())
