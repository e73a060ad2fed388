"""The format itself, byte by byte: what is stored today must be read, and written the same, by every later version."""

from __future__ import annotations

from typing import Any

import pytest

from strands_dapr_session.journal.checkpoint import read_checkpoint, read_segment, write_checkpoint, write_segment
from strands_dapr_session.journal.head import Head, Page, Run, Segment, read_head, read_page, write_head, write_page
from strands_dapr_session.journal.layout import Layout, probe_keys, quote, shard_key, worker_key
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.frames import open_sealed, seal
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
from strands_dapr_session.records.view import View
from strands_dapr_session.records.wire import decode_record, encode_record
from strands_dapr_session.stores.base import Entry

LAYOUT = Layout("s", "r", "i")

RECORDS: list[tuple[Record, list[Any]]] = [
    (Acquired("a", "w", takeover=True, lease=3.0), [1, "a", "w", True, 3.0]),
    (Released("a"), [2, "a"]),
    (InvocationStarted("x", "i", None, b"p", b"f", 1), [3, "x", "i", None, b"p", b"f", 1]),
    (Spliced("x", 1, 2, (b"m", Derived(b"t", ("u",)))), [4, "x", 1, 2, [b"m", [b"t", ["u"]]]]),
    (ToolStarted("x", "u", "n"), [5, "x", "u", "n"]),
    (ToolFinished("x", "u", b"r"), [6, "x", "u", b"r"]),
    (DocumentSet("x", "n", b"v"), [7, "x", "n", b"v"]),
    (InvocationFinished("x", "i", "completed", b"r"), [8, "x", "i", "completed", b"r"]),
    (SegmentsPlanned(("p", "q")), [9, ["p", "q"]]),
    (Noted("x", "k", b"v"), [10, "x", "k", b"v"]),
    (ScopeClosed("x"), [11, "x"]),
    (Tried("x", "u", 2, b"e", 1.5, None), [12, "x", "u", 2, b"e", 1.5, None]),
]


@pytest.mark.parametrize(("record", "plain"), RECORDS, ids=lambda value: type(value).__name__)
def test_records(record: Record, plain: list[Any]) -> None:
    assert unpack_value(encode_record(record)) == plain
    assert decode_record(plain, key="k") == record


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        ((1, 2), "c70301920102"),
        (bytearray(b"x"), "d40278"),
        (2**70, "c70903400000000000000000"),
        (-(2**70), "c70903c00000000000000000"),
        ({1}, "d5049101"),
        (frozenset([1]), "d5059101"),
        ("\ud800", "a3eda080"),
        (b"b", "c40162"),
        ([(1, [2])], "91d60192019102"),
        ({"a": None, 1: True}, "82a161c001c3"),
    ],
    ids=repr,
)
def test_values(value: object, packed: str) -> None:
    assert pack_value(value).hex() == packed
    again = unpack_value(bytes.fromhex(packed))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    ("payload", "sealed"),
    [
        (b"payload", "5344530100e634ecdb04291fbe7061796c6f6164"),
        (b"abc" * 100, "534453010139b7dfb69bc62faa0000012c28b52ffd602c0055000018616263010026aa6e08"),
    ],
    ids=["as it is", "compressed"],
)
def test_seals(payload: bytes, sealed: str) -> None:
    assert open_sealed("key", bytes.fromhex(sealed)) == payload
    assert seal("key", payload)[:5].hex() == sealed[:10]


def test_keys() -> None:
    assert LAYOUT.head == "strands:{s:r}:i:head"
    assert LAYOUT.slot(7) == "strands:{s:r}:i:7"
    assert LAYOUT.part(1, 2) == "strands:{s:r}:i:1.2"
    assert LAYOUT.piece("p", 3) == "strands:{s:r}:i:p.3"
    assert shard_key("s") == "strands:sessions:750"
    assert worker_key("ab") == "strands:worker:ab"
    assert probe_keys("s", "r") == [f"strands:{{s:r}}:probe:{number}" for number in range(4)]
    assert quote("user 1/ü") == ".user-1-.xfudlhtvl64vrujsjqu65jfw"
    assert quote("日本") == ".-.taxowtyagloy6hmagpr22ivk"
    assert quote("x" * 40) == "x" * 40
    assert quote("x" * 41).startswith(".xxxxxxxxxxxxxx.")


HEAD = Head(
    "s", "r", b"12345678", 9, Acquired("a", "w", takeover=True, lease=3.0), Run("p", 1, 2), 300,
    (Segment(Run("q", 0, 1), 5, 4, 100, live=True),), (3, 7), Run("o", 0, 1), 4, ((6, 2),), (Run("g", 0, 3),), ("x",),
)  # fmt: skip
HEAD_BYTES = (
    "9ea173a172c40831323334353637380994a161a177c3cb400800000000000093a1700102cd012c919593a1710001050464c392030793a16f"
    "000104919206029193a167000391a178"
)
PAGE = Page((Segment(Run("q", 0, 1), 5, 4, 100, live=False),), (3,), None)
PAGE_BYTES = "93919593a1710001050464c29103c0"


def test_heads_and_pages() -> None:
    written = write_head(LAYOUT, HEAD)
    assert open_sealed(LAYOUT.head, written).hex() == HEAD_BYTES
    assert read_head(LAYOUT, Entry(seal(LAYOUT.head, bytes.fromhex(HEAD_BYTES)), "1")) == HEAD
    assert write_page(PAGE).hex() == PAGE_BYTES
    assert read_page("k", bytes.fromhex(PAGE_BYTES)) == PAGE


def test_segments() -> None:
    assert unpack_value(write_segment(7, [b"a", b"b"], b"h")) == [7, [b"a", b"b"], b"h"]
    assert read_segment("k", pack_value([7, [b"a", b"b"], b"h"])) == (7, [b"a", b"b"], b"h")


def full_view() -> View:
    view = View()
    for record in (
        Acquired("a", "w", takeover=False, lease=3.0),
        InvocationStarted("", "i", "key", b"p", b"f", 1),
        Spliced("", 0, 0, (b"zero", b"one", b"two")),
        Spliced("", 1, 1, ()),
        InvocationFinished("", "i", "completed", b"r"),
        InvocationStarted("g/x", "j", None, b"q", b"f", 2),
        Spliced("g/x", 0, 0, (b"three",)),
        ToolStarted("g/x", "u1", "n"),
        ToolFinished("g/x", "u2", b"result"),
        Tried("g/x", "u3", 1, b"e", 5.0, 2.0),
        DocumentSet("", "state", b"v"),
        Noted("", "k", b"n"),
    ):
        view.apply(record)
    view.sequence = 5
    return view


CHECKPOINT: list[Any] = [
    5,
    ["a", "w", False, 3.0],
    4,
    [["key", "", "i", b"p", "completed", b"r"]],
    [
        ["", [[0, 1], [2, 1]], {"state": b"v"}, {}, {}, ["i", "key", b"p", b"f", 1, True, "completed", b"r"],
         {"k": b"n"}],
        ["g/x", [[3, 1]], {}, {"u2": b"result"}, {"u1": "n"}, ["j", None, b"q", b"f", 2, False, "", b""], {},
         [["u3", 1, b"e", 5.0, 2.0]]],
    ],
    {0: b"zero", 3: b"three"},
]  # fmt: skip


def test_checkpoints() -> None:
    view = full_view()
    payload = write_checkpoint(view, [0, 3])
    assert unpack_value(payload) == CHECKPOINT
    again = read_checkpoint("k", payload)
    assert (again.sequence, again.owner, again.next_ordinal) == (5, view.owner, 4)
    assert again.finished == view.finished
    assert again.bodies == {0: b"zero", 3: b"three"}
    for path, scope in view.scopes.items():
        other = again.scopes[path]
        for name in ("path", "ordinals", "documents", "results", "started", "tries", "invocation", "notes"):
            assert getattr(other, name) == getattr(scope, name), name
