"""Reading a journal for somebody who will not acquire it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.load import has_moved, read_log
from strands_dapr_session.journal.registry import is_live, place_of
from strands_dapr_session.records.records import Acquired

if TYPE_CHECKING:
    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.load import Log


async def read_journal(context: Context, session_id: str, root_id: str) -> Log | None:
    """Read a journal for somebody who will not acquire it; None if there is none.

    Raises:
        StoredDataError: Something is damaged or missing.
    """
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
    """Read a journal as it is, not as somebody who fails to acquire it makes it look.

    An acquisition that does not hold may lie in a slot that was packed and deleted while the journal was read. It can
    only be the last thing that is seen, so a log that ends in an acquisition is compared with the head once more.
    """
    while True:
        log = await read_log(context, layout)
        if not log.slots or not isinstance(log.records(log.end)[0], Acquired) or not await has_moved(context, log):
            return log
