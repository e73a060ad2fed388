"""What a deletion, a compaction and their rivals leave to each other: nothing, in the end."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from strands_dapr_session.errors import JournalGapError, SessionDeletedError
from strands_dapr_session.journal import packing
from strands_dapr_session.journal.acquire import Wish
from strands_dapr_session.journal.commit import prepare
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.delete import _with_dead, _without, delete_journal, fence_off
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.head import Head, Run, read_head, read_page, write_head
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.load import joined
from strands_dapr_session.journal.purge import holds_fences, purge
from strands_dapr_session.journal.registry import Place
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.records import Noted, SegmentsPlanned
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore
from tests.unit.journal.journals import Script, context_of
from tests.unit.journal.test_delete import delete, left
from tests.unit.journal.test_rules import Meanwhile, before_creating


def deletion(lease: float = 0.01) -> Wish:
    settings = JournalSettings(on_busy="steal", lease=lease)
    return Wish("s", "r", settings, "deleter", (encode_record(DELETION),), understand=None)


def with_sleep(store: MemoryStore | FaultyStore, slept: list[float]) -> Context:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return replace(context_of(store), sleep=sleep)


async def owned(*texts: str) -> tuple[Script, Layout]:
    script = Script(MemoryStore())
    await script.own()
    for text in texts:
        await script.say(text)
    assert script.claim is not None
    return script, script.claim.layout


async def test_what_does_not_exist_is_not_made_to_be_deleted() -> None:
    store = FaultyStore(MemoryStore())
    await delete(store)
    assert store.count("create", "replace") == 0


@pytest.mark.parametrize(("mine", "theirs"), [(2.0, 7.0), (7.0, 2.0)])
async def test_fences_stay_for_the_longer_lease(mine: float, theirs: float) -> None:
    script, _ = await owned("a")
    assert script.claim is not None
    slept: list[float] = []
    context = with_sleep(FaultyStore(script.store), slept)
    claim = await fence_off(context, deletion(mine))
    assert claim is not None
    assert claim.before is not None
    claim = replace(claim, before=replace(claim.before, lease=theirs))
    await delete_journal(context, deletion(mine), claim)
    assert slept == [7.0]
    assert left(script.store) == []


async def test_nobody_is_waited_for_who_was_not_fenced_off() -> None:
    script, _ = await owned("a")
    await script.release()
    slept: list[float] = []
    context = with_sleep(FaultyStore(script.store), slept)
    await delete_journal(context, deletion(), await fence_off(context, deletion()))
    assert slept == []
    assert left(script.store) == []


async def test_fences_of_others_stay_for_a_lease_too() -> None:
    """Somebody was taken over long ago, and whoever did has released the journal."""
    script, _ = await owned("a")
    await script.own()
    await script.release()
    slept: list[float] = []
    context = with_sleep(FaultyStore(script.store), slept)
    claim = await fence_off(context, deletion(2.0))
    assert claim is not None
    assert claim.before is None
    await delete_journal(context, deletion(2.0), claim)
    assert slept == [2.0]
    assert left(script.store) == []


async def test_whoever_came_before_the_registry_knew_is_fenced_off_too() -> None:
    """And notices while its fence still stands, not when it could make slots in a journal that is gone."""
    script, layout = await owned("a")
    thief = Script(script.store, acquisitions=10)
    told: list[Exception] = []
    store = FaultyStore(script.store)

    async def write(_: float) -> None:
        with pytest.raises(SessionDeletedError) as refused:
            await thief.say("too late")
        told.append(refused.value)

    context = replace(context_of(store), sleep=write)
    claim = await fence_off(context, deletion())
    left_to_do = [Meanwhile(thief.own)]
    store.plan = lambda call: left_to_do.pop() if left_to_do and call.verb == "replace" else None
    await delete_journal(context, deletion(), claim)
    assert thief.claim is not None
    assert thief.claim.slot.number == 4
    assert thief.claim.layout == layout
    assert len(told) == 1
    assert left(script.store) == []


async def test_a_fence_that_comes_after_somebody_else_deleted_everything_goes() -> None:
    script, layout = await owned("a")
    store = FaultyStore(script.store)
    context = context_of(store)
    claim = await fence_off(context, deletion())
    assert claim is not None
    store.plan = before_creating(layout.slot(claim.slot.number + 1), lambda: delete(script.store))
    await delete_journal(context, deletion(), claim)
    assert left(script.store) == []
    assert store.plan(store.calls[0]) is None


def test_only_the_journal_that_is_meant_is_called_dead() -> None:
    assert _with_dead("i", Place("i", ["h"])) == Place(None, ["h", "i"])
    assert _with_dead("i", Place("j", ["h"])) == Place("j", ["h"])
    assert _without("i", Place(None, ["h", "i"])) == Place(None, ["h"])
    assert _without("i", Place("j", ["i"])) == Place("j", [])
    assert _without("i", Place(None, ["i"])) is None


async def test_where_fences_stand() -> None:
    script, layout = await owned("a")
    context = context_of(script.store)
    assert not await holds_fences(context, layout)
    assert await script.pack()
    assert not await holds_fences(context, layout)
    await script.own()  # a takeover, in the log
    assert await holds_fences(context, layout)
    assert await script.pack()  # and now below the head
    assert await holds_fences(context, layout)


async def test_a_page_may_tell_of_fences() -> None:
    store, layout = MemoryStore(), Layout("s", "r", "i")
    for older, expected in ((None, False), (Run("p", 0, 1), True)):
        await store.delete_many([layout.head])
        await store.create(layout.head, write_head(layout, Head("s", "r", sequence=3, older=older)))
        assert await holds_fences(context_of(store), layout) is expected


async def test_everything_of_a_long_life_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, long commits, and the parts of commits that were killed before their slot was written."""
    monkeypatch.setattr(packing, "_NEWEST_SEGMENTS", 2)
    monkeypatch.setattr(packing, "_MOST_KEPT", 2)
    chance, store = random.Random(1), MemoryStore(max_value_bytes=2_000)
    script = Script(store)
    await script.own()
    assert script.claim is not None
    layout = script.claim.layout
    for number in range(12):
        await script.write(Noted("", "k", chance.randbytes(5_000)))
        assert script.log is not None
        long = [encode_record(Noted("", "k", chance.randbytes(5_000 * (1 + number))))]
        killed = prepare(store, layout, script.log.sequence + 1, long)
        assert len(killed.parts) > 2
        for key, value in killed.parts:
            await store.create(key, value)
        await script.own()
        if number < 11:
            await script.pack()
    await script.write(Noted("", "k", chance.randbytes(5_000)))
    head = read_head(layout, await store.get(layout.head))
    assert head.kept
    assert head.older is not None
    pieces = await store.get_many(head.older.keys(layout))
    assert read_page("page", joined(layout, head.older, pieces)).older is not None
    await delete(store)
    assert left(store) == []


async def test_what_cannot_be_read_is_deleted_all_the_same() -> None:
    script, layout = await owned("a", "b")
    entry = await script.store.get(layout.slot(2))
    assert entry is not None
    await script.store.replace(layout.slot(2), entry.value[:-1], entry.etag)
    await purge(context_of(script.store), layout)
    assert [key for key in left(script.store) if key.startswith(layout.base)] == []


async def test_where_a_late_writer_is_looked_for_once_more() -> None:
    script, layout = await owned("a", "b")
    await script.write(SegmentsPlanned(("plan",)))
    await script.own()
    await script.say("c")
    remains = await purge(context_of(script.store), layout)
    assert remains.plans == ("plan",)
    assert remains.slots == set(range(1, 65))
    assert [key for key in left(script.store) if key.startswith(layout.base)] == []


async def test_where_a_late_writer_of_a_long_journal_is_looked_for() -> None:
    script, layout = await owned(*map(str, range(70)))
    assert await script.pack()
    await script.own()
    await script.say("c")
    assert script.log is not None
    end = script.log.sequence
    remains = await purge(context_of(script.store), layout)
    assert remains.slots == {*range(1, 65), end - 1, end, end + 1}


# -- compactions of what is deleted, damaged, or packed by others -------------------------------------------------


@pytest.mark.parametrize("moment", ["a piece", "the head"])
async def test_a_compaction_that_comes_after_the_deletion_leaves_nothing(moment: str) -> None:
    script, layout = await owned("a")
    await script.write(SegmentsPlanned(("p",)))
    key = layout.head if moment == "the head" else layout.piece("p", 0)
    store = FaultyStore(script.store, before_creating(key, lambda: delete(script.store)))
    assert await compact(context_of(store), layout, "p", 3) is None
    assert left(script.store) == []


async def test_a_compaction_beside_a_deletion_leaves_its_work_to_it() -> None:
    """The registry calls the journal dead, but knows it still: whoever deletes it finds everything of it."""
    script, layout = await owned("a")
    await script.write(SegmentsPlanned(("p",)))
    claim = await fence_off(context_of(script.store), deletion())

    async def die(_: float) -> None:
        raise SystemExit

    async def begin() -> None:
        with pytest.raises(SystemExit):
            await delete_journal(replace(context_of(script.store), sleep=die), deletion(), claim)

    store = FaultyStore(script.store, before_creating(layout.head, begin))
    await compact(context_of(store), layout, "p", 3)
    assert await script.store.get(layout.head) is not None
    await delete(script.store)
    assert left(script.store) == []


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_what_cannot_be_packed_is_damage_unless_it_was_deleted(*, is_deleted: bool) -> None:
    script, layout = await owned("a")
    await script.store.delete_many([layout.slot(1)])
    if is_deleted:
        await script.store.delete_many([shard_key("s")])
        assert await compact(context_of(script.store), layout, "p", 2) is None
    else:
        with pytest.raises(JournalGapError):
            await compact(context_of(script.store), layout, "p", 2)


async def test_only_what_a_later_head_calls_an_orphan_is_removed() -> None:
    """A move that seems to have failed may have been applied, and replaced in its turn."""
    script, layout = await owned("a")
    await script.pack()
    await script.say("b")
    assert script.log is not None
    through = script.log.sequence

    async def rival() -> None:
        assert await compact(context_of(script.store), layout, "theirs", through) is not None

    once = [Meanwhile(rival)]
    store = FaultyStore(script.store, lambda call: once.pop() if once and call.verb == "replace" else None)
    assert await compact(context_of(store), layout, "mine", through) is None
    assert [key for key in left(script.store) if ":mine." in key]
