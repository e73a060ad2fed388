"""Making a new journal that begins where another one was.

Its incarnation is entered among the dead ones first, under a name which says that it is not born yet. Its commits are
written where nobody looks. Then the registry calls it live, in one change. So whoever is killed on the way leaves
nothing behind that anybody sees, and what it wrote is found and goes when the session is deleted. Of several that make
the same session at the same time, the first to change the registry has made it, and the others remove what they wrote.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import SessionDeletedError, SessionExistsError
from strands_dapr_session.journal.commit import LONGEST_SLOT, Slot, grouped, prepare
from strands_dapr_session.journal.layout import Layout, probe_keys, random_name
from strands_dapr_session.journal.registry import UNBORN, Place, change_place, change_roots
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.tidying import delete_all
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Acquired, Noted, Released
from strands_dapr_session.records.retold import retold
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.probe import check_store
from strands_dapr_session.stores.settle import settle_create

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.records.view import View

FORK: Final = "journal.fork"
"""Kind of the note that ends what a fork begins with. It says from where that is."""

_AT_ONCE: Final = 16


async def fork(context: Context, view: View, source: tuple[str, str, int], session_id: str) -> None:
    """Make a journal in a new session.

    Args:
        context: The store.
        view: What it is to say, bodies and all.
        source: The session, root and slot that the view is from.
        session_id: The new session. Its journal is of the same root.

    Raises:
        SessionExistsError: There is a session of that name.
        SessionDeletedError: Somebody deleted it while it was made.
        StoreError: The store does not answer. The session is there, whole, or is not; try again.
    """
    _, root_id, _ = source
    await context.store.open()
    if not context.store.is_proven:
        await check_store(context.store, keys=probe_keys(session_id, root_id))
    layout = Layout(session_id, root_id, random_name())
    await change_roots(context, session_id, lambda roots: _enter(roots, layout))
    slots = await context.offload(lambda: list(_slots(context, layout, view, source)))
    try:
        for start in range(0, len(slots), _AT_ONCE):
            await asyncio.gather(*(_write(context, slot) for slot in slots[start : start + _AT_ONCE]))
        await change_roots(context, session_id, lambda roots: _call_live(roots, layout))
    except (SessionExistsError, SessionDeletedError):
        await delete_all(context, [key for slot in slots for key in slot.keys])
        await change_place(context, session_id, root_id, lambda place: _without(place, layout))
        raise


def _enter(roots: dict[str, Place], layout: Layout) -> None:
    _refuse_present(roots, layout)
    place = roots.get(layout.root_id) or Place(None, [])
    if layout.incarnation + UNBORN not in place.dead:
        roots[layout.root_id] = Place(None, [*place.dead, layout.incarnation + UNBORN])


def _call_live(roots: dict[str, Place], layout: Layout) -> None:
    place = roots.get(layout.root_id) or Place(None, [])
    if place.live == layout.incarnation:
        return  # it is done, and somebody else has changed the document since
    _refuse_present(roots, layout)
    if layout.incarnation + UNBORN not in place.dead:
        raise SessionDeletedError(f"session {layout.session_id!r} was deleted while it was made")
    roots[layout.root_id] = Place(
        layout.incarnation, [name for name in place.dead if name != layout.incarnation + UNBORN]
    )


def _refuse_present(roots: dict[str, Place], layout: Layout) -> None:
    if any(place.live for place in roots.values()):
        raise SessionExistsError(
            f"there is a session {layout.session_id!r} already. Choose another name, or delete it first."
        )


def _without(place: Place, layout: Layout) -> Place | None:
    dead = [name for name in place.dead if name != layout.incarnation + UNBORN]
    return Place(place.live, dead) if place.live or dead else None


async def _write(context: Context, slot: Slot) -> None:
    """Write a commit: its parts last, so that a slot tells of all that there may be."""
    await settle_create(context.store, slot.key, slot.value, context.retry)
    for key, value in slot.parts:
        await settle_create(context.store, key, value, context.retry)


def _slots(context: Context, layout: Layout, view: View, source: tuple[str, str, int]) -> Iterator[Slot]:
    acquisition = random_name()
    records = [
        Acquired(acquisition, context.workers.name, takeover=False, lease=JournalSettings().lease),
        *retold(view),
        Noted("", FORK, pack_value(list(source))),
        Released(acquisition),
    ]
    for number, together in enumerate(grouped(map(encode_record, records), LONGEST_SLOT), 1):
        yield prepare(context.store, layout, number, together)
