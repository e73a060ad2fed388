"""Deletion leaves nothing, wherever it is killed, and nobody writes on."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from strands_dapr_session.errors import FencedError, SessionDeletedError
from strands_dapr_session.journal import packing, purge
from strands_dapr_session.journal.acquire import Wish
from strands_dapr_session.journal.commit import prepare, write
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.delete import delete_journal, fence_off
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.layout import probe_keys
from strands_dapr_session.journal.registry import all_sessions, roots_of
from strands_dapr_session.records.records import Noted
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, FaultyStore
from tests.unit.journal.journals import SETTINGS, Alone, Script, context_of, keys_of, small_journal


class KilledError(BaseException):
    """The process ends here."""


async def delete(store: StateStore, root: str = "r") -> None:
    wish = Wish("s", root, SETTINGS, "deleter", (encode_record(DELETION),), understand=None)
    context = context_of(store)
    await delete_journal(context, wish, await fence_off(context, wish))


def left(store: StateStore) -> list[str]:
    return [key for key in keys_of(store) if not key.startswith("strands:sessions:")]


async def rich_journal(store: StateStore) -> Script:
    """Make a journal with everything that a journal can have, and what killed processes leave behind."""
    with mock.patch.object(packing, "_NEWEST_SEGMENTS", 2), mock.patch.object(packing, "INLINE_BYTES", 100):
        script = await small_journal(store, (2, 3, 2, 2))
        for _ in range(5):
            await script.say("more", "text " * 100)
            await script.pack()
    assert script.log is not None
    layout = script.log.layout
    for index in range(20):  # a compaction that was killed
        await store.create(layout.piece("orphan", index), b"orphan")
    long = prepare(
        store, layout, script.log.sequence + 1, [encode_record(Noted("", "k", random.Random(1).randbytes(9_000)))]
    )
    assert long.parts
    for key, value in long.parts:  # a commit that was killed
        await store.create(key, value)
    await script.own()
    return script


async def test_nothing_is_left() -> None:
    store = MemoryStore(max_value_bytes=2_000)
    await rich_journal(store)
    assert len(left(store)) > 30
    await delete(store)
    assert left(store) == []
    assert await all_sessions(context_of(store)) == []
    await delete(store)  # nothing to do


async def test_it_may_be_killed_anywhere_and_run_again() -> None:
    killed, number = True, 0
    while killed:
        number += 1
        store = FaultyStore(MemoryStore(max_value_bytes=2_000))
        await rich_journal(store)
        store.calls.clear()

        def die(call: Call, last: int = number) -> None:
            if call.number == last:
                raise KilledError

        store.on_call = die
        try:
            await delete(store)
            killed = False
        except KilledError:
            pass
        store.on_call = lambda _: None
        if left(store) and killed:
            assert "s" in await all_sessions(context_of(store)), f"killed at call {number}, cannot be found"
        await delete(store)
        assert left(store) == [], f"killed at call {number}"
    assert number > 40


async def test_a_journal_of_the_same_name_can_be_made_at_any_time() -> None:
    killed, number = True, 0
    while killed:
        number += 7
        store = FaultyStore(MemoryStore(max_value_bytes=2_000))
        await rich_journal(store)
        store.calls.clear()

        def die(call: Call, last: int = number) -> None:
            if call.number == last:
                raise KilledError

        store.on_call = die
        try:
            await delete(store)
            killed = False
        except KilledError:
            pass
        store.on_call = lambda _: None
        place = (await roots_of(context_of(store), "s")).get("r")
        if place is not None and place.live is not None:
            continue  # not begun
        again = Script(store)
        await again.own()
        await again.say("new")
        await again.release()
        await again.check()
        await delete(store)
        assert left(store) == []


async def test_an_owner_is_stopped() -> None:
    store = MemoryStore()
    script = Script(store)
    await script.own()
    await script.say("a")
    assert script.log is not None
    layout = script.log.layout

    async def meanwhile(_: float) -> None:
        with pytest.raises(SessionDeletedError):
            await script.say("b")

    with mock.patch.object(Alone, "name", "deleter"):
        context = Context(store, Alone(), sleep=meanwhile)
        wish = Wish("s", "r", SETTINGS, "deleter", (encode_record(DELETION),), understand=None)
        await delete_journal(context, wish, await fence_off(context, wish))
    assert left(store) == []
    assert layout.slot(3) not in store.keys()  # noqa: SIM118


async def test_an_owner_that_was_silent_for_long_finds_out_and_cleans_up() -> None:
    store = MemoryStore()
    script = Script(store)
    await script.own()
    await script.say("a")
    await delete(store)
    assert script.log is not None
    with mock.patch.object(script.log, "_verified", -1e9), pytest.raises(SessionDeletedError):
        await script.say("b")
    assert left(store) == []


async def test_an_owner_that_was_taken_over_is_told_by_whom() -> None:
    store = MemoryStore()
    script, other = Script(store), Script(store)
    await script.own()
    await other.own()
    with pytest.raises(FencedError, match="taken over by worker 'w'"):
        await script.say("a")


async def test_roots_of_a_session_are_apart() -> None:
    store = MemoryStore()
    for root in ("one", "two"):
        script = Script(store, root_id=root)
        await script.own()
        await script.release()
    await delete(store, "one")
    assert sorted(await roots_of(context_of(store), "s")) == ["two"]
    assert await all_sessions(context_of(store)) == ["s"]
    await Script(store, root_id="two").load()
    await delete(store, "two")
    assert left(store) == []


async def test_a_write_that_arrives_late_is_removed() -> None:
    """It was on its way when the journal was deleted, and its owner looks into the registry only later."""
    store = FaultyStore(MemoryStore())
    script = Script(store)
    await script.own()
    await script.say("a")
    assert script.log is not None
    layout = script.log.layout
    late = prepare(store, layout, script.log.sequence + 1, [encode_record(Noted("", "k", b"v"))])
    real = purge.purge

    async def purge_and_late_write(context: Context, where: object) -> purge.Remains:
        remains = await real(context, where)  # type: ignore[arg-type]
        await write(context_of(store.inner), late)
        return remains

    with mock.patch("strands_dapr_session.journal.delete.purge", purge_and_late_write):
        await delete(store)
    assert left(store) == []


async def test_what_a_probe_left_goes_too() -> None:
    store = MemoryStore(max_value_bytes=2_000)
    store.is_proven = False
    await small_journal(store)
    for key in probe_keys("s", "r"):
        await store.create(key, b"left")
    await delete(store)
    assert left(store) == []
