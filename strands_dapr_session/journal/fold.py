"""From what was read to a view, in pieces: a caller may let others run in between."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.checkpoint import missing_ordinals, read_checkpoint, read_segment
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.journal.load import Log

_LONGEST_STRETCH: Final = 0.002
"""Seconds of decoding after which a caller's event loop gets its turn."""


def fold(log: Log) -> View:
    """Fold a journal that was read.

    Raises:
        StoredDataError: Something in it is damaged, or newer than this package.
    """
    view = View()
    for view in folding(log):  # noqa: B007 - the last one counts
        pass
    return view


async def fold_politely(log: Log) -> View:
    """Fold a journal that was read, and let the caller's event loop run in between."""
    view = View()
    began = time.monotonic()
    for view in folding(log):  # noqa: B007 - the last one counts
        if time.monotonic() - began > _LONGEST_STRETCH:
            await asyncio.sleep(0)
            began = time.monotonic()
    return view


def folding(log: Log) -> Iterator[View]:
    """Fold a journal that was read, one key at a time; the view is complete at the end."""
    head, layout = log.head, log.layout
    view = View()
    if head.checkpoint is not None:
        key = head.checkpoint.keys(layout)[0]
        view = read_checkpoint(key, log.payloads[head.checkpoint])
        yield view
        yield from _with_segments(view, key, log)
    for number in range(head.sequence + 1, log.end + 1):
        key = layout.slot(number)
        for record in log.records(number):
            view.apply(record, key=key)
        view.sequence = number
        yield view


def _with_segments(view: View, checkpoint: str, log: Log) -> Iterator[View]:
    missing = missing_ordinals(view)
    if not missing:
        return
    for segment in log.segments:
        key = segment.run.keys(log.layout)[0]
        first, bodies, _ = read_segment(key, log.payloads[segment.run])
        ordinals = range(first, first + len(bodies))
        found: Iterator[tuple[int, bytes]] = zip(ordinals, bodies, strict=True)
        if not missing.issuperset(ordinals):  # seldom: some were trimmed
            found = ((ordinal, body) for ordinal, body in found if ordinal in missing)
        if view.bodies is not None:
            view.bodies.update(found)
        missing.difference_update(ordinals)
        yield view
    if missing:
        raise DamagedDataError(checkpoint, f"message {min(missing)} is live, but in no segment that the head names")
