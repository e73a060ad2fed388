"""What a compaction writes: the processor's part of it, without any waiting.

New messages go into a segment with the rest of the records of their time, so the whole history stays. Small segments
that loads must read are merged eight at a time, which rewrites a message once or twice in its life. What is live
becomes the checkpoint. While the live messages are few they are put into it, so that a load needs nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from strands_dapr_session.journal.checkpoint import (
    live_ordinals,
    missing_ordinals,
    read_checkpoint,
    read_segment,
    write_checkpoint,
    write_segment,
)
from strands_dapr_session.journal.commit import cut, grouped
from strands_dapr_session.journal.head import Head, Page, Run, Segment, new_stamp, write_page
from strands_dapr_session.journal.history import History
from strands_dapr_session.journal.load import parts_by_slot
from strands_dapr_session.records.frames import seal
from strands_dapr_session.records.records import Acquired
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from strands_dapr_session.journal.load import Log

SEGMENT_BYTES: Final = 1024 * 1024
"""What a segment grows to before compression. Loads are fastest with segments of 512 KiB to 1 MiB."""

INLINE_BYTES: Final = 256 * 1024
"""Live messages up to this size together are put into the checkpoint."""

HISTORY_BYTES: Final = 64 * 1024
"""Records besides messages above which they get segments of their own, which no load reads: states may be long, and
there is one for each invocation."""

_MERGED_TOGETHER: Final = 8
_SMALLEST: Final = 1024
_NEWEST_SEGMENTS: Final = 64
_MOST_KEPT: Final = 1024
_MOST_ORPHANS: Final = 16


@dataclass(frozen=True, slots=True)
class Packed:
    """The result of packing, ready to be written.

    Attributes:
        pieces: Keys and sealed values, in the order in which they must be written.
        head: The head that names them.
    """

    pieces: list[tuple[str, bytes]]
    head: Head


def to_merge(head: Head) -> list[Segment]:
    """Choose the segments at the end that are to become one: enough of about one size, and the smaller ones after."""
    filled = [segment for segment in head.segments if segment.count]
    limit = SEGMENT_BYTES // 2
    while limit > _SMALLEST:
        size = limit // _MERGED_TOGETHER
        end = [*takewhile(lambda segment: segment.live and segment.size < limit, reversed(filled))]  # noqa: B023
        if sum(segment.size >= size for segment in end) >= _MERGED_TOGETHER:
            return end[::-1]
        limit = size
    return []


class Packing:
    """One compaction's work on the processor."""

    def __init__(self, log: Log, plan: str, longest_value: int) -> None:
        """Pack what was read.

        Args:
            log: The journal, up to the last slot to be packed, with the segments to be merged.
            plan: The name of the compaction.
            longest_value: What one key may hold.
        """
        self._log = log
        self._plan = plan
        self._longest_value = longest_value
        self._pieces: list[tuple[str, bytes]] = []
        self._folded = _fold(log)

    def wanted(self) -> list[Segment]:
        """List the segments that hold live messages which now may be few enough to go into the checkpoint."""
        missing = sorted(missing_ordinals(self._view))
        segments = [segment for segment in self._log.head.segments if _holds_any(segment, missing)]
        average = sum(s.size for s in segments) // (sum(s.count for s in segments) or 1)
        return segments if missing and average * len(live_ordinals(self._view)) < INLINE_BYTES // 2 else []

    def take(self, segments: Iterable[Segment]) -> None:
        """Take the live messages out of segments that were asked for and read."""
        missing = missing_ordinals(self._view)
        for segment in segments:
            first, bodies, _ = _read(segment, self._log)
            self._bodies.update({n: body for n, body in enumerate(bodies, first) if n in missing})

    def finish(self) -> Packed:
        """Make everything that is to be written."""
        old, view = self._log.head, self._view
        merged = to_merge(old)
        segments = [segment for segment in old.segments if segment not in merged]
        segments += [*self._merge(merged), *self._pack_new()]
        inline = self._choose_inline(segments)
        needed = [ordinal for ordinal in live_ordinals(view) if ordinal not in inline]
        segments = [replace(segment, live=_holds_any(segment, needed)) for segment in segments]
        older, segments, kept = self._turn_page(segments, [*old.kept, *self._folded.kept])
        pages = len(self._pieces)
        checkpoint = self._write(write_checkpoint(view, sorted(inline)))
        replaced = [segment.run for segment in merged] + ([old.checkpoint] if old.checkpoint else [])
        orphans = [*old.orphans, *(plan for plan in view.planned if plan != self._plan)]
        head = Head(
            old.session_id,
            old.root_id,
            stamp=new_stamp(),
            sequence=self._log.end,
            owner=view.owner,
            checkpoint=checkpoint,
            checkpoint_bytes=sum(len(value) for _, value in self._pieces[pages:]),
            segments=tuple(segments),
            kept=tuple(kept),
            older=older,
            swept=old.sequence,
            parts=tuple(parts_by_slot(self._log)),
            garbage=tuple(replaced),
            orphans=tuple(orphans[-_MOST_ORPHANS:]),
        )
        return Packed(self._pieces, head)

    @property
    def _view(self) -> View:
        return self._folded.view

    @property
    def _bodies(self) -> dict[int, bytes]:
        return self._view.bodies if self._view.bodies is not None else {}

    def _merge(self, segments: list[Segment]) -> Iterator[Segment]:
        if not segments:
            return
        bodies: list[bytes] = []
        history: list[bytes] = []
        for segment in segments:
            _, more, then = _read(segment, self._log)
            bodies += more
            history.append(then)
        yield from self._with_history(segments[0].first, bodies, history)

    def _pack_new(self) -> Iterator[Segment]:
        """Make segments of the messages that came since the last compaction."""
        first = start = self._folded.first
        size = 0
        history = self._folded.history
        for ordinal in range(first, self._view.next_ordinal):
            length = len(self._bodies[ordinal])
            if size and size + length > SEGMENT_BYTES:
                yield from self._with_history(start, [self._bodies[n] for n in range(start, ordinal)], history)
                start, size, history = ordinal, 0, []
            size += length
        bodies = [self._bodies[n] for n in range(start, self._view.next_ordinal)]
        yield from self._with_history(start, bodies, history)

    def _choose_inline(self, segments: list[Segment]) -> set[int]:
        """Choose the live messages to put into the checkpoint."""
        live, bodies = live_ordinals(self._view), self._bodies
        # The live ones may be a hundred thousand, those at hand are what came since the last compaction.
        available = [ordinal for ordinal in sorted(bodies) if _is_among(ordinal, live)]
        if len(available) == len(live) and sum(len(bodies[n]) for n in live) <= INLINE_BYTES:
            return set(live)
        # The others are found in segments that the head names. What only pages know of stays in the checkpoint.
        return {ordinal for ordinal in available if not any(_holds_any(segment, [ordinal]) for segment in segments)}

    def _turn_page(self, segments: list[Segment], kept: list[int]) -> tuple[Run | None, list[Segment], list[int]]:
        """Move what a load does not need to a page, when it has become much."""
        older = self._log.head.older
        idle = [segment for segment in segments[:-_NEWEST_SEGMENTS] if not segment.live]
        gone = kept[: -_MOST_KEPT // 2] if len(kept) > _MOST_KEPT else []
        if len(idle) < _NEWEST_SEGMENTS and not gone:
            return older, segments, kept
        page = self._write(write_page(Page(tuple(idle), tuple(gone), older)))
        return page, [segment for segment in segments if segment not in idle], kept[len(gone) :]

    def _with_history(self, first: int, bodies: list[bytes], history: list[bytes]) -> Iterator[Segment]:
        """Make a segment of messages, which has the records of the same time unless they are long."""
        if sum(map(len, history)) > HISTORY_BYTES:
            for group in grouped(history, SEGMENT_BYTES):
                yield self._segment(first, [], b"".join(group))
            history = []
        if bodies or history:
            yield self._segment(first, bodies, b"".join(history))

    def _segment(self, first: int, bodies: list[bytes], history: bytes) -> Segment:
        payload = write_segment(first, bodies, history)
        return Segment(self._write(payload), first, len(bodies), len(payload), live=False)

    def _write(self, payload: bytes) -> Run:
        """Put a payload under the next keys of the plan."""
        start = len(self._pieces)
        for index, piece in enumerate(cut(payload, self._longest_value), start):
            key = self._log.layout.piece(self._plan, index)
            self._pieces.append((key, seal(key, piece)))
        return Run(self._plan, start, len(self._pieces) - start)


@dataclass(frozen=True, slots=True)
class _Folded:
    """A log, folded.

    Attributes:
        view: The view, with what was dropped from it.
        first: The number of the first message after the checkpoint.
        history: The other records after the checkpoint.
        kept: The slots after the checkpoint that must be kept.
    """

    view: View
    first: int
    history: list[bytes]
    kept: list[int]


def _fold(log: Log) -> _Folded:
    view = View(keep_dropped=True)
    if log.head.checkpoint is not None:
        payload = log.payloads[log.head.checkpoint]
        view = read_checkpoint(log.head.checkpoint.keys(log.layout)[0], payload, keep_dropped=True)
    first = view.next_ordinal
    history = History()
    kept = []
    for number in range(log.head.sequence + 1, log.end + 1):
        records = log.records(number)
        for record in records:
            view.apply(record, key=log.layout.slot(number))
        if any(isinstance(record, Acquired) and record.takeover for record in records):
            kept.append(number)
        history.add(number, records)
    view.sequence = log.end
    return _Folded(view, first, history.packed(), kept)


def _holds_any(segment: Segment, ordinals: list[int]) -> bool:
    """Tell whether a segment holds any of some messages, whose numbers are sorted."""
    following = bisect_left(ordinals, segment.first)
    return following < len(ordinals) and ordinals[following] < segment.first + segment.count


def _is_among(ordinal: int, ordinals: list[int]) -> bool:
    """Tell whether a message is among some, whose numbers are sorted."""
    place = bisect_left(ordinals, ordinal)
    return place < len(ordinals) and ordinals[place] == ordinal


def _read(segment: Segment, log: Log) -> tuple[int, list[bytes], bytes]:
    return read_segment(segment.run.keys(log.layout)[0], log.payloads[segment.run])
