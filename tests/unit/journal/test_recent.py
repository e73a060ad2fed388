"""A process that read a journal before reads it again at one go; see also `Script.check`, which does so everywhere."""

from __future__ import annotations

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.head import Head
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.load import Log
from strands_dapr_session.journal.recent import RecentLogs
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore
from tests.unit.journal.journals import Script, keys_of, small_journal
from tests.unit.journal.test_delete import delete


async def read_before(store: FaultyStore, *, packed: bool) -> Script:
    script = Script(store)
    await script.own()
    await script.say("one", "two")
    if packed:
        await script.pack()
    await script.load(script.recent)
    store.calls.clear()
    return script


def verbs(store: FaultyStore) -> list[str]:
    return [call.verb for call in store.calls]


@pytest.mark.parametrize("packed", [True, False])
async def test_what_was_read_before_is_read_in_one_round_trip(*, packed: bool) -> None:
    store = FaultyStore(MemoryStore())
    script = await read_before(store, packed=packed)
    await script.say("three")
    store.calls.clear()

    view = await script.load(script.recent)

    assert verbs(store) == ["get_many"]
    assert view.scope("").messages == script.live[""]


async def test_a_journal_that_was_packed_since_is_read_from_the_beginning() -> None:
    store = FaultyStore(MemoryStore())
    script = await read_before(store, packed=True)
    await script.say("three")
    await script.pack()
    store.calls.clear()

    view = await script.load(script.recent)

    assert verbs(store) == ["get_many", "get", "get_many", "get_many"]
    assert view.scope("").messages == script.live[""]


@pytest.mark.parametrize("packed", [True, False])
async def test_a_journal_that_was_deleted_since_is_gone(*, packed: bool) -> None:
    store = FaultyStore(MemoryStore())
    script = await read_before(store, packed=packed)
    await delete(store)

    assert not (await script.load(script.recent)).scopes

    anew = Script(store, recent=script.recent)
    await anew.own()
    await anew.say("anew")
    await anew.check()


async def test_what_is_damaged_since_is_refused() -> None:
    store = FaultyStore(MemoryStore())
    script = await read_before(store, packed=True)
    checkpoint = max(key for key in keys_of(store) if ":p" in key)
    await store.delete_many([checkpoint])

    with pytest.raises(DamagedDataError):
        await script.load(script.recent)


async def test_the_registry_decides_whatever_is_remembered() -> None:
    """Both journals exist, as while one is being deleted; only the registry knows which is meant."""
    store = MemoryStore()
    script = await small_journal(store)
    recent = RecentLogs()
    recent.remember(Log(Layout("s", "r", "other"), Head("s", "r"), None))

    assert shard_key("s") in keys_of(store)
    assert (await script.load(recent)).scope("").messages == script.live[""]


def test_only_so_many_are_remembered() -> None:
    recent = RecentLogs()
    for number in range(300):
        recent.remember(Log(Layout(f"s{number}", "r", "i"), Head(f"s{number}", "r"), None))

    assert recent.find("s0", "r") is None
    assert recent.find("s299", "r") is not None

    recent.forget(Layout("s299", "r", "i"))

    assert recent.find("s299", "r") is None
