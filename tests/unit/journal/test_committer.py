"""What becomes of records that wait, when nothing more may be written."""

from __future__ import annotations

import asyncio

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import FencedError, StoreUnavailableError
from strands_dapr_session.journal.committer import Committer
from strands_dapr_session.records.records import Noted, Spliced
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore
from tests.unit.journal.journals import keys_of
from tests.unit.journal.test_rules import Door, journal_in

NOTE = encode_record(Noted("", "k", b"v"))


async def owner(store: FaultyStore) -> Committer:
    journal = journal_in(store)
    await journal.acquire()
    store.calls.clear()
    return journal._committer()


async def under_way(store: FaultyStore) -> None:
    """Wait until the first commit is on its way; a heartbeat may be, too."""
    while not any(key.endswith(":2") for call in store.calls for key in call.keys):  # noqa: ASYNC110 - in another thread
        await asyncio.sleep(0.001)


def slots(store: FaultyStore) -> int:
    return sum(key.rpartition(":")[2].isdigit() for key in keys_of(store) if ":worker:" not in key)


async def test_after_a_failure_nothing_is_taken_along() -> None:
    store = FaultyStore(MemoryStore())
    committer = await owner(store)
    first, second = FencedError("first"), StoreUnavailableError("second")
    committer.stop(first)
    committer.stop(second)
    committer.add([NOTE])
    await io_thread.run(asyncio.sleep(0))
    with pytest.raises(FencedError, match="first"):
        await io_thread.run(committer.settled())
    assert committer.failure is first
    assert not committer.is_settled
    assert store.calls == []


async def test_no_records_are_no_commit() -> None:
    store = FaultyStore(MemoryStore())
    committer = await owner(store)
    committer.add([])
    await io_thread.run(committer.settled())
    assert committer.is_settled
    assert store.calls == []


async def test_what_waits_when_it_is_stopped_is_never_written() -> None:
    store, door = FaultyStore(MemoryStore()), Door()
    committer = await owner(store)
    before = slots(store)
    store.plan = lambda _: door
    committer.add([NOTE])
    await under_way(store)
    committer.add([NOTE])
    waiting = asyncio.create_task(io_thread.run(committer.settled()))
    await asyncio.sleep(0)
    await io_thread.run(asyncio.sleep(0))
    committer.stop(FencedError("stopped"))
    door.is_open = True
    with pytest.raises(FencedError, match="stopped"):
        await waiting
    assert slots(store) == before + 1  # what was on its way


async def test_everybody_who_waits_is_told_when_their_own_records_are_safe() -> None:
    store, doors = FaultyStore(MemoryStore()), [Door(), Door()]
    committer = await owner(store)
    store.plan = lambda call: doors[0] if call.keys[0].endswith(":2") else doors[1]
    committer.add([NOTE])
    first = asyncio.create_task(io_thread.run(committer.settled()))
    await asyncio.sleep(0)
    await under_way(store)
    await io_thread.run(asyncio.sleep(0))  # it waits for the first commit only
    committer.add([NOTE, encode_record(Spliced("", 0, 0, (b"x",)))])
    second = asyncio.create_task(io_thread.run(committer.settled()))
    await asyncio.sleep(0)
    await io_thread.run(asyncio.sleep(0))
    doors[0].is_open = True
    await first
    assert not second.done()
    assert not committer.is_settled
    doors[1].is_open = True
    await second
    assert committer.is_settled


async def written(committer: Committer) -> None:
    """Wait until all is acknowledged, without asking for it: who asks makes it hurry."""
    while not committer.is_settled:
        assert committer.failure is None
        await asyncio.sleep(0.001)


async def test_what_can_wait_goes_by_itself_after_a_moment_every_time() -> None:
    store = FaultyStore(MemoryStore())
    committer = await owner(store)
    before = slots(store)
    for number in range(1, 4):
        committer.add_with_next([NOTE])
        await written(committer)
        assert slots(store) == before + number


async def test_what_can_wait_goes_with_the_next_or_when_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._LONGEST_WAIT", 3600.0)
    store = FaultyStore(MemoryStore())
    committer = await owner(store)
    before = slots(store)
    committer.add_with_next([NOTE])
    committer.add_with_next([NOTE])
    await io_thread.run(asyncio.sleep(0))
    assert slots(store) == before
    committer.add([NOTE])
    await written(committer)
    assert slots(store) == before + 1
    committer.add_with_next([NOTE])
    await io_thread.run(asyncio.sleep(0))
    assert slots(store) == before + 1
    await io_thread.run(committer.settled())
    assert slots(store) == before + 2


async def test_a_moment_that_ends_during_a_commit_begins_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit at a time: two would meet in the same slot."""
    monkeypatch.setattr("strands_dapr_session.journal.committer._LONGEST_WAIT", 0.001)
    store, door = FaultyStore(MemoryStore()), Door()
    committer = await owner(store)
    before = slots(store)
    store.plan = lambda _: door
    committer.add([NOTE])
    await under_way(store)
    await io_thread.run(_pass_the_moment(committer))
    assert [call.keys[0].rpartition(":")[2] for call in store.calls if ":worker:" not in call.keys[0]] == ["2"]
    door.is_open = True
    await written(committer)
    assert slots(store) == before + 2


async def _pass_the_moment(committer: Committer) -> None:
    """On the I/O thread: let something wait, and its moment end."""
    committer._ready.append([NOTE])
    committer._added += 1
    committer._start_later()
    while committer._timed:  # noqa: ASYNC110 - a timer ends it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
