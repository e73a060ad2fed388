"""Which sessions and roots exist, and where each journal lives now.

The registry is the root of trust: a journal is what the registry names, nothing else. It is kept in 1024 documents by
the hash of the session id, each changed by compare-and-set and never deleted, so that an ETag is never used twice.
A journal is entered before its first key is written, and its entry goes after its last key is gone: whatever is killed
in between, everything that exists can be found.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.layout import all_shard_keys, shard_key
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.frames import open_sealed, seal
from strands_dapr_session.stores.base import KeyConflict
from strands_dapr_session.stores.settle import settle_create, settle_replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.stores.base import Entry

UNBORN: Final = "-unborn"
"""What the name of an incarnation ends with in the registry while it is made, see `fork`."""


@dataclass(slots=True)
class Place:
    """Where a journal is.

    Attributes:
        live: Its incarnation; None when it does not exist.
        dead: Incarnations that were deleted, or are not born yet, and may have left keys behind.
    """

    live: str | None
    dead: list[str]


Sessions = dict[str, dict[str, Place]]
"""By session id and root id."""


def read_shard(key: str, entry: Entry | None) -> Sessions:
    """Read one document of the registry.

    Raises:
        StoredDataError: It is damaged, or newer than this package.
    """
    if entry is None:
        return {}
    try:
        _, sessions = unpack_value(open_sealed(key, entry.value), key=key)
        return {
            _text(session): {
                _text(root): Place(_text(live) or None, [*map(_text, dead)]) for root, (live, *dead) in roots.items()
            }
            for session, roots in sessions.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedDataError(key, "not a document of the registry") from error


def place_in(key: str, entry: Entry | None, session_id: str, root_id: str) -> Place:
    """Look a journal up in a document that was read."""
    return read_shard(key, entry).get(session_id, {}).get(root_id) or Place(None, [])


async def place_of(context: Context, session_id: str, root_id: str) -> Place:
    """Look a journal up."""
    key = shard_key(session_id)
    return place_in(key, await context.store.get(key), session_id, root_id)


async def is_live(context: Context, layout: Layout) -> bool:
    """Tell whether the registry still names an incarnation of a journal."""
    return (await place_of(context, layout.session_id, layout.root_id)).live == layout.incarnation


async def change_place(
    context: Context,
    session_id: str,
    root_id: str,
    edit: Callable[[Place], Place | None],
    entry: Entry | None = None,
) -> Place | None:
    """Change one entry of the registry.

    Args:
        context: The store.
        session_id: The session.
        root_id: The root.
        edit: Makes the new place from the present one, None to remove it; may be called again when others change the
            document meanwhile, so it must see by itself when nothing is left to do.
        entry: The document as it was just read, if it was.

    Returns:
        The place as it is now.
    """

    def edit_roots(roots: dict[str, Place]) -> None:
        before = roots.get(root_id)
        after = edit(before or Place(None, []))
        if after is not None:
            roots[root_id] = after
        elif before is not None:
            del roots[root_id]

    return (await change_roots(context, session_id, edit_roots, entry)).get(root_id)


async def change_roots(
    context: Context, session_id: str, edit: Callable[[dict[str, Place]], None], entry: Entry | None = None
) -> dict[str, Place]:
    """Change the entries of a session in the registry, all at once.

    Args:
        context: The store.
        session_id: The session.
        edit: Changes the places of its roots; see `change_place`. What it raises leaves everything as it is.
        entry: The document as it was just read, if it was.

    Returns:
        The places as they are now.
    """
    key = shard_key(session_id)
    entry = entry or await context.store.get(key)
    while True:
        sessions = read_shard(key, entry)
        before = sessions.pop(session_id, {})
        after = dict(before)
        edit(after)
        if after == before:
            return after
        if after:
            sessions[session_id] = after
        value = _write_shard(key, sessions)
        try:
            if entry is None:
                await settle_create(context.store, key, value, context.retry)
            else:
                await settle_replace(context.store, key, value, entry.etag, context.retry)
        except KeyConflict as conflict:
            entry = conflict.found
            continue
        return after


async def all_sessions(context: Context) -> list[str]:
    """List the ids of all sessions, sorted."""
    keys = all_shard_keys()
    entries = await context.store.get_many(keys)
    return sorted(session for key, entry in entries.items() for session in read_shard(key, entry))


async def roots_of(context: Context, session_id: str) -> dict[str, Place]:
    """Get every root of a session that exists, or was not deleted to the end."""
    key = shard_key(session_id)
    return read_shard(key, await context.store.get(key)).get(session_id, {})


def _write_shard(key: str, sessions: Sessions) -> bytes:
    plain = {
        session: {root: [place.live or "", *place.dead] for root, place in roots.items()}
        for session, roots in sessions.items()
    }
    # The random bytes make it a value that nobody else writes: what is read back is then this write or another.
    return seal(key, pack_value([secrets.token_bytes(8), plain], path=key))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a name is missing")
    return value
