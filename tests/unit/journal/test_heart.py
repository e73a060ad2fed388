"""When a heart beats, for how long, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.journal import heart as heart_module
from strands_dapr_session.journal.heart import Heart
from strands_dapr_session.journal.worker import Identity, this_process
from strands_dapr_session.records.records import Acquired
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, Fault, FaultyStore, LoseRequest
from tests.unit.journal.test_rules import Door, Meanwhile


class Holder:
    """Owns a journal."""


class Time:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.asleep: asyncio.Future[None] | None = None

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.asleep = asyncio.get_running_loop().create_future()
        await self.asleep

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def goes_on(self) -> None:
        """Let one pause end, and all that follows from it happen."""
        await self.settle()
        asleep, self.asleep = self.asleep, None
        assert asleep is not None
        asleep.set_result(None)
        await self.settle()


class Body:
    """A heart in a store, and what this process holds."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.store = FaultyStore(MemoryStore())
        self.heart = Heart(self.store)
        self.holders: dict[str, Holder] = {}

    def begin(self, acquisition: str, lease: float = 3.0) -> None:
        self.holders[acquisition] = Holder()
        this_process.hold(acquisition, self.holders[acquisition])
        self.heart.begin(acquisition, lease)

    def end(self, acquisition: str) -> None:
        this_process.let_go(acquisition, released=True)

    def forget(self, acquisition: str) -> None:
        del self.holders[acquisition]
        gc.collect()

    async def beat(self) -> bytes | None:
        entry = await self.store.inner.get(this_process.heartbeat(0)[0])
        return entry.value if entry else None


@pytest.fixture
async def body(monkeypatch: pytest.MonkeyPatch) -> Any:
    time = Time()
    monkeypatch.setattr(heart_module, "sleep", time.sleep)
    body = Body(time)
    yield body
    await body.heart.stop()
    await time.settle()
    for acquisition in body.holders:
        this_process.let_go(acquisition, released=True)


async def test_it_beats_every_third_of_a_lease(body: Body) -> None:
    body.begin("a")
    await body.time.settle()
    assert body.time.asked == [1.0]
    assert body.store.calls == []
    values = []
    for _ in range(3):
        await body.time.goes_on()
        values.append(await body.beat())
    assert len({*values, None}) == 4
    assert body.time.asked == [1.0] * 4
    assert [call.verb for call in body.store.calls] == ["get", "create", "get", "replace", "get", "replace"]


async def test_one_heart_beats_for_all_by_the_shortest_lease(body: Body) -> None:
    body.begin("a", 6.0)
    body.begin("b", 1.5)
    body.begin("c", 9.0)
    await body.time.goes_on()
    await body.time.goes_on()
    assert body.time.asked == [0.5] * 3
    body.end("b")
    await body.time.goes_on()
    assert body.time.asked == [0.5] * 3 + [2.0]
    assert body.store.count("create") == 1


async def test_the_key_goes_when_nothing_has_run_for_a_beat(body: Body) -> None:
    body.begin("a")
    await body.time.goes_on()
    body.end("a")
    assert await body.beat() is not None
    body.begin("b")  # the next invocation comes at once: nothing is deleted and made again
    await body.time.goes_on()
    assert await body.beat() is not None
    assert body.store.count("delete_many") == 0
    body.end("b")
    await body.time.goes_on()
    assert await body.beat() is None
    assert body.store.count("delete_many") == 1
    count = len(body.time.asked)
    await body.time.settle()
    assert len(body.time.asked) == count
    body.begin("c")
    await body.time.goes_on()
    assert await body.beat() is not None


async def test_what_is_over_before_the_first_beat_costs_nothing(body: Body) -> None:
    body.begin("a")
    await body.time.settle()
    body.end("a")
    await body.time.goes_on()
    assert body.store.calls == []


async def test_it_does_not_beat_for_what_was_forgotten(body: Body) -> None:
    body.begin("a")
    await body.time.goes_on()
    body.forget("a")
    await body.time.goes_on()
    assert await body.beat() is None


async def test_it_beats_again_for_what_begins_while_the_key_goes(body: Body) -> None:
    body.begin("a")
    await body.time.goes_on()
    body.end("a")

    async def begin() -> None:
        body.begin("b")

    body.store.plan = lambda call: Meanwhile(begin) if call.verb == "delete_many" else None
    await body.time.goes_on()
    assert await body.beat() is None
    body.store.plan = lambda _: None
    await body.time.goes_on()
    assert await body.beat() is not None
    assert len(body.time.asked) == 4


async def test_the_key_goes_with_the_last_journal(body: Body) -> None:
    """Before its release: so nobody who is killed then leaves a key behind of which no journal tells."""
    body.begin("a")
    body.begin("b")
    body.heart.leave("a")  # before the first beat there is nothing to take away
    await body.time.goes_on()
    assert await body.beat() is not None
    body.heart.leave("a")
    await body.time.settle()
    assert await body.beat() is not None
    body.heart.leave("b")
    await body.time.settle()
    assert await body.beat() is None
    body.end("a")
    body.end("b")
    await body.time.goes_on()
    assert body.store.count("delete_many") == 1
    assert body.heart._leaving == set()
    assert body.heart._removals == set()


async def test_one_that_is_forgotten_keeps_no_key(body: Body) -> None:
    body.begin("a")
    body.begin("b")
    await body.time.goes_on()
    body.forget("a")
    body.heart.leave("b")
    await body.time.settle()
    assert await body.beat() is None


async def test_it_beats_on_while_a_release_takes_long(body: Body) -> None:
    body.begin("a")
    await body.time.goes_on()
    body.heart.leave("a")
    await body.time.settle()
    await body.time.goes_on()
    assert await body.beat() is None  # if it were killed now, the release may be there, and nobody would bury it
    await body.time.goes_on()
    assert await body.beat() is not None
    body.begin("b")
    body.heart.leave("b")
    await body.time.settle()
    body.end("a")
    await body.time.goes_on()
    assert await body.beat() is None  # each skips one beat of its own


async def test_a_beat_on_its_way_is_taken_away_too(body: Body) -> None:
    door = Door()
    body.store.plan = lambda call: door if call.verb == "create" else None
    body.begin("a")
    await body.time.goes_on()
    body.heart.leave("a")
    await body.time.settle()
    door.is_open = True
    await asyncio.wait(body.heart._removals)
    await body.time.settle()
    assert body.store.count("create", "delete_many") == 2
    assert await body.beat() is None


async def test_a_beat_behind_a_removal_is_written(body: Body) -> None:
    """It would be the death of the heart to look for a key that the removal has taken."""
    body.begin("a")
    await body.time.goes_on()
    async with body.heart._writing:
        waiting = [asyncio.create_task(each) for each in (body.heart._remove(), body.heart._write())]
        await body.time.settle()
    await asyncio.gather(*waiting)
    assert await body.beat() is not None
    body.heart.leave("a")
    await body.time.settle()
    assert await body.beat() is None


@dataclass(frozen=True)
class Fails(Fault):
    error: Exception

    async def around(self, call: Call, apply: Callable[[], Awaitable[Any]], store: FaultyStore) -> Any:  # noqa: ARG002
        raise self.error


@pytest.mark.parametrize("error", [KeyConflict("k"), OutcomeUnknown("k", "?"), StoreUnavailableError("down")], ids=repr)
async def test_a_beat_that_is_lost_stops_nothing(
    body: Body, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "strands_dapr_session")
    body.begin("a")
    body.store.plan = lambda call: Fails(error) if call.writes else None
    await body.time.goes_on()
    assert await body.beat() is None
    assert "a heartbeat was lost" in caplog.text
    body.store.plan = lambda _: None
    await body.time.goes_on()
    assert await body.beat() is not None


async def test_a_key_that_cannot_be_removed_is_left(body: Body, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "strands_dapr_session")
    body.begin("a")
    await body.time.goes_on()
    body.store.plan = lambda call: LoseRequest() if call.verb == "delete_many" else None
    await body.heart.stop()
    assert "is left behind" in caplog.text


async def test_it_stops_when_the_process_ends(body: Body) -> None:
    body.begin("a")
    await body.time.goes_on()
    await body.time.settle()
    await body.heart.stop()
    await body.time.settle()
    assert await body.beat() is None
    assert body.heart._task is None
    await body.heart.stop()
    assert body.store.count("delete_many") == 1


async def test_it_stops_with_its_store(body: Body) -> None:
    heart = Heart(body.store.inner)
    body.heart = heart
    body.begin("a")
    await body.time.settle()
    body.store = FaultyStore(MemoryStore())
    gc.collect()
    await body.time.goes_on()
    assert await body.beat() is None
    body.end("a")
    await body.time.goes_on()


def owner(name: str) -> Acquired:
    return Acquired("x", name, takeover=False, lease=3.0)


async def test_the_heartbeat_of_a_worker_that_was_taken_over_is_removed(body: Body) -> None:
    other = owner(replace(Identity.of_this_process(), token="ab" * 8).name)
    key = this_process.heartbeat_key(other)
    assert key is not None
    await body.store.inner.create(key, b"beat")
    body.begin("a")
    await body.time.goes_on()
    for worker in (other, owner(this_process.name), owner("no such name")):
        body.heart.bury(worker)
    await body.time.settle()
    assert await body.store.inner.get(key) is None
    assert await body.beat() is not None
    assert [call.keys for call in body.store.calls if call.verb == "delete_many"] == [(key,)]
    assert body.heart._removals == set()


def test_a_store_has_one_heart() -> None:
    store, other = MemoryStore(), MemoryStore()
    assert Heart.of(store) is Heart.of(store)
    assert Heart.of(store) is not Heart.of(other)


async def test_every_heart_stops_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart_module, "_hearts", weakref.WeakKeyDictionary())
    stores = [MemoryStore(), MemoryStore()]
    for store in stores:
        await Heart.of(store)._write()
        assert store.keys()
    await heart_module._stop_all()
    assert [list(store.keys()) for store in stores] == [[], []]


def test_a_forked_child_has_hearts_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves those of its parent alone: their tasks belong to a loop that does not run here."""
    monkeypatch.setattr(heart_module, "_hearts", weakref.WeakKeyDictionary())
    left: list[object] = []
    monkeypatch.setattr(io_thread, "abandon", left.append)
    store = MemoryStore()
    parents = Heart.of(store)
    heart_module._after_fork()
    assert left == [parents]
    assert Heart.of(store) is not parents
