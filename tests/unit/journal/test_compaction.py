"""Packing changes nothing that a reader sees, keeps everything small, and may be killed anywhere."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from strands_dapr_session.journal import packing
from strands_dapr_session.journal.checkpoint import read_segment
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.head import Head, Run, Segment, read_head, read_page, write_head
from strands_dapr_session.journal.history import CANDID
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.load import joined, read_log
from strands_dapr_session.journal.packing import to_merge
from strands_dapr_session.records.records import SegmentsPlanned, Spliced
from strands_dapr_session.records.view import View
from strands_dapr_session.records.wire import decode_record, encode_record
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, FaultyStore
from tests.unit.journal.journals import Script, context_of, keys_of, small_journal


async def head_of(script: Script) -> Head:
    assert script.claim is not None
    layout = script.claim.layout
    return read_head(layout, await script.store.get(layout.head))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("window", [3, 40, 10_000])
@pytest.mark.parametrize("inline", [0, 2_000, 10**6])
async def test_what_is_restored_is_what_was_live(seed: int, window: int, inline: int) -> None:
    script, chance = Script(MemoryStore(max_value_bytes=4_000)), random.Random(seed)
    with mock.patch.object(packing, "SEGMENT_BYTES", 1_500), mock.patch.object(packing, "INLINE_BYTES", inline):
        await script.own()
        for _ in range(12):
            await script.random_steps(chance.randrange(20), chance, window, length=400)
            if chance.random() < 0.2:
                await script.own()  # a takeover
            if chance.random() < 0.8:
                assert await script.pack()
            await script.check()


async def test_a_packed_journal_is_read_in_two_round_trips_after_the_registry() -> None:
    script = Script(MemoryStore())
    await script.own()
    for number in range(40):
        await script.say(f"{number}")
    await script.pack()
    await script.say("more")
    store = FaultyStore(script.store)
    script.store = store
    await script.load()
    assert [call.verb for call in store.calls] == ["get", "get_many", "get_many"]


async def test_few_live_messages_are_in_the_checkpoint_and_many_in_segments() -> None:
    script = Script(MemoryStore())
    await script.own()
    for _ in range(10):
        await script.say("x" * 10_000)
    await script.pack()
    assert not any(segment.live for segment in (await head_of(script)).segments)
    for _ in range(30):
        await script.say("x" * 10_000)
    await script.pack()
    assert any(segment.live for segment in (await head_of(script)).segments)
    await script.trim(3)
    await script.pack()
    assert not any(segment.live for segment in (await head_of(script)).segments)
    await script.check()


async def test_small_segments_are_merged() -> None:
    script = Script(MemoryStore())
    await script.own()
    with mock.patch.object(packing, "INLINE_BYTES", 0):
        for _ in range(80):
            await script.say("x" * 3_000)
            await script.pack()
    segments = (await head_of(script)).segments
    assert len(segments) < 20
    assert [segment.first for segment in segments] == sorted(segment.first for segment in segments)
    await script.check()


def _head(*sizes: int, live: bool = True) -> Head:
    return Head("s", "r", segments=tuple(Segment(Run("p", n, 1), n, 1, size, live) for n, size in enumerate(sizes)))


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([], 0),
        ([100_000] * 7, 0),
        ([100_000] * 8, 8),
        ([1_000_000, *[100_000] * 8], 8),
        ([600_000] * 20, 0),
        ([9_000] * 7, 0),
        ([9_000] * 8, 8),
        ([100_000] * 7 + [9_000] * 7, 0),
        ([100_000] * 7 + [9_000] * 8, 8),
        ([100_000] * 8 + [9_000] * 3, 11),
        ([512 * 1024 - 1] * 8, 8),
        ([512 * 1024] * 8, 0),
        ([1024] * 8, 8),
        ([1023] * 20, 0),
    ],
    ids=lambda value: f"{len(value)}-{sum(value)}" if isinstance(value, list) else str(value),
)
def test_segments_of_about_one_size_are_merged(sizes: list[int], count: int) -> None:
    assert len(to_merge(_head(*sizes))) == count
    assert not to_merge(_head(*sizes, live=False))


async def test_the_head_stays_small_and_the_history_complete() -> None:
    script = Script(MemoryStore())
    await script.own()
    said = 0
    with mock.patch.object(packing, "_NEWEST_SEGMENTS", 4), mock.patch.object(packing, "_MOST_KEPT", 4):
        for number in range(40):
            await script.say(f"message {number}")
            said += 1
            await script.own()  # a slot to be kept
            await script.pack()
            await script.trim(2)
    head = await head_of(script)
    assert script.claim is not None
    layout, store = script.claim.layout, script.store
    assert len(write_head(layout, head)) < 1_500
    segments, kept, older = list(head.segments), list(head.kept), head.older
    while older is not None:
        page = read_page("page", joined(layout, older, await store.get_many(older.keys(layout))))
        segments, kept, older = [*page.segments, *segments], [*page.kept, *kept], page.older
    assert len(kept) == 40
    ordinals: list[int] = []
    spliced = 0
    for segment in segments:
        payload = joined(layout, segment.run, await store.get_many(segment.run.keys(layout)))
        first, bodies, history = read_segment("segment", payload)
        ordinals += range(first, first + len(bodies))
        spliced += history.count(encode_record(Spliced("", 0, 0, ()))[:3])
    assert ordinals == list(range(said))
    assert spliced > said
    await script.check()


def test_the_largest_head_is_below_32_kib() -> None:
    layout = Layout("s" * 40, "r" * 40, "i")
    segments = tuple(Segment(Run("pabcdefghij", n, 1), 10**7 + n, 300, 10**6, live=True) for n in range(128))
    head = Head("s" * 255, "r" * 255, segments=segments, kept=tuple(range(10**6, 10**6 + 1024)))
    assert len(write_head(layout, head)) < 32 * 1024


async def test_slots_and_values_that_were_replaced_are_deleted() -> None:
    script = Script(MemoryStore())
    await script.own()
    for number in range(30):
        await script.say(f"{number}", "long " * 200)
        await script.pack()
    keys = keys_of(script.store)
    assert script.claim is not None
    slots = [key for key in keys if key.removeprefix(f"{script.claim.layout.base}:").isdigit()]
    assert len(slots) <= 4
    head = await head_of(script)
    assert len(keys) <= 2 + len(slots) + len(head.segments) + 2


async def test_takeover_slots_are_kept() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("a")
    await script.own()
    for _ in range(4):
        await script.say("b")
        await script.pack()
    assert script.claim is not None
    assert await script.store.get(script.claim.layout.slot(3)) is not None
    assert await script.store.get(script.claim.layout.slot(2)) is None
    assert (await head_of(script)).kept == (3,)


async def test_nothing_that_was_not_acknowledged_is_packed() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("a")
    assert not await script.pack(through=99)
    assert await script.pack(through=2)
    assert (await head_of(script)).sequence == 2
    assert not await script.pack(through=2)
    await script.check()


async def test_of_two_compactions_one_wins_and_the_other_is_cleaned_up() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("a")
    assert script.log is not None
    layout, context = script.log.layout, context_of(script.store)
    await script.write(SegmentsPlanned(("mine",)), SegmentsPlanned(("theirs",)))

    def interfere(call: Call) -> None:
        if call.verb == "create" and call.keys == (layout.head,):
            store.on_call = lambda _: None
            rival = compact(context, layout, "theirs", 3)
            with pytest.raises(StopIteration):
                rival.send(None)  # nothing in it waits for anything real

    store = FaultyStore(script.store, on_call=interfere)
    assert await compact(context_of(store), layout, "mine", 3) is None
    head = await head_of(script)
    assert head.orphans == ("mine",)
    assert not [key for key in keys_of(script.store) if ":mine." in key]
    await script.check()


class KilledError(BaseException):
    """The process ends here."""


def kill_at(number: int) -> FaultyStore:
    def die(call: Call) -> None:
        if call.number == number:
            raise KilledError

    return FaultyStore(MemoryStore(max_value_bytes=2_000), on_call=die)


async def test_a_compaction_may_be_killed_anywhere() -> None:
    number = died = 0
    while True:
        number += 1
        store = FaultyStore(MemoryStore(max_value_bytes=2_000))
        script = await small_journal(store, (5,))
        assert script.log is not None
        await script.write(SegmentsPlanned(("killed",)))
        store.on_call, store.calls = kill_at(number).on_call, []
        try:
            await compact(context_of(store), script.log.layout, "killed", script.log.sequence)
        except KilledError:
            died += 1
        store.on_call = lambda _: None
        await script.check()
        await script.own()
        for _ in range(3):  # whatever was left behind is gone after the next ones
            assert await script.pack()
        await script.check()
        head = await head_of(script)
        if "killed" in head.orphans:
            assert not [key for key in keys_of(store) if ":killed." in key]
        if died < number:
            break
    assert died > 8


async def test_history_can_be_folded_again() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("a", "b")
    await script.use_tool(1)
    await script.set("d", b"1")
    await script.set("d", b"2")
    await script.pack()
    assert script.log is not None
    layout = script.log.layout
    log = await read_log(context_of(script.store), layout, lambda head: list(head.segments))
    _, bodies, history = read_segment("k", log.payloads[log.segments[0].run])
    assert len(bodies) == 3
    assert history.count(b"result 1") == 0  # the message holds it
    unpacker = __import__("msgpack").Unpacker(strict_map_key=False)
    unpacker.feed(history)
    records = [decode_record(item, key="k") for _, *items in unpacker for item in items]
    assert [type(record).__name__ for record in records if record != CANDID] == [
        "Acquired", "Spliced", "ToolFinished", "Spliced", "DocumentSet", "Noted", "DocumentSet", "Noted",
    ]  # fmt: skip
    view = View()
    for record in records:
        view.apply(record)
    assert view.scope("").documents == {"d": b"2"}
    assert view.scope("").notes == {"d": b"2"}
