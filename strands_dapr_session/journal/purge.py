"""Removing every key of a journal to which nobody can write any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.commit import read_records
from strands_dapr_session.journal.head import Head, Page, Run, read_head, read_page
from strands_dapr_session.journal.load import joined
from strands_dapr_session.journal.tidying import delete_all, delete_orphan_parts, delete_plan, parts_of, tidy
from strands_dapr_session.records.records import Acquired, SegmentsPlanned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.stores.base import Entry

_PAGE: Final = 64
"""Slots that are read or deleted together."""


async def holds_fences(context: Context, layout: Layout) -> bool:
    """Tell whether a journal has slots that may still have to stop somebody."""
    head = read_head(layout, await context.store.get(layout.head))
    return (
        bool(head.kept)
        or head.older is not None
        or bool(_left_behind(layout, await _read_tail(context, layout, head))[0])
    )


@dataclass(frozen=True, slots=True)
class Remains:
    """Where somebody who has not noticed yet that a journal is deleted may still write.

    Attributes:
        slots: Slots.
        plans: Compactions.
    """

    slots: frozenset[int]
    plans: tuple[str, ...]


async def purge(context: Context, layout: Layout) -> Remains:
    """Delete every key of a journal that the registry calls dead. It may be deleted in part already."""
    head = read_head(layout, await context.store.get(layout.head))
    await tidy(context, layout, head)
    pages = await _read_pages(context, layout, head)
    tail = await _read_tail(context, layout, head)
    takeovers, plans = _left_behind(layout, tail)
    for run in (*_runs(head), *(segment.run for _, page in pages for segment in page.segments)):
        await delete_all(context, run.keys(layout))
    for plan in plans:
        await delete_plan(context, layout, plan)
    for number in (*head.kept, *(number for _, page in pages for number in page.kept), *takeovers):
        await delete_orphan_parts(context, layout, number)
    await delete_all(context, parts_of(layout, tail, {layout.slot(number): entry for number, entry in tail.items()}))
    # Besides takeovers, acquisitions that did not hold may lie anywhere below the head.
    await delete_all(context, [layout.slot(number) for number in range(1, head.sequence + 1)])
    # What is needed to find the rest goes last: pages from the oldest, slots from the last, then the head.
    for run, _ in reversed(pages):
        await context.store.delete_many(run.keys(layout))
    await delete_all(context, [layout.slot(number) for number in tail])
    await context.store.delete_many([layout.head])
    slots = {*head.kept, *takeovers, *range(1, _PAGE + 1), *tail, max(tail, default=head.sequence) + 1}
    return Remains(frozenset(slots), tuple({*plans, *head.orphans}))


async def purge_again(context: Context, layout: Layout, remains: Remains) -> None:
    """Delete what somebody wrote after it was purged, and before the registry forgot it.

    Whoever writes to a journal looks into the registry afterwards. Either that is late enough to find the journal
    forgotten, and they clean up; or it was forgotten after they had written, and this finds what they wrote.
    """
    for plan in remains.plans:
        await delete_plan(context, layout, plan)
    await delete_all(context, [layout.head, *map(layout.slot, sorted(remains.slots))])


async def _read_pages(context: Context, layout: Layout, head: Head) -> list[tuple[Run, Page]]:
    """Read the pages that are left, from the newest."""
    pages = []
    older = head.older
    while older is not None:
        pieces = await context.store.get_many(older.keys(layout))
        if len(pieces) < older.count:
            break
        page = read_page(older.keys(layout)[0], joined(layout, older, pieces))
        pages.append((older, page))
        older = page.older
    return pages


async def _read_tail(context: Context, layout: Layout, head: Head) -> dict[int, Entry]:
    """Read the slots after the head that are left."""
    tail: dict[int, Entry] = {}
    number = head.sequence + 1
    while True:
        numbers = range(number, number + _PAGE)
        entries = await context.store.get_many(list(map(layout.slot, numbers)))
        if not entries:
            return tail
        tail.update({n: entries[layout.slot(n)] for n in numbers if layout.slot(n) in entries})
        number += _PAGE


def _left_behind(layout: Layout, tail: Mapping[int, Entry]) -> tuple[list[int], list[str]]:
    """Find where workers were taken over, and which compactions were announced."""
    takeovers: list[int] = []
    plans: list[str] = []
    for number, entry in tail.items():
        try:
            records = read_records(layout, number, entry, {})
        except StoredDataError:
            continue  # it is to be deleted anyway
        takeovers += [number for record in records if isinstance(record, Acquired) and record.takeover]
        plans += [plan for record in records if isinstance(record, SegmentsPlanned) for plan in record.keys]
    return takeovers, plans


def _runs(head: Head) -> list[Run]:
    return [*(segment.run for segment in head.segments), *([head.checkpoint] if head.checkpoint else [])]
