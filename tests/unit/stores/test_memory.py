"""The store in memory."""

from __future__ import annotations

from itertools import count

import pytest

from strands_dapr_session.stores.base import Entry, KeyConflict
from strands_dapr_session.stores.conformance import CHECKS, Check, name_of, run_check
from strands_dapr_session.stores.memory import MemoryStore


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_conformance(check: Check) -> None:
    store = MemoryStore()
    await run_check(store, check)
    assert store.keys() == []


async def test_each_verb_is_one_atomic_step() -> None:
    store = MemoryStore()
    for verb in (
        store.create("k", b"1"),
        store.get("k"),
        store.get_many(["k"]),
        store.delete_many(["k"]),
        store.open(),
        store.close(),
    ):
        with pytest.raises(StopIteration):
            verb.send(None)  # it ends without ever waiting


async def test_etags_can_be_chosen() -> None:
    numbers = count(1)
    store = MemoryStore("named", new_etag=lambda: str(next(numbers)), max_value_bytes=3)
    await store.create("a", b"1")
    await store.create("b", b"2")
    await store.replace("a", b"3", "1")
    assert store.name == "memory://named"
    assert store.capabilities.max_value_bytes == 3
    assert await store.get_many(["a", "b", "c"]) == {"a": Entry(b"3", "3"), "b": Entry(b"2", "2")}
    with pytest.raises(KeyConflict):
        await store.replace("a", b"4", "1")
