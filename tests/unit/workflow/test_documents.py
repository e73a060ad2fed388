"""Documents: created once, of any length; changed by compare-and-set; checked when they are read."""

from __future__ import annotations

import asyncio
import random

import pytest

from strands_dapr_session.errors import DamagedDataError, StoredDataError, UnencodableValueError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import RunKeys
from strands_dapr_session.workflow.state import Request, RunState

LONG = random.Random(1).randbytes(1_500_000).hex()


@pytest.mark.parametrize("value", [None, "text", {"a": [1, b"2", 3.0]}, LONG], ids=["none", "text", "nested", "long"])
async def test_a_document_is_created_once(value: object) -> None:
    store = MemoryStore()
    assert await documents.create(store, "key", value, path="value") == value
    assert await documents.create(store, "key", value, path="value") == value
    assert await documents.create(store, "key", ["another", LONG], path="value") == value
    assert await documents.read(store, "key") == value
    keys = await documents.all_keys(store, "key")
    await store.delete_many(keys)
    assert await documents.read(store, "key") is None
    assert not await store.get_many([*keys, "key"])


async def test_what_would_change_in_storage_is_refused() -> None:
    store = MemoryStore()
    with pytest.raises(UnencodableValueError, match="prompt"):
        await documents.create(store, "key", object(), path="prompt")
    assert await store.get("key") is None


async def test_damage_is_told() -> None:
    store = MemoryStore()
    await documents.create(store, "key", LONG, path="value")
    assert len(await documents.all_keys(store, "key")) > 2
    await store.delete_many((await documents.all_keys(store, "key"))[1:2])
    with pytest.raises(DamagedDataError, match="is missing"):
        await documents.read(store, "key")
    await store.create("other", b"not ours")
    with pytest.raises(StoredDataError):
        await documents.read(store, "other")
    with pytest.raises(StoredDataError):
        await documents.change(store, "other", lambda _: 1)


async def test_changes_at_the_same_time_all_happen() -> None:
    store = MemoryStore()

    async def count() -> None:
        await documents.change(store, "key", lambda now: (now or 0) + 1)

    await asyncio.gather(*(count() for _ in range(20)))
    assert await documents.change(store, "key", lambda now: now) == (20, False)


def test_the_state_of_a_run_survives_storage() -> None:
    state = RunState().begun("worker", "claim", 1.0).asking(({"id": "1", "name": "n", "reason": {"a": 1}},))
    state = state.answered(1).begun("other", "claim-2", 2.0).over("failed", "Error", "why")
    assert RunState.read(state.plain(), "key") == state
    assert [attempt.ended for attempt in state.attempts] == ["interrupted", "failed"]
    for damaged in ({}, {**state.plain(), "phase": "lost"}, {**state.plain(), "attempts": [1]}, 7):
        with pytest.raises(DamagedDataError):
            RunState.read(damaged, "key")
    with pytest.raises(DamagedDataError):
        Request.read(["agent", "session"], "key")


def test_what_a_dead_worker_leaves_to_others() -> None:
    fresh = RunState()
    held = fresh.begun("worker", "claim", 1.0)
    assert held.is_left_by("worker")
    assert not held.is_left_by("another")
    assert held.let_go("drained").is_left_by("worker")  # and perhaps died before it laid it out
    for ended in (held.over("completed"), held.asking(({"id": "i"},)), fresh):
        assert not ended.is_left_by("worker")


def test_attempts_are_kept_by_the_dozen() -> None:
    state = RunState()
    for number in range(100):
        state = state.begun(f"worker-{number}", f"claim-{number}", 0.0).let_go("lost")
    assert len(state.attempts) == 32
    assert state.attempts[0].worker == "worker-0"
    assert state.attempts[-1].worker == "worker-99"


@pytest.mark.parametrize("name", ["req-77", "über alles", "a.b", "x" * 200, "Run", "run"])
def test_workflows_have_names_that_dapr_takes(name: str) -> None:
    instance = RunKeys(name).workflow(0)
    assert instance.replace("-", "").replace("_", "").isalnum()
    assert instance.isascii()
    assert RunKeys(name).workflow(1) != instance


def test_workflows_of_different_runs_have_different_names() -> None:
    names = ["a.b", "a_b", "a-b", "a b", "/a.b", "_a_b", ".a.b"]
    assert len({RunKeys(name).workflow(0) for name in names}) == len(names)
