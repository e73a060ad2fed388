"""The piecewise path of the codec: a value made plain enough for the packer, or the place where it cannot be."""

from __future__ import annotations

from typing import Any, NoReturn

import msgpack  # type: ignore[import-untyped]

from strands_dapr_session.errors import UnencodableValueError

TUPLE = 1
BYTEARRAY = 2
BIG_INT = 3
SET = 4
FROZENSET = 5

MAX_DEPTH = 200
"""Levels of nesting that a value may have. Deeper ones overflow Python's stack in code that merely looks at them."""

MAX_WRAPPED = 16
"""Tuples and sets that may be nested in each other. The unpacker starts anew for each, with 40 KB of C stack."""

_SMALLEST_INT = -(2**63)
_LARGEST_INT = 2**64 - 1
_AS_IS = frozenset({str, float, bool, type(None), bytes})
_KEYS = "str, int, float, bool, None or bytes"


def plain(value: object, path: str) -> Any:
    """Rebuild a value from the types that the packer brings back, the others wrapped as extension types.

    Args:
        value: Any value.
        path: What to call it, in Python notation.

    Raises:
        UnencodableValueError: It holds something that would not survive.
    """
    return _plain(value, path, (), 0)


def _plain(value: Any, path: str, around: tuple[int, ...], wrapped: int) -> Any:
    kind = _base(type(value))
    if kind in _AS_IS:
        return value if type(value) is kind else _without_subclass(value, kind)
    if kind is int:
        return _plain_int(int.__int__(value))
    if kind is bytearray:
        return msgpack.ExtType(BYTEARRAY, bytes(value))
    if kind is None:
        _refuse(path, value)
    if len(around) >= MAX_DEPTH:
        raise UnencodableValueError(path, f"it is nested in more than {MAX_DEPTH} others")
    if id(value) in around:
        raise UnencodableValueError(path, "it holds itself")
    return _plain_collection(value, kind, path, (*around, id(value)), wrapped)


def _plain_collection(value: Any, kind: Any, path: str, around: tuple[int, ...], wrapped: int) -> Any:
    if kind is dict:
        pairs = dict.items(value)
        return {_plain_key(key, path): _plain(item, f"{path}[{key!r}]", around, wrapped) for key, item in pairs}
    if kind is list:
        return [_plain(item, f"{path}[{n}]", around, wrapped) for n, item in enumerate(list.__iter__(value))]
    if wrapped == MAX_WRAPPED:
        raise UnencodableValueError(path, f"it is nested in {MAX_WRAPPED} other tuples and sets")
    if kind is tuple:
        items = [_plain(item, f"{path}[{n}]", around, wrapped + 1) for n, item in enumerate(tuple.__iter__(value))]
        return msgpack.ExtType(TUPLE, _pack(items))
    packed = [_pack(_plain(item, f"{path}<{item!r}>", around, wrapped + 1)) for item in kind.__iter__(value)]
    return msgpack.ExtType(SET if kind is set else FROZENSET, _join_sorted(packed))


def _base(kind: type) -> Any:
    """Find the supported type that a type is or extends. Looks at the type itself: a mock may claim any class."""
    if kind in _AS_IS:
        return kind
    for base in kind.__mro__:
        if base in _SUPPORTED:
            return base
    return None


_SUPPORTED = frozenset({str, int, float, bytes, bytearray, list, tuple, dict, set, frozenset})


def _without_subclass(value: Any, kind: type) -> object:
    if kind is str:
        return str.__str__(value)
    if kind is float:
        return float.__float__(value)
    return b"".join([value, b""])


def _plain_int(value: int) -> int | msgpack.ExtType:
    if _SMALLEST_INT <= value <= _LARGEST_INT:
        return value
    return msgpack.ExtType(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _plain_key(key: Any, path: str) -> Any:
    kind = _base(type(key))
    if kind in _AS_IS or kind is int:
        return _plain(key, path, (), 0)
    raise UnencodableValueError(f"{path}[{key!r}]", f"a key must be {_KEYS}, not {type(key).__name__}")


def _join_sorted(items: list[bytes]) -> bytes:
    """Write a list of packed items in an order that does not depend on the process, as that of a set does."""
    header: bytes = msgpack.Packer().pack_array_header(len(items))
    return header + b"".join(sorted(items))


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, strict_types=True, unicode_errors="surrogatepass")
    return packed


def _refuse(path: str, value: object) -> NoReturn:
    kind = type(value)
    raise UnencodableValueError(
        path,
        f"{kind.__module__}.{kind.__qualname__} is not a value that can be stored and brought back. "
        "Store what it is made of: strings, numbers, bytes, lists, dicts",
    )
