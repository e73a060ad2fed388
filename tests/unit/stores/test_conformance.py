"""The conformance suite and the probe find what is broken. Each broken store here breaks one promise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from strands_dapr_session.errors import StoreUnavailableError, TooLargeError, UnsafeStoreError
from strands_dapr_session.journal.layout import probe_keys
from strands_dapr_session.stores.base import Entry, OutcomeUnknown, StateStore, StoreCapabilities
from strands_dapr_session.stores.conformance import run_conformance
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.stores.probe import check_store
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.testing.faults import Call, FaultyStore, LoseRequest

QUICK = RetryPolicy(budget=0.01, first_delay=0.001)


class LastCreatorWins(MemoryStore):
    async def create(self, key: str, value: bytes) -> None:
        self._entries.pop(key, None)
        await super().create(key, value)


class LooksThenCreates(MemoryStore):
    """Checks and writes in two steps."""

    async def create(self, key: str, value: bytes) -> None:
        if key in self._entries:
            await super().create(key, value)
        await asyncio.sleep(0)
        self._entries.pop(key, None)
        await super().create(key, value)


class IgnoresEtags(MemoryStore):
    async def replace(self, key: str, value: bytes, etag: str) -> None:
        if key in self._entries:
            etag = self._entries[key].etag
        await super().replace(key, value, etag)


class KeepsEtags(MemoryStore):
    async def replace(self, key: str, value: bytes, etag: str) -> None:
        await super().replace(key, value, etag)
        self._entries[key] = Entry(value, etag)


class RevivesWithoutSayingSo(MemoryStore):
    async def replace(self, key: str, value: bytes, etag: str) -> None:
        if key in self._entries:
            await super().replace(key, value, etag)
        else:
            await super().create(key, value)


class KeepsText(MemoryStore):
    async def create(self, key: str, value: bytes) -> None:
        await super().create(key, value.decode(errors="replace").encode())


class TakesTextOnly(MemoryStore):
    async def create(self, key: str, value: bytes) -> None:
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise OutcomeUnknown(key, error) from error
        await super().create(key, value)


class StripsZeros(MemoryStore):
    async def get_many(self, keys: Sequence[str], **_: Any) -> dict[str, Entry]:
        found = await super().get_many(keys)
        return {key: Entry(entry.value.rstrip(b"\x00"), entry.etag) for key, entry in found.items()}


class FoldsCase(MemoryStore):
    async def create(self, key: str, value: bytes) -> None:
        await super().create(key.lower(), value)

    async def get(self, key: str) -> Entry | None:
        return await super().get(key.lower())


class LosesSomeOfMany(MemoryStore):
    async def get_many(self, keys: Sequence[str], **_: Any) -> dict[str, Entry]:
        return await super().get_many(list(keys)[:100])


class ReadsLate(MemoryStore):
    """Acknowledges before others can read it."""

    async def get_many(self, keys: Sequence[str], **_: Any) -> dict[str, Entry]:
        found = await super().get_many(keys)
        return {} if len(keys) == 2 else found


class DeletesOnce(MemoryStore):
    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            del self._entries[key]


class HoldsLess(MemoryStore):
    async def create(self, key: str, value: bytes) -> None:
        if len(value) > 1000:
            raise TooLargeError("the component's own limit")
        await super().create(key, value)


class TakesAnything(MemoryStore):
    async def create(self, key: str, value: bytes) -> None:
        self._entries.setdefault(key, Entry(value, "etag"))

    async def get(self, key: str) -> Entry | None:
        return self._entries.get(key)


BROKEN = {
    LastCreatorWins: {"one_creator_wins", "existing_key_is_not_created", "lost_answers_are_settled"},
    LooksThenCreates: {"one_creator_wins"},
    IgnoresEtags: {"one_replacer_wins", "etag_is_compared", "lost_answers_are_settled"},
    KeepsEtags: {"one_replacer_wins", "etag_is_compared"},
    RevivesWithoutSayingSo: {"absent_key_is_not_replaced"},
    KeepsText: {"bytes_come_back", "many_keys_are_read"},
    StripsZeros: {"bytes_come_back"},
    FoldsCase: {"keys_are_kept_apart"},
    LosesSomeOfMany: {"many_keys_are_read"},
    ReadsLate: {"writes_are_seen_at_once"},
    DeletesOnce: {"deleting_is_idempotent"},
    HoldsLess: {"largest_value_fits", "many_keys_are_read"},
    TakesAnything: {"empty_value_is_refused", "largest_value_fits", "keys_are_kept_apart"},
}
REFUSED_AT_START = [LastCreatorWins, LooksThenCreates, IgnoresEtags, KeepsEtags, KeepsText, TakesTextOnly]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_what_is_broken_is_found(broken: type[MemoryStore]) -> None:
    report = await run_conformance(broken(), QUICK)
    failed = {finding.check for finding in report.findings if not finding.passed}
    assert failed >= BROKEN[broken], str(report)
    assert not report.conforms
    assert "DOES NOT CONFORM" in str(report)


async def test_a_good_store_gets_a_good_report() -> None:
    store = MemoryStore("good")
    report = await run_conformance(store)
    assert report.conforms
    assert str(report).splitlines()[0] == "memory://good: conforms"
    assert store.keys() == []


@pytest.mark.parametrize("broken", REFUSED_AT_START, ids=lambda broken: broken.__name__)
async def test_an_unsafe_store_is_refused_at_start(broken: type[MemoryStore]) -> None:
    store = broken("unsafe")
    for _ in range(2):
        with pytest.raises(UnsafeStoreError, match=r"memory://unsafe: .*lost or mixed up"):
            await check_store(store, QUICK)
    assert store.keys() == []


async def test_a_store_is_probed_once() -> None:
    store = FaultyStore(MemoryStore())
    await check_store(store)
    calls = len(store.calls)
    await check_store(store)
    assert len(store.calls) == calls


async def test_a_store_that_does_not_answer_is_not_called_unsafe() -> None:
    store = FaultyStore(MemoryStore(), lambda call: LoseRequest() if call.writes else None)
    with pytest.raises(StoreUnavailableError):
        await check_store(store, QUICK)
    store.plan = lambda _: None
    await check_store(store)


async def test_a_probe_that_fails_leaves_nothing() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, lambda call: LoseRequest() if call.verb == "replace" else None)
    with pytest.raises(StoreUnavailableError):
        await check_store(store, QUICK)
    assert inner.keys() == []


async def test_a_store_may_revive_when_it_says_so() -> None:
    store: StateStore = RevivesWithoutSayingSo()
    store.capabilities = StoreCapabilities(replace_revives=True)
    assert (await run_conformance(store)).conforms


class Killed(BaseException):
    """The process ends here."""


async def test_what_a_process_leaves_that_is_killed_in_the_probe_is_where_it_was_told_to_try() -> None:
    keys = probe_keys("s", "a")
    left: set[str] = set()
    for number in range(1, 14):
        inner = MemoryStore()
        store = FaultyStore(inner)

        def die(_: Call, store: FaultyStore = store, last: int = number) -> None:
            if len(store.calls) >= last:
                raise Killed

        store.plan = die
        with contextlib.suppress(Killed):
            await check_store(store, QUICK, keys)
        left |= {*inner.keys()}
    assert left == {keys[0]}


async def test_a_probe_passes_by_what_others_left_or_do() -> None:
    inner = MemoryStore()
    keys = probe_keys("s", "a")
    for key in keys[:2]:
        await inner.create(key, b"left")

    def deleting(call: Call) -> None:
        if call.verb == "replace":
            inner._entries.pop(keys[2], None)

    store = FaultyStore(inner, deleting)
    await check_store(store, QUICK, keys)
    assert sorted(inner.keys()) == keys[:2]


async def test_all_the_keys_may_be_taken() -> None:
    inner = MemoryStore()
    keys = probe_keys("s", "a")
    for key in keys:
        await inner.create(key, b"left")
    await check_store(FaultyStore(inner), QUICK, keys)
    assert sorted(inner.keys()) == keys
