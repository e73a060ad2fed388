"""A settled write has a certain outcome, whatever happened to requests and answers."""

from __future__ import annotations

import asyncio
import random

import pytest

from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.stores.base import Entry, KeyConflict, StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.stores.settle import etag_of, settle_create, settle_replace
from strands_dapr_session.testing.faults import (
    ArriveLate,
    Call,
    Fault,
    FaultyStore,
    LoseReply,
    LoseRequest,
    RefuseOwn,
    outage,
    scripted,
    seeded,
)

ONE_BY_ONE = [LoseReply(), LoseRequest(), RefuseOwn(), ArriveLate(1), ArriveLate(2), ArriveLate(9)]


async def no_time(seconds: float) -> None:  # noqa: ARG001
    await asyncio.sleep(0)


def policy(attempts: int = 1000) -> RetryPolicy:
    """A policy under which a pause takes no time, and so many are within the budget."""
    ticks = iter(range(10**9))
    return RetryPolicy(budget=attempts, clock=lambda: float(next(ticks)), sleep=no_time)


async def value_of(store: StateStore, key: str) -> bytes | None:
    entry = await store.get(key)
    return entry.value if entry else None


@pytest.mark.parametrize("fault", ONE_BY_ONE)
async def test_a_create_is_applied_once(fault: Fault) -> None:
    store = FaultyStore(MemoryStore(), scripted({1: fault}))
    await settle_create(store, "k", b"mine", policy())
    await store.deliver_postponed()
    assert await value_of(store, "k") == b"mine"


@pytest.mark.parametrize("fault", ONE_BY_ONE)
async def test_a_replace_is_applied_once(fault: Fault) -> None:
    store = FaultyStore(MemoryStore())
    await store.create("k", b"old")
    etag = await etag_of(store, "k", b"old")
    store.plan = scripted({len(store.calls) + 1: fault})
    await settle_replace(store, "k", b"new", etag, policy())
    new = await etag_of(store, "k", b"new")
    await store.deliver_postponed()
    assert await etag_of(store, "k", b"new") == new != etag


async def test_a_successful_write_reads_nothing() -> None:
    store = FaultyStore(MemoryStore())
    await settle_create(store, "k", b"1")
    assert [call.verb for call in store.calls] == ["create"]
    etag = await etag_of(store, "k", b"1")
    store.calls.clear()
    await settle_replace(store, "k", b"2", etag)
    assert [call.verb for call in store.calls] == ["replace"]


@pytest.mark.parametrize("fault", [None, LoseReply(), LoseRequest(), RefuseOwn()])
async def test_anothers_value_is_a_conflict_that_carries_it(fault: Fault | None) -> None:
    inner = MemoryStore()
    await inner.create("k", b"theirs")
    store = FaultyStore(inner, scripted({1: fault} if fault else {}))
    with pytest.raises(KeyConflict) as caught:
        await settle_create(store, "k", b"mine", policy())
    assert caught.value.settled
    assert caught.value.found == await inner.get("k")
    with pytest.raises(KeyConflict) as caught:
        await settle_replace(store, "k", b"mine", "stale", policy())
    assert caught.value.settled
    assert caught.value.found == await inner.get("k")


async def test_replacing_what_is_gone_is_a_conflict_with_nothing() -> None:
    with pytest.raises(KeyConflict) as caught:
        await settle_replace(MemoryStore(), "k", b"mine", "etag", policy())
    assert caught.value.settled
    assert caught.value.found is None
    with pytest.raises(KeyConflict) as caught:
        await etag_of(MemoryStore(), "k", b"mine")
    assert (caught.value.key, caught.value.found, caught.value.settled) == ("k", None, True)


async def test_the_etag_of_a_value_that_was_replaced_is_a_conflict_that_carries_the_new_one() -> None:
    store = MemoryStore()
    await store.create("k", b"theirs")
    with pytest.raises(KeyConflict) as caught:
        await etag_of(store, "k", b"mine")
    assert (caught.value.key, caught.value.found, caught.value.settled) == ("k", await store.get("k"), True)


async def test_a_refusal_for_which_there_is_no_reason_ends_in_an_error() -> None:
    class Moody(MemoryStore):
        async def create(self, key: str, value: bytes) -> None:  # noqa: ARG002
            raise KeyConflict(key)

    with pytest.raises(StoreUnavailableError, match="refused because of what the key holds") as caught:
        await settle_create(Moody(), "k", b"mine", policy(attempts=5))
    assert isinstance(caught.value.__cause__, KeyConflict)


async def test_a_create_refused_for_a_key_that_is_then_deleted_is_sent_again() -> None:
    inner = MemoryStore()
    await inner.create("k", b"theirs")

    def delete_before_read(call: Call) -> None:
        if call.number == 2:
            del inner._entries["k"]

    store = FaultyStore(inner, on_call=delete_before_read)
    await settle_create(store, "k", b"mine", policy())
    assert [call.verb for call in store.calls] == ["create", "get", "create"]
    assert await value_of(inner, "k") == b"mine"


async def test_the_budget_ends_in_an_error_that_tells_the_key() -> None:
    store = FaultyStore(MemoryStore(), lambda call: LoseRequest() if call.writes else None)
    with pytest.raises(StoreUnavailableError, match=r"'k'.*whether it will be is unknown \(no answer"):
        await settle_create(store, "k", b"mine", policy(attempts=5))
    await store.inner.create("r", b"old")
    etag = await etag_of(store, "r", b"old")
    with pytest.raises(StoreUnavailableError, match="'r'"):
        await settle_replace(store, "r", b"mine", etag, policy(attempts=5))
    assert await value_of(store, "r") == b"old"


async def test_a_store_that_cannot_be_read_is_unavailable() -> None:
    store = FaultyStore(MemoryStore(), outage(1, 99))
    with pytest.raises(StoreUnavailableError):
        await settle_create(store, "k", b"mine", policy())


async def write(store: StateStore, value: bytes, etag: str | None, pauses: int) -> KeyConflict | bytes | None:
    """Make a settled write; returns the conflict, the value once it is written, or None if nothing is known."""
    for _ in range(pauses):
        await asyncio.sleep(0)
    try:
        if etag is None:
            await settle_create(store, "k", value, policy())
        else:
            await settle_replace(store, "k", value, etag, policy())
    except KeyConflict as conflict:
        return conflict
    except StoreUnavailableError:
        return None
    return value


@pytest.mark.parametrize("seed", range(150))
async def test_of_concurrent_writers_under_faults_at_most_one_believes_that_it_wrote(seed: int) -> None:
    chance = random.Random(seed)
    inner = MemoryStore()
    store = FaultyStore(inner, seeded(seed, 0.5, [*ONE_BY_ONE, ArriveLate(20)]))
    held: Entry | None = None
    outcomes: list[KeyConflict | bytes | None] = []
    for generation in range(3):
        values = [b"%d of writer %d" % (generation, number) for number in range(4)]
        etag = held.etag if held else None
        outcomes = await asyncio.gather(*(write(store, value, etag, chance.randrange(4)) for value in values))
        held = await inner.get("k")
        for outcome in outcomes:
            if isinstance(outcome, KeyConflict):
                assert (outcome.settled, outcome.found) == (True, held)
            elif outcome is not None:
                assert held is not None
                assert outcome == held.value
    await store.deliver_postponed()
    late = await inner.get("k")
    # A copy of an unknown outcome may still arrive, as long as it overwrites nothing that was acknowledged.
    if any(isinstance(outcome, bytes) for outcome in outcomes):
        assert late == held
