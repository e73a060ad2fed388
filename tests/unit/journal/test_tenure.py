"""What the rest of a process is told of an ownership: that it is held, that a heart must beat, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DurableSessionError, FencedError
from strands_dapr_session.journal import tenure as tenure_module
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.journal.sessions import delete_session, list_roots, list_sessions
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.tenure import Tenure
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.stores.base import Entry
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore, outage
from tests.unit.journal.test_rules import Door

STEAL = JournalSettings(on_busy="steal", lease=60.0)


class Heart:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def of(self, _: object) -> Heart:
        return self

    def begin(self, *told: Any) -> None:
        self.told.append(("begin", *told))

    def bury(self, *told: Any) -> None:
        self.told.append(("bury", *told))

    def leave(self, *told: Any) -> None:
        self.told.append(("leave", *told))


@pytest.fixture
def heart(monkeypatch: pytest.MonkeyPatch) -> Heart:
    heart = Heart()
    monkeypatch.setattr(tenure_module, "Heart", heart)
    return heart


async def test_a_heart_is_told_when_an_ownership_begins_and_before_it_ends(heart: Heart) -> None:
    journal = Journal(MemoryStore(), "s", "r", settings=STEAL)
    owner = (await journal.acquire()).view.owner
    assert owner is not None
    assert heart.told == [("begin", owner.acquisition, 60.0)]

    await journal.release()

    assert heart.told[1:] == [("leave", owner.acquisition)]


async def test_the_heartbeat_of_whoever_was_taken_over_is_buried(heart: Heart) -> None:
    store = MemoryStore()
    journal, thief = (Journal(store, "s", "r", settings=STEAL) for _ in range(2))
    before = (await journal.acquire()).view.owner

    after = (await thief.acquire()).view.owner

    assert after is not None
    assert heart.told[1:] == [("begin", after.acquisition, 60.0), ("bury", before)]
    await thief.release()


async def test_a_process_holds_what_it_owns_from_before_it_is_written_until_it_is_released() -> None:
    store = FaultyStore(MemoryStore())
    seen: list[set[str]] = []
    store.on_call = lambda _: seen.append(set(this_process._held))
    before = set(this_process._held)
    journal = Journal(store, "s", "r", settings=STEAL)

    owner = (await journal.acquire()).view.owner

    assert owner is not None
    assert seen
    assert all(held >= before | {owner.acquisition} for held in seen)
    assert this_process.holds(owner.acquisition)
    assert this_process.is_alive(owner)
    await journal.release()
    assert not this_process.holds(owner.acquisition)
    assert owner.acquisition not in this_process._given_up


async def test_what_is_given_up_is_not_held_and_others_are_told() -> None:
    journal = Journal(MemoryStore(), "s", "r", settings=STEAL)
    owner = (await journal.acquire()).view.owner
    assert owner is not None
    committer = journal._committer()

    journal.abandon()

    assert not this_process.holds(owner.acquisition)
    assert owner.acquisition in this_process._given_up
    assert isinstance(committer.failure, FencedError)


async def test_an_acquisition_that_failed_is_not_held() -> None:
    store = FaultyStore(MemoryStore(), outage(0, 10**9))
    before = set(this_process._held)
    journal = Journal(store, "s", "r", settings=STEAL)
    object.__setattr__(journal._context.retry, "budget", 0.0)

    with pytest.raises(DurableSessionError):
        await journal.acquire()

    assert set(this_process._held) == before


async def released(store: FaultyStore) -> None:
    """Wait until the journal was owned and is not any more."""

    async def look() -> None:
        view = await Journal(store, "s", "r").load()
        while not view.sequence or view.owner is not None:
            await asyncio.sleep(0.001)
            view = await Journal(store, "s", "r").load()

    await asyncio.wait_for(look(), 10)


async def test_an_acquisition_that_is_cancelled_while_it_is_written_is_released(heart: Heart) -> None:
    store, door = FaultyStore(MemoryStore()), Door()
    store.plan = lambda call: door if call.verb == "create" else None
    journal = Journal(store, "s", "r", settings=STEAL)
    acquiring = asyncio.create_task(journal.acquire())
    while not store.count("create"):  # noqa: ASYNC110  (in another thread)
        await asyncio.sleep(0.001)
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    door.is_open = True

    await released(store)

    assert not journal.owned
    assert heart.told == []


async def test_an_acquisition_that_is_cancelled_when_it_is_had_is_released(
    heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Tenure._begin

    async def begin_and_be_cancelled(*args: Any) -> Any:
        claim = await begin(*args)
        acquiring.get_loop().call_soon_threadsafe(acquiring.cancel)
        await asyncio.sleep(0.05)
        return claim

    monkeypatch.setattr(Tenure, "_begin", begin_and_be_cancelled)
    store = FaultyStore(MemoryStore())
    journal = Journal(store, "s", "r", settings=STEAL)
    acquiring = asyncio.create_task(journal.acquire())
    with pytest.raises(asyncio.CancelledError):
        await acquiring

    await released(store)

    assert not journal.owned
    assert [what for what, *_ in heart.told] == ["begin"]


class ClosedStore(MemoryStore):
    """Cannot be used before it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False

    async def open(self) -> None:
        self.is_open = True

    async def get(self, key: str) -> Entry | None:
        assert self.is_open
        return await super().get(key)


WAYS: list[Callable[[ClosedStore], Any]] = [
    lambda store: Journal(store, "s", "r").load(),
    lambda store: Journal(store, "s", "r", settings=STEAL).acquire(),
    lambda store: Journal(store, "s", "r").delete(),
    lambda store: read_history(store, "s", "r"),
    list_sessions,
    lambda store: list_roots(store, "s"),
    lambda store: delete_session(store, "s"),
]


@pytest.mark.parametrize("use", WAYS, ids=["load", "acquire", "delete", "history", "sessions", "roots", "session"])
def test_whatever_is_done_first_opens_the_store(use: Callable[[ClosedStore], Any]) -> None:
    store = ClosedStore()
    io_thread.run_sync(use(store))
    assert store.is_open
