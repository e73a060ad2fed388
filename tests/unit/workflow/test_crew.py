"""Who is taken for dead, and who is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.worker import Identity, this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import seal
from strands_dapr_session.records.records import Acquired
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.crew import Card, Crew, list_cards
from strands_dapr_session.workflow.keys import WORKERS, card_key
from strands_dapr_session.workflow.vigil import Vigil

LEASE = 3.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("strands_dapr_session.workflow.crew.time.monotonic", clock)
    return clock


class Other:
    """A worker of another machine."""

    def __init__(self, store: MemoryStore) -> None:
        identity = replace(Identity.of_this_process(), host="elsewhere", boot="another")
        self.name, self.key = identity.name, card_key(identity.token)
        self.token = identity.token
        self._store = store
        self._beat = 0

    async def join(self) -> None:
        await self.beat()
        await documents.change(self._store, WORKERS, lambda now: {**(now or {}), self.token: self.name})

    async def beat(self) -> None:
        self._beat += 1
        card = Card(self.name, "app", ("agent",), ("run-1",), LEASE)
        value = seal(self.key, pack_value([b"", card.plain(self._beat)]))
        present = await self._store.get(self.key)
        if present is None:
            await self._store.create(self.key, value)
        else:
            await self._store.replace(self.key, value, present.etag)


def crew_of(store: MemoryStore) -> Crew:
    return Crew(store, lambda: Card(this_process.name, "app", ("agent",), (), LEASE), LEASE)


async def test_a_worker_is_dead_when_it_was_silent_for_a_lease(clock: Clock) -> None:
    store = MemoryStore()
    crew, other = crew_of(store), Other(store)
    await crew.join()
    await other.join()
    assert await crew.look() == []
    for _ in range(5):
        clock.now += 1
        await other.beat()
        assert await crew.look() == []
    for _ in range(2):
        clock.now += 1
        assert await crew.look() == []
    clock.now += 1
    (dead,) = await crew.look()
    assert dead.worker == other.name
    assert dead.runs == ("run-1",)
    # One that is heard of again lives, also for the journals of this process.
    owner = Acquired("acquisition", other.name, takeover=False, lease=LEASE)
    this_process.presume_dead(other.name)
    assert this_process.is_alive(owner) is False
    await other.beat()
    assert await crew.look() == []
    assert this_process.is_alive(owner) is None


async def test_a_worker_that_slept_itself_takes_nobody_for_dead(clock: Clock) -> None:
    store = MemoryStore()
    crew, other = crew_of(store), Other(store)
    await crew.join()
    await other.join()
    await crew.look()
    clock.now += 100
    assert await crew.look() == []
    assert not crew.is_dead(other.name)


async def test_whoever_was_buried_alive_is_known_again(clock: Clock) -> None:
    store = MemoryStore()
    crew, other = crew_of(store), Other(store)
    await crew.join()
    await other.join()
    await crew.look()
    dead: list[Card] = []
    for _ in range(4):
        clock.now += 1
        dead = await crew.look()
    assert [card.worker for card in dead] == [other.name]
    await crew.bury(other.name)
    assert [card.worker for card in await list_cards(store)] == [this_process.name]
    await documents.change(store, WORKERS, lambda _: {})  # and so were we
    await crew.look()
    await crew.announce()
    assert [card.worker for card in await list_cards(store)] == [this_process.name]
    await crew.leave()
    assert await list_cards(store) == []


async def test_nobody_is_dead_before_anybody_watched(clock: Clock) -> None:
    store = MemoryStore()
    crew, other = crew_of(store), Other(store)
    await crew.join()
    assert not crew.is_dead(other.name)
    assert crew.is_dead("no such name")
    assert not crew.is_dead(this_process.name)
    for _ in range(4):  # it has no card at all, and is watched since it was asked for
        clock.now += 1
        await crew.look()
    assert crew.is_dead(other.name)


@pytest.mark.skipif(sys.platform != "linux", reason="processes have descriptors on Linux only")
async def test_the_end_of_a_neighbour_is_heard_at_once() -> None:
    vigil = Vigil()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:  # noqa: ASYNC220
        here = this_process.identity
        vigil.keep([replace(here, token="0" * 16, pid=str(process.pid)).name])
        await vigil.wait(0.01)  # nothing is heard
        process.kill()
        await vigil.wait(600)  # the test would time out
    vigil.keep([])


async def test_a_worker_lets_go_of_what_its_card_does_not_have(clock: Clock) -> None:
    store = MemoryStore()
    crew, other = crew_of(store), Other(store)
    await crew.join()
    await other.join()
    await crew.look()
    since = clock.now  # when somebody saw that it has claimed two runs
    assert not crew.has_let_go(other.name, "run-2", since)  # its card was read before
    clock.now += 1
    await other.beat()
    await crew.look()
    assert not crew.has_let_go(other.name, "run-1", since)
    assert crew.has_let_go(other.name, "run-2", since)
    assert not crew.has_let_go(Other(store).name, "run-2", since)  # nobody has seen a card of that one


async def test_a_card_that_was_asked_for_before_a_claim_says_nothing_of_it(clock: Clock) -> None:
    store = MemoryStore()
    crew, other = crew_of(store), Other(store)
    await other.join()
    await crew.look()
    read = store.get_many

    async def slow(keys: Sequence[str], **options: Any) -> Any:
        found = await read(keys, **options)
        clock.now += 0.5  # meanwhile the other takes a run
        return found

    store.get_many = slow  # type: ignore[method-assign]
    await crew.look()
    assert not crew.has_let_go(other.name, "another run", clock.now - 0.25)
    store.get_many = read  # type: ignore[method-assign]
    await crew.look()
    assert crew.has_let_go(other.name, "another run", clock.now - 0.25)
    assert not crew.has_let_go(other.name, "run-1", clock.now - 0.25)


@pytest.mark.parametrize(
    "card", [[], ["x"], {"worker": "x"}, [1, 2, "app", [], [], 3.0], [1, "w", "app", "agents", [], 3.0]]
)
async def test_a_card_that_is_none_hides_nobody_else(clock: Clock, card: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    crew, odd, other = crew_of(store), Other(store), Other(store)
    for each in (odd, other):
        await each.join()
    entry = await store.get(odd.key)
    assert entry is not None
    await store.replace(odd.key, seal(odd.key, pack_value([b"", card])), entry.etag)
    await crew.look()
    assert "a worker's card cannot be read" in caplog.text
    dead: list[Card] = []
    for _ in range(4):
        clock.now += 1
        dead = await crew.look()
    assert {each.worker: each.runs for each in dead} == {odd.name: (), other.name: ("run-1",)}


async def test_a_list_of_workers_that_is_none_is_told() -> None:
    store = MemoryStore()
    await documents.change(store, WORKERS, lambda _: ["w"])
    for look in (crew_of(store).look, lambda: list_cards(store)):
        with pytest.raises(DamagedDataError, match="not a list of workers"):
            await look()
