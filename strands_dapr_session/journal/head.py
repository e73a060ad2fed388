"""The head: the one key of a journal that changes. It says which commits are packed, and into what.

A journal that has never been packed has no head; its log begins with slot 1. The head holds the newest entries only and
links to older ones in immutable pages, so it stays small at any length.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.frames import open_sealed, seal
from strands_dapr_session.records.records import Acquired

if TYPE_CHECKING:
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.stores.base import Entry

_STAMP_BYTES: Final = 8
_LONGEST_RUN: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """A long value, in one piece or several: ``<plan>.<first>`` and the `count` - 1 keys after it."""

    plan: str
    first: int
    count: int

    def keys(self, layout: Layout) -> list[str]:
        """The keys of its pieces, in order."""
        return [layout.piece(self.plan, self.first + offset) for offset in range(self.count)]


@dataclass(frozen=True, slots=True)
class Segment:
    """Messages that are packed together.

    Attributes:
        run: Where they are.
        first: The ordinal of the first.
        count: How many.
        size: Bytes before compression.
        live: Whether any of them is live and not in the checkpoint itself, so that a load must read it.
    """

    run: Run
    first: int
    count: int
    size: int
    live: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Entries that no longer fit into the head."""

    segments: tuple[Segment, ...]
    kept: tuple[int, ...]
    older: Run | None


@dataclass(frozen=True, slots=True)
class Head:
    """What is packed.

    Attributes:
        session_id: Whose journal this is, in clear.
        root_id: Likewise.
        stamp: Random; another one whenever the head moves.
        sequence: The last slot that is packed; the log goes on after it.
        owner: Who had acquired the journal at that slot and not released it.
        checkpoint: The view at that slot.
        checkpoint_bytes: Its size in the store.
        segments: The segments that a load must read, and the newest of the others, oldest first.
        kept: The newest slots up to `sequence` that are never deleted, because they fence somebody off.
        older: The page with the entries before those.
        swept: Slots up to this one are deleted, but for the kept ones. Those after it are deleted before the head moves
            again, so that whoever has just read the head before this one still finds them.
        parts: Slots after `swept` that have parts, with their number.
        garbage: Values that this head replaces; they are deleted at the same time.
        orphans: Plans of compactions that came to nothing and may have left something behind.
    """

    session_id: str
    root_id: str
    stamp: bytes = b""
    sequence: int = 0
    owner: Acquired | None = None
    checkpoint: Run | None = None
    checkpoint_bytes: int = 0
    segments: tuple[Segment, ...] = ()
    kept: tuple[int, ...] = ()
    older: Run | None = None
    swept: int = 0
    parts: tuple[tuple[int, int], ...] = ()
    garbage: tuple[Run, ...] = ()
    orphans: tuple[str, ...] = ()


def read_head(layout: Layout, entry: Entry | None) -> Head:
    """Read the head of a journal; that of a journal that was never packed if there is none.

    Raises:
        StoredDataError: It is damaged, newer than this package, or belongs to another session.
    """
    if entry is None:
        return Head(layout.session_id, layout.root_id)
    key = layout.head
    items = unpack_value(open_sealed(key, entry.value), key=key)
    try:
        session, root, stamp, sequence, owner, checkpoint, size, segments, kept, older, *rest = items
        swept, parts, garbage, orphans = rest
        head = Head(
            session,
            root,
            stamp,
            _count(sequence),
            Acquired(*owner) if owner else None,
            _run(checkpoint),
            _count(size),
            tuple(map(_segment, segments)),
            tuple(map(_count, kept)),
            _run(older),
            _count(swept),
            tuple((_count(number), _count(count)) for number, count in parts),
            tuple(map(_some_run, garbage)),
            tuple(map(_text, orphans)),
        )
    except (TypeError, ValueError) as error:
        raise DamagedDataError(key, f"not a head ({error})") from error
    if (session, root) != (layout.session_id, layout.root_id):
        raise DamagedDataError(key, f"belongs to root {root!r} of session {session!r}")
    return head


def new_stamp() -> bytes:
    """Make a stamp for a head that is to be written, so that its bytes are unlike those of any other write."""
    return secrets.token_bytes(_STAMP_BYTES)


def write_head(layout: Layout, head: Head) -> bytes:
    """Write a head."""
    owner = head.owner
    plain = [
        head.session_id,
        head.root_id,
        head.stamp,
        head.sequence,
        None if owner is None else [owner.acquisition, owner.worker, owner.takeover, owner.lease],
        _plain_run(head.checkpoint),
        head.checkpoint_bytes,
        [_plain_segment(segment) for segment in head.segments],
        list(head.kept),
        _plain_run(head.older),
        head.swept,
        [list(each) for each in head.parts],
        [_plain_run(run) for run in head.garbage],
        list(head.orphans),
    ]
    return seal(layout.head, pack_value(plain, path="head"))


def write_page(page: Page) -> bytes:
    """Write a page, not yet sealed."""
    return pack_value(
        [[_plain_segment(s) for s in page.segments], list(page.kept), _plain_run(page.older)], path="page"
    )


def read_page(key: str, payload: bytes) -> Page:
    """Read a page.

    Raises:
        DamagedDataError: It is none.
    """
    try:
        segments, kept, older = unpack_value(payload, key=key)
        return Page(tuple(map(_segment, segments)), tuple(map(_count, kept)), _run(older))
    except (TypeError, ValueError) as error:
        raise DamagedDataError(key, f"not a page of segments ({error})") from error


def _plain_run(run: Run | None) -> list[Any] | None:
    return None if run is None else [run.plan, run.first, run.count]


def _plain_segment(segment: Segment) -> list[Any]:
    return [_plain_run(segment.run), segment.first, segment.count, segment.size, segment.live]


def _run(plain: Any) -> Run | None:
    return None if plain is None else _some_run(plain)


def _some_run(plain: Any) -> Run:
    plan, first, count = plain
    if not 0 < _count(count) <= _LONGEST_RUN:
        raise ValueError(f"nothing is in {count} pieces")
    return Run(_text(plan), _count(first), count)


def _segment(plain: Any) -> Segment:
    run, first, count, size, live = plain
    return Segment(_some_run(run), _count(first), _count(count), _count(size), bool(live))


def _text(plain: Any) -> str:
    if type(plain) is not str:
        raise TypeError(f"{plain!r} is no name")
    return plain


def _count(plain: Any) -> int:
    if type(plain) is not int or plain < 0:
        raise TypeError(f"{plain!r} is no number")
    return plain
