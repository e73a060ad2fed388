"""Reading everything that a journal was ever told, for people who look back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import msgpack  # type: ignore[import-untyped]

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.checkpoint import read_segment
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.head import read_page
from strands_dapr_session.journal.load import has_moved, joined, read_segments
from strands_dapr_session.journal.reading import read_journal
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Record, Spliced
from strands_dapr_session.records.wire import decode_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.journal.head import Segment
    from strands_dapr_session.journal.load import Log
    from strands_dapr_session.stores.base import StateStore

Commits = list[tuple[int, list[Record]]]
"""What the commits of a journal hold, by their numbers. What packing left out is not among it: see `history`."""


async def read_history(store: StateStore, session_id: str, root_id: str) -> Commits:
    """Read all records of a journal, from the first.

    Raises:
        StoredDataError: Something is damaged or missing.
        StoreError: The store cannot be read.
    """
    context = Context(store, this_process)

    async def read() -> Commits:
        await store.open()
        while True:
            log = await read_journal(context, session_id, root_id)
            if log is None:
                return []
            segments = await _all_segments(context, log)
            if segments is not None and await read_segments(context, log, segments):
                return _records(log, segments)

    return await io_thread.run(read())


async def _all_segments(context: Context, log: Log) -> list[Segment] | None:
    """List the segments of a journal; None if it was packed meanwhile."""
    segments = [*log.head.segments]
    older = log.head.older
    while older is not None:
        keys = older.keys(log.layout)
        pieces = await context.store.get_many(keys)
        if len(pieces) < len(keys) and await has_moved(context, log):
            return None
        page = read_page(keys[0], joined(log.layout, older, pieces))
        segments += page.segments
        older = page.older
    return segments


def _records(log: Log, segments: list[Segment]) -> Commits:
    bodies: list[bytes] = []
    commits: Commits = []
    for segment in sorted(segments, key=lambda segment: segment.first):
        key = segment.run.keys(log.layout)[0]
        _, more, history = read_segment(key, log.payloads[segment.run])
        bodies += more
        for number, *items in map(partial(unpack_value, key=key), _split(history, key)):
            commits.append((int(number), [decode_record(item, key=key) for item in items]))
    # One packing may make several segments, and its history is in the first: messages are told apart by their order.
    left = iter(bodies)
    commits = [
        (number, [_with_bodies(record, left, log.layout.head) for record in records])
        for number, records in sorted(commits, key=lambda commit: commit[0])
    ]
    return commits + [(number, log.records(number)) for number in range(log.head.sequence + 1, log.end + 1)]


def _split(packed: bytes, key: str) -> Iterator[bytes]:
    """Take packed values apart that were written one after the other."""
    reader = msgpack.Unpacker(None, max_buffer_size=max(len(packed), 1), strict_map_key=False)
    reader.feed(packed)
    start = 0
    while start < len(packed):
        try:
            reader.skip()
        except Exception as error:
            raise DamagedDataError(key, f"its history is cut short ({type(error).__name__})") from error
        yield packed[start : reader.tell()]
        start = reader.tell()


def _with_bodies(record: Record, left: Iterator[bytes], key: str) -> Record:
    """Put the messages back that segments keep apart."""
    if not isinstance(record, Spliced):
        return record
    bodies = tuple(islice(left, len(record.bodies)))
    if len(bodies) < len(record.bodies):
        raise DamagedDataError(key, "the history holds more messages than there are")
    return replace(record, bodies=bodies)
