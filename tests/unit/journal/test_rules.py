"""The rules of the protocol, each in the one interleaving in which it matters; `tests/model` goes through many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import FencedError, SessionBusyError, SessionDeletedError
from strands_dapr_session.journal.acquire import Claim, Position, Wish, acquire
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.delete import delete_journal, fence_off
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.head import read_head
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.layout import shard_key
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.records import Noted, SegmentsPlanned, Spliced
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, Delay, Fault, FaultyStore, Plan
from tests.unit.journal.journals import SETTINGS, Script, context_of, keys_of

T = TypeVar("T")


@dataclass(frozen=True)
class Meanwhile(Fault):
    """Others do something just before a call is carried out."""

    what: Callable[[], Awaitable[object]]

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        await self.what()
        return await apply()


def before_creating(key: str, what: Callable[[], Awaitable[object]]) -> Plan:
    """Let something happen just before a key is created for the first time."""
    left = [Meanwhile(what)]
    return lambda call: left.pop() if left and call.verb == "create" and call.keys == (key,) else None


async def own(script: Script, plan: Plan, known: Position | None = None) -> Claim:
    """Become the owner as another worker, through a store in which things happen."""
    return await acquire(context_of(FaultyStore(script.store, plan)), Wish("s", "r", SETTINGS, "other"), known)


async def packed_twice(script: Script) -> None:
    """Go on as the owner until the slot in which another worker is about to acquire the journal is gone."""
    for text in ("more", "and more"):
        await script.say(text)
        assert await script.pack()


async def test_an_acquisition_in_a_slot_that_was_packed_and_deleted_does_not_hold() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("first")
    assert script.claim is not None
    layout = script.claim.layout

    claim = await own(script, before_creating(layout.slot(3), lambda: packed_twice(script)))

    assert claim.slot.number == 7  # after all that the owner wrote meanwhile
    assert claim.view is not None
    assert claim.view.scope("").messages == script.live[""]
    with pytest.raises(FencedError):
        await script.say("too late")
    # What did not hold stays: somebody may have packed it as a takeover, and rely on it to stop the owner before.
    assert await script.store.get(layout.slot(3)) is not None


async def test_an_owner_that_trusts_what_it_knows_looks_at_the_head_as_well() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("first")
    assert script.claim is not None
    known = Position(script.claim.layout, 2, b"", None, own=True)

    claim = await own(script, before_creating(known.layout.slot(3), lambda: packed_twice(script)), known)

    assert claim.slot.number == 7
    assert claim.record.takeover


async def test_an_acquisition_that_did_not_hold_goes_with_the_journal() -> None:
    script = Script(MemoryStore())
    await script.own()
    for number in range(70):
        await script.say(f"{number}")
    assert script.claim is not None
    slot = script.claim.layout.slot(72)
    await own(script, before_creating(slot, lambda: packed_twice(script)))
    assert await script.store.get(slot) is not None
    context = context_of(script.store)
    wish = Wish("s", "r", SETTINGS, "deleter", (encode_record(DELETION),), understand=None)
    await delete_journal(context, wish, await fence_off(context, wish))
    assert [key for key in keys_of(script.store) if not key.startswith("strands:sessions:")] == []


async def test_parts_are_there_before_their_slot() -> None:
    store = FaultyStore(MemoryStore(max_value_bytes=100_000))
    script = Script(store)
    await script.own()
    store.calls.clear()
    await script.write(Noted("", "k", os.urandom(250_000)))
    assert script.claim is not None
    layout = script.claim.layout
    created = [call.keys[0] for call in store.calls if call.verb == "create"]
    assert created == [*(layout.part(2, index) for index in range(3)), layout.slot(2)]


async def test_nothing_is_deleted_before_the_head_that_replaces_it_has_been_replaced() -> None:
    store = FaultyStore(MemoryStore())
    script = Script(store)
    await script.own()
    await script.say("first")
    before = set(keys_of(store))
    await script.pack()
    assert before <= set(keys_of(store))
    assert store.count("delete_many") == 0

    seen: list[set[str]] = []
    store.on_call = lambda call: seen.append(set(keys_of(store))) if call.verb == "replace" else None
    await script.say("more")
    assert script.claim is not None
    between = [script.claim.layout.slot(number) for number in (4, 5)]
    await script.pack()
    assert len(seen) == 1
    assert set(between) <= seen[0] & set(keys_of(store))
    await script.check()


async def test_a_head_that_somebody_else_has_moved_is_left_alone() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("first")
    await script.pack()
    await script.say("more")
    await script.write(SegmentsPlanned(("mine",)), SegmentsPlanned(("theirs",)))
    assert script.log is not None
    layout, through = script.log.layout, script.log.sequence

    async def rival() -> None:
        assert await compact(context_of(script.store), layout, "theirs", through) is not None

    once = [Meanwhile(rival)]
    store = FaultyStore(script.store, lambda call: once.pop() if once and call.verb == "create" else None)
    assert await compact(context_of(store), layout, "mine", through) is None
    head = read_head(layout, await script.store.get(layout.head))
    assert head.checkpoint is not None
    assert head.checkpoint.plan == "theirs"
    await script.check()


async def test_commits_beside_a_compaction_are_not_packed_by_it() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("first")
    await script.write(SegmentsPlanned(("plan",)))
    await script.say("beside")
    assert script.log is not None
    head = await compact(context_of(script.store), script.log.layout, "plan", 3)
    assert head is not None
    assert head.sequence == 3
    await script.check()


async def test_whoever_is_fenced_believes_in_no_further_slot() -> None:
    script = Script(MemoryStore())
    await script.own()
    assert script.log is not None
    before = script.log.sequence
    other = await own(script, lambda _: None)
    with pytest.raises(FencedError):
        await script.say("late")
    assert script.log.sequence == before
    assert other.slot.number == before + 1


# -- the front ----------------------------------------------------------------------------------------------------


def journal_in(store: FaultyStore, **settings: object) -> Journal:
    return Journal(store, "s", "r", settings=replace(JournalSettings(), **settings))  # type: ignore[arg-type]


@dataclass
class Door(Fault):
    """Writes wait until it is opened."""

    is_open: bool = False

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        while call.writes and not self.is_open:  # noqa: ASYNC110 - it is opened from another thread
            await asyncio.sleep(0.001)
        return await apply()


async def test_a_journal_is_held_until_its_release_is_acknowledged() -> None:
    store, door = FaultyStore(MemoryStore()), Door()
    one, other = journal_in(store), journal_in(FaultyStore(store.inner), on_busy="raise")
    await one.acquire()
    store.plan = lambda _: door
    releasing = asyncio.create_task(one.release(Noted("", "k", b"last")))
    await asyncio.sleep(0.02)
    assert one.owned
    with pytest.raises(SessionBusyError):
        await other.acquire()
    door.is_open = True
    await releasing
    acquisition = await other.acquire()
    assert not acquisition.takeover
    assert acquisition.view.scope("").notes == {"k": b"last"}
    await other.release()


async def test_a_release_is_over_when_it_is_acknowledged() -> None:
    store, door = FaultyStore(MemoryStore()), Door()
    journal = journal_in(store)
    await journal.acquire()
    store.plan = lambda _: door
    releasing = asyncio.create_task(journal.release(Noted("", "k", b"last")))
    await asyncio.sleep(0.02)
    assert not releasing.done()
    door.is_open = True
    await releasing
    view = await journal_in(FaultyStore(store.inner)).load()
    assert view.owner is None
    assert view.scope("").notes == {"k": b"last"}


async def test_a_barrier_is_passed_when_all_before_it_is_acknowledged() -> None:
    store = FaultyStore(MemoryStore())
    journal = journal_in(store)
    await journal.acquire()
    door = Door()
    store.plan = lambda _: door
    for number in (1, 2):
        door.is_open = False
        journal.append(Noted("", "k", b"%d" % number))
        waiting = asyncio.create_task(journal.barrier())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        door.is_open = True
        await waiting
    assert (await journal_in(FaultyStore(store.inner)).load()).scope("").notes == {"k": b"2"}
    await journal.release()


async def test_records_keep_their_order_in_and_between_commits() -> None:
    store = FaultyStore(MemoryStore())
    journal = journal_in(store)
    await journal.acquire()
    store.plan = lambda call: Delay(0.02) if call.writes else None
    for number in range(20):
        journal.append(Spliced("", number, 0, (b"%d" % number,)), Noted("", "n", b"%d" % number))
    await journal.release()
    scope = (await journal_in(FaultyStore(store.inner)).load()).scope("")
    assert scope.messages == [b"%d" % number for number in range(20)]
    assert scope.notes == {"n": b"19"}


async def test_records_that_belong_together_are_in_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._TOGETHER", 0)
    store = FaultyStore(MemoryStore())
    journal = journal_in(store)
    await journal.acquire()
    store.calls.clear()
    journal.append(Spliced("", 0, 0, (b"a",)), Noted("", "n", b"1"), Noted("", "m", b"2"))
    journal.append(Noted("", "n", b"3"))
    await journal.barrier()
    assert store.count("create") == 2
    await journal.release()


async def test_what_can_wait_travels_with_the_next_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._LONGEST_WAIT", 1000)
    store, door = FaultyStore(MemoryStore()), Door()
    journal = journal_in(store)
    await journal.acquire()
    store.plan = lambda _: door
    store.calls.clear()
    journal.append_with_next(Spliced("", 0, 0, (b"a",)))
    journal.append(Spliced("", 1, 0, (b"b",)))
    waiting = asyncio.create_task(journal.barrier())
    await asyncio.sleep(0)
    await io_thread.run(asyncio.sleep(0))  # the first commit is under way, and waited for
    journal.append_with_next(Spliced("", 2, 0, (b"c",)))
    door.is_open = True
    await waiting
    assert store.count("create") == 1
    journal.append(Spliced("", 3, 0, (b"d",)))
    await journal.barrier()
    assert store.count("create") == 2
    journal.append_with_next(Spliced("", 4, 0, (b"e",)))
    await journal.barrier()  # nothing waits longer than somebody waits for it
    assert store.count("create") == 3
    journal.append_with_next(Noted("", "n", b"1"))
    await journal.release()
    assert store.count("create") == 4
    scope = (await journal_in(FaultyStore(store.inner)).load()).scope("")
    assert scope.messages == [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize("while_another", [False, True])
async def test_what_waits_for_the_next_records_does_not_wait_for_ever(*, while_another: bool) -> None:
    store, door = FaultyStore(MemoryStore()), Door()
    journal = journal_in(store)
    await journal.acquire()
    loop, arrivals = asyncio.get_running_loop(), asyncio.Semaphore(0)

    async def tell() -> None:
        loop.call_soon_threadsafe(arrivals.release)
        await door.around(Call(0, "create"), nothing, store)

    async def nothing() -> None:
        pass

    store.plan = lambda call: Meanwhile(tell) if call.writes else None
    if while_another:
        journal.append(Noted("", "n", b"1"))
        await arrivals.acquire()
    journal.append_with_next(Noted("", "m", b"2"))
    door.is_open = True
    await arrivals.acquire()
    await journal.release()
    assert (await journal_in(FaultyStore(store.inner)).load()).scope("").notes["m"] == b"2"


async def test_what_waits_is_not_written_once_the_journal_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._LONGEST_WAIT", 1000)
    store = FaultyStore(MemoryStore())
    journal = journal_in(store)
    await journal.acquire()
    journal.append_with_next(Noted("", "n", b"1"))
    journal.abandon()
    acquisition = await journal.acquire()
    assert acquisition.view.scope("").notes == {}
    await journal.release()


async def test_who_stood_still_for_a_lease_proves_that_it_still_owns() -> None:
    store = FaultyStore(MemoryStore())
    journal = journal_in(store, lease=5.0)
    now = 0.0
    journal._context = replace(journal._context, seconds=lambda: now)
    await journal.acquire()
    store.calls.clear()
    await journal.barrier()
    assert store.count("create") == 0
    now = 5.5
    await journal.barrier()
    assert store.count("create") == 1
    now = 11.0
    thief = journal_in(store, on_busy="steal")
    await thief.acquire()
    with pytest.raises(FencedError):
        await journal.barrier()
    journal.abandon()
    await thief.release()


async def test_an_owner_asks_the_registry_once_for_each_silence() -> None:
    """And withdraws, when it is too late, only what it has written since it last knew that the journal was there."""
    now = 0.0
    store = FaultyStore(MemoryStore())
    context = replace(context_of(store), seconds=lambda: now)
    claim = await acquire(context, Wish("s", "r", JournalSettings(lease=5.0), "a"))
    log, note = LogWriter(context, claim), [encode_record(Noted("", "k", b""))]
    store.calls.clear()
    for now, reads in ((1.0, 0), (6.1, 1), (7.0, 1), (11.0, 1), (11.2, 2), (12.0, 2), (13.0, 2)):
        await log.write(note)
        assert store.count("get") == reads, now
        assert (log.proved, log.sequence) == (now, claim.slot.number + store.count("create"))
    registry = shard_key("s")
    assert isinstance(store.inner, MemoryStore)
    del store.inner._entries[registry]
    now = 17.0
    with pytest.raises(SessionDeletedError):
        await log.write(note)
    withdrawn = [call.keys for call in store.calls if call.verb == "delete_many"]
    assert withdrawn == [tuple(map(claim.layout.slot, (7, 8, 9)))]
