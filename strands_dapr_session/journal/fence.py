"""Telling an owner that it is one no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import DurableSessionError, FencedError, SessionDeletedError, StoredDataError
from strands_dapr_session.journal.commit import read_records
from strands_dapr_session.journal.worker import describe
from strands_dapr_session.records.records import Acquired, Noted

if TYPE_CHECKING:
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.stores.base import KeyConflict

DELETION: Final = Noted("", "journal.deletion", b"\xc0")
"""Goes with an acquisition that was made to delete the journal."""


def fenced_by(layout: Layout, number: int, conflict: KeyConflict) -> DurableSessionError:
    """Make the error for an owner whose next slot somebody else has."""
    who = "another worker"
    if conflict.found is not None and conflict.key == layout.slot(number):
        try:
            records = read_records(layout, number, conflict.found, {})
        except StoredDataError as error:
            return error
        if DELETION in records:
            return deleted(layout)
        who = next((describe(record.worker) for record in records if isinstance(record, Acquired)), who)
    return FencedError(
        f"session {layout.session_id!r} was taken over by {who}: this run stopped before its next side effect. "
        "The other worker goes on from the last step that was recorded."
    )


def deleted(layout: Layout) -> SessionDeletedError:
    """Make the error for an owner whose journal is gone."""
    return SessionDeletedError(f"session {layout.session_id!r} was deleted while this process was using it")
