"""Deleting a journal: nobody may write to it any more, then every key of it goes, its entry in the registry last.

The order makes it safe to be killed anywhere: what is left can still be found from the registry and the head, and a
second run finishes it. A journal of the same name can be made as soon as the registry calls the old one dead.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from strands_dapr_session.journal.acquire import Wish, acquire
from strands_dapr_session.journal.commit import prepare, write
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.layout import Layout, probe_keys
from strands_dapr_session.journal.load import read_log
from strands_dapr_session.journal.purge import holds_fences, purge, purge_again
from strands_dapr_session.journal.registry import UNBORN, Place, change_place, place_of
from strands_dapr_session.records.records import Acquired
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.base import KeyConflict

if TYPE_CHECKING:
    from strands_dapr_session.journal.acquire import Claim
    from strands_dapr_session.journal.context import Context


async def fence_off(context: Context, wish: Wish) -> Claim | None:
    """Become the owner of a journal in order to delete it; None if it does not exist.

    Raises:
        SessionBusyError: Somebody else owns it and is alive.
    """
    place = await place_of(context, wish.session_id, wish.root_id)
    if place.live is None:
        return None
    return await acquire(context, wish)


async def delete_journal(context: Context, wish: Wish, claim: Claim | None) -> None:
    """Delete a journal.

    Args:
        context: The store.
        wish: Which, and who deletes it.
        claim: What `fence_off` returned for it.
    """
    if not context.store.is_proven:
        await context.store.delete_many(probe_keys(wish.session_id, wish.root_id))
    fence = ""
    if claim is not None:
        dead = claim.layout.incarnation
        await change_place(context, wish.session_id, wish.root_id, partial(_with_dead, dead))
        fence = await _fence_again(context, wish, claim)
    # What is not born yet never will be: whoever makes it finds it gone, and removes what it wrote after this.
    place = await change_place(context, wish.session_id, wish.root_id, _with_unborn) or Place(None, [])
    if claim is not None and claim.layout.incarnation not in place.dead:
        await context.store.delete_many([fence])  # somebody else has deleted it to the end meanwhile
    for incarnation in place.dead:
        layout = Layout(wish.session_id, wish.root_id, incarnation)
        if await holds_fences(context, layout):
            # They go with the rest. An owner that they stop looks into the registry once it has been silent for a
            # lease; until then they must stay.
            await context.sleep(max(wish.settings.lease, claim.before.lease if claim and claim.before else 0))
        remains = await purge(context, layout)
        await change_place(context, wish.session_id, wish.root_id, partial(_without, incarnation))
        await purge_again(context, layout, remains)


def _with_dead(incarnation: str, place: Place) -> Place:
    if place.live != incarnation:
        return place
    return Place(None, [*place.dead, incarnation])


def _with_unborn(place: Place) -> Place | None:
    dead = [name.removesuffix(UNBORN) for name in place.dead]
    return Place(place.live, dead) if place.live or dead else None


def _without(incarnation: str, place: Place) -> Place | None:
    dead = [name for name in place.dead if name != incarnation]
    return Place(place.live, dead) if place.live or dead else None


async def _fence_again(context: Context, wish: Wish, claim: Claim) -> str:
    """Take the end of the log once more.

    Somebody may have become the owner before the registry called the journal dead. Nobody can after that: so whoever
    did is stopped by a slot that is written now, just after theirs.
    """
    layout, number = claim.layout, claim.slot.number + 1
    again = Acquired(wish.acquisition, context.workers.name, takeover=True, lease=wish.settings.lease)
    records = [encode_record(DELETION)]
    while True:
        slot = prepare(context.store, layout, number, records)
        try:
            await write(context, slot)
        except KeyConflict:
            number = (await read_log(context, layout, lambda _: [])).end + 1
            records = [encode_record(again), encode_record(DELETION)]
        else:
            return slot.key
