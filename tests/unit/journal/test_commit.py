"""A commit is whole or not there, and damage to it is noticed."""

from __future__ import annotations

import os

import pytest

from strands_dapr_session.errors import DamagedDataError, StoredDataError
from strands_dapr_session.journal.commit import LONGEST_SLOT, Slot, part_keys, prepare, read_records, write
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.worker import this_process
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
