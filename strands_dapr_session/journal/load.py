"""Reading a journal: the head, what it needs, and the log after it, in three round trips where nothing is unusual."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from strands_dapr_session.errors import DamagedDataError, JournalGapError, StoreUnavailableError
from strands_dapr_session.journal.commit import part_keys, read_records
from strands_dapr_session.journal.head import Head, Run, Segment, read_head
from strands_dapr_session.records.frames import MAX_PAYLOAD_BYTES, open_sealed
from strands_dapr_session.records.records import Acquired, Released

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.stores.base import Entry

T = TypeVar("T")

FIRST_LOOK: Final = 16
"""Slots that are asked for together with the head: all that there are in a short session."""

LOOK_AHEAD: Final = 36
"""Slots after the head that are asked for with what the head needs: the 32 after which a log is packed, and a few that
come while it is. More would cost a load milliseconds for nothing, fewer a round trip more."""

LOOK_FURTHER: Final = 32
"""Slots in every further read."""

LONGEST_MANIFEST: Final = 64
"""Bytes up to which a slot may be one that refers to parts."""

_COMPRESSED: Final = 0.5
"""To what part of its size a segment is compressed, at most. Text comes to a third."""

_READ_TOGETHER: Final = 1024 * 1024
"""Bytes in the store, as they are reckoned beforehand, that are read and opened together. What is more is opened while
the rest still comes, and two at a time: with 5,000 messages a load then takes 0.9 of the time."""

_ATTEMPTS: Final = 50


@dataclass(slots=True)
class Log:
    """A journal as it was read, not yet decoded.

    Attributes:
        layout: Where it is.
        head: What is packed.
        etag: The ETag of the head; None if there is none yet.
        segments: The segments that must be read for what is live.
        payloads: What those and the checkpoint hold.
        slots: What the slots after the head hold, without a gap.
        parts: What belongs to slots that are too long for one key.
    """

    layout: Layout
    head: Head
    etag: str | None
    segments: list[Segment] = field(default_factory=list)
    payloads: dict[Run, bytes] = field(default_factory=dict)
    slots: list[Entry] = field(default_factory=list)
    parts: dict[str, Entry] = field(default_factory=dict)

    def only_head(self) -> Log:
        """Get the same log without anything that must be read after the head."""
        return Log(self.layout, self.head, self.etag, live_segments(self.head))

    @property
    def end(self) -> int:
        """The last slot."""
        return self.head.sequence + len(self.slots)

    def records(self, number: int) -> list[Record]:
        """Read the records of a slot after the head."""
        return read_records(self.layout, number, self.slots[number - self.head.sequence - 1], self.parts)

    def holds(self, number: int, value: bytes) -> bool:
        """Tell whether a slot after the head holds a value."""
        return self.head.sequence < number <= self.end and self.slots[number - self.head.sequence - 1].value == value

    def owner(self) -> Acquired | None:
        """Find who acquired the journal and has not released it."""
        for number in range(self.end, self.head.sequence, -1):
            for record in reversed(self.records(number)):
                if isinstance(record, Released):
                    return None
                if isinstance(record, Acquired):
                    return record
        return self.head.owner


class _Changed(Exception):  # noqa: N818 - an outcome inside this module
    """The journal was packed while it was read: read it again from the newest head."""


def live_segments(head: Head) -> list[Segment]:
    """Choose the segments that hold live messages."""
    return [segment for segment in head.segments if segment.live]


async def read_log(context: Context, layout: Layout, choose: Callable[[Head], list[Segment]] = live_segments) -> Log:
    """Read a journal from its newest head to its end.

    Args:
        context: The store.
        layout: Which.
        choose: Which segments to read as well.

    Raises:
        StoredDataError: Something is damaged or missing.
        JournalGapError: The store lost a commit.
    """
    for _ in range(_ATTEMPTS):
        numbers = range(1, FIRST_LOOK + 1)
        entries: Mapping[str, Entry] = await context.store.get_many([layout.head, *map(layout.slot, numbers)])
        entry = entries.get(layout.head)
        log = Log(layout, read_head(layout, entry), entry.etag if entry else None)
        log.segments = choose(log.head)
        try:
            if log.head.sequence:
                numbers = range(log.head.sequence + 1, log.head.sequence + LOOK_AHEAD + 1)
                entries = await _read_packed(context, log, numbers)
            await _read_tail(context, log, entries, numbers)
        except _Changed:
            continue
        return log
    raise StoreUnavailableError(f"journal {layout.base!r} is packed faster than it can be read")


async def read_known(context: Context, log: Log, extra: Sequence[str] = ()) -> Mapping[str, Entry] | None:
    """Read a journal whose head was read some time ago.

    Args:
        context: The store.
        log: What `Log.only_head` gave; it is completed.
        extra: Other keys to read on the way.

    Returns:
        The other keys that exist; None if the head is another one now, and the log is worth nothing.

    Raises:
        StoredDataError: Something is damaged or missing.
    """
    numbers = range(log.head.sequence + 1, log.head.sequence + LOOK_AHEAD + 1)
    try:
        entries = await _read_packed(context, log, numbers, extra)
        await _read_tail(context, log, entries, numbers)
    except _Changed:
        return None
    return entries


def empty_log(layout: Layout) -> Log:
    """Make the log of a journal to which nobody has written."""
    return Log(layout, Head(layout.session_id, layout.root_id), None)


async def read_further(context: Context, log: Log, extra: Sequence[str] = ()) -> tuple[Log, Mapping[str, Entry]]:
    """Read what was committed since.

    Args:
        context: The store.
        log: What was read before; it is not changed.
        extra: Other keys to read on the way.

    Returns:
        The journal now, and the other keys that exist.
    """
    numbers = range(log.end + 1, log.end + FIRST_LOOK + 1)
    entries = await context.store.get_many([log.layout.head, *extra, *map(log.layout.slot, numbers)])
    further = Log(log.layout, log.head, log.etag, log.segments, log.payloads, [*log.slots], dict(log.parts))
    head = read_head(log.layout, entries.get(log.layout.head))
    try:
        if head.stamp != log.head.stamp:
            return await read_log(context, log.layout), entries
        await _read_tail(context, further, entries, numbers)
    except _Changed:
        further = await read_log(context, log.layout)
    return further, entries


def parts_by_slot(log: Log) -> list[tuple[int, int]]:
    """List the slots after the head that have parts, with their number."""
    counts = [
        (number, len(part_keys(log.layout, number, entry)))
        for number, entry in enumerate(log.slots, log.head.sequence + 1)
        if len(entry.value) <= LONGEST_MANIFEST
    ]
    return [(number, count) for number, count in counts if count]


async def read_segments(context: Context, log: Log, segments: Sequence[Segment]) -> bool:
    """Read more segments into a log; false if it was packed meanwhile.

    Raises:
        StoredDataError: One of them is damaged or missing.
    """
    wanted = _stored_sizes(segment for segment in segments if segment.run not in log.payloads)
    try:
        await _at_once([_read_runs(context, log, runs) for runs in _together(wanted)])
    except _Changed:
        return False
    return True


async def has_moved(context: Context, log: Log) -> bool:
    """Tell whether the journal has been packed since it was read."""
    entry = await context.store.get(log.layout.head)
    return read_head(log.layout, entry).stamp != log.head.stamp


def joined(layout: Layout, run: Run, pieces: Mapping[str, Entry]) -> bytes:
    """Put a long value together.

    Raises:
        StoredDataError: A piece is damaged or missing.
    """
    payloads = []
    left = MAX_PAYLOAD_BYTES
    for key in run.keys(layout):
        if key not in pieces:
            raise DamagedDataError(key, "the head needs it, and it is missing")
        payloads.append(open_sealed(key, pieces[key].value, max_bytes=left))
        left -= len(payloads[-1])
    return payloads[0] if len(payloads) == 1 else b"".join(payloads)


async def _read_packed(
    context: Context, log: Log, numbers: Iterable[int], extra: Sequence[str] = ()
) -> Mapping[str, Entry]:
    """Read the checkpoint and the segments that are needed, together with the first slots."""
    head = log.head
    runs = {} if head.checkpoint is None else {head.checkpoint: head.checkpoint_bytes}
    first, *others = _together(runs | _stored_sizes(log.segments)) or [{}]
    log.payloads = {}
    slots = map(log.layout.slot, numbers)
    reads = [_read_runs(context, log, first, [*extra, *slots]), *(_read_runs(context, log, runs) for runs in others)]
    entries, *_ = await _at_once(reads)
    return entries


async def _read_runs(
    context: Context, log: Log, runs: Mapping[Run, int], others: Sequence[str] = ()
) -> Mapping[str, Entry]:
    """Read long values, of about so many bytes, into a log, and other keys; returns all keys that exist."""
    sizes = {key: size // run.count for run, size in runs.items() for key in run.keys(log.layout)}
    if others:
        entries = await _read_more(context, log, [*sizes, *others], sizes)
    else:
        entries = await context.store.get_many(list(sizes), sizes=sizes)
    for key in sizes:
        if key not in entries:
            await _blame_compaction(context, log)
            raise DamagedDataError(key, "the head needs it, and it is missing")
    if runs:
        opened = await context.offload(lambda: [joined(log.layout, run, entries) for run in runs])
        log.payloads.update(zip(runs, opened, strict=True))
    return entries


async def _at_once(reads: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await several at the same time; one alone needs no event loop, which a model check does not have."""
    return [await read for read in reads] if len(reads) < 2 else await asyncio.gather(*reads)  # noqa: PLR2004


def _together(runs: Mapping[Run, int]) -> list[dict[Run, int]]:
    """Divide long values by their sizes into those that are read together."""
    groups: list[dict[Run, int]] = []
    room = 0
    for run, size in runs.items():
        room -= size
        if not groups or room < 0:
            groups.append({})
            room = _READ_TOGETHER - size
        groups[-1][run] = size
    return groups


def _stored_sizes(segments: Iterable[Segment]) -> dict[Run, int]:
    """Tell about how many bytes segments have in the store."""
    return {segment.run: int(segment.size * _COMPRESSED) for segment in segments}


async def _read_tail(context: Context, log: Log, entries: Mapping[str, Entry], numbers: range) -> None:
    """Take the slots that were read, and read on to the end."""
    while True:
        _take(log, entries, numbers)
        if log.end < numbers[-1]:
            break
        numbers = range(log.end + 1, log.end + LOOK_FURTHER + 1)
        entries = await _read_more(context, log, list(map(log.layout.slot, numbers)))
    if any(log.layout.slot(number) in entries for number in range(log.end + 1, numbers[-1] + 1)):
        await _explain_gap(context, log)
    await _read_parts(context, log)


async def _read_more(
    context: Context, log: Log, keys: Sequence[str], sizes: Mapping[str, int] | None = None
) -> Mapping[str, Entry]:
    """Read keys, and look on the way whether the head is still the same.

    What a head replaces is deleted only when it is replaced in its turn. So this shows all of it, unless the journal is
    packed and then packed again while the keys of one read are read one after the other. An owner looks again after
    that, see `acquire`; somebody who only reads might then see an older state.
    """
    entries = await context.store.get_many([*keys, log.layout.head], sizes=sizes)
    head = entries.get(log.layout.head)
    if (head.etag if head else None) != log.etag:
        raise _Changed
    return entries


def _take(log: Log, entries: Mapping[str, Entry], numbers: Iterable[int]) -> None:
    """Take slots up to the first that is not there; the numbers begin after the last that the log has."""
    for number in numbers:
        entry = entries.get(log.layout.slot(number))
        if entry is None:
            return
        log.slots.append(entry)


async def _explain_gap(context: Context, log: Log) -> None:
    """Find out why a slot is missing before others that exist.

    Keys are not read at the same time, so the slot may have been written while those after it were read, or packed
    after the head was read. If it is neither, it is lost.
    """
    numbers = range(log.end + 1, log.end + LOOK_FURTHER + 1)
    before = log.end
    entries = await context.store.get_many(list(map(log.layout.slot, numbers)))
    await _blame_compaction(context, log)
    if log.layout.slot(before + 1) not in entries:
        raise JournalGapError(
            log.layout.slot(before + 1), "this commit was acknowledged and is missing, though later ones exist"
        )
    await _read_tail(context, log, entries, numbers)


async def _read_parts(context: Context, log: Log) -> None:
    wanted = []
    for number, entry in enumerate(log.slots, log.head.sequence + 1):
        if len(entry.value) <= LONGEST_MANIFEST:
            wanted += [key for key in part_keys(log.layout, number, entry) if key not in log.parts]
    if not wanted:
        return
    longest = context.store.capabilities.max_value_bytes
    log.parts.update(await context.store.get_many(wanted, sizes=dict.fromkeys(wanted, longest)))
    if any(key not in log.parts for key in wanted):
        await _blame_compaction(context, log)
        missing = next(key for key in wanted if key not in log.parts)
        raise DamagedDataError(missing, "a commit needs it, and it is missing")


async def _blame_compaction(context: Context, log: Log) -> None:
    """Read the journal again if it was packed meanwhile, which explains whatever is missing."""
    if await has_moved(context, log):
        raise _Changed
