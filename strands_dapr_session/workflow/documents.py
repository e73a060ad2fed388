"""Values of any length that are created once, and small ones that change by compare-and-set.

All functions are called on the I/O loop.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError, TooLargeError
from strands_dapr_session.journal.commit import cut
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.frames import MAX_PAYLOAD_BYTES, open_sealed, seal
from strands_dapr_session.stores.base import KeyConflict
from strands_dapr_session.stores.settle import settle_create, settle_replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands_dapr_session.stores.base import Entry, StateStore

_LONGEST_VALUE: Final = 96 * 1024
"""Bytes above which a document goes into parts, so that many read at once stay below a message's limit."""

_DIGEST_BYTES: Final = 16


async def create(store: StateStore, key: str, value: Any, *, path: str) -> Any:
    """Create a document, unless there is one.

    Args:
        store: Where.
        key: Its key. Parts of a long one lie beside it, under names that follow from its contents.
        value: What `pack_value` takes.
        path: What to call the value in an error.

    Returns:
        What the document holds: the value, or another one that was there before.

    Raises:
        UnencodableValueError: The value would not survive storage.
        TooLargeError: It is longer than anything may be that is read in one piece.
    """
    payload = pack_value(value, path=path)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TooLargeError(f"{path}: {len(payload)} bytes are more than the {MAX_PAYLOAD_BYTES} that can be kept")
    longest = min(_LONGEST_VALUE, store.capabilities.max_value_bytes)
    sealed = seal(key, pack_value([payload]))
    parts: list[str] = []
    if len(sealed) > longest:
        digest = _digest(payload)
        pieces = cut(payload, store.capabilities.max_value_bytes)
        parts = _part_keys(key, digest, len(pieces))
        for part, piece in zip(parts, pieces, strict=True):
            await settle_create(store, part, seal(part, piece))
        sealed = seal(key, pack_value([digest, len(pieces)]))
    try:
        await settle_create(store, key, sealed)
    except KeyConflict as conflict:
        found = conflict.found or await store.get(key)
        if found is None:
            raise DamagedDataError(key, "was there and is gone") from conflict
        present = await read(store, key, found)
        if parts and present != value:
            await store.delete_many(parts)  # those of the present one have other names
        return present
    return value


async def read(store: StateStore, key: str, entry: Entry | None = None) -> Any:
    """Read a document; None if there is none.

    Args:
        store: Where.
        key: Its key.
        entry: What the key holds, if it was just read.

    Raises:
        StoredDataError: It is damaged or incomplete.
    """
    entry = entry or await store.get(key)
    if entry is None:
        return None
    payload, parts = _unwrap(key, entry)
    if parts:
        found = await store.get_many(parts)
        missing = [part for part in parts if part not in found]
        if missing:
            raise DamagedDataError(missing[0], f"this part of {key!r} is missing")
        digest, payload = payload, b"".join(open_sealed(part, found[part].value) for part in parts)
        if len(payload) > MAX_PAYLOAD_BYTES or _digest(payload) != digest:
            raise DamagedDataError(key, "its parts do not belong together")
    return unpack_value(payload, key=key)


async def all_keys(store: StateStore, key: str) -> list[str]:
    """List the keys of a document: its own, and those of its parts."""
    entry = await store.get(key)
    return [key] if entry is None else [key, *_unwrap(key, entry)[1]]


async def change(
    store: StateStore, key: str, edit: Callable[[Any], Any], entry: Entry | None = None
) -> tuple[Any, bool]:
    """Change a small document.

    Args:
        store: Where.
        key: Its key. It must never be deleted while anybody may change it.
        edit: Makes the new value from the present one, which is None when there is none; returns it unchanged when
            nothing is to be done. Called again when others change the document meanwhile.
        entry: The document as it was just read, if it was.

    Returns:
        The value now, and whether this call changed it.
    """
    entry = entry or await store.get(key)
    while True:
        before = None if entry is None else open_small(key, entry)
        after = edit(before)
        if after == before:
            return before, False
        # The random bytes make it a value that nobody else writes: what is read back is then this write or another.
        sealed = seal(key, pack_value([secrets.token_bytes(8), after], path=key))
        try:
            if entry is None:
                await settle_create(store, key, sealed)
            else:
                await settle_replace(store, key, sealed, entry.etag)
        except KeyConflict as conflict:
            entry = conflict.found
            continue
        return after, True


def open_small(key: str, entry: Entry) -> Any:
    """Read what `change` wrote.

    Raises:
        StoredDataError: It is damaged.
    """
    try:
        _, value = unpack_value(open_sealed(key, entry.value), key=key)
    except (TypeError, ValueError) as error:
        raise DamagedDataError(key, "not a document of this package") from error
    return value


def _unwrap(key: str, entry: Entry) -> tuple[bytes, list[str]]:
    """Get the payload; or its digest, and the keys of the parts that it is in."""
    match unpack_value(open_sealed(key, entry.value), key=key):
        case [bytes() as payload]:
            return payload, []
        case [bytes() as digest, int() as count] if 0 < count <= MAX_PAYLOAD_BYTES // 1024:
            return digest, _part_keys(key, digest, count)
    raise DamagedDataError(key, "not a document of this package")


def _part_keys(key: str, digest: bytes, count: int) -> list[str]:
    return [f"{key}.{digest[:6].hex()}.{index}" for index in range(count)]


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()
