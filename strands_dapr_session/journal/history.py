"""What a segment keeps of the records of its time, besides the messages.

Nothing is kept twice: a message is replaced by an empty one, whose number follows from the order; a tool result that
became part of a message is empty too. Of a document or note that changed often, the last value stays that it had while
one acquisition held: so what a state was when an owner let go, or was taken over, can always be told. The other values
are empty, and those that follow an empty one are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from strands_dapr_session.records.codec import array_header, pack_value
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    DocumentSet,
    Noted,
    ScopeClosed,
    SegmentsPlanned,
    Spliced,
    ToolFinished,
)
from strands_dapr_session.records.wire import encode_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from strands_dapr_session.records.records import Record

Identity: TypeAlias = tuple[type, str, str]
"""What has a newest value: a document or a note, its scope, and its name."""

CANDID: Final = SegmentsPlanned(())
"""Says of a packed slot that an empty value stands wherever values were left out. Older packings left them out without
a trace, and have no record of this kind in their history."""


class History:
    """Collects the records of consecutive slots."""

    def __init__(self) -> None:
        self._slots: list[tuple[int, list[Record]]] = []

    def add(self, number: int, records: list[Record]) -> None:
        """Add the records of a slot."""
        self._slots.append((number, records))

    def packed(self) -> list[bytes]:
        """Pack them: for each slot a list of its number and what is kept of its records."""
        used: set[tuple[str, str]] = set()
        packed: list[bytes] = []
        for number, records in reversed(_without_older_values(self._slots).items()):
            kept = [*_without_repetition(records, used)][::-1]
            kept.insert(isinstance(kept[0], Acquired) if kept else 0, CANDID)  # while somebody owns the journal
            packed.append(b"".join((array_header(len(kept) + 1), pack_value(number), *map(encode_record, kept))))
        return packed[::-1]


def identity_of(record: DocumentSet | Noted) -> Identity:
    """Tell what a record gives a value to."""
    name = record.name if isinstance(record, DocumentSet) else record.kind
    return type(record), record.scope, name


def _without_older_values(slots: Iterable[tuple[int, list[Record]]]) -> dict[int, list[Record]]:
    """Empty the values that others followed while the same acquisition held."""
    every = list(_counted(slots))
    values = [
        (place, acquisitions, identity_of(record))
        for place, (_, acquisitions, record) in enumerate(every)
        if isinstance(record, (DocumentSet, Noted))
    ]
    last = {(acquisitions, identity): place for place, acquisitions, identity in values}
    empty: set[Identity] = set()
    kept: dict[int, list[Record]] = {number: [] for number, _ in slots}
    for place, (number, acquisitions, record) in enumerate(every):
        if not isinstance(record, (DocumentSet, Noted)):
            kept[number].append(record)
            if isinstance(record, ScopeClosed):
                empty.clear()  # what comes after it is of another time
            continue
        identity = identity_of(record)
        if last[acquisitions, identity] == place:
            kept[number].append(record)
            empty.discard(identity)
        elif identity not in empty:
            kept[number].append(replace(record, value=b""))
            empty.add(identity)
    return kept


def _counted(slots: Iterable[tuple[int, list[Record]]]) -> Iterator[tuple[int, int, Record]]:
    """Go through all records, with their slot and the acquisitions so far."""
    acquisitions = 0
    for number, records in slots:
        for record in records:
            acquisitions += isinstance(record, Acquired)
            yield number, acquisitions, record


def _without_repetition(records: list[Record], used: set[tuple[str, str]]) -> Iterator[Record]:
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
            case _:
                yield record
