"""Reading all that a journal was ever told, however it was packed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal import packing
from strands_dapr_session.journal.head import read_head, read_page
from strands_dapr_session.journal.history import History
from strands_dapr_session.journal.load import joined
from strands_dapr_session.journal.past import Commits, _split, _with_bodies, read_history
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import DocumentSet, Noted, Spliced
from strands_dapr_session.stores.base import Entry
from strands_dapr_session.stores.memory import MemoryStore
from tests.unit.journal.journals import Script


async def history(script: Script) -> Commits:
    return await read_history(script.store, "s", "r")


def told(commits: Commits) -> list[tuple[int, bytes]]:
    """What was said, by the number of its commit."""
    return [
        (number, body)
        for number, records in commits
        for record in records
        if isinstance(record, Spliced)
        for body in record.bodies
        if isinstance(body, bytes)
    ]


async def test_of_a_journal_that_is_none_nothing_is_told() -> None:
    assert await read_history(MemoryStore(), "s", "r") == []


async def test_every_commit_is_told_with_its_number_and_its_records() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.set("a", b"1")
    await script.set("a", b"2")

    commits = await history(script)

    assert [number for number, _ in commits] == [1, 2, 3]
    assert [record.value for _, records in commits for record in records if isinstance(record, DocumentSet)] == [
        b"1",
        b"2",
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed fills many segments, and many pages of them."""
    monkeypatch.setattr(packing, "SEGMENT_BYTES", 700)
    monkeypatch.setattr(packing, "INLINE_BYTES", 0)
    monkeypatch.setattr(packing, "_NEWEST_SEGMENTS", 2)
    monkeypatch.setattr(packing, "_MOST_KEPT", 2)


async def long_one(chance: random.Random) -> Script:
    script = Script(MemoryStore(max_value_bytes=4_000))
    await script.own()
    for _ in range(8):
        for _ in range(chance.randrange(1, 5)):
            await script.say(*["x" * chance.randrange(300) for _ in range(chance.randrange(1, 4))])
        await script.trim(2)
        assert await script.pack()
    return script


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(3))
async def test_what_was_said_is_told_alike_however_it_is_packed(seed: int) -> None:
    script, chance = await long_one(random.Random(seed)), random.Random(seed)
    before: list[tuple[int, bytes]] = []
    for _ in range(3):
        await script.say(*["y" * chance.randrange(300) for _ in range(3)])
        before = told(await history(script))
        assert await script.pack()
        assert told(await history(script)) == before
    assert [body for _, body in before[-2:]] == script.live[""][-2:]
    assert await pages_of(script) > 1


async def pages_of(script: Script) -> int:
    assert script.claim is not None
    layout = script.claim.layout
    older = read_head(layout, await script.store.get(layout.head)).older
    pages = 0
    while older is not None:
        keys = older.keys(layout)
        older = read_page(keys[0], joined(layout, older, await script.store.get_many(keys))).older
        pages += 1
    return pages


async def one_with_a_page() -> tuple[Script, str]:
    """Make a long journal; also tell the key of its page."""
    script = await long_one(random.Random(1))
    assert script.claim is not None
    layout = script.claim.layout
    older = read_head(layout, await script.store.get(layout.head)).older
    assert older is not None
    (key,) = older.keys(layout)
    return script, key


@pytest.mark.usefixtures("small")
async def test_a_page_that_is_missing_is_named() -> None:
    script, key = await one_with_a_page()
    await script.store.delete_many([key])

    with pytest.raises(DamagedDataError, match="the head needs it, and it is missing") as damaged:
        await history(script)

    assert damaged.value.key == key


@pytest.mark.usefixtures("small")
async def test_what_is_packed_while_it_is_read_is_read_again() -> None:
    script, key = await one_with_a_page()
    whole = told(await history(script))
    inner = script.store

    class PackedMeanwhile(MemoryStore):
        """A page is gone when it is read for the first time, as the journal was packed."""

        async def get_many(self, keys: Sequence[str], **options: Any) -> dict[str, Entry]:
            if key in keys and not packed:
                packed.append(key)
                assert await script.pack()
                return {}
            return await inner.get_many(keys, **options)

        async def get(self, key: str) -> Entry | None:
            return await inner.get(key)

    packed: list[str] = []
    assert told(await read_history(PackedMeanwhile(), "s", "r")) == whole
    assert packed == [key]


def test_a_history_that_is_cut_short_is_damaged() -> None:
    packed = [pack_value([1, b"a"]), pack_value([2, b"bcd"])]

    assert list(_split(b"".join(packed), "k")) == packed
    with pytest.raises(DamagedDataError, match="cut short") as damaged:
        list(_split(b"".join(packed)[:-1], "k"))

    assert damaged.value.key == "k"


@pytest.mark.parametrize("forged", [1, [], ["one"], {}, None], ids=repr)
async def test_a_history_of_something_else_is_damaged(forged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "packed", lambda _: [pack_value(forged)])
    script = Script(MemoryStore())
    await script.own()
    assert await script.pack()
    with pytest.raises(DamagedDataError, match="no commit"):
        await history(script)


def test_a_history_with_more_messages_than_there_are_is_damaged() -> None:
    record, other = Spliced("", 0, 0, (b"", b"")), Noted("", "k", b"v")
    left = iter([b"a", b"b", b"c"])

    assert _with_bodies(other, left, "k") is other
    assert _with_bodies(record, left, "k") == Spliced("", 0, 0, (b"a", b"b"))
    with pytest.raises(DamagedDataError, match="more messages than there are") as damaged:
        _with_bodies(record, left, "k")

    assert damaged.value.key == "k"
