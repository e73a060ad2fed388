"""Packing the log: commits become segments and a checkpoint, and the head moves.

What a head replaces is deleted when it is replaced in its turn. So whoever has read a head finds all that belongs to it
until the log has been packed twice.

A compaction may run beside the owner's commits, and be killed, or overtaken, at any step. It only packs commits that
were acknowledged. Its name is announced in the log before it writes anything. If the head that it wants to move was
moved by another one, it has lost: everything of it is unused, which the next one sees in the log, and removes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.head import read_head, write_head
from strands_dapr_session.journal.load import read_log, read_segments
from strands_dapr_session.journal.packing import Packing, to_merge
from strands_dapr_session.journal.registry import is_live, place_of
from strands_dapr_session.journal.tidying import delete_plan, tidy
from strands_dapr_session.stores.base import KeyConflict
from strands_dapr_session.stores.settle import settle_create, settle_replace

if TYPE_CHECKING:
    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.head import Head
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.journal.load import Log


async def compact(context: Context, layout: Layout, plan: str, through: int) -> Head | None:
    """Pack the log up to a slot.

    Args:
        context: The store.
        layout: The journal.
        plan: The name of the compaction, announced in a slot up to `through`.
        through: The last slot to pack. It was acknowledged, as were all before it.

    Returns:
        The new head; None if somebody else packed the log.

    Raises:
        StoredDataError: What is stored is damaged; nothing was changed.
        StoreUnavailableError: The head may or may not have moved.
    """
    try:
        log = await read_log(context, layout, to_merge)
    except StoredDataError:
        if await is_live(context, layout):
            raise
        return None  # it was deleted meanwhile
    if log.head.sequence >= through or log.end < through:
        return None
    del log.slots[through - log.head.sequence :]
    packing = await context.offload(lambda: Packing(log, plan, context.store.capabilities.max_value_bytes))
    wanted = packing.wanted()
    if wanted:
        if not await read_segments(context, log, wanted):
            return None
        await context.offload(lambda: packing.take(wanted))
    packed = await context.offload(packing.finish)
    await tidy(context, layout, log.head)
    for key, value in packed.pieces:
        await settle_create(context.store, key, value, context.retry)
    moved = await _move(context, log, packed.head, plan)
    place = await place_of(context, layout.session_id, layout.root_id)
    if layout.incarnation != place.live and layout.incarnation not in place.dead:
        # Deleted meanwhile, to the last key but these. Some stores let a head be replaced that is gone.
        await delete_plan(context, layout, plan)
        await context.store.delete_many([layout.head])
        return None
    return packed.head if moved else None


async def _move(context: Context, log: Log, head: Head, plan: str) -> bool:
    """Move the head; false if somebody else has moved it."""
    layout = log.layout
    value = write_head(layout, head)
    try:
        if log.etag is None:
            await settle_create(context.store, layout.head, value, context.retry)
        else:
            await settle_replace(context.store, layout.head, value, log.etag, context.retry)
    except KeyConflict as conflict:
        # It may be that this move was applied, and replaced in its turn. Only a plan that a later head calls an orphan
        # came to nothing for sure. That head's owner removes it too, but may have looked too early.
        if conflict.found is not None and plan in read_head(layout, conflict.found).orphans:
            await delete_plan(context, layout, plan)
        return False
    return True
