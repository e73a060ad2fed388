"""Writes keep certain outcomes, and go on, while servers are killed, frozen and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from dev.servers import Daprd, RedisServer, RedisState, Server
from strands_dapr_session import io_thread
from strands_dapr_session.errors import SidecarNotFoundError, StoreError, TooLargeError, UnknownComponentError
from strands_dapr_session.stores import KeyConflict, StateStore, open_store, settle_create, settle_replace
from strands_dapr_session.stores.dapr import DaprStore
from strands_dapr_session.stores.redis import RedisStore
from strands_dapr_session.stores.retry import RetryPolicy
from tests.integration.stores.conftest import sidecar_url

PATIENT = RetryPolicy(budget=60)
WRITERS = 16


@pytest.fixture
async def open_until_end() -> AsyncIterator[Callable[[StateStore], StateStore]]:
    opened: list[StateStore] = []

    def remember(store: StateStore) -> StateStore:
        opened.append(store)
        return store

    yield remember
    for store in opened:
        await io_thread.run(store.close())


class Load:
    """Writers that create one key after the other, and move a counter by compare-and-set, until they are stopped."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._stopped = False
        self.acknowledged: dict[str, bytes] = {}
        self.counted = 0
        self.progress = 0

    async def run(self) -> None:
        await settle_create(self._store, "counter", b"0:start", PATIENT)
        await asyncio.gather(*(self._create(writer) for writer in range(WRITERS)), *(self._count(w) for w in range(3)))

    def stop(self) -> None:
        self._stopped = True

    async def wait_for_progress(self) -> None:
        """Wait until every kind of write got through since now."""
        start, keys, counted = self.progress, len(self.acknowledged), self.counted
        while self.progress < start + 50 or len(self.acknowledged) < keys + 50 or self.counted == counted:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _create(self, writer: int) -> None:
        number = 0
        while not self._stopped:
            key, value = f"{writer}.{number}", b"%d %d" % (writer, number)
            await settle_create(self._store, key, value, PATIENT)
            self.acknowledged[key] = value
            self.progress += 1
            number += 1

    async def _count(self, writer: int) -> None:
        step = 0
        while not self._stopped:
            step += 1
            held = await self._store.get("counter")
            assert held is not None
            count = int(held.value.partition(b":")[0])
            try:
                await settle_replace(
                    self._store, "counter", b"%d:%d %d" % (count + 1, writer, step), held.etag, PATIENT
                )
            except KeyConflict:
                continue
            self.counted += 1

    async def check(self) -> None:
        """All that was acknowledged is there, and each count was made by somebody who knows of it."""
        found = await self._store.get_many(list(self.acknowledged))
        assert {key: entry.value for key, entry in found.items()} == self.acknowledged
        counter = await self._store.get("counter")
        assert counter is not None
        assert int(counter.value.partition(b":")[0]) >= self.counted


async def disturb(store: StateStore, *disturbances: Callable[[], object]) -> Load:
    """Run writers, disturb them, let them make progress after each time, and check what they were told."""
    load = Load(store)
    running = asyncio.create_task(load.run())
    for disturbance in (lambda: None, *disturbances):
        await asyncio.to_thread(disturbance)
        progress = asyncio.create_task(load.wait_for_progress())
        await asyncio.wait({running, progress}, return_when=asyncio.FIRST_COMPLETED)
        progress.cancel()
        if running.done():
            break
    load.stop()
    await running
    await load.check()
    return load


def killed(server: Server) -> Callable[[], None]:
    def kill_and_start() -> None:
        server.kill()
        server.start()

    return kill_and_start


def frozen(server: Server, seconds: float) -> Callable[[], None]:
    def freeze_and_thaw() -> None:
        server.pause()
        try:
            asyncio.run(asyncio.sleep(seconds))
        finally:
            server.resume()

    return freeze_and_thaw


@pytest.mark.parametrize("component", ["statestore", "pg", "sqlite"])
async def test_a_sidecar_that_is_killed_and_restarted(
    own_daprd: Daprd, component: str, open_until_end: Callable[[StateStore], StateStore]
) -> None:
    store = open_until_end(DaprStore(component, own_daprd.address, retry=PATIENT))
    await io_thread.run(store.open())
    await io_thread.run(disturb(store, *[killed(own_daprd)] * 3))


async def test_a_redis_that_is_killed_behind_the_sidecar(
    own_redis: RedisServer, open_until_end: Callable[[StateStore], StateStore]
) -> None:
    with Daprd([RedisState("states", own_redis.address)]) as daprd:
        store = open_until_end(DaprStore("states", daprd.address, retry=PATIENT))
        await io_thread.run(store.open())
        await io_thread.run(disturb(store, *[killed(own_redis)] * 3))


async def test_a_redis_that_is_killed(
    own_redis: RedisServer, open_until_end: Callable[[StateStore], StateStore]
) -> None:
    store = open_until_end(RedisStore(own_redis.url, "app", name="redis", retry=PATIENT))
    await io_thread.run(store.open())
    await io_thread.run(disturb(store, *[killed(own_redis)] * 3))


async def test_servers_that_freeze(own_redis: RedisServer, open_until_end: Callable[[StateStore], StateStore]) -> None:
    """Every call outlives its deadline, and what was sent is carried out after the thaw."""
    with Daprd([RedisState("states", own_redis.address)]) as daprd:
        dapr = open_until_end(DaprStore("states", daprd.address, retry=PATIENT, timeout=0.2))
        await io_thread.run(dapr.open())
        await io_thread.run(disturb(dapr, frozen(daprd, 1.5), frozen(own_redis, 1.5)))
        direct = open_until_end(RedisStore(own_redis.url, "direct", name="redis", retry=PATIENT, timeout=0.2))
        await io_thread.run(disturb(direct, frozen(own_redis, 1.5)))


async def test_a_sidecar_with_a_small_message_limit(
    redis_server: RedisServer, open_until_end: Callable[[StateStore], StateStore]
) -> None:
    with Daprd([RedisState("states", redis_server.address)], app_id="small", max_body_size="512Ki") as daprd:
        store = open_until_end(open_store(sidecar_url(daprd, "states")))
        await io_thread.run(store.open())
        with pytest.raises(TooLargeError, match="--max-body-size"):
            await io_thread.run(settle_create(store, "k", bytes(600_000)))
        keys = [f"k{number}" for number in range(20)]
        for key in keys:
            await io_thread.run(settle_create(store, key, key.encode() + bytes(100_000)))
        found = await io_thread.run(store.get_many(keys))
        assert {key: found[key].value[: len(key)] for key in keys} == {key: key.encode() for key in keys}
        await io_thread.run(store.delete_many(keys))


async def test_a_sidecar_that_wants_a_token(
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    open_until_end: Callable[[StateStore], StateStore],
) -> None:
    with Daprd([RedisState("states", redis_server.address)], app_id="token", api_token="secret") as daprd:  # noqa: S106
        store = open_until_end(open_store(sidecar_url(daprd, "states")))
        monkeypatch.setenv("DAPR_API_TOKEN", "wrong")
        with pytest.raises(StoreError, match="DAPR_API_TOKEN"):
            await io_thread.run(store.open())
        await io_thread.run(store.close())
        monkeypatch.setenv("DAPR_API_TOKEN", "secret")
        await io_thread.run(store.open())


async def test_a_component_that_is_not_there(daprd: Daprd, open_until_end: Callable[[StateStore], StateStore]) -> None:
    store = open_until_end(open_store(sidecar_url(daprd, "sessions")))
    with pytest.raises(UnknownComponentError, match=r"Its state components: memory, pg, sqlite, statestore\."):
        await io_thread.run(store.open())
    with pytest.raises(UnknownComponentError, match="sessions is not found"):
        await io_thread.run(store.get("k"))
    with pytest.raises(UnknownComponentError, match="sessions is not found"):
        await io_thread.run(store.create("k", b"v"))


async def test_a_sidecar_that_stays_away(
    redis_server: RedisServer, open_until_end: Callable[[StateStore], StateStore]
) -> None:
    with Daprd([RedisState("states", redis_server.address)], app_id="away") as daprd:
        store = open_until_end(DaprStore("states", daprd.address, retry=RetryPolicy(budget=0.3)))
        await io_thread.run(settle_create(store, "k", b"v"))
        daprd.kill()
        with pytest.raises(SidecarNotFoundError, match="dapr run"):
            await io_thread.run(store.get("k"))
        with pytest.raises(SidecarNotFoundError):
            await io_thread.run(settle_create(store, "l", b"v", RetryPolicy(budget=0.3)))
        daprd.start()
        patient = DaprStore("states", daprd.address, retry=PATIENT)
        assert await io_thread.run(patient.get("k")) is not None
        await io_thread.run(patient.delete_many(["k"]))
