"""The store behind a Dapr sidecar, against a sidecar that fails in chosen ways."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    ConfigurationError,
    SidecarNotFoundError,
    StoreError,
    StoreUnavailableError,
    TooLargeError,
    UnknownComponentError,
    UnsafeStoreError,
)
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from strands_dapr_session.stores.conformance import CHECKS, Check, name_of, run_check
from strands_dapr_session.stores.dapr import DaprStore
from strands_dapr_session.stores.dapr.sidecar import SidecarAddress, sidecar_at
from strands_dapr_session.stores.dapr.store import _fitting, _page_keys, _pages
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.stores.settle import etag_of, settle_create, settle_replace
from tests.unit.stores.fake_sidecar import Failure, FakeSidecar, served

Code = grpc.StatusCode
PATIENT = RetryPolicy(budget=30, first_delay=0.005, longest_delay=0.05)
QUICK = RetryPolicy(budget=0.3, first_delay=0.005)


@pytest.fixture
def sidecar() -> FakeSidecar:
    return FakeSidecar()


@pytest.fixture
async def store(sidecar: FakeSidecar) -> AsyncIterator[DaprStore]:
    stack = AsyncExitStack()
    address = await io_thread.run(stack.enter_async_context(served(sidecar)))
    made = DaprStore("statestore", address, retry=PATIENT, timeout=1.0)
    await io_thread.run(made.open())
    sidecar.calls.clear()
    yield made
    await io_thread.run(made.close())
    await io_thread.run(stack.aclose())


def address_of(store: DaprStore) -> str:
    return store.name.partition("address=")[2]


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_conformance(store: DaprStore, sidecar: FakeSidecar, check: Check) -> None:
    await io_thread.run(run_check(store, check))
    assert not sidecar.values


# -- writes -----------------------------------------------------------------------------------------------------------


async def test_every_write_is_first_write_and_asks_for_strong_consistency(
    store: DaprStore, sidecar: FakeSidecar
) -> None:
    await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.replace("k", b"2", "1"))
    create, replace = (request.states[0] for request in sidecar.requests("SaveState"))
    assert not create.HasField("etag")
    assert replace.etag.value == "1"
    for item in (create, replace):
        assert (item.options.concurrency, item.options.consistency) == (1, 2)  # first-write, strong


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize(
    "code",
    [
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.CANCELLED,
        Code.ABORTED,
        Code.RESOURCE_EXHAUSTED,
        Code.INVALID_ARGUMENT,
        Code.FAILED_PRECONDITION,
    ],
)
async def test_codes_that_prove_nothing_are_settled(
    store: DaprStore, sidecar: FakeSidecar, code: grpc.StatusCode, *, applied: bool
) -> None:
    sidecar.failures["SaveState"].append(Failure(code, applied=applied))
    with pytest.raises(KeyConflict if code is Code.ABORTED else OutcomeUnknown):
        await io_thread.run(store.create("raw", b"1"))
    sidecar.failures["SaveState"].append(Failure(code, applied=applied))
    await io_thread.run(settle_create(store, "k", b"1", PATIENT))
    etag = await io_thread.run(etag_of(store, "k", b"1"))
    sidecar.failures["SaveState"].append(Failure(code, applied=applied))
    await io_thread.run(settle_replace(store, "k", b"2", etag, PATIENT))
    assert sidecar.values["k"][0] == b"2"


async def test_aborted_says_a_conflict_only_of_a_create(store: DaprStore, sidecar: FakeSidecar) -> None:
    await io_thread.run(store.create("k", b"1"))
    with pytest.raises(KeyConflict):
        await io_thread.run(store.create("k", b"2"))
    with pytest.raises(OutcomeUnknown, match="ABORTED"):
        await io_thread.run(store.replace("k", b"2", "stale"))
    assert sidecar.values["k"][0] == b"1"


async def test_small_creates_travel_together_and_one_conflict_hurts_no_other(
    store: DaprStore, sidecar: FakeSidecar
) -> None:
    await io_thread.run(store.create("k5", b"taken"))
    sidecar.calls.clear()

    async def together() -> list[BaseException | None]:
        return await asyncio.gather(
            *(settle_create(store, f"k{n}", b"mine") for n in range(200)), return_exceptions=True
        )

    outcomes = await io_thread.run(together())
    conflict = outcomes.pop(5)
    assert isinstance(conflict, KeyConflict)
    assert conflict.settled
    assert outcomes == [None] * 199
    groups = [len(request.states) for request in sidecar.requests("SaveState")]
    assert max(groups) == 32
    assert sum(groups) == 200


async def test_large_creates_go_alone_and_small_ones_pass_them(store: DaprStore, sidecar: FakeSidecar) -> None:
    for _ in range(4):
        sidecar.failures["SaveState"].append(Failure(None))

    async def write() -> list[str]:
        order: list[str] = []

        async def create(key: str, size: int) -> None:
            try:
                await store.create(key, bytes(size))
            except OutcomeUnknown:
                order.append(f"{key} unknown")
            else:
                order.append(key)

        large = [asyncio.create_task(create(f"large{n}", 100_000)) for n in range(4)]
        await sidecar.hanging(4)
        await create("small", 100)
        await asyncio.gather(*large)
        return order

    order = await io_thread.run(write())
    assert order[0] == "small"
    assert sorted(order[1:]) == [f"large{n} unknown" for n in range(4)]


@pytest.mark.parametrize("component_type", ["state.sqlite", "state.other"])
async def test_components_that_gain_nothing_get_one_item_at_a_time(sidecar: FakeSidecar, component_type: str) -> None:
    sidecar.components = [{"name": "statestore", "type": component_type, "version": "v1"}]

    async def use() -> None:
        async with served(sidecar) as address:
            store = DaprStore("statestore", address)
            await store.open()
            await asyncio.gather(*(store.create(f"k{n}", b"1") for n in range(50)))
            assert store.capabilities.serial_writes == (component_type == "state.sqlite")
            assert len(await store.get_many([f"k{n}" for n in range(50)])) == 50
            await store.close()

    await io_thread.run(use())
    assert [len(request.states) for request in sidecar.requests("SaveState")] == [1] * 50
    # A read of many has no consistency, so it is used only where that makes no difference.
    assert bool(sidecar.requests("GetBulkState")) == (component_type == "state.sqlite")


async def test_what_is_longer_than_a_message_is_refused(store: DaprStore, sidecar: FakeSidecar) -> None:
    with pytest.raises(TooLargeError):
        await io_thread.run(store.create("k", bytes(1024 * 1024 + 1)))
    assert not sidecar.calls
    sidecar.failures["SaveState"].append(
        Failure(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (9 vs. 8)")
    )
    with pytest.raises(TooLargeError, match="--max-body-size"):
        await io_thread.run(store.create("k", b"1"))


# -- reads ------------------------------------------------------------------------------------------------------------


async def test_a_key_that_is_empty_exists(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.values["k"] = b"", "7"
    entry = await io_thread.run(store.get("k"))
    assert entry is not None
    assert (entry.value, entry.etag) == (b"", "7")
    assert list(await io_thread.run(store.get_many(["k", "absent"]))) == ["k"]


async def test_what_is_absent_is_in_no_answer(store: DaprStore) -> None:
    assert await io_thread.run(store.get("absent")) is None
    assert await io_thread.run(store.get_many(["absent"])) == {}
    assert await io_thread.run(store.get_many([])) == {}


async def test_every_call_names_the_component_and_reads_ask_for_strong_consistency(
    store: DaprStore, sidecar: FakeSidecar
) -> None:
    await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.get("k"))
    await io_thread.run(store.get_many(["k", "l"]))
    await io_thread.run(store.delete_many(["k"]))
    assert [name for name, _ in sidecar.calls] == ["SaveState", "GetState", "GetBulkState", "DeleteBulkState"]
    assert {request.store_name for _, request in sidecar.calls} == {"statestore"}
    (read,) = sidecar.requests("GetState")
    assert read.consistency == 2
    eventual = DaprStore("statestore", address_of(store), consistency="eventual")
    await io_thread.run(eventual.get("k"))
    assert sidecar.requests("GetState")[-1].consistency == 1


async def test_keys_that_no_store_takes_are_refused_by_every_verb(store: DaprStore, sidecar: FakeSidecar) -> None:
    for refused in (
        store.get(""),
        store.get_many(["k", ""]),
        store.create("", b"1"),
        store.replace("", b"1", "1"),
        store.delete_many(["k", ""]),
    ):
        with pytest.raises(ValueError, match="key"):
            await io_thread.run(refused)
    with pytest.raises(TooLargeError):
        await io_thread.run(store.replace("k", bytes(1024 * 1024 + 1), "1"))
    assert not sidecar.calls


async def test_an_answer_longer_than_grpc_takes_by_itself_is_read(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.values["long"] = bytes(5 * 1024 * 1024), "1"
    entry = await io_thread.run(store.get("long"))
    assert entry is not None
    assert len(entry.value) == 5 * 1024 * 1024


async def test_many_are_deleted_in_several_calls(store: DaprStore, sidecar: FakeSidecar) -> None:
    keys = [f"k{n}" for n in range(130)]
    for key in keys:
        sidecar.values[key] = b"1", "1"
    await io_thread.run(store.delete_many(keys))
    assert not sidecar.values
    assert [len(request.states) for request in sidecar.requests("DeleteBulkState")] == [64, 64, 2]


def test_pages_are_full_and_no_fuller() -> None:
    page = 2 * 1024 * 1024
    half, rest = {"a": page // 2, "b": page // 2}, {"c": 1, "d": page, "e": page + 1}
    sizes = {**half, **rest}
    assert _pages(list(sizes), sizes) == [["a", "b"], ["c"], ["d"], ["e"]]
    short = {f"k{n}": 0 for n in range(257)}
    assert [len(each) for each in _pages(list(short), short)] == [128, 128, 1]
    assert _pages([], {}) == []


def test_what_goes_along_fits_exactly() -> None:
    sizes = {"a": 3, "b": 4, "c": 1}
    fitting = {room: list(_fitting(list(sizes), sizes, room)) for room in (2, 3, 6, 7, 8)}
    assert fitting == {2: [], 3: ["a"], 6: ["a"], 7: ["a", "b"], 8: ["a", "b", "c"]}
    many = {f"k{n}": 0 for n in range(200)}
    assert len(_fitting(list(many), many, 0)) == 128 - 40  # beside a first page


@pytest.mark.parametrize(
    ("keys", "size", "then"),
    [(40, 0, 128), (40, 1, 128), (40, 40 * 20_000, 104), (40, 40 * 3 * 1024 * 1024, 1), (1, 1024 * 1024, 2)],
)
def test_the_next_pages_follow_what_the_first_one_took(keys: int, size: int, then: int) -> None:
    assert _page_keys(keys, size) == then


async def test_transient_failures_of_reads_are_retried(store: DaprStore, sidecar: FakeSidecar) -> None:
    await io_thread.run(store.create("k", b"1"))
    codes = [Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN, None]
    for method in ("GetState", "GetBulkState", "DeleteBulkState"):
        sidecar.failures[method].extend(Failure(code) for code in codes)
    impatient = DaprStore("statestore", address_of(store), retry=PATIENT, timeout=0.2)
    await io_thread.run(impatient.open())
    assert await io_thread.run(impatient.get("k")) is not None
    assert len(await io_thread.run(impatient.get_many(["k", "l"]))) == 1
    await io_thread.run(impatient.delete_many(["k"]))
    assert not sidecar.values


async def test_a_key_that_could_not_be_read_is_not_taken_for_absent(store: DaprStore, sidecar: FakeSidecar) -> None:
    for n in range(3):
        await io_thread.run(store.create(f"k{n}", b"1"))
    sidecar.unreadable.add("k1")
    assert sorted(await io_thread.run(store.get_many(["k0", "k1", "k2", "k3"]))) == ["k0", "k1", "k2"]


async def test_pages_follow_the_size_of_what_was_read(store: DaprStore, sidecar: FakeSidecar) -> None:
    for n in range(200):
        sidecar.values[f"small{n}"] = bytes(1000), "1"
        sidecar.values[f"large{n}"] = bytes(100_000), "1"
    small, large = ([f"{kind}{n}" for n in range(200)] for kind in ("small", "large"))
    assert len(await io_thread.run(store.get_many(small))) == 200
    assert [len(request.keys) for request in sidecar.requests("GetBulkState")] == [40, 128, 32]
    sidecar.calls.clear()
    assert len(await io_thread.run(store.get_many(large))) == 200
    assert [len(request.keys) for request in sidecar.requests("GetBulkState")] == [40] + 8 * [20]
    assert not sidecar.requests("GetState")
    assert all(request.parallelism == 0 for request in sidecar.requests("GetBulkState"))


async def test_pages_follow_the_sizes_that_the_caller_knows(store: DaprStore, sidecar: FakeSidecar) -> None:
    sizes = {f"long{n}": 700_000 for n in range(7)}
    for name, size in sizes.items():
        sidecar.values[name] = bytes(size), "1"
    for n in range(30):
        sidecar.values[f"short{n}"] = bytes(1000), "1"
    names = [*sizes, *(f"short{n}" for n in range(30)), "absent"]
    sizes["short0"] = 1000  # goes with the others
    assert len(await io_thread.run(store.get_many(names, sizes=sizes))) == 37
    pages = [len(request.keys) for request in sidecar.requests("GetBulkState")]
    assert sorted(pages) == [2, 2, 2, 31]  # at the same time: nobody waits for the measure of a first page
    assert len(sidecar.requests("GetState")) == 1


async def test_short_values_of_known_size_go_with_those_of_unknown_size(store: DaprStore, sidecar: FakeSidecar) -> None:
    unknown, known = [f"unknown{n}" for n in range(38)], [f"known{n}" for n in range(12)]
    for name in [*unknown, *known]:
        sidecar.values[name] = bytes(60_000), "1"
    assert len(await io_thread.run(store.get_many([*known, *unknown], sizes=dict.fromkeys(known, 60_000)))) == 50
    # At once, and however long the others turn out to be: room is left for the longest slots.
    assert [len(request.keys) for request in sidecar.requests("GetBulkState")] == [38 + 3, 9]
    sidecar.calls.clear()
    assert len(await io_thread.run(store.get_many([*known, *unknown], sizes=dict.fromkeys(known, 10)))) == 50
    assert [len(request.keys) for request in sidecar.requests("GetBulkState")] == [50]


async def test_a_page_that_is_too_long_is_read_in_halves(store: DaprStore, sidecar: FakeSidecar) -> None:
    names = [f"k{n}" for n in range(20)]
    for name in names:
        sidecar.values[name] = bytes(1024 * 1024), "1"
    assert len(await io_thread.run(store.get_many(names))) == 20
    read = {len(request.keys) for request in sidecar.requests("GetBulkState")}
    assert read == {20, 10, 5, 3, 2}


async def test_sizes_that_are_wrong_cost_time_only(store: DaprStore, sidecar: FakeSidecar) -> None:
    names = [f"k{n}" for n in range(20)]
    for name in names:
        sidecar.values[name] = bytes(1024 * 1024), "1"
    assert len(await io_thread.run(store.get_many(names, sizes=dict.fromkeys(names, 10)))) == 20
    assert len(await io_thread.run(store.get_many(names, sizes=dict.fromkeys(names, 10**9)))) == 20


async def test_no_answer_within_the_budget(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.failures["GetState"].extend([Failure(Code.INTERNAL, "database on fire")] * 1000)
    quick = DaprStore("statestore", address_of(store), retry=QUICK)
    with pytest.raises(StoreUnavailableError, match=r"no answer for 0.3 s \(INTERNAL: database on fire\)"):
        await io_thread.run(quick.get("k"))


# -- opening and refusals ---------------------------------------------------------------------------------------------


async def test_an_unknown_component_is_told_with_those_that_are_there(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.components = [
        {"name": "orders", "type": "state.redis", "version": "v1"},
        {"name": "bus", "type": "pubsub.redis", "version": "v1"},
    ]
    other = DaprStore("sessions", address_of(store), retry=QUICK)
    with pytest.raises(UnknownComponentError, match=r"no state component 'sessions'. Its state components: orders\."):
        await io_thread.run(other.open())
    await io_thread.run(other.close())


async def test_that_there_is_no_state_component_is_told(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.components = []
    other = DaprStore("sessions", address_of(store), retry=QUICK)
    with pytest.raises(UnknownComponentError, match=r"Its state components: none\."):
        await io_thread.run(other.open())


async def test_the_component_is_asked_for_once(store: DaprStore, sidecar: FakeSidecar) -> None:
    await io_thread.run(store.open())
    assert not sidecar.calls  # the fixture has opened it


async def test_a_component_that_says_nothing_of_etags_is_tried(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.components = [{"name": "old", "type": "state.x", "version": "v1"}]
    await io_thread.run(DaprStore("old", address_of(store), retry=QUICK).open())
    sidecar.components = [{"name": "new", "type": "state.x", "version": "v1", "capabilities": ["TTL", "ETAG"]}]
    await io_thread.run(DaprStore("new", address_of(store), retry=QUICK).open())


@pytest.mark.parametrize(
    ("kind", "given", "most"),
    [
        ("state.redis", None, 1024 * 1024),
        ("state.redis", 2_000_000, 2_000_000),
        ("state.aws.dynamodb", None, 380 * 1024),
        ("state.aws.dynamodb", 1000, 1000),
    ],
)
async def test_what_one_key_may_hold(
    store: DaprStore, sidecar: FakeSidecar, kind: str, given: int | None, most: int
) -> None:
    sidecar.components = [{"name": "statestore", "type": kind, "version": "v1"}]
    other = DaprStore("statestore", address_of(store), max_value_bytes=given)
    await io_thread.run(other.open())
    assert other.capabilities.max_value_bytes == most
    assert other.capabilities.max_batch_keys == 128
    assert other.capabilities.replace_revives == (kind == "state.redis")


async def test_a_component_without_etags_is_refused(store: DaprStore, sidecar: FakeSidecar) -> None:
    sidecar.components = [{"name": "plain", "type": "state.x", "version": "v1", "capabilities": ["TTL"]}]
    other = DaprStore("plain", address_of(store), retry=QUICK)
    with pytest.raises(UnsafeStoreError, match="keeps no ETags"):
        await io_thread.run(other.open())
    await io_thread.run(other.close())


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (Failure(Code.UNAUTHENTICATED, "authentication error"), StoreError, "DAPR_API_TOKEN"),
        (Failure(Code.PERMISSION_DENIED), StoreError, "DAPR_API_TOKEN"),
        (Failure(Code.UNIMPLEMENTED), StoreError, "does not offer Dapr's state API"),
        (Failure(Code.INVALID_ARGUMENT, "state store statestore is not found"), UnknownComponentError, "not found"),
        (Failure(Code.FAILED_PRECONDITION, "state store statestore is not configured"), UnknownComponentError, "conf"),
    ],
)
async def test_refusals_are_not_retried(
    store: DaprStore, sidecar: FakeSidecar, failure: Failure, error: type[StoreError], message: str
) -> None:
    for method in ("GetState", "SaveState"):
        sidecar.failures[method].append(failure)
    with pytest.raises(error, match=message):
        await io_thread.run(store.get("k"))
    with pytest.raises(error, match=message):
        await io_thread.run(store.create("k", b"1"))
    assert len(sidecar.calls) == 2


async def test_no_sidecar_is_told_at_once_and_given_up_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    store = DaprStore("statestore", "127.0.0.1:1", retry=QUICK)
    with caplog.at_level(logging.WARNING), pytest.raises(SidecarNotFoundError, match="dapr run") as caught:
        await io_thread.run(store.open())
    assert "127.0.0.1:1" in str(caught.value)
    assert sum("waiting for the Dapr sidecar" in record.message for record in caplog.records) == 1
    await io_thread.run(store.close())


async def test_a_sidecar_that_starts_late_is_waited_for() -> None:
    async def use() -> None:
        async with served(FakeSidecar()) as address:
            pass
        paused = asyncio.Event()

        async def pause(seconds: float) -> None:
            paused.set()
            await asyncio.sleep(seconds)

        store = DaprStore("statestore", address, retry=RetryPolicy(budget=20, longest_delay=0.05, sleep=pause))
        opening = asyncio.create_task(store.open())
        await paused.wait()
        async with served(FakeSidecar(), address=address):
            await opening
            await store.create("k", b"1")
            await store.close()

    await io_thread.run(use())


# -- the connection ---------------------------------------------------------------------------------------------------


async def test_the_token_is_sent(sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPR_API_TOKEN", "secret")

    async def use() -> None:
        async with served(sidecar) as address:
            store = DaprStore("statestore", address)
            await store.open()
            await store.close()

    await io_thread.run(use())
    assert sidecar.metadata[0]["dapr-api-token"] == "secret"


async def test_a_connection_on_which_nothing_is_answered_is_replaced(
    store: DaprStore, sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar.failures["GetState"].extend([Failure(None)] * 4)
    connection = store._calls._sidecar._channel
    patient = DaprStore("statestore", address_of(store), retry=RetryPolicy(budget=30), timeout=0.05)
    await io_thread.run(patient.create("k", b"1"))
    with caplog.at_level(logging.WARNING):
        assert await io_thread.run(patient.get("k")) is not None
    assert "dialing again" in caplog.text
    assert store._calls._sidecar._channel is not connection


async def test_a_store_that_is_closed_leaves_no_connection(store: DaprStore) -> None:
    await io_thread.run(store.get("k"))
    await io_thread.run(store.close())
    assert store._calls._sidecar._channel is None
    assert await io_thread.run(store.get("k")) is None  # and makes another one when it is used


async def test_a_proxy_is_not_asked_for_a_sidecar_of_this_machine(
    sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def use() -> None:
        async with served(sidecar) as address:
            store = DaprStore("statestore", address, retry=QUICK)
            await store.open()
            await store.close()

    await io_thread.run(use())


async def test_stores_of_one_sidecar_share_a_connection(store: DaprStore) -> None:
    where = SidecarAddress.parse(address_of(store))
    assert store._calls._sidecar is sidecar_at(where)


@pytest.mark.parametrize(
    ("text", "shown", "tls", "loopback"),
    [
        ("127.0.0.1:50001", "127.0.0.1:50001", False, True),
        ("localhost:3500", "localhost:3500", False, True),
        ("http://sidecar:50001", "sidecar:50001", False, False),
        ("https://dapr.example.org", "dapr.example.org:443?tls=true", True, False),
        ("dapr.example.org:1443?tls=true", "dapr.example.org:1443?tls=true", True, False),
        ("dns:host:50001", "host:50001", False, False),
        ("dns://authority/host:50001", "//authority/host:50001", False, False),
    ],
)
def test_addresses(text: str, shown: str, *, tls: bool, loopback: bool) -> None:
    address = SidecarAddress.parse(text)
    assert (str(address), address.tls, address.loopback) == (shown, tls, loopback)


def test_the_address_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAPR_GRPC_ENDPOINT", "DAPR_GRPC_PORT", "DAPR_RUNTIME_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert str(SidecarAddress.from_environment()) == "127.0.0.1:50001"
    monkeypatch.setenv("DAPR_GRPC_PORT", "3600")
    assert str(SidecarAddress.from_environment()) == "127.0.0.1:3600"
    monkeypatch.setenv("DAPR_RUNTIME_HOST", "host")
    assert str(SidecarAddress.from_environment()) == "host:3600"
    monkeypatch.setenv("DAPR_GRPC_ENDPOINT", "https://dapr.example.org:8443")
    assert str(SidecarAddress.from_environment()) == "dapr.example.org:8443?tls=true"


@pytest.mark.parametrize("address", ["ftp://host", "host:port", "host:1/path"])
def test_an_address_that_cannot_be_understood(address: str) -> None:
    with pytest.raises(ConfigurationError, match="address of the Dapr sidecar"):
        SidecarAddress.parse(address)


def self_signed(directory: Path) -> tuple[bytes, bytes]:
    """Make a key and a certificate for localhost."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *name, *files], check=True, capture_output=True)
    return key.read_bytes(), certificate.read_bytes()


async def test_tls(sidecar: FakeSidecar, tmp_path: Path) -> None:
    credentials = grpc.ssl_server_credentials([self_signed(tmp_path)])
    script = """
import os, sys
from strands_dapr_session import io_thread
from strands_dapr_session.stores.dapr import DaprStore
from strands_dapr_session.stores.retry import RetryPolicy
for endpoint in sys.argv[1:]:
    os.environ["DAPR_GRPC_ENDPOINT"] = endpoint
    io_thread.run_sync(DaprStore("statestore", retry=RetryPolicy(budget=1)).open())
"""

    async def use() -> None:
        async with served(sidecar, credentials) as address:
            host = f"localhost:{address.rpartition(':')[2]}"
            endpoints = [f"https://{host}", f"{host}?tls=true", f"dns:{host}?tls=true"]
            # gRPC reads what it trusts once in a process.
            environment = os.environ | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "certificate.pem")}
            client = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", script, *endpoints], env=environment, timeout=60
            )
            assert client.returncode == 0

    await io_thread.run(use())
    assert [name for name, _ in sidecar.calls] == ["GetMetadata"] * 3
