"""Values come back exactly, or are refused with the place; damaged bytes give one kind of error."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import enum
import gc
import math
import struct
import tracemalloc
from typing import Any
from unittest.mock import Mock

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strands_dapr_session.errors import DamagedDataError, UnencodableValueError
from strands_dapr_session.records import codec
from strands_dapr_session.records.codec import pack_value, unpack_value, unpack_values
from strands_dapr_session.records.plain import MAX_DEPTH, MAX_WRAPPED


class Color(enum.Enum):
    RED = 1


class Name(str, enum.Enum):
    FIRST = "first"


class Level(enum.IntEnum):
    HIGH = 3


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024


def same(left: Any, right: Any) -> bool:
    """Compare values and types, the order of keys, NaNs and the sign of zero."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack(">d", left) == struct.pack(">d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (set, frozenset)):
        return len(left) == len(right) and pack_value(left) == pack_value(right)
    return bool(left == right)


keys = st.one_of(
    st.text(st.characters()), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.binary()
)
hashables = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=-(2**200), max_value=2**200),
        st.floats(),
        st.text(st.characters()),  # with lone surrogates
        st.binary(),
        st.binary().map(bytearray),
        st.sets(hashables, max_size=3),
        st.frozensets(hashables, max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(keys, inner), st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(values)
@example({1: 1, "1": 2, b"1": 3, 1.5: 4, None: 5})
@example([0.0, -0.0, math.nan, math.inf, -math.inf])
@example("\ud83d\ude00 \udfff\ud800")
@example({"b": 1, "a": 2})
@example(bytearray(b"\xc4\xc5"))
@example([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
def test_every_supported_value_comes_back_with_its_types(value: object) -> None:
    assert same(unpack_value(pack_value(value)), value)


@given(values)
def test_equal_values_have_equal_bytes(value: object) -> None:
    packed = pack_value(value)
    assert pack_value(unpack_value(packed)) == packed


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Name.FIRST, "first"),
        (Level.HIGH, 3),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Point(1, 2), (1, 2)),
        (msgpack.ExtType(1, b""), (1, b"")),
        ({Name.FIRST: Level.HIGH}, {"first": 3}),
        (type("Bytes", (bytes,), {})(b"x"), b"x"),
        (type("Float", (float,), {})(1.5), 1.5),
        (type("List", (list,), {})([1]), [1]),
    ],
)
def test_a_subclass_comes_back_as_what_it_extends(value: object, plain: object) -> None:
    assert value == plain
    assert same(unpack_value(pack_value(value)), plain)


def _holds_itself() -> object:
    value: list[object] = []
    value.append({"again": (value,)})
    return value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (
            {"content": [{"json": {"when": dt.datetime.now(dt.timezone.utc)}}]},
            "['content'][0]['json']['when']",
        ),
        ([decimal.Decimal(1)], "[0]"),
        ({"a": Mock()}, "['a']"),
        ({"a": Mock(spec=dict)}, "['a']"),
        (Color.RED, ""),
        ({"a": (1, object())}, "['a'][1]"),
        ({"a": memoryview(b"x")}, "['a']"),
        ({"a": msgpack.Timestamp(1)}, "['a']"),
        ({("a", 1): 2}, "[('a', 1)]"),
        ({Color.RED: 2}, "[<Color.RED: 1>]"),
        (_holds_itself(), "[0]['again'][0]"),
        (1j, ""),
        (range(3), ""),
        (iter([]), ""),
    ],
)
def test_what_would_not_survive_is_refused_with_its_place(value: object, place: str) -> None:
    with pytest.raises(UnencodableValueError) as refused:
        pack_value(value, path="message")
    assert refused.value.path == f"message{place}"
    assert str(refused.value).startswith(f"message{place} cannot be recorded: ")


def nested(depth: int, wrap: Any) -> Any:
    value = None
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}], ids=["lists", "dicts"])
def test_nesting_is_limited(wrap: Any) -> None:
    assert unpack_value(pack_value(nested(MAX_DEPTH, wrap))) == nested(MAX_DEPTH, wrap)
    with pytest.raises(UnencodableValueError, match="nested"):
        pack_value(nested(100_000, wrap))


def test_nesting_of_tuples_is_limited() -> None:
    deepest = nested(MAX_WRAPPED, lambda v: (v,))
    assert same(unpack_value(pack_value(deepest)), deepest)
    with pytest.raises(UnencodableValueError, match="nested"):
        pack_value((deepest,))


def _ext(code: int, payload: bytes) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(code, payload))
    return packed


def _nested_tuples(depth: int) -> bytes:
    data = b"\x90"
    for _ in range(depth):
        data = b"\x91" + _ext(1, data)
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x91" * 2000,
        b"\x91" * 100_000,
        b"\x81" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffabc",
        b"\xc6\xff\xff\xff\xffabc",
        b"\xc9\xff\xff\xff\xff\x01abc",
        b"\xdd\x00\x0f\x00\x00" * 220_000,
        b"\xdd\xff\xff\xff\xff" * 10_000,
        b"\x81\x90\x01",  # a list as a key
        b"\xa2\xff\xff",  # no text
        b"\xc0\xc0",
        _ext(9, b""),
        b"\xd6\xff" + bytes(4),  # timestamps, of each length
        b"\x91\xd7\xff" + bytes(8),
        b"\x81\xa1a\xc7\x0c\xff" + bytes(12),
        b"\x81\xd6\xff" + bytes(4) + b"\x01",
        _ext(1, b"\x91\xd6\xff" + bytes(4)),
        _ext(1, b"\x81\x01\x02"),
        _ext(1, b"\xdd\xff\xff\xff\xff"),
        _ext(4, b"\x91\x90"),
        _ext(4, b"\x91\x80"),
        _nested_tuples(MAX_WRAPPED + 1),
        _nested_tuples(2000),
    ],
    ids=lambda data: f"{data[:6].hex()}-{len(data)}",
)
def test_bytes_that_are_no_value_are_damaged_data(data: bytes) -> None:
    with pytest.raises(DamagedDataError, match="some-key"):
        unpack_value(data, key="some-key")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_damaged_data(data: bytes) -> None:
    with contextlib.suppress(DamagedDataError):
        unpack_value(data)


@given(values, st.data())
def test_a_changed_value_is_a_value_or_damaged_data(value: object, data: st.DataObject) -> None:
    packed = bytearray(pack_value(value))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DamagedDataError):
        unpack_value(bytes(packed))


@pytest.mark.parametrize("was_running", [True, False])
def test_many_values_are_read_while_the_garbage_collector_rests(*, was_running: bool) -> None:
    before = gc.isenabled()
    (gc.enable if was_running else gc.disable)()
    try:
        assert unpack_values(map(pack_value, [1, [2], {"a": 3}])) == [1, [2], {"a": 3}]
        assert gc.isenabled() == was_running
        with pytest.raises(DamagedDataError):
            unpack_values([b"\xc1"])
        assert gc.isenabled() == was_running
    finally:
        (gc.enable if before else gc.disable)()


def test_the_value_is_captured_when_it_is_packed() -> None:
    value = {"a": [1]}
    packed = pack_value(value)
    value["a"].append(2)
    assert unpack_value(packed) == {"a": [1]}


@settings(max_examples=30)  # the values are those of the tests above; here it is how they are laid one beside the other
@given(st.lists(values, max_size=6), st.integers(0, 5))
def test_many_values_are_those_that_each_is_alone(several: list[Any], place: int) -> None:
    packed = [pack_value(value) for value in several]
    packed.insert(min(place, len(packed)), pack_value({"long": "x" * 40_000}))
    assert same(unpack_values(packed), [unpack_value(each) for each in packed])


@pytest.mark.parametrize(
    "packed",
    [
        [b"\x92\x01", b"\x02", b"\x03\x04"],  # as many values as there should be, when read in one go
        [b"\x01\x02", b""],
        [b"\x01", b"\x02\x03"],
        [b"\x01", b"", b"\x02"],
        [b"\x01", b"\xd6\xff" + bytes(4)],  # timestamps, in every way to write them
        [b"\x91\xd7\xff" + bytes(8), b"\x01"],
        [b"\xc7\x04\xff" + bytes(4)],
        [b"\xc7\x08\xff" + bytes(8)],
        [b"\x81\xa1a\xc7\x0c\xff" + bytes(12)],
        [b"\xc8\x00\x0c\xff" + bytes(12)],
        [b"\xc9\x00\x00\x00\x08\xff" + bytes(8)],
        [b"\xdd\x7f\xff\xff\xff"],
        [b"\x91" * 2000],
    ],
    ids=repr,
)
def test_of_many_values_each_is_whole(packed: list[bytes]) -> None:
    with pytest.raises(DamagedDataError):
        [unpack_value(each) for each in packed]
    with pytest.raises(DamagedDataError, match="k"):
        unpack_values(packed, key="k")


CONTAINERS: list[tuple[Any, int]] = [
    ([[]] * 99, 100),
    ([{}] * 99, 100),
    ([{"a": [0]}] * 50, 101),
    ([(1,)] * 99, 100),
    ((set(), frozenset([1]), *[[]] * 97), 100),
    ([((), [[]] * 30)] * 3, 1 + 3 * 33),
    (["é" * 1000, b"\x90" * 1000], 1),
    ({n: {} for n in range(99)}, 100),
]


@pytest.mark.parametrize(("value", "count"), CONTAINERS, ids=lambda value: repr(value)[:20])
def test_a_value_may_hold_so_many_containers(value: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_value(value)
    for limit in (count - 1, count):
        monkeypatch.setattr(codec, "MOST_CONTAINERS", limit)
        if limit < count and len(packed) > limit:
            with pytest.raises(UnencodableValueError, match="holds more than"):
                pack_value(value, path="x")
            with pytest.raises(DamagedDataError, match="holds more than") as damaged:
                unpack_value(packed, key="k")
            assert damaged.value.key == "k"
        else:
            assert pack_value(value) == packed
            assert unpack_value(packed) == value


def test_containers_in_many_tuples_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_value([([[]] * 50,)] * 10)
    monkeypatch.setattr(codec, "MOST_CONTAINERS", 300)
    with pytest.raises(DamagedDataError, match="holds more than 300"):
        unpack_value(packed)


def test_a_forged_value_is_refused_before_it_fills_the_memory() -> None:
    many = 4 * codec.MOST_CONTAINERS
    forged = b"\xdd" + many.to_bytes(4, "big") + b"\x90" * many
    tracemalloc.start()
    try:
        with pytest.raises(DamagedDataError, match="holds more than"):
            unpack_value(forged)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * codec.MOST_CONTAINERS
