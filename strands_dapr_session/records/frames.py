"""Sealed values: every value in the store says what it is, under which key it was written, and that it is whole.

A sealed value is ``magic · format version · flags · checksum · body``. The checksum covers the key and all that
follows it, so a value that was altered, cut, or copied to another key or session is refused. Bodies are compressed when
that makes them shorter.

Encryption is to come between the compression and the checksum, in `seal` and `open_sealed`, under `_ENCRYPTED`.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from typing import NoReturn

import zstandard

from strands_dapr_session.errors import DamagedDataError, NewerFormatError

FORMAT_VERSION = 1

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""What one key may unfold to, unless a caller says otherwise: a limit against decompression bombs."""

_MAGIC = b"SDS"
_COMPRESSED = 0b01
_ENCRYPTED = 0b10  # reserved
_KNOWN_FLAGS = _COMPRESSED

_CHECKSUM_BYTES = 8
_HEAD = struct.Struct(f">3sBB{_CHECKSUM_BYTES}s")
_LENGTH = struct.Struct(">I")

OVERHEAD_BYTES = _HEAD.size
"""By how much a sealed value may be longer than its payload."""

_COMPRESS_FROM = 256
"""Bytes below which compression saves next to nothing of what a message is made of, for 3 µs."""

_codecs = threading.local()  # zstandard's objects must not be used by two threads at a time


def seal(key: str, payload: bytes, *, compress: bool = True) -> bytes:
    """Wrap a payload for the key under which it will be written.

    Args:
        key: The key.
        payload: The bytes.
        compress: Whether to try to make it shorter.
    """
    flags, body = 0, payload
    if compress and len(payload) >= _COMPRESS_FROM:
        shorter = _LENGTH.pack(len(payload)) + _compressor().compress(payload)
        if len(shorter) < len(payload):
            flags, body = _COMPRESSED, shorter
    return _HEAD.pack(_MAGIC, FORMAT_VERSION, flags, _checksum(key, flags, body)) + body


def open_sealed(key: str, data: bytes, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """Unwrap what `seal` made for this key.

    Args:
        key: The key under which it was found.
        data: What was found.
        max_bytes: The longest payload to accept.

    Raises:
        NewerFormatError: A newer version of this package wrote it.
        DamagedDataError: It is truncated, altered, belongs to another key, or is too long.
    """
    if len(data) < _HEAD.size or data[: len(_MAGIC)] != _MAGIC:
        raise DamagedDataError(key, "not written by this package, or cut short")
    _, version, flags, checksum = _HEAD.unpack_from(data)
    if version != FORMAT_VERSION:
        _refuse_version(key, version)
    body = memoryview(data)[_HEAD.size :]  # a copy would take as long as the checksum
    if checksum != _checksum(key, flags, body):
        raise DamagedDataError(key, "the checksum does not match: altered, cut short, or copied from another key")
    if flags & ~_KNOWN_FLAGS:
        raise NewerFormatError(
            key, f"format version {version} with features 0x{flags:02x}, this package knows 0x{_KNOWN_FLAGS:02x}"
        )
    if flags & _COMPRESSED:
        return _decompress(key, body, max_bytes)
    if len(body) > max_bytes:
        raise DamagedDataError(key, f"{len(body)} bytes, more than the {max_bytes} that are allowed here")
    return bytes(body)


def _checksum(key: str, flags: int, body: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES)
    digest.update(b"%d %d %s" % (FORMAT_VERSION, flags, key.encode()))
    return digest.digest()


def _decompress(key: str, body: memoryview, max_bytes: int) -> bytes:
    if len(body) < _LENGTH.size:
        raise DamagedDataError(key, "cut short")
    (length,) = _LENGTH.unpack_from(body)
    packed = body[_LENGTH.size :]
    if length > max_bytes:
        raise DamagedDataError(key, f"unfolds to {length} bytes, more than the {max_bytes} that are allowed here")
    try:
        if zstandard.frame_content_size(packed) != length:
            raise DamagedDataError(key, "its two lengths differ")
        payload = _decompressor().decompress(packed, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedDataError(key, f"cannot be decompressed ({error})") from error
    if len(payload) != length:
        raise DamagedDataError(key, "unfolds to another length than it says")
    return payload


def _refuse_version(key: str, version: int) -> NoReturn:
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            key, f"format version {version}, this package reads up to {FORMAT_VERSION}: upgrade it to go on"
        )
    raise DamagedDataError(key, f"format version {version} has never been in use")


def _compressor() -> zstandard.ZstdCompressor:
    try:
        made: zstandard.ZstdCompressor = _codecs.compressor
    except AttributeError:
        made = _codecs.compressor = zstandard.ZstdCompressor(level=1)
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    try:
        made: zstandard.ZstdDecompressor = _codecs.decompressor
    except AttributeError:
        made = _codecs.decompressor = zstandard.ZstdDecompressor()
    return made
