"""What a segment keeps of the records of its time, besides the messages.

Nothing is kept twice: a message is replaced by an empty one, whose number follows from the order; a tool result that
became part of a message is empty too; of a document or note that changed often only the last value stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from strands_dapr_session.records.codec import array_header, pack_value
from strands_dapr_session.records.records import Derived, DocumentSet, Noted, SegmentsPlanned, Spliced, ToolFinished
from strands_dapr_session.records.wire import encode_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.records.records import Record


class History:
    """Collects the records of consecutive slots."""

    def __init__(self) -> None:
        self._slots: list[tuple[int, list[Record]]] = []

    def add(self, number: int, records: list[Record]) -> None:
        """Add the records of a slot."""
        self._slots.append((number, records))

    def packed(self) -> bytes:
        """Pack them: for each slot a list of its number and what is kept of its records."""
        newest: set[tuple[type[Record], str, str]] = set()
        used: set[tuple[str, str]] = set()
        packed: list[bytes] = []
        for number, records in reversed(self._slots):
            kept = [encode_record(record) for record in _without_repetition(records, newest, used)]
            packed.append(b"".join((array_header(len(kept) + 1), pack_value(number), *reversed(kept))))
        return b"".join(reversed(packed))


def _without_repetition(
    records: list[Record], newest: set[tuple[type[Record], str, str]], used: set[tuple[str, str]]
) -> Iterator[Record]:
    """Go through records from the last to the first."""
    for record in reversed(records):
        match record:
            case SegmentsPlanned():
                continue
            case Spliced():
                used.update(
                    (record.scope, name) for body in record.bodies if isinstance(body, Derived) for name in body.results
                )
                yield replace(record, bodies=(b"",) * len(record.bodies))
            case ToolFinished():
                identity = (record.scope, record.tool_use_id)
                yield replace(record, result=b"") if identity in used else record
                used.discard(identity)
            case DocumentSet() | Noted():
                name = record.name if isinstance(record, DocumentSet) else record.kind
                if (type(record), record.scope, name) not in newest:
                    newest.add((type(record), record.scope, name))
                    yield record
            case _:
                yield record
