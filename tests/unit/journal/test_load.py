"""Reading a journal, of any length, while others write to it, pack it, or when something of it is gone."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from strands_dapr_session.errors import DamagedDataError, JournalGapError, StoreUnavailableError
from strands_dapr_session.journal import load
from strands_dapr_session.journal.head import Head, Run, Segment
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.load import (
    FIRST_LOOK,
    LONGEST_MANIFEST,
    LOOK_AHEAD,
    LOOK_FURTHER,
    Log,
    joined,
    parts_by_slot,
    read_further,
    read_known,
    read_log,
    read_segments,
)
from strands_dapr_session.records.frames import seal
from strands_dapr_session.records.records import Noted
from strands_dapr_session.stores.base import Entry
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, Fault, FaultyStore
from tests.unit.journal.journals import Script, context_of
from tests.unit.journal.test_rules import Meanwhile

LAYOUT = Layout("s", "r", "i")


@dataclass(frozen=True)
class Overlooked(Fault):
    """A key was not there when it was read: not yet, or not any more, for something happens within the call."""

    key: str
    what: Callable[[], Awaitable[object]] | None = None

    async def around(self, call: Call, apply: Callable[[], Awaitable[Any]], store: FaultyStore) -> Any:  # noqa: ARG002
        answer = dict(await apply())
        del answer[self.key]
        if self.what is not None:
            await self.what()
        return answer


async def journal(slots: int, store: MemoryStore | None = None) -> tuple[Script, Layout]:
    """Make a journal with so many slots, of which the first is an acquisition."""
    script = Script(store or MemoryStore())
    await script.own()
    for number in range(2, slots + 1):
        await script.write(Noted("", "k", b"%d" % number))
    assert script.claim is not None
    return script, script.claim.layout


async def packed(packed_slots: int, more: int) -> tuple[Script, Layout]:
    script, layout = await journal(packed_slots - 1)
    assert await script.pack()
    for number in range(more):
        await script.write(Noted("", "k", b"%d" % number))
    return script, layout


def notes(log: Log) -> list[int]:
    """The numbers in the notes of the slots of a log."""
    return [
        int(record.value)
        for number in range(log.head.sequence + 1, log.end + 1)
        for record in log.records(number)
        if isinstance(record, Noted)
    ]


@pytest.mark.parametrize("slots", [1, FIRST_LOOK - 1, FIRST_LOOK, FIRST_LOOK + 1, FIRST_LOOK + LOOK_FURTHER - 1,
                                   FIRST_LOOK + LOOK_FURTHER, FIRST_LOOK + LOOK_FURTHER + 1, 100])  # fmt: skip
async def test_a_log_of_any_length_is_read_to_its_end(slots: int) -> None:
    script, layout = await journal(slots)
    log = await read_log(context_of(script.store), layout)
    assert log.end == slots
    assert notes(log) == list(range(2, slots + 1))


@pytest.mark.parametrize("more", [0, 1, LOOK_AHEAD - 1, LOOK_AHEAD, LOOK_AHEAD + 1, LOOK_AHEAD + LOOK_FURTHER,
                                  LOOK_AHEAD + LOOK_FURTHER + 1])  # fmt: skip
async def test_a_log_of_any_length_is_read_from_its_head(more: int) -> None:
    script, layout = await packed(20, more)
    context = context_of(script.store)
    log = await read_log(context, layout)
    assert (log.head.sequence, log.end) == (20, 20 + more)
    assert notes(log) == list(range(more))
    again, store = log.only_head(), FaultyStore(script.store)
    assert (again.slots, again.payloads) == ([], {})
    assert await read_known(context_of(store), again) is not None
    assert notes(again) == list(range(more))
    assert layout.slot(20) not in store.calls[0].keys


async def test_no_slot_is_asked_for_that_the_head_has_packed() -> None:
    script, layout = await packed(20, 1)
    store = FaultyStore(script.store)
    await read_log(context_of(store), layout)
    assert [call.verb for call in store.calls] == ["get_many", "get_many"]
    asked = store.calls[1].keys
    assert {layout.slot(21), layout.slot(20 + LOOK_AHEAD), layout.head} <= set(asked)
    assert not {layout.slot(20), layout.slot(19)} & set(asked)
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("more", [0, 1, FIRST_LOOK, FIRST_LOOK + 1, FIRST_LOOK + LOOK_FURTHER + 1])
@pytest.mark.parametrize("before", [1, 3, 20])
async def test_a_log_is_read_on_from_its_end(before: int, more: int) -> None:
    script, layout = await journal(before)
    context = context_of(script.store)
    log = await read_log(context, layout)
    await script.store.create("extra", b"x")
    for number in range(before + 1, before + more + 1):
        await script.write(Noted("", "k", b"%d" % number))
    faulty = FaultyStore(script.store)
    further, others = await read_further(context_of(faulty), log, ["extra", "absent"])
    assert faulty.count() == 1 + (more >= FIRST_LOOK) + (more >= FIRST_LOOK + LOOK_FURTHER)
    assert others["extra"].value == b"x"
    assert "absent" not in others
    assert notes(further) == list(range(2, before + more + 1))
    assert (log.end, further.end) == (before, before + more)


async def test_a_log_that_was_packed_is_read_from_its_new_head() -> None:
    script, layout = await journal(3)
    context = context_of(script.store)
    log = await read_log(context, layout)
    assert await script.pack()
    further, _ = await read_further(context, log)
    assert (further.head.sequence, further.end) == (4, 4)
    assert await read_known(context, log.only_head()) is None


@pytest.mark.parametrize("moment", [1, 2])
async def test_a_log_that_is_packed_while_it_is_read_further_is_read_again(moment: int) -> None:
    script, layout = await journal(3)
    log = await read_log(context_of(script.store), layout)
    for number in range(4, 4 + FIRST_LOOK + 3):
        await script.write(Noted("", "k", b"%d" % number))
    store = FaultyStore(script.store)
    store.plan = lambda call: Meanwhile(script.pack) if call.number == moment else None
    further, _ = await read_further(context_of(store), log)
    assert script.log is not None
    assert further.head.sequence == further.end == script.log.sequence
    assert further.slots == []


@pytest.mark.parametrize("slots", [3, FIRST_LOOK + 3])
async def test_a_log_that_is_packed_while_it_is_read_is_read_again(slots: int) -> None:
    script, layout = await journal(slots)
    assert await script.pack()
    store = FaultyStore(script.store)
    store.plan = lambda call: Meanwhile(script.pack) if call.number == 2 else None
    log = await read_log(context_of(store), layout)
    assert log.head.sequence == log.end == slots + 2
    assert store.count("get_many") == 4


async def test_a_log_that_is_packed_faster_than_it_can_be_read_is_given_up_on() -> None:
    script, layout = await journal(3)
    assert await script.pack()
    store = FaultyStore(script.store)
    store.plan = lambda call: Meanwhile(script.pack) if call.number % 2 == 0 else None
    with pytest.raises(StoreUnavailableError, match="faster than it can be read"):
        await read_log(context_of(store), layout)


# -- what is missing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [2, 5])
@pytest.mark.parametrize("slots", [FIRST_LOOK + 1, FIRST_LOOK, 6])
async def test_a_slot_that_was_overlooked_is_looked_for_again(missing: int, slots: int) -> None:
    script, layout = await journal(slots)
    store = FaultyStore(script.store)
    store.plan = lambda call: Overlooked(layout.slot(missing)) if call.number == 1 else None
    log = await read_log(context_of(store), layout)
    assert notes(log) == list(range(2, slots + 1))


@pytest.mark.parametrize("missing", [2, 5, FIRST_LOOK - 1, FIRST_LOOK + 2])
async def test_a_slot_that_is_lost_is_named(missing: int) -> None:
    script, layout = await journal(FIRST_LOOK + 4)
    await script.store.delete_many([layout.slot(missing)])
    with pytest.raises(JournalGapError) as gap:
        await read_log(context_of(script.store), layout)
    assert gap.value.key == layout.slot(missing)


@pytest.mark.parametrize("later", [2, FIRST_LOOK])
async def test_one_later_slot_is_enough_to_know_that_one_is_lost(later: int) -> None:
    """The nearest, and the farthest that is seen."""
    script, layout = await journal(later)
    await script.store.delete_many([layout.slot(number) for number in range(1, later)])
    with pytest.raises(JournalGapError) as gap:
        await read_log(context_of(script.store), layout)
    assert gap.value.key == layout.slot(1)


async def test_a_slot_that_was_packed_and_deleted_meanwhile_is_not_lost() -> None:
    script, layout = await journal(3)

    async def pack_twice() -> None:
        assert await script.pack()
        await script.say("more")
        assert await script.pack()

    store = FaultyStore(script.store)
    store.plan = lambda call: Overlooked(layout.slot(1), pack_twice) if call.number == 1 else None
    log = await read_log(context_of(store), layout)
    assert script.log is not None
    assert log.end == log.head.sequence == script.log.sequence


async def test_a_piece_that_was_packed_anew_and_deleted_meanwhile_is_not_lost() -> None:
    script, layout = await packed(10, 1)
    log = await read_log(context_of(script.store), layout)
    assert log.head.checkpoint is not None
    key = log.head.checkpoint.keys(layout)[0]
    store = FaultyStore(script.store)
    store.plan = lambda call: Overlooked(key, script.pack) if call.number == 2 else None
    again = await read_log(context_of(store), layout)
    assert script.log is not None
    assert again.end == again.head.sequence == script.log.sequence


def long_note() -> Noted:
    return Noted("", "k", os.urandom(5000))


async def test_a_long_commit_is_read_with_its_parts() -> None:
    script, layout = await journal(2, MemoryStore(max_value_bytes=2000))
    note = long_note()
    await script.write(note)
    await script.write(Noted("", "k", b"4"))
    log = await read_log(context_of(script.store), layout)
    assert log.records(3) == [note]
    assert parts_by_slot(log) == [(3, 3)]
    assert sorted(log.parts) == [layout.part(3, index) for index in range(3)]


async def test_a_part_that_is_lost_is_named() -> None:
    script, layout = await journal(2, MemoryStore(max_value_bytes=2000))
    await script.write(long_note())
    await script.store.delete_many([layout.part(3, 1)])
    with pytest.raises(DamagedDataError) as damaged:
        await read_log(context_of(script.store), layout)
    assert damaged.value.key == layout.part(3, 1)


async def test_a_part_that_was_packed_and_deleted_meanwhile_is_not_lost() -> None:
    script, layout = await journal(2, MemoryStore(max_value_bytes=2000))
    note = long_note()
    await script.write(note)

    async def pack_twice() -> None:
        assert await script.pack()
        await script.write(Noted("", "j", b"1"))
        assert await script.pack()
        assert await script.store.get(layout.part(3, 1)) is None

    store = FaultyStore(script.store)
    store.plan = lambda call: Meanwhile(pack_twice) if layout.part(3, 0) in call.keys else None
    log = await read_log(context_of(store), layout)
    assert script.log is not None
    assert log.end == log.head.sequence == script.log.sequence


@pytest.mark.parametrize("size", [LONGEST_MANIFEST, LONGEST_MANIFEST + 1])
def test_only_short_slots_can_have_parts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "part_keys", lambda layout, number, _: [layout.part(number, 0)])
    log = Log(LAYOUT, Head("s", "r", sequence=4), "1", slots=[Entry(bytes(size), "1")])
    assert parts_by_slot(log) == ([(5, 1)] if size == LONGEST_MANIFEST else [])


def test_a_log_holds_what_is_in_its_slots() -> None:
    log = Log(LAYOUT, Head("s", "r", sequence=4), "1", slots=[Entry(b"five", "1"), Entry(b"six", "1")])
    assert log.end == 6
    assert log.holds(5, b"five")
    assert log.holds(6, b"six")
    assert not log.holds(6, b"five")
    assert not log.holds(5, b"six")
    assert not log.holds(4, b"six")  # not the last one, from behind
    assert not log.holds(7, b"six")


# -- what a head needs --------------------------------------------------------------------------------------------


def segment(count: int = 1, first: int = 0) -> Segment:
    return Segment(Run("p", first, count), 0, 1, 100, live=True)


def pieces(*payloads: bytes) -> dict[str, Entry]:
    return {
        LAYOUT.piece("p", index): Entry(seal(LAYOUT.piece("p", index), payload), "1")
        for index, payload in enumerate(payloads)
    }


def test_a_long_value_is_put_together_in_order() -> None:
    assert joined(LAYOUT, Run("p", 0, 3), pieces(b"a", b"b", b"c")) == b"abc"
    assert joined(LAYOUT, Run("p", 1, 1), pieces(b"a", b"b", b"c")) == b"b"
    found = pieces(b"a", b"b", b"c")
    del found[LAYOUT.piece("p", 1)]
    with pytest.raises(DamagedDataError) as damaged:
        joined(LAYOUT, Run("p", 0, 3), found)
    assert damaged.value.key == LAYOUT.piece("p", 1)


def test_a_long_value_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MAX_PAYLOAD_BYTES", 1000)
    assert len(joined(LAYOUT, Run("p", 0, 2), pieces(bytes(500), bytes(500)))) == 1000
    for sizes in ((500, 501), (1001, 0), (400, 400, 201)):
        with pytest.raises(DamagedDataError, match="allowed here"):
            joined(LAYOUT, Run("p", 0, len(sizes)), pieces(*map(bytes, sizes)))


async def test_segments_are_read_once() -> None:
    store = FaultyStore(MemoryStore())
    for key, entry in pieces(b"a", b"b").items():
        await store.inner.create(key, entry.value)
    log = Log(LAYOUT, Head("s", "r"), None)
    assert await read_segments(context_of(store), log, [segment(2)])
    assert log.payloads == {Run("p", 0, 2): b"ab"}
    assert await read_segments(context_of(store), log, [segment(2)])
    assert {key for call in store.calls[1:] for key in call.keys} == set()


@pytest.mark.parametrize("what", ["a piece of the checkpoint", "a segment"])
async def test_what_a_head_needs_and_is_lost_is_named(what: str) -> None:
    script, layout = await packed(10, 1)
    log = await read_log(context_of(script.store), layout)
    assert log.head.checkpoint is not None
    run = log.head.checkpoint if what == "a piece of the checkpoint" else log.head.segments[0].run
    key = run.keys(layout)[0]
    await script.store.delete_many([key])
    with pytest.raises(DamagedDataError) as damaged:
        await read_log(context_of(script.store), layout, lambda head: list(head.segments))
    assert damaged.value.key == key
    log.payloads.pop(run, None)
    if what == "a segment":
        with pytest.raises(DamagedDataError) as damaged:
            await read_segments(context_of(script.store), log, log.head.segments)
        assert damaged.value.key == key
        other = replace(log, head=replace(log.head, stamp=b"older"))
        assert not await read_segments(context_of(script.store), other, log.head.segments)


def all_segments(head: Head) -> list[Segment]:
    return list(head.segments)


async def packed_thrice() -> tuple[Script, Layout]:
    script, layout = await journal(2)
    for turn in range(3):
        await script.say(f"{turn}" * 500)
        assert await script.pack()
    return script, layout


async def test_long_values_are_read_apart_and_opened_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is opened while the rest still comes; what is short comes with the slots, in one read."""
    script, layout = await packed_thrice()
    together = FaultyStore(script.store)
    whole = await read_log(context_of(together), layout, all_segments)
    assert len(whole.payloads) == 4
    assert together.count() == 2
    opened: list[int] = []

    async def offload(function: Callable[[], Any]) -> Any:
        done = function()
        opened.append(len(done))
        return done

    monkeypatch.setattr(load, "_READ_TOGETHER", whole.head.checkpoint_bytes + whole.head.segments[0].size // 2)
    store = FaultyStore(script.store)
    log = await read_log(replace(context_of(store), offload=offload), layout, all_segments)
    assert log.payloads == whole.payloads
    first, *others = (set(call.keys) for call in store.calls[1:])
    assert len(others) == len(opened) - 1 >= 1
    assert sum(opened) == 4
    after = {layout.head, layout.slot(log.head.sequence + 1)}
    assert after <= first
    assert not any(after & keys for keys in others)


async def test_what_is_lost_of_values_that_are_read_apart_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_READ_TOGETHER", 1)
    script, layout = await packed_thrice()
    log = await read_log(context_of(script.store), layout)
    key = log.head.segments[-1].run.keys(layout)[0]
    store = FaultyStore(script.store)
    overlooked = iter([Overlooked(key, script.pack)])
    store.plan = lambda call: next(overlooked, None) if key in call.keys else None
    again = await read_log(context_of(store), layout, all_segments)
    assert script.log is not None
    assert again.end == again.head.sequence == script.log.sequence
    await script.store.delete_many([key])
    with pytest.raises(DamagedDataError) as damaged:
        await read_log(context_of(script.store), layout, all_segments)
    assert damaged.value.key == key


async def test_stores_are_told_how_long_the_values_are() -> None:
    """So that an answer of many long ones stays within what a message may have."""
    seen: list[dict[str, int]] = []

    class Sized(MemoryStore):
        async def get_many(self, keys: Any, *, sizes: Any = None) -> dict[str, Entry]:
            seen.append(dict(sizes or {}))
            return await super().get_many(keys, sizes=sizes)

    store = Sized(max_value_bytes=2000)
    script, layout = await journal(2, store)
    await script.write(long_note())
    context = context_of(store)
    seen.clear()
    log = await read_log(context, layout)
    assert seen[-1] == {layout.part(3, index): 2000 for index in range(3)}
    await script.say("x" * 3000)
    assert await script.pack()
    seen.clear()
    log = await read_log(context, layout)
    checkpoint = log.head.checkpoint
    assert checkpoint is not None
    assert set(checkpoint.keys(layout)) <= set(seen[1])
    for key in checkpoint.keys(layout):
        assert seen[1][key] == log.head.checkpoint_bytes // checkpoint.count
    segments = [replace(each, size=each.size * 10) for each in log.head.segments]
    seen.clear()
    log.payloads.clear()
    assert await read_segments(context, log, segments)
    for each in segments:
        for key in each.run.keys(layout):
            assert seen[0][key] == each.size // 2 // each.run.count
