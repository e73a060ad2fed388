"""Reading a journal for somebody who will not acquire it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.load import has_moved, read_known, read_log
from strands_dapr_session.journal.registry import is_live, place_in, place_of
from strands_dapr_session.records.records import Acquired

if TYPE_CHECKING:
    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.load import Log


async def read_journal(context: Context, session_id: str, root_id: str) -> Log | None:
    """Read a journal for somebody who will not acquire it; None if there is none.

    Raises:
        StoredDataError: Something is damaged or missing.
    """
    log = await _read_as_before(context, session_id, root_id)
    if log is None:
        log = await _read_from_registry(context, session_id, root_id)
    if log is not None and context.recent is not None:
        context.recent.remember(log)
    return log


async def _read_as_before(context: Context, session_id: str, root_id: str) -> Log | None:
    """Read the journal at one go, if what is remembered of it still holds."""
    log = None if context.recent is None else context.recent.find(session_id, root_id)
    if log is None:
        return None
    registry = shard_key(session_id)
    try:
        others = await read_known(context, log, [registry])
        if others is None or await _may_mislead(context, log):
            return None
    except StoredDataError:
        return None  # it may have been deleted; whoever reads it from the beginning finds out
    place = place_in(registry, others.get(registry), session_id, root_id)
    return log if place.live == log.layout.incarnation else None


async def _read_from_registry(context: Context, session_id: str, root_id: str) -> Log | None:
    while True:
        place = await place_of(context, session_id, root_id)
        if place.live is None:
            return None
        layout = Layout(session_id, root_id, place.live)
        try:
            return await _read_settled_log(context, layout)
        except StoredDataError:
            if await is_live(context, layout):
                raise  # otherwise it was deleted while it was read


async def _read_settled_log(context: Context, layout: Layout) -> Log:
    """Read a journal as it is, not as somebody who fails to acquire it makes it look."""
    while True:
        log = await read_log(context, layout)
        if not await _may_mislead(context, log):
            return log


async def _may_mislead(context: Context, log: Log) -> bool:
    """Tell whether a log may end in an acquisition that does not hold.

    Such an acquisition may lie in a slot that was packed and deleted while the journal was read. It can only be the
    last thing that is seen, so a log that ends in an acquisition is compared with the head once more.
    """
    if not log.slots or not isinstance(log.records(log.end)[0], Acquired):
        return False
    return await has_moved(context, log)
