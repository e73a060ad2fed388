"""What a packing keeps of documents, notes and results, and where it puts it."""

from __future__ import annotations

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal import history, packing
from strands_dapr_session.journal.head import Head, read_head
from strands_dapr_session.journal.history import CANDID, History
from strands_dapr_session.journal.past import read_past, with_results
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    DocumentSet,
    Noted,
    Record,
    Released,
    ScopeClosed,
    Spliced,
    ToolFinished,
)
from strands_dapr_session.records.wire import decode_record
from strands_dapr_session.stores.memory import MemoryStore
from tests.unit.journal.journals import Script

OWNED, LET_GO = Acquired("a", "w", takeover=False, lease=3.0), Released("a")
TAKEN = Acquired("b", "w", takeover=True, lease=3.0)
TEMPLATE = pack_value({"role": "user", "content": None})


def document(value: bytes | None, name: str = "d", scope: str = "") -> DocumentSet:
    return DocumentSet(scope, name, value)


def note(value: bytes) -> Noted:
    return Noted("", "d", value)


def packed(*slots: list[Record]) -> list[list[Record]]:
    """Pack slots, and read what is left of each."""
    packing = History()
    for number, records in enumerate(slots, 1):
        packing.add(number, records)
    found: list[list[Record]] = []
    for each in packing.packed():
        number, *items = unpack_value(each)
        assert number == len(found) + 1
        records = [decode_record(item, key="k") for item in items]
        assert records.count(CANDID) == 1
        found.append([record for record in records if record != CANDID])
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([[OWNED, document(b"1"), document(b"2")]], [[OWNED, document(b""), document(b"2")]]),
        (
            [[OWNED, document(b"1")], [document(b"2")], [document(b"3")], [document(b"4"), LET_GO]],
            [[OWNED, document(b"")], [], [], [document(b"4"), LET_GO]],
        ),
        (
            [[OWNED, document(b"1"), LET_GO], [OWNED, document(b"2"), document(b"3"), LET_GO], [OWNED, document(b"4")]],
            [[OWNED, document(b"1"), LET_GO], [OWNED, document(b""), document(b"3"), LET_GO], [OWNED, document(b"4")]],
        ),
        ([[OWNED, document(b"1")], [TAKEN, document(b"2")]], [[OWNED, document(b"1")], [TAKEN, document(b"2")]]),
        (
            [[document(b"1"), note(b"1"), document(b"1", "e"), document(b"1", "d", "x")]],
            [[document(b"1"), note(b"1"), document(b"1", "e"), document(b"1", "d", "x")]],
        ),
        ([[note(b"1")], [note(b"2")]], [[note(b"")], [note(b"2")]]),
        ([[document(None)], [document(b"2")]], [[document(b"")], [document(b"2")]]),
        ([[document(b"2")], [document(None)]], [[document(b"")], [document(None)]]),
        (
            [[document(b"1", "d", "x")], [ScopeClosed("x")], [document(b"2", "d", "x")], [document(b"3", "d", "x")]],
            [[document(b"", "d", "x")], [ScopeClosed("x")], [document(b"", "d", "x")], [document(b"3", "d", "x")]],
        ),
        ([], []),
    ],
    ids=["one slot", "four slots", "released", "taken over", "others", "a note", "gone", "gone last", "closed", "none"],
)
def test_the_last_value_of_every_acquisition_is_kept(before: list[list[Record]], after: list[list[Record]]) -> None:
    assert packed(*before) == after


def test_slots_that_older_versions_packed_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "CANDID", Noted("", "older", b"1"))
    older = History()
    older.add(1, [OWNED])
    (item,) = older.packed()
    assert [decode_record(each, key="k") for each in unpack_value(item)[1:]] == [OWNED, Noted("", "older", b"1")]


async def test_slots_are_silent_only_where_an_older_version_packed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.set("d", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(history, "CANDID", Noted("", "older", b"1"))
        assert await script.pack()
    await script.set("d", b"2")
    assert await script.pack()
    await script.set("d", b"3")

    past = await read_past(script.store, "s", "r")

    assert [number for number, _ in past.commits] == [1, 2, 3, 4, 5, 6]
    assert past.silent == {1, 2, 3}
    assert all(CANDID not in records for _, records in past.commits)


# -- results -----------------------------------------------------------------------------------------------------------


def result(name: str, text: str = "made") -> bytes:
    return pack_value({"toolUseId": name, "content": [{"text": text}]})


def answer(*results: bytes) -> bytes:
    return pack_value({"role": "user", "content": [{"toolResult": unpack_value(each)} for each in results]})


ONE, TWO = result("a", "1"), result("a", "2")


def finished(name: str, packed: bytes | None = None, scope: str = "") -> ToolFinished:
    return ToolFinished(scope, name, result(name) if packed is None else packed)


def spliced(*bodies: bytes | Derived, scope: str = "") -> Spliced:
    return Spliced(scope, 0, 0, bodies)


def derived(*names: str) -> Derived:
    return Derived(TEMPLATE, names)


@pytest.mark.parametrize(
    ("records", "whole"),
    [
        ([finished("a", b""), spliced(answer(result("a")))], [finished("a"), spliced(derived("a"))]),
        (
            [finished("a", b""), finished("b"), spliced(answer(result("b"), result("a")))],
            [finished("a"), finished("b"), spliced(derived("b", "a"))],
        ),
        ([finished("a"), spliced(derived("a"))], [finished("a"), spliced(derived("a"))]),
        (
            [finished("a"), spliced(answer(result("a", "else")))],
            [finished("a"), spliced(answer(result("a", "else")))],
        ),
        (
            [finished("a", b""), spliced(answer(ONE)), finished("a", b""), spliced(answer(TWO))],
            [finished("a", ONE), spliced(derived("a")), finished("a", TWO), spliced(derived("a"))],
        ),
        (
            [finished("a", b"", "x"), spliced(answer(result("a"))), spliced(answer(result("a")), scope="x")],
            [finished("a", None, "x"), spliced(answer(result("a"))), spliced(derived("a"), scope="x")],
        ),
        ([finished("a")], [finished("a")]),
        (
            [finished("a"), spliced(pack_value("toolResult")), spliced(pack_value({"content": [{"toolResult": 1}]}))],
            [finished("a"), spliced(pack_value("toolResult")), spliced(pack_value({"content": [{"toolResult": 1}]}))],
        ),
    ],
    ids=["one", "one was kept", "not packed", "another", "twice", "another scope", "open", "no message"],
)  # fmt: skip
def test_results_are_told_where_they_were_recorded(records: list[Record], whole: list[Record]) -> None:
    before = list(records)
    assert with_results([(1, records)], "k") == [(1, whole)]
    assert records == before


@pytest.mark.parametrize(
    "more", [{"text": "and"}, {"toolResult": unpack_value(result("a")), "and": 1}, {"toolResult": unpack_value(ONE)}]
)
def test_a_message_with_more_than_results_stays_as_it_is(more: dict[str, object]) -> None:
    said = pack_value({"role": "user", "content": [{"toolResult": unpack_value(result("a"))}, more]})
    assert with_results([(1, [finished("a"), spliced(said)])], "k") == [(1, [finished("a"), spliced(said)])]


def test_a_result_that_is_in_no_message_is_damage() -> None:
    with pytest.raises(DamagedDataError, match="'a' is in no message") as damaged:
        with_results([(1, [finished("a", b""), spliced(answer(result("b")))])], "s/r")
    assert damaged.value.key == "s/r"


# -- where it is put ---------------------------------------------------------------------------------------------------


async def head_of(script: Script) -> Head:
    assert script.claim is not None
    layout = script.claim.layout
    return read_head(layout, await script.store.get(layout.head))


@pytest.mark.parametrize(("limit", "counts"), [(10_000, [2]), (2_000, [0, 0, 2])])
async def test_long_states_are_where_no_load_reads_them(
    limit: int, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "HISTORY_BYTES", limit)
    monkeypatch.setattr(packing, "SEGMENT_BYTES", 2_500)
    monkeypatch.setattr(packing, "INLINE_BYTES", 0)
    script = Script(MemoryStore())
    for number in range(4):
        await script.own()
        await script.write(DocumentSet("", "d", b"%d" % number * 1_000))
    script.documents["d"] = b"3" * 1_000
    await script.say("a", "b")
    assert await script.pack()

    head = await head_of(script)

    assert [segment.count for segment in head.segments] == counts
    assert [segment.live for segment in head.segments] == [count > 0 for count in counts]
    past = await read_past(script.store, "s", "r")
    values = [record.value for _, records in past.commits for record in records if isinstance(record, DocumentSet)]
    assert values == [b"%d" % number * 1_000 for number in range(4)]
    await script.check()


async def test_segments_are_merged_over_those_of_long_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "HISTORY_BYTES", 500)
    monkeypatch.setattr(packing, "INLINE_BYTES", 0)
    script = Script(MemoryStore())
    await script.own()
    for number in range(24):
        await script.say("x" * 3_000)
        await script.write(DocumentSet("", "d", b"%d" % number * 1_000))
        script.documents["d"] = b"%d" % number * 1_000
        assert await script.pack()

    segments = (await head_of(script)).segments

    assert sum(segment.live for segment in segments) < 15  # some were merged
    assert sum(not segment.count for segment in segments) >= 24
    past = await read_past(script.store, "s", "r")
    assert [number for number, _ in past.commits] == list(range(1, 74))
    assert len([r for _, records in past.commits for r in records if isinstance(r, DocumentSet)]) == 24
    await script.check()
