"""Reading everything that a journal was ever told, for people who look back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import msgpack  # type: ignore[import-untyped]

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.checkpoint import read_segment
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.head import read_page
from strands_dapr_session.journal.history import CANDID
from strands_dapr_session.journal.load import has_moved, joined, read_segments
from strands_dapr_session.journal.reading import read_journal
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import Derived, Record, Spliced, ToolFinished
from strands_dapr_session.records.wire import decode_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.journal.head import Segment
    from strands_dapr_session.journal.load import Log
    from strands_dapr_session.stores.base import StateStore

Commits = list[tuple[int, list[Record]]]
"""What the commits of a journal hold, by their numbers. What packing left out is not among it: see `history`."""


@dataclass(frozen=True, slots=True)
class Past:
    """A journal from its first commit.

    Attributes:
        commits: All of them.
        silent: Those from which an older packing left values of documents and notes out without a trace.
    """

    commits: Commits
    silent: frozenset[int]


async def read_history(store: StateStore, session_id: str, root_id: str) -> Commits:
    """Read all records of a journal, from the first.

    Raises:
        StoredDataError: Something is damaged or missing.
        StoreError: The store cannot be read.
    """
    return (await read_past(store, session_id, root_id)).commits


async def read_past(store: StateStore, session_id: str, root_id: str) -> Past:
    """Read all records of a journal, and what is known of how they were packed. See `read_history`."""
    context = Context(store, this_process)

    async def read() -> Past:
        await store.open()
        while True:
            log = await read_journal(context, session_id, root_id)
            if log is None:
                return Past([], frozenset())
            segments = await _all_segments(context, log)
            if segments is not None and await read_segments(context, log, segments):
                return _past(log, segments)

    return await io_thread.run(read())


def with_results(commits: Commits, key: str) -> Commits:
    """Tell the results of tools where they were recorded: packing leaves them only in the messages that they went to.

    Those messages are then made of the results again, as they were before they were packed.

    Args:
        commits: What was read.
        key: The session and root, for the error.

    Raises:
        DamagedDataError: A result is in no message.
    """
    whole: Commits = [(number, [*records]) for number, records in commits]
    left: _Results = {}
    for _, records in whole:
        for place, record in enumerate(records):
            if isinstance(record, ToolFinished):
                left[record.scope, record.tool_use_id] = (records, place)
            elif isinstance(record, Spliced):
                bodies = tuple(_made_again(body, record.scope, left, key) for body in record.bodies)
                records[place] = replace(record, bodies=bodies)
    for (_, name), (records, place) in left.items():
        if not _result(records, place):
            raise DamagedDataError(key, f"the result of tool call {name!r} is in no message")
    return whole


_Results = dict[tuple[str, str], tuple[list[Record], int]]
"""Where results were recorded that are in no message yet, by scope and tool use id."""


def _made_again(body: bytes | Derived, scope: str, left: _Results, key: str) -> bytes | Derived:
    """Make a message of the results that it is made of, and put them where they were recorded."""
    if isinstance(body, Derived):
        for name in body.results:
            left.pop((scope, name), None)
        return body
    if not left or b"toolResult" not in body:
        return body
    message = unpack_value(body, key=key)
    try:
        blocks = [block["toolResult"] for block in message["content"] if len(block) == 1]
        results = {block["toolUseId"]: pack_value(block) for block in blocks}
        if len(results) < len(message["content"]):
            return body
    except (KeyError, TypeError):
        return body  # there is something else in it
    if any(
        (scope, name) not in left or _result(*left[scope, name]) not in {b"", result}
        for name, result in results.items()
    ):
        return body
    for name, result in results.items():
        records, place = left.pop((scope, name))
        records[place] = ToolFinished(scope, name, result)
    return Derived(pack_value({**message, "content": None}), tuple(results))


def _result(records: list[Record], place: int) -> bytes:
    record = records[place]
    return record.result if isinstance(record, ToolFinished) else b""


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


def _past(log: Log, segments: list[Segment]) -> Past:
    bodies: list[bytes] = []
    commits: Commits = []
    for segment in sorted(segments, key=lambda segment: segment.first):
        key = segment.run.keys(log.layout)[0]
        _, more, history = read_segment(key, log.payloads[segment.run])
        bodies += more
        commits += [_commit(packed, key) for packed in _split(history, key)]
    silent = frozenset(number for number, records in commits if CANDID not in records)
    # One packing may make several segments, and its history is in the first: messages are told apart by their order.
    left = iter(bodies)
    commits = [
        (number, [_with_bodies(record, left, log.layout.head) for record in records if record != CANDID])
        for number, records in sorted(commits, key=lambda commit: commit[0])
    ]
    tail = [(number, log.records(number)) for number in range(log.head.sequence + 1, log.end + 1)]
    return Past(commits + tail, silent)


def _commit(packed: bytes, key: str) -> tuple[int, list[Record]]:
    """Read the number of a slot and what is kept of its records."""
    match unpack_value(packed, key=key):
        case [int(number), *items]:
            return number, [decode_record(item, key=key) for item in items]
        case _:
            raise DamagedDataError(key, "its history has something that is no commit")


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
