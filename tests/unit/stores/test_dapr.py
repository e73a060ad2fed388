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


async def test_transient_failures_of_reads_are_retried(store: DaprStore, sidecar: FakeSidecar) -> None:
    await io_thread.run(store.create("k", b"1"))
    codes = [Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN, None]
    for method in ("GetState", "GetBulkState", "DeleteBulkState"):
        sidecar.failures[method].extend(Failure(code) for code in codes)
    assert await io_thread.run(store.get("k")) is not None
    assert len(await io_thread.run(store.get_many(["k", "l"]))) == 1
    await io_thread.run(store.delete_many(["k"]))
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


@pytest.mark.parametrize(
    "form", ["https://localhost:{port}", "localhost:{port}?tls=true", "dns:localhost:{port}?tls=true"]
)
async def test_tls(sidecar: FakeSidecar, tmp_path: Path, form: str) -> None:
    credentials = grpc.ssl_server_credentials([self_signed(tmp_path)])
    script = """
from strands_dapr_session import io_thread
from strands_dapr_session.stores import open_store
io_thread.run_sync(open_store("dapr://statestore?retry_seconds=1").open())
"""

    async def use() -> None:
        async with served(sidecar, credentials) as address:
            endpoint = form.format(port=address.rpartition(":")[2])
            # gRPC reads what it trusts once in a process.
            trusted = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "certificate.pem")}
            environment = os.environ | trusted | {"DAPR_GRPC_ENDPOINT": endpoint}
            client = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", script], env=environment, timeout=60
            )
            assert client.returncode == 0

    await io_thread.run(use())
