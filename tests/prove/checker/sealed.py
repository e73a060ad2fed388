"""Sealed values and the values inside them, read by plain msgpack, zstandard and hashlib."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]
import zstandard

_HEADER = 13  # "SDS", version, flags, checksum of 8 bytes
_DECODER = zstandard.ZstdDecompressor()


class UnreadableError(Exception):
    """What is stored is not in the format."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"key {key}: {reason}")
        self.key = key


def opened(key: str, data: bytes) -> bytes:
    """Get the payload of a sealed value, which must have been sealed for this very key."""
    if len(data) < _HEADER or data[:3] != b"SDS" or data[3] != 1:
        raise UnreadableError(key, "not a sealed value of version 1")
    flags, checksum, body = data[4], data[5:_HEADER], data[_HEADER:]
    digest = hashlib.blake2b(body + f"1 {flags} {key}".encode(), digest_size=8).digest()
    if digest != checksum:
        raise UnreadableError(key, "the checksum does not match")
    if flags == 0:
        return body
    if flags != 1:
        raise UnreadableError(key, f"unknown flags {flags}")
    payload = _DECODER.decompress(body[4:], max_output_size=int.from_bytes(body[:4], "big"))
    if len(payload) != int.from_bytes(body[:4], "big"):
        raise UnreadableError(key, "unfolds to another length than it says")
    return bytes(payload)


def value_of(payload: bytes, key: str = "") -> Any:
    """Read a packed value."""
    try:
        return msgpack.unpackb(payload, strict_map_key=False, unicode_errors="surrogatepass", ext_hook=_extension)
    except Exception as error:
        raise UnreadableError(key, f"not a packed value: {error}") from error


def values_in(payload: bytes) -> Iterator[Any]:
    """Read packed values that follow each other."""
    reader = msgpack.Unpacker(
        strict_map_key=False, unicode_errors="surrogatepass", ext_hook=_extension, max_buffer_size=len(payload) + 1
    )
    reader.feed(payload)
    yield from reader


def _extension(code: int, data: bytes) -> Any:
    match code:
        case 1:
            return tuple(value_of(data))
        case 2:
            return bytearray(data)
        case 3:
            return int.from_bytes(data, "big", signed=True)
        case 4:
            return set(value_of(data))
        case 5:
            return frozenset(value_of(data))
        case _:
            pass
    raise ValueError(f"extension type {code}")
