"""Records come back as they were; what is none is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strands_dapr_session.errors import DamagedDataError, NewerFormatError
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    Released,
    ScopeClosed,
    SegmentsPlanned,
    Spliced,
    ToolFinished,
    ToolStarted,
    Tried,
)
from strands_dapr_session.records.wire import decode_record, encode_record

text = st.text(st.characters())
derived = st.builds(Derived, st.binary(), st.lists(text, max_size=3).map(tuple))
counts = st.integers(0, 2**40)

records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Acquired, text, text, st.booleans(), st.floats(0, 1e6)),
    st.builds(Released, text),
    st.builds(InvocationStarted, text, text, st.none() | text, st.binary(), st.binary(), counts),
    st.builds(Spliced, text, counts, counts, st.lists(st.binary() | derived, max_size=4).map(tuple)),
    st.builds(ToolStarted, text, text, text),
    st.builds(ToolFinished, text, text, st.binary()),
    st.builds(DocumentSet, text, text, st.none() | st.binary()),
    st.builds(InvocationFinished, text, text, text, st.binary()),
    st.builds(SegmentsPlanned, st.lists(text, max_size=3).map(tuple)),
    st.builds(Noted, text, text, st.binary()),
    st.builds(ScopeClosed, text),
    st.builds(Tried, text, text, counts, st.binary(), st.floats(0, 1e12), st.none() | st.floats(0, 1e6)),
)


@given(records)
def test_a_record_comes_back(record: Record) -> None:
    assert decode_record(unpack_value(encode_record(record)), key="k") == record


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        {},
        ["1"],
        [True],
        [2],
        [2, 1],
        [2, "a", "b"],
        [1, "a", "w", 1, 3.0],
        [1, "a", "w", True, -1.0],
        [1, "a", "w", True, float("nan")],
        [4, "", -1, 0, []],
        [4, "", 0, True, []],
        [4, "", 0, 0, ["text"]],
        [4, "", 0, 0, [[b"t"]]],
        [4, "", 0, 0, [[b"t", [1]]]],
        [9, "key"],
        [1, "a", "w", True, float("inf")],
        [1, "a", "w", True, "3"],
        [1, "a", "w", True, True],
        [1, "a", "w", True, None],
        [3, "", "i", 1, b"p", b"f", 1],
        [3, "", "i", None, b"p", b"f", 1.0],
        [4, "", 0, 0, {}],
        [4, "", 0, 0, None],
        [4, "", 0, 0, [["t", []]]],
        [4, "", 0, 0, [(b"t", [])]],
        [4, "", 0, 0, [[b"t", [], 1]]],
        [7, "", "n", "text"],
        [9, [1]],
        [12, "", "u", 1, b"e", 1.0, -1.0],
        [12, "", "u", 1, b"e", 1.0, "soon"],
        [12, "", "u", 1, b"e", None, 1.0],
    ],
    ids=repr,
)
def test_what_is_no_record_is_damage(item: Any) -> None:
    with pytest.raises(DamagedDataError, match="'k'"):
        decode_record(item, key="k")


def test_an_unknown_kind_is_newer() -> None:
    with pytest.raises(NewerFormatError, match="kind 4711"):
        decode_record([4711, "anything"], key="k")


@pytest.mark.parametrize(
    "record",
    [
        Released(None),  # type: ignore[arg-type]
        Spliced("", -1, 0, ()),
        Spliced("", 0, 0, ("text",)),  # type: ignore[arg-type]
        ToolFinished("", "id", {"not": "packed"}),  # type: ignore[arg-type]
        DocumentSet("", "name", bytearray(b"x")),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_mistake_of_the_caller_never_gets_into_a_journal(record: Record) -> None:
    with pytest.raises(TypeError, match=type(record).__name__):
        encode_record(record)


@given(records)
def test_records_can_be_put_into_a_list_without_unpacking_them(record: Record) -> None:
    joined = b"\x92" + encode_record(record) + pack_value(1)
    assert decode_record(unpack_value(joined)[0], key="k") == record
