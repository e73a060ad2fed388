"""The registry finds every journal, whoever changes it at the same time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.registry import (
    Place,
    all_sessions,
    change_place,
    is_live,
    place_of,
    read_shard,
    roots_of,
)
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import seal
from strands_dapr_session.stores.base import Entry
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, FaultyStore, LoseReply, RefuseOwn, seeded
from tests.unit.journal.journals import context_of


def _enter(incarnation: str, _: Place) -> Place:
    return Place(incarnation, [])


def enter(incarnation: str) -> Place:
    return Place(incarnation, [])


async def test_a_journal_is_found_until_it_is_removed() -> None:
    context = context_of(MemoryStore())
    assert await place_of(context, "s", "r") == Place(None, [])
    await change_place(context, "s", "r", lambda _: enter("i"))
    assert await place_of(context, "s", "r") == Place("i", [])
    assert await is_live(context, Layout("s", "r", "i"))
    assert not await is_live(context, Layout("s", "r", "j"))
    await change_place(context, "s", "r", lambda now: Place(None, [*now.dead, now.live or ""]))
    assert await place_of(context, "s", "r") == Place(None, ["i"])
    assert await all_sessions(context) == ["s"]
    await change_place(context, "s", "r", lambda _: None)
    assert await roots_of(context, "s") == {}
    assert await all_sessions(context) == []


async def test_changes_at_the_same_time_are_all_made() -> None:
    faults = seeded(1, 0.5, [Delay(0.001), LoseReply(), RefuseOwn()])
    store = FaultyStore(MemoryStore(), lambda call: faults(call) if call.writes else Delay(0))
    context = context_of(store)
    roots = [f"root {number}" for number in range(30)]
    await asyncio.gather(*(change_place(context, "s", root, partial(_enter, root)) for root in roots))
    store.plan = lambda _: None
    assert {root: place.live for root, place in (await roots_of(context, "s")).items()} == {
        root: root for root in roots
    }


async def test_what_is_already_so_is_not_written() -> None:
    store = FaultyStore(MemoryStore())
    context = context_of(store)
    await change_place(context, "s", "r", lambda _: enter("i"))
    writes = store.count("create", "replace")
    await change_place(context, "s", "r", lambda now: now)
    await change_place(context, "s", "other", lambda _: None)
    assert store.count("create", "replace") == writes


async def test_all_sessions_are_listed() -> None:
    context = context_of(MemoryStore())
    ids = [f"session {number}" for number in range(300)]
    for session in ids:
        await change_place(context, session, "r", lambda _: enter("i"))
    assert await all_sessions(context) == sorted(ids)


@pytest.mark.parametrize(
    "plain",
    [None, [], [0], [0, []], [0, {1: {}}], [0, {"s": 1}], [0, {"s": {"r": []}}], [0, {"s": {"r": [1]}}]],
    ids=repr,
)
def test_what_is_no_registry_is_damage(plain: object) -> None:
    key = shard_key("s")
    with pytest.raises(DamagedDataError, match=key):
        read_shard(key, Entry(seal(key, pack_value(plain)), "1"))
