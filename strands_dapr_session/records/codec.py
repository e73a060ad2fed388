"""Values that messages and state hold, as MessagePack bytes and back, each with its exact type.

MessagePack alone would turn a tuple into a list and a bytearray into bytes, and knows no integer beyond 64 bits. Those
travel as extension types. What nobody can bring back exactly (an object, a datetime, a cycle) is refused before
anything is sent, with the place where it was found.

Nearly every value takes the fast path: one pass of the C packer. It alone decides what is plain, and whatever it
refuses, or might have let through with a changed type, is looked at piece by piece in `plain`.
"""

from __future__ import annotations

import gc
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]

from strands_dapr_session.errors import DamagedDataError, UnencodableValueError
from strands_dapr_session.records.plain import (
    BIG_INT,
    BYTEARRAY,
    FROZENSET,
    MAX_WRAPPED,
    SET,
    TUPLE,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CHECK_LENGTHS_FROM = 32 * 1024
"""Bytes from which lengths are checked before anything is built. A list is allocated as long as it claims to be, and
nested ones may each claim the length of the data: harmless below, gigabytes above."""

MOST_CONTAINERS = 1024 * 1024
"""Lists, dicts, tuples and sets that one value may hold, together. An empty list is one byte in the store and eighty in
memory, a dict of one item three and two hundred and fifty: without a limit, 64 MiB of them, the most that is read at
one go, would become five gigabytes. With it, containers become a quarter of a gigabyte at most, and other values some
twenty times their bytes."""

_HEADERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
"""The bytes with which maps and arrays begin. They may be in text and numbers too."""

_TIMESTAMP = re.compile(rb"[\xd6\xd7\x04\x08\x0c]\xff")
"""How a timestamp begins: the type after a fixed length of 4 or 8 bytes, or after a length of 4, 8 or 12 that is
written out. The library refuses other lengths."""

_SCALARS = frozenset({str, int, float, bool, type(None), bytes})


def pack_value(value: object, *, path: str = "value") -> bytes:
    """Write a value as bytes from which `unpack_value` makes an equal value of equal types.

    Values are None, bool, int, float, str, bytes, bytearray, and lists, tuples, sets and dicts of those; the keys of a
    dict are scalars. Subclasses come back as the type that they extend.

    Args:
        value: The value. It is read once and not kept.
        path: What to call it in an error, in Python notation.

    Returns:
        The bytes, the same for equal values with the same order of keys.

    Raises:
        UnencodableValueError: Something inside would not survive, and the error names the place, or it has more
            containers than `MOST_CONTAINERS`.
    """
    packed = _pack(value, path)
    if _may_hold_too_many(packed):
        try:
            _unpack(packed, 0, _Count())
        except _TooManyError as error:
            raise UnencodableValueError(path, str(error)) from error
    return packed


def _pack(value: object, path: str) -> bytes:
    try:
        packed: bytes = msgpack.packb(value, strict_types=True)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _pack_piecewise(value, path)
    # These bytes head binary data and extension types. Without them nothing can have been let through that is not
    # what it seems: the packer writes a bytearray and a memoryview like bytes, and its own extension types as they are.
    find = packed.find
    if (
        find(0xC4) < 0
        and find(0xC5) < 0
        and find(0xC6) < 0
        and find(0xC7) < 0
        and find(0xC8) < 0
        and find(0xC9) < 0
        and find(0xD4) < 0
        and find(0xD5) < 0
        and find(0xD6) < 0
        and find(0xD7) < 0
        and find(0xD8) < 0
    ):
        return packed
    return packed if _is_exact(value) else _pack_piecewise(value, path)


def unpack_value(data: bytes, *, key: str = "value") -> Any:
    """Read a value that `pack_value` wrote.

    Args:
        data: The bytes.
        key: Where they come from, for the error.

    Raises:
        DamagedDataError: The bytes are no such value, or exceed a limit. Nothing in them is ever executed.
    """
    try:
        return _unpack(data, 0, _Count() if len(data) > MOST_CONTAINERS else None)
    except DamagedDataError:
        raise
    except Exception as error:
        raise DamagedDataError(key, f"not a value of this format ({type(error).__name__}: {error})") from error


def unpack_values(packed: Iterable[bytes], *, key: str = "value") -> list[Any]:
    """Read many values. See `unpack_value`.

    The garbage collector rests meanwhile. All that is made here is kept, and looking through it again and again takes
    as long as making it.
    """
    packed = list(packed)
    was_running = gc.isenabled()
    gc.disable()
    try:
        return _unpack_together(packed, key)
    except DamagedDataError:
        raise
    except Exception:  # noqa: BLE001 - whoever reads them one by one finds which of them it is, and why
        return [unpack_value(data, key=key) for data in packed]
    finally:
        if was_running:
            gc.enable()


def array_header(length: int) -> bytes:
    """Write what precedes the items of a list, each packed on its own."""
    header: bytes = msgpack.Packer().pack_array_header(length)
    return header


def _is_exact(value: object) -> bool:
    """Tell whether a value that the packer took holds only types that it brings back."""
    rest = [value]
    while rest:
        item = rest.pop()
        kind = type(item)
        if kind is dict:
            rest.extend(item.values())  # type: ignore[attr-defined] # mypy does not narrow by `type() is`
        elif kind is list:
            rest.extend(item)  # type: ignore[arg-type]
        elif kind not in _SCALARS:
            return False
    return True


def _pack_piecewise(value: object, path: str) -> bytes:
    try:
        packed: bytes = msgpack.packb(plain(value, path), strict_types=True, unicode_errors="surrogatepass")
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnencodableValueError(path, f"it is too long or nested too deeply ({error})") from error
    return packed


def _unpack(data: bytes, depth: int, count: _Count | None) -> Any:
    if len(data) >= _CHECK_LENGTHS_FROM:
        _check_lengths(data)
    value = msgpack.unpackb(
        data,
        raw=False,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=_EXTENSIONS[depth] if count is None else partial(_extension, depth, count),
        object_hook=count,
        list_hook=count,
    )
    # The library makes timestamps, extension type -1, without asking. The byte is in no text, and rare elsewhere.
    if b"\xff" in data and _holds_timestamp(value):
        raise ValueError("extension type -1 is unknown")
    return value


def _unpack_together(packed: list[bytes], key: str) -> list[Any]:
    """Read many values with one unpacker: to set one up for each takes a tenth of the time.

    Its limits are those of the longest data of which lengths are not checked, so that nothing here may claim more than
    where each value is read by itself. What needs a closer look is read by itself.
    """
    unpacker = msgpack.Unpacker(
        None,
        raw=False,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=_EXTENSIONS[0],
        max_buffer_size=_CHECK_LENGTHS_FROM,
    )
    feed, unpack, tell = unpacker.feed, unpacker.unpack, unpacker.tell
    values = []
    end = 0
    for data in packed:
        if len(data) >= _CHECK_LENGTHS_FROM or (b"\xff" in data and _TIMESTAMP.search(data)):
            values.append(unpack_value(data, key=key))
            continue
        feed(data)
        values.append(unpack())
        end += len(data)
        if tell() != end:
            raise ValueError("a value ends before its bytes do")  # which would begin the next one
    return values


def _holds_timestamp(value: Any) -> bool:
    rest = [value]
    while rest:
        item = rest.pop()
        kind = type(item)
        if kind is dict:
            rest.extend(item)
            rest.extend(item.values())
        elif kind is list:
            rest.extend(item)
        elif kind is msgpack.Timestamp:
            return True
    return False


class _TooManyError(ValueError):
    """A value has too many containers."""


class _Count:
    """Counts the containers of one value while they are made."""

    def __init__(self) -> None:
        self._left = MOST_CONTAINERS

    def __call__(self, made: Any) -> Any:
        """Count one more."""
        self._left -= 1
        if self._left < 0:
            raise _TooManyError(f"it holds more than {MOST_CONTAINERS} lists, dicts, tuples and sets")
        return made


def _may_hold_too_many(data: bytes) -> bool:
    """Tell whether the containers of a value should be counted: each takes a byte at least, and begins with a header.

    To look takes 0.7 ms a MiB. That is less than to read what was packed, and more than to count the few containers of
    a segment, so whoever reads counts at once.
    """
    return len(data) > MOST_CONTAINERS and len(data) - len(data.translate(None, _HEADERS)) > MOST_CONTAINERS


def _check_lengths(data: bytes) -> None:
    """Refuse data that is shorter than its own lengths claim."""
    reader = msgpack.Unpacker(None, max_buffer_size=len(data), strict_map_key=False)
    reader.feed(data)
    reader.skip()


def _extension(depth: int, count: _Count | None, code: int, data: bytes) -> Any:
    if code == BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == BYTEARRAY:
        return bytearray(data)
    make = _COLLECTIONS.get(code)
    if make is None:
        raise ValueError(f"extension type {code} is unknown")
    if depth + 1 >= len(_EXTENSIONS):
        raise ValueError("nested too deeply")
    items = _unpack(data, depth + 1, count)
    if type(items) is not list:
        raise ValueError(f"extension type {code} holds no list")
    return make(items)


_COLLECTIONS: dict[int, Callable[[list[Any]], Any]] = {TUPLE: tuple, SET: set, FROZENSET: frozenset}
_EXTENSIONS = tuple(partial(_extension, depth, None) for depth in range(MAX_WRAPPED + 1))
