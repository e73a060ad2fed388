"""A sealed value is whole, of this format, and under its own key, or it is refused."""

from __future__ import annotations

import os
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from strands_dapr_session.errors import DamagedDataError, NewerFormatError, StoredDataError
from strands_dapr_session.records import frames
from strands_dapr_session.records.frames import FORMAT_VERSION, OVERHEAD_BYTES, open_sealed, seal

KEY = "strands:{s:r}:i:1"
TEXT = b"the quick brown fox jumps over the lazy dog " * 100


@given(st.text(max_size=20), st.binary(max_size=1000), st.booleans())
def test_what_is_sealed_can_be_opened(key: str, payload: bytes, compress: bool) -> None:  # noqa: FBT001
    key = key.encode("utf-8", "replace").decode()
    sealed = seal(key, payload, compress=compress)
    assert open_sealed(key, sealed) == payload
    assert len(sealed) <= len(payload) + OVERHEAD_BYTES


def test_long_payloads_are_compressed_when_that_helps() -> None:
    assert len(seal(KEY, TEXT)) < len(TEXT) / 10
    noise = os.urandom(10_000)
    assert len(seal(KEY, noise)) == len(noise) + OVERHEAD_BYTES
    assert len(seal(KEY, TEXT, compress=False)) == len(TEXT) + OVERHEAD_BYTES


def test_short_payloads_are_left_as_they_are() -> None:
    assert len(seal(KEY, b"x" * 255)) == 255 + OVERHEAD_BYTES
    assert len(seal(KEY, b"x" * 256)) < 100


@pytest.mark.parametrize("payload", [b"short", TEXT])
def test_every_flipped_bit_is_noticed(payload: bytes) -> None:
    sealed = seal(KEY, payload)
    for place in range(len(sealed)):
        for bit in range(8):
            altered = bytearray(sealed)
            altered[place] ^= 1 << bit
            with pytest.raises(StoredDataError):
                open_sealed(KEY, bytes(altered))


@pytest.mark.parametrize("payload", [b"short", TEXT])
def test_every_truncation_is_noticed(payload: bytes) -> None:
    sealed = seal(KEY, payload)
    for length in range(len(sealed)):
        with pytest.raises(DamagedDataError):
            open_sealed(KEY, sealed[:length])
    with pytest.raises(DamagedDataError):
        open_sealed(KEY, sealed + b"\0")


def test_a_value_belongs_to_its_key() -> None:
    with pytest.raises(DamagedDataError, match="copied from another key") as refused:
        open_sealed("another", seal(KEY, b"x"))
    assert refused.value.key == "another"


def test_a_newer_version_is_named() -> None:
    sealed = bytearray(seal(KEY, b"x"))
    sealed[3] = FORMAT_VERSION + 1
    with pytest.raises(NewerFormatError, match=f"version {FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}"):
        open_sealed(KEY, bytes(sealed))
    sealed[3] = 0
    with pytest.raises(DamagedDataError):
        open_sealed(KEY, bytes(sealed))


def _forged(flags: int, body: bytes) -> bytes:
    return struct.pack(">3sBB8s", b"SDS", FORMAT_VERSION, flags, frames._checksum(KEY, flags, body)) + body


def test_unknown_features_are_newer() -> None:
    with pytest.raises(NewerFormatError, match="features"):
        open_sealed(KEY, _forged(0b10, b"x"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\x05",
        b"\0\0\0\x05notzstd",
        struct.pack(">I", 5) + zstandard.compress(b"123456"),
        struct.pack(">I", 2**32 - 1) + zstandard.compress(b"12345"),
        struct.pack(">I", 100) + zstandard.compress(b"\0" * 10_000_000),
        struct.pack(">I", 5) + zstandard.compress(b"12345") + b"more",
        struct.pack(">I", 5) + zstandard.ZstdCompressor(write_content_size=False).compress(b"12345"),
    ],
)
def test_a_bomb_or_a_lie_about_the_length_is_damage(body: bytes) -> None:
    with pytest.raises(DamagedDataError):
        open_sealed(KEY, _forged(0b01, body))


def test_the_longest_payload_can_be_limited() -> None:
    for payload in (b"x" * 101, b"x" * 1000):
        with pytest.raises(DamagedDataError, match="more than the 100"):
            open_sealed(KEY, seal(KEY, payload), max_bytes=100)
    for length in (100, 1000):
        assert open_sealed(KEY, seal(KEY, b"x" * length), max_bytes=length) == b"x" * length
        with pytest.raises(DamagedDataError, match="allowed here"):
            open_sealed(KEY, seal(KEY, b"x" * length), max_bytes=length - 1)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(StoredDataError):
        open_sealed(KEY, data)
