"""A commit: one slot, created once, that holds the records which became ready together.

A slot is a sealed list of a random commit id and the records. A commit that is too long for one key leaves its bytes in
parts, which are written first; its slot then holds the commit id, their number and a digest. So whoever sees a slot
sees a whole commit.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.codec import array_header, pack_value, unpack_value
from strands_dapr_session.records.frames import MAX_PAYLOAD_BYTES, OVERHEAD_BYTES, open_sealed, seal
from strands_dapr_session.records.wire import decode_record
from strands_dapr_session.stores.settle import settle_create

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.stores.base import Entry, StateStore

LONGEST_SLOT: Final = 96 * 1024
"""Bytes above which a commit goes into parts, so that reading many slots at once stays below a message's limit."""

LONGEST_COMMIT: Final = MAX_PAYLOAD_BYTES - 1024 * 1024
"""Bytes that one commit may have, records together."""

_COMMIT_ID_BYTES: Final = 16
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Slot:
    """A commit ready to be written, the same bytes at every try.

    Attributes:
        number: Its place in the log.
        key: Its key.
        value: Its bytes.
        parts: What must be written first.
    """

    number: int
    key: str
    value: bytes
    parts: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes in the store."""
        return len(self.value) + sum(len(value) for _, value in self.parts)

    @property
    def keys(self) -> list[str]:
        """All its keys."""
        return [self.key, *(key for key, _ in self.parts)]


def prepare(store: StateStore, layout: Layout, number: int, records: Sequence[bytes]) -> Slot:
    """Put encoded records together for a slot.

    Args:
        store: Says how long a value may be.
        layout: Whose.
        number: The slot.
        records: The records, encoded.
    """
    longest = store.capabilities.max_value_bytes
    commit_id = secrets.token_bytes(_COMMIT_ID_BYTES)
    payload = b"".join((array_header(len(records) + 1), pack_value(commit_id), *records))
    key = layout.slot(number)
    value = seal(key, payload)
    if len(value) <= min(LONGEST_SLOT, longest):
        return Slot(number, key, value)
    parts = tuple(
        (layout.part(number, index), seal(layout.part(number, index), piece))
        for index, piece in enumerate(cut(payload, longest))
    )
    manifest = pack_value([commit_id, len(parts), _digest(payload)])
    return Slot(number, key, seal(key, manifest), parts)


async def write(context: Context, slot: Slot) -> None:
    """Write a commit, for sure.

    Raises:
        KeyConflict: Somebody else has the slot, which the conflict carries. This commit never happens.
        StoreUnavailableError: Nothing could be found out. The commit may have happened, or happen later.
    """
    for key, value in slot.parts:
        await settle_create(context.store, key, value, context.retry)
    await settle_create(context.store, slot.key, slot.value, context.retry)


def cut(payload: bytes, longest_value: int) -> list[bytes]:
    """Cut a payload into pieces that each fit into one value."""
    size = longest_value - OVERHEAD_BYTES
    return [payload[start : start + size] for start in range(0, len(payload), size)]


def grouped(items: Iterable[bytes], limit: int) -> Iterator[list[bytes]]:
    """Divide items, in their order, into groups that are no longer than a limit, unless a single item is."""
    group: list[bytes] = []
    size = 0
    for item in items:
        if group and size + len(item) > limit:
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item)
    yield group


def part_keys(layout: Layout, number: int, entry: Entry) -> list[str]:
    """List the parts that a slot refers to.

    Raises:
        StoredDataError: The slot is damaged, or newer than this package.
    """
    key = layout.slot(number)
    items = _items(key, open_sealed(key, entry.value))
    if not _is_manifest(items):
        return []
    count = items[1]
    if not 0 < count <= MAX_PAYLOAD_BYTES // 1024:
        raise DamagedDataError(key, f"says that it has {count} parts")
    return [layout.part(number, index) for index in range(count)]


def read_records(layout: Layout, number: int, entry: Entry, parts: Mapping[str, Entry]) -> list[Record]:
    """Read the records of a slot.

    Args:
        layout: Whose.
        number: The slot.
        entry: What it holds.
        parts: At least the parts that it refers to, as far as they exist.

    Raises:
        StoredDataError: Something is damaged or missing, or newer than this package.
    """
    key = layout.slot(number)
    items = _items(key, open_sealed(key, entry.value))
    if _is_manifest(items):
        items = _items(key, _joined(layout, number, items, parts))
    return [decode_record(item, key=key) for item in items[1:]]


def _joined(layout: Layout, number: int, manifest: list[Any], parts: Mapping[str, Entry]) -> bytes:
    pieces = []
    left = MAX_PAYLOAD_BYTES
    for index in range(manifest[1]):
        key = layout.part(number, index)
        if key not in parts:
            raise DamagedDataError(key, f"this part of slot {layout.slot(number)!r} is missing")
        pieces.append(open_sealed(key, parts[key].value, max_bytes=left))
        left -= len(pieces[-1])
    payload = b"".join(pieces)
    if _digest(payload) != manifest[2]:
        raise DamagedDataError(layout.slot(number), "its parts do not belong together")
    return payload


def _items(key: str, payload: bytes) -> list[Any]:
    items = unpack_value(payload, key=key)
    if type(items) is not list or len(items) < len(("id", "record")):
        raise DamagedDataError(key, "not a commit")
    if type(items[0]) is not bytes or len(items[0]) != _COMMIT_ID_BYTES:
        raise DamagedDataError(key, "a commit without an id")
    return items


def _is_manifest(items: list[Any]) -> bool:
    return len(items) == len(("id", "count", "digest")) and type(items[1]) is int and type(items[2]) is bytes


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()
