"""Ways in which a stored value can be wrong: by accident, by a confused store, and by somebody who can seal.

What is damaged by accident fails its checksum, and must always be refused. That a value is sealed says nothing about
what is in it: whoever can write to the store can forge one. So whatever it holds must be refused or do no harm.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
import zstandard

from strands_dapr_session.records import frames
from strands_dapr_session.records.frames import FORMAT_VERSION, MAX_PAYLOAD_BYTES, open_sealed, seal

MEBIBYTE: Final = 1024 * 1024

LARGEST_BOMB: Final = 16 * MEBIBYTE
"""What the rare large ones unfold to: a quarter of the longest payload, so that many can be tried."""


@dataclass(frozen=True)
class Damage:
    """A value in the wrong place or shape.

    Attributes:
        kind: How it came about.
        key: Where it is.
        value: What is there.
    """

    kind: str
    key: str
    value: bytes

    @property
    def is_forged(self) -> bool:
        """Whether its checksum is right."""
        return self.kind in FORGERIES

    @property
    def is_older(self) -> bool:
        """Whether it is what this package once wrote under this key."""
        return self.kind == "an older version"


@dataclass(frozen=True)
class Material:
    """What damage is made of.

    Attributes:
        values: What the store holds.
        versions: What each key ever held.
    """

    values: Mapping[str, bytes]
    versions: Mapping[str, Sequence[bytes]]

    def damage(self, chance: random.Random, key: str, kinds: Sequence[str]) -> Damage | None:
        """Damage the value of a key in one of some ways; None if that way changes nothing."""
        kind = chance.choice(kinds)
        value = (ACCIDENTS | FORGERIES)[kind](self, chance, key)
        return None if value is None or value == self.values[key] else Damage(kind, key, value)


Way = Callable[[Material, random.Random, str], "bytes | None"]


def _flip(material: Material, chance: random.Random, key: str) -> bytes:
    value = bytearray(material.values[key])
    for _ in range(chance.choice((1, 1, 2, 8))):
        value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    return bytes(value)


def _cut(material: Material, chance: random.Random, key: str) -> bytes:
    value = material.values[key]
    return value[: chance.randrange(1, len(value))]


def _lengthen(material: Material, chance: random.Random, key: str) -> bytes:
    return material.values[key] + chance.randbytes(chance.randrange(1, 20))


def _overwrite(material: Material, chance: random.Random, key: str) -> bytes:
    value = material.values[key]
    start = chance.randrange(len(value))
    return value[:start] + chance.choice((b"\0", b"\xff")) * (len(value) - start)


def _swap(material: Material, chance: random.Random, key: str) -> bytes:  # noqa: ARG001 - as every way
    return material.values[chance.choice(sorted(material.values))]


def _of_another_session(material: Material, chance: random.Random, key: str) -> bytes | None:
    last = key.rpartition(":")[2]
    others = sorted(each for each in material.values if each.rpartition(":")[2] == last and each != key)
    return material.values[chance.choice(others)] if others else None


def _older(material: Material, chance: random.Random, key: str) -> bytes | None:
    older = list(material.versions.get(key, ()))[:-1]
    return chance.choice(older) if older else None


def _reseal(edit: Callable[[random.Random, bytes], bytes]) -> Way:
    def forge(material: Material, chance: random.Random, key: str) -> bytes:
        return seal(key, edit(chance, open_sealed(key, material.values[key])), compress=False)

    return forge


def _bits(chance: random.Random, payload: bytes) -> bytes:
    altered = bytearray(payload)
    for _ in range(chance.choice((1, 1, 2, 4))):
        altered[chance.randrange(len(altered))] ^= 1 << chance.randrange(8)
    return bytes(altered)


def _splice(chance: random.Random, payload: bytes) -> bytes:
    start = chance.randrange(len(payload))
    return payload[:start] + chance.choice(SNIPPETS) + payload[start + chance.randrange(12) :]


def _shorten(chance: random.Random, payload: bytes) -> bytes:
    return payload[: chance.randrange(len(payload))]


def _retype(chance: random.Random, payload: bytes) -> bytes:
    """Put something else in place of one of the values."""
    tree = msgpack.unpackb(payload, strict_map_key=False, unicode_errors="surrogatepass")
    places: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest:
        node = rest.pop()
        inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for name, item in inside:
            places.append((node, name))
            rest.append(item)
    if not places:
        return msgpack.packb(chance.choice(STRANGE))  # type: ignore[no-any-return]
    node, name = chance.choice(places)
    match chance.randrange(4):
        case 0 if isinstance(node, list):
            node.insert(name, chance.choice(STRANGE))
        case 1:
            del node[name]
        case 2:
            other, there = chance.choice(places)
            if (isinstance(other, list) and there < len(other)) or (isinstance(other, dict) and there in other):
                node[name] = _copied(other[there])
        case _:
            node[name] = chance.choice(STRANGE)
    packed: bytes = msgpack.packb(tree, unicode_errors="surrogatepass")
    return packed


def _copied(value: Any) -> Any:
    """Copy a value, so that the tree stays one."""
    packed = msgpack.packb(value, unicode_errors="surrogatepass")
    return msgpack.unpackb(packed, strict_map_key=False, unicode_errors="surrogatepass")


def _nest(chance: random.Random, payload: bytes) -> bytes:
    """Put one thing into another, deeper than anybody means."""
    depth = chance.choice((10, 100, 511, 512, 513, 1025, 5_000, 100_000))
    opening = chance.choice((b"\x91", b"\x81\xa1k", b"\x92\xc0"))
    return payload[: chance.randrange(len(payload))] + opening * depth + b"\xc0"


def _wrap(chance: random.Random, payload: bytes) -> bytes:
    """Nest extension types, each of which the reader must open on its own."""
    inner = chance.choice((payload, b"\xc0", b"\x90"))
    for _ in range(chance.choice((1, 2, 17, 40))):
        inner = msgpack.packb(msgpack.ExtType(chance.choice((1, 2, 3, 4, 5, 6, 127)), b"\x91" + inner))
    return b"\x92\xc4\x10" + bytes(16) + inner


def _bomb(material: Material, chance: random.Random, key: str) -> bytes:  # noqa: ARG001 - as every way
    """Seal a few bytes that unfold to very many, or say so."""
    size = chance.choice((1, 4096, MEBIBYTE // 16, MEBIBYTE // 16, MEBIBYTE // 4))
    if not chance.randrange(500):
        size = LARGEST_BOMB
    unit = chance.choice((b"\x90", b"\x80", b"\0", b"\xa0", b"\x91", b"\xcd\x03\xe8", b"\x81\xc0\xc0", b"\xa2ab"))
    header = b"\xdd" + struct.pack(">I", chance.choice((size, size // len(unit), 2**32 - 1)))
    packed = zstandard.compress(header + unit * (size // len(unit)))
    length = chance.choice((5 + size // len(unit) * len(unit), 0, size // 2, MAX_PAYLOAD_BYTES, 2**32 - 1))
    return sealed_as_compressed(key, struct.pack(">I", length) + packed)


def sealed_as_compressed(key: str, body: bytes) -> bytes:
    """Seal a body as what has been compressed."""
    flags = 0b01
    return struct.pack(">3sBB8s", b"SDS", FORMAT_VERSION, flags, frames._checksum(key, flags, body)) + body


STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**53, 2**63, 2**64 - 1, -(2**63), 0.0, -1.5, 1e308, float("nan"),
    float("inf"), "", "x", "\0", "\ud800", "x" * 300, b"", b"\0", b"\xff" * 300, b"\xc1", b"\x81\xa7content\xc0",
    [], {}, [[]], [None] * 20, {"a": {}}, {1: 2}, [1, 2], ["a", 0, 1], ["a", 0, 2**20], ["a", 0, 2**40], [0, 2**40],
    [[0, 2**40]], msgpack.ExtType(1, b"\x90"), msgpack.ExtType(1, b"\xc0"), msgpack.ExtType(3, b""),
    msgpack.ExtType(3, b"\x7f" * 40), msgpack.ExtType(2, b"x"), msgpack.ExtType(4, b"\x91\x90"),
    msgpack.ExtType(5, b"\x91\x01"), msgpack.ExtType(99, b""), msgpack.Timestamp(0),
)  # fmt: skip
"""Values that are hard to hold right."""

SNIPPETS: Final = (
    b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01", b"\xdb\xff\xff\xff\xff", b"\xd4\x01\x90", b"\xd5\x03\xff\xff", b"\xc7\x00\x01",
    b"\x90", b"\x80", b"\xc0", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80\0\0\0\0\0\0\0",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xa1\xff", b"\xd9\xff", b"",
)  # fmt: skip
"""Bytes that begin something, or claim more than there is."""

ACCIDENTS: Final[dict[str, Way]] = {
    "flipped bits": _flip,
    "cut short": _cut,
    "made longer": _lengthen,
    "overwritten": _overwrite,
    "the value of another key": _swap,
    "the value of another session": _of_another_session,
    "an older version": _older,
}
FORGERIES: Final[dict[str, Way]] = {
    "forged: flipped bits": _reseal(_bits),
    "forged: other bytes": _reseal(_splice),
    "forged: cut short": _reseal(_shorten),
    "forged: another type": _reseal(_retype),
    "forged: nested deeply": _reseal(_nest),
    "forged: extension types": _reseal(_wrap),
    "forged: a bomb": _bomb,
}
