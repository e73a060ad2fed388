"""A commit is whole or not there, and damage to it is noticed."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from strands_dapr_session.errors import DamagedDataError, StoredDataError
from strands_dapr_session.journal import commit
from strands_dapr_session.journal.commit import LONGEST_SLOT, Slot, part_keys, prepare, read_records, write
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import MAX_PAYLOAD_BYTES, seal
from strands_dapr_session.records.records import Noted, Record, Released
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.base import Entry, KeyConflict
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore, LoseReply, RefuseOwn, scripted

LAYOUT = Layout("s", "r", "i")
SMALL: list[Record] = [Noted("", "k", b"v"), Released("a")]
LARGE: list[Record] = [Noted("", "k", os.urandom(300_000)), Released("a")]


def slot_of(records: list[Record], longest: int = 100_000) -> Slot:
    return prepare(MemoryStore(max_value_bytes=longest), LAYOUT, 7, [encode_record(record) for record in records])


def entries(slot: Slot) -> tuple[Entry, dict[str, Entry]]:
    return Entry(slot.value, "1"), {key: Entry(value, "1") for key, value in slot.parts}


@pytest.mark.parametrize("records", [SMALL, LARGE], ids=["small", "large"])
def test_a_commit_comes_back(records: list[Record]) -> None:
    entry, parts = entries(slot_of(records))
    assert read_records(LAYOUT, 7, entry, parts) == records
    assert part_keys(LAYOUT, 7, entry) == list(parts)


def test_a_long_commit_has_parts_that_fit() -> None:
    slot = slot_of(LARGE)
    assert [key for key, _ in slot.parts] == [LAYOUT.part(7, index) for index in range(4)]
    assert all(len(value) <= 100_000 for _, value in slot.parts)
    assert slot.size > 300_000
    assert slot.keys[0] == slot.key == LAYOUT.slot(7)
    assert not slot_of(SMALL).parts
    assert not slot_of([Noted("", "k", os.urandom(LONGEST_SLOT - 200))]).parts
    assert slot_of([Noted("", "k", os.urandom(LONGEST_SLOT))], 10**6).parts


@pytest.mark.parametrize("longest", [LONGEST_SLOT, 50_000])
def test_a_slot_may_be_as_long_as_it_may(longest: int) -> None:
    near = longest - 1_000
    size = near + longest - len(slot_of([Noted("", "k", os.urandom(near))], longest).value)
    at_most, over = (slot_of([Noted("", "k", os.urandom(size + more))], longest) for more in (0, 1))
    assert (len(at_most.value), at_most.parts) == (longest, ())
    assert over.parts


def sealed(*items: object) -> Entry:
    return Entry(seal(LAYOUT.slot(7), pack_value(list(items))), "1")


@pytest.mark.parametrize("count", [1, MAX_PAYLOAD_BYTES // 1024])
def test_a_commit_may_have_many_parts(count: int) -> None:
    assert len(part_keys(LAYOUT, 7, sealed(bytes(16), count, b"digest"))) == count


@pytest.mark.parametrize("count", [-1, 0, MAX_PAYLOAD_BYTES // 1024 + 1])
def test_a_commit_cannot_have_any_number_of_parts(count: int) -> None:
    with pytest.raises(DamagedDataError, match="says that it has") as damaged:
        part_keys(LAYOUT, 7, sealed(bytes(16), count, b"digest"))
    assert damaged.value.key == LAYOUT.slot(7)


@pytest.mark.parametrize(
    "items",
    [(bytes(15), [2, "a"]), (bytes(17), [2, "a"]), ("0" * 16, [2, "a"]), (bytes(16),), (), (bytes(16), 2, []),
     (bytes(16), [], b"x"),
     (bytes(16), 1, b"d", [])],
    ids=repr,
)  # fmt: skip
def test_a_commit_has_an_id_and_records_or_a_manifest(items: tuple[object, ...]) -> None:
    """And what is neither is blamed on the slot, not on parts that it does not have."""
    entry = sealed(*items)
    with suppress(DamagedDataError):
        assert part_keys(LAYOUT, 7, entry) == []
    with pytest.raises(DamagedDataError) as damaged:
        read_records(LAYOUT, 7, entry, {})
    assert damaged.value.key == LAYOUT.slot(7)


def test_parts_cannot_unfold_to_more_than_a_payload_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, parts = entries(slot_of(LARGE))
    monkeypatch.setattr(commit, "MAX_PAYLOAD_BYTES", 400_000)
    assert read_records(LAYOUT, 7, entry, parts) == LARGE
    monkeypatch.setattr(commit, "MAX_PAYLOAD_BYTES", 290_000)
    with pytest.raises(DamagedDataError, match="allowed here"):
        read_records(LAYOUT, 7, entry, parts)


def test_two_commits_of_the_same_records_differ() -> None:
    assert slot_of(SMALL).value != slot_of(SMALL).value


def test_parts_of_another_commit_are_noticed() -> None:
    entry, _ = entries(slot_of(LARGE))
    _, parts = entries(slot_of([Noted("", "k", os.urandom(300_000)), Released("a")]))
    with pytest.raises(DamagedDataError, match="do not belong together"):
        read_records(LAYOUT, 7, entry, parts)


def test_a_missing_part_is_named() -> None:
    entry, parts = entries(slot_of(LARGE))
    del parts[LAYOUT.part(7, 2)]
    with pytest.raises(DamagedDataError, match="missing") as damaged:
        read_records(LAYOUT, 7, entry, parts)
    assert damaged.value.key == LAYOUT.part(7, 2)


def test_a_slot_belongs_to_its_place() -> None:
    entry, _ = entries(slot_of(SMALL))
    with pytest.raises(DamagedDataError):
        read_records(LAYOUT, 8, entry, {})
    with pytest.raises(DamagedDataError):
        read_records(Layout("s", "r", "j"), 7, entry, {})


@pytest.mark.parametrize("value", [b"", b"x", b"SDS", b"SDS\x01\x00" + bytes(8)])
def test_what_is_no_commit_is_damage(value: bytes) -> None:
    with pytest.raises(StoredDataError):
        read_records(LAYOUT, 7, Entry(value, "1"), {})
    with pytest.raises(StoredDataError):
        part_keys(LAYOUT, 7, Entry(value, "1"))


@pytest.mark.parametrize("fault", [LoseReply(), RefuseOwn()], ids=repr)
@pytest.mark.parametrize("records", [SMALL, LARGE], ids=["small", "large"])
async def test_a_commit_whose_answer_is_lost_is_written_once(
    fault: LoseReply | RefuseOwn, records: list[Record]
) -> None:
    store = FaultyStore(MemoryStore(max_value_bytes=100_000), scripted(dict.fromkeys(range(1, 20, 2), fault)))
    slot = prepare(store, LAYOUT, 7, [encode_record(record) for record in records])
    await write(Context(store, this_process), slot)
    found = await store.inner.get_many(slot.keys)
    assert found[slot.key].value == slot.value
    assert len(found) == len(slot.keys)


async def test_a_taken_slot_is_a_conflict_that_says_whose() -> None:
    context = Context(MemoryStore(), this_process)
    await write(context, slot_of(SMALL))
    with pytest.raises(KeyConflict) as conflict:
        await write(context, slot_of(LARGE))
    assert conflict.value.found is not None
    assert read_records(LAYOUT, 7, conflict.value.found, {}) == SMALL
