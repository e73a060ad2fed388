"""Whatever happens to stored bytes: a typed error that names a key, and nothing is changed or invented."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from strands_dapr_session.errors import DamagedDataError, JournalGapError, NewerFormatError, StoredDataError
from strands_dapr_session.journal import packing
from strands_dapr_session.journal.acquire import Wish, acquire
from strands_dapr_session.journal.head import Head, write_head
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import seal
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.base import Entry
from strands_dapr_session.stores.memory import MemoryStore
from tests.unit.journal.journals import SETTINGS, Script, context_of, small_journal


class Damaged:
    """A journal, one of whose values can be replaced."""

    def __init__(self, script: Script, store: MemoryStore, whole: View) -> None:
        self.script = script
        self.store = store
        self.whole = whole

    def put(self, key: str, value: bytes | None) -> None:
        entries = self.store._entries
        if value is None:
            del entries[key]
        else:
            entries[key] = Entry(value, entries[key].etag)

    async def load_is_right_or_refused(self) -> StoredDataError | None:
        """The value may not be needed; then all is as before."""
        before = dict(self.store._entries)
        try:
            view = await self.script.load()
        except StoredDataError as refused:
            error = refused
        else:
            self.check(view)
            return None
        with pytest.raises(type(error)) as again:
            await acquire(context_of(self.store), Wish("s", "r", SETTINGS, "x"))
        assert again.value.key in str(error)
        assert self.store._entries == before
        return error

    def check(self, view: View) -> None:
        assert {path: scope.messages for path, scope in view.scopes.items()} == {
            path: scope.messages for path, scope in self.whole.scopes.items()
        }
        assert view.scope("").documents == self.whole.scope("").documents


@pytest.fixture(params=[0, 10**6], ids=["segments", "inline"])
async def damaged(request: pytest.FixtureRequest) -> Damaged:
    store = MemoryStore(max_value_bytes=2_000)
    with mock.patch.object(packing, "INLINE_BYTES", request.param):
        script = await small_journal(store)
        return Damaged(script, store, await script.check())


async def test_every_value_may_be_cut_altered_or_swapped(damaged: Damaged) -> None:
    chance = random.Random(3)
    refused = 0
    entries = dict(damaged.store._entries)
    for key, entry in entries.items():
        value = entry.value
        place = chance.randrange(len(value))
        others = [other.value for name, other in entries.items() if name != key]
        for bad in (
            value[:place],
            value + b"\0",
            value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :],
            chance.choice(others),
            bytes(100),
        ):
            damaged.put(key, bad or b"\0")
            refused += await damaged.load_is_right_or_refused() is not None
            damaged.put(key, value)
    assert refused > len(entries)
    assert await damaged.load_is_right_or_refused() is None


async def test_every_value_may_be_missing(damaged: Damaged) -> None:
    for key, entry in dict(damaged.store._entries).items():
        if key in (shard_key("s"), damaged.script.claim and damaged.script.claim.layout.head):
            continue  # without these there is no journal, or another one
        number = key.rpartition(":")[2]
        assert damaged.script.log is not None
        if number == str(damaged.script.log.sequence):
            continue  # nobody can miss the last commit
        del damaged.store._entries[key]
        await damaged.load_is_right_or_refused()
        damaged.store._entries[key] = entry


async def test_a_missing_commit_is_a_gap(damaged: Damaged) -> None:
    assert damaged.script.log is not None
    key = damaged.script.log.layout.slot(damaged.script.log.sequence - 2)
    damaged.put(key, None)
    error = await damaged.load_is_right_or_refused()
    assert type(error) is JournalGapError
    assert error.key == key


async def test_values_of_a_newer_version_are_named(damaged: Damaged) -> None:
    for key in list(damaged.store._entries):
        value = bytearray(damaged.store._entries[key].value)
        value[3] += 1
        original = damaged.store._entries[key]
        damaged.put(key, bytes(value))
        error = await damaged.load_is_right_or_refused()
        assert error is None or type(error) is NewerFormatError
        damaged.store._entries[key] = original


@pytest.mark.parametrize(
    "payload",
    [b"\xc0", b"\x90", b"\x91\xc0", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", pack_value({}), pack_value([1] * 14),
     pack_value([None] * 6), pack_value([b"0" * 16]), pack_value([b"0" * 16, 1]), pack_value([b"0" * 16, [1]]),
     pack_value([b"0" * 16, 10**9, b"d"]), pack_value([b"0" * 16, [4, "", 0, 0, [[b"x", ["y"]]]]]),
     pack_value([1, {"s": {"r": []}}]), pack_value([1, {"s": {"r": [1]}}]), pack_value([1, {"s": [1]}]),
     pack_value([0, [b"x"] * 3, b""]),
     pack_value([5, None, 10**15, [], [["", [[0, 10**14]], {}, {}, {}, None, {}]], {}])],
    ids=lambda payload: f"{payload[:10].hex()}-{len(payload)}",
)  # fmt: skip
async def test_well_sealed_nonsense_is_refused(damaged: Damaged, payload: bytes) -> None:
    for key, entry in dict(damaged.store._entries).items():
        damaged.put(key, seal(key, payload))
        await damaged.load_is_right_or_refused()
        damaged.store._entries[key] = entry


async def test_the_head_of_another_session_is_foreign() -> None:
    script = await small_journal(MemoryStore())
    assert script.log is not None
    layout = script.log.layout
    stolen = write_head(layout, Head("another", "r"))
    assert isinstance(script.store, MemoryStore)
    script.store._entries[layout.head] = Entry(stolen, "1")
    with pytest.raises(DamagedDataError, match="belongs to root 'r' of session 'another'"):
        await script.load()


async def test_a_journal_copied_to_another_session_is_refused() -> None:
    store = MemoryStore()
    script = await small_journal(store)
    other = Script(store, session_id="other")
    await other.own()
    assert script.log is not None
    assert other.log is not None
    mine, theirs = script.log.layout, other.log.layout
    for key in list(store._entries):
        if key.startswith(mine.base):
            store._entries[key.replace(mine.base, theirs.base)] = store._entries[key]
    with pytest.raises(DamagedDataError):
        await other.load()


def test_layouts_of_one_name_and_another_incarnation_differ() -> None:
    assert Layout("s", "r", "i").slot(1) != Layout("s", "r", "j").slot(1)
