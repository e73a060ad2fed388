"""A session whose stored bytes are damaged can be deleted, or the error says how, and that works."""

from __future__ import annotations

import re
from unittest import mock

import pytest
from strands import Agent

from strands_dapr_session import DamagedDataError, DaprSessionManager
from strands_dapr_session.journal import packing
from strands_dapr_session.journal.layout import shard_key
from strands_dapr_session.stores.base import Entry
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

CALLS = 40
"""Enough for commits to be packed."""


def used_store() -> MemoryStore:
    store = MemoryStore(max_value_bytes=2_000)
    with mock.patch.object(packing, "INLINE_BYTES", 0):
        for session in ("s", "other"):
            agent = Agent(
                model=ScriptedModel(["done " * 50]),
                session_manager=DaprSessionManager(session, store=store),
                callback_handler=None,
            )
            for _ in range(CALLS if session == "s" else 1):
                agent("go")
    return store


def keys_of(store: MemoryStore) -> list[str]:
    return [key for key in store._entries if not key.startswith(("strands:sessions:", "strands:worker:"))]


def damage(store: MemoryStore, key: str) -> None:
    entry = store._entries[key]
    store._entries[key] = Entry(entry.value[:-1] + bytes([entry.value[-1] ^ 1]), entry.etag)


def test_whatever_is_damaged_the_session_can_be_deleted_in_the_end() -> None:
    whole = used_store()
    others = sorted(key for key in keys_of(whole) if "{other:" in key)
    refused = 0
    for key in [key for key in keys_of(whole) if "{s:" in key]:
        store = MemoryStore(max_value_bytes=2_000)
        store._entries.update(whole._entries)
        damage(store, key)
        manager = DaprSessionManager("s", store=store)
        try:
            manager.delete()
        except DamagedDataError as error:
            refused += 1
            prefix = re.search(r"begins with '(strands:[^']*)'", str(error))
            assert prefix is not None
            for each in [each for each in store._entries if each.startswith(prefix[1])]:
                del store._entries[each]
            manager.delete()
        assert sorted(keys_of(store)) == others
    assert refused  # the head, at least


def test_a_damaged_registry_is_named_and_what_to_do_about_it() -> None:
    store = used_store()
    damage(store, shard_key("s"))

    with pytest.raises(DamagedDataError, match=r"backup.*strands:\{s:"):
        DaprSessionManager("s", store=store).delete()

    assert [key for key in keys_of(store) if "{s:" in key]
