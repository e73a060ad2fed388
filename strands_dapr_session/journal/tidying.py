"""Deleting what a head has replaced. All of it can be done again, at any later time, by whoever has read that head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.commit import part_keys
from strands_dapr_session.journal.load import LONGEST_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.head import Head
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.stores.base import Entry

_AT_ONCE: Final = 64
"""Keys that are deleted, or slots that are read, together."""

_PROBED: Final = 8
"""Keys that are looked for together where nobody knows how many there are. They may be long."""


async def tidy(context: Context, layout: Layout, head: Head) -> None:
    """Delete everything that a head has replaced.

    Args:
        context: The store.
        layout: The journal.
        head: A head that was written.
    """
    await delete_all(context, [key for run in head.garbage for key in run.keys(layout)])
    kept = [number for number in head.kept if head.swept < number <= head.sequence]
    for number in kept:
        await delete_orphan_parts(context, layout, number)
    await delete_all(context, [layout.part(number, index) for number, count in head.parts for index in range(count)])
    covered = range(head.swept + 1, head.sequence + 1)
    await delete_all(context, [layout.slot(number) for number in covered if number not in kept])
    for plan in head.orphans:
        await delete_plan(context, layout, plan)


async def delete_orphan_parts(context: Context, layout: Layout, number: int) -> None:
    """Delete the parts that the owner before left at the slot of a takeover: it died before it could write the slot."""
    await _delete_row(context, lambda index: layout.part(number, index))


async def delete_plan(context: Context, layout: Layout, plan: str) -> None:
    """Delete whatever a compaction wrote that came to nothing."""
    await _delete_row(context, lambda index: layout.piece(plan, index))


async def delete_all(context: Context, keys: list[str]) -> None:
    """Delete any number of keys, from the last to the first."""
    while keys:
        await context.store.delete_many(keys[-_AT_ONCE:])
        keys = keys[:-_AT_ONCE]


def parts_of(layout: Layout, numbers: Iterable[int], entries: Mapping[str, Entry]) -> list[str]:
    """List the parts that slots refer to, as far as they exist and can be read."""
    found = []
    for number in numbers:
        entry = entries.get(layout.slot(number))
        if entry is not None and len(entry.value) <= LONGEST_MANIFEST:
            try:
                found += part_keys(layout, number, entry)
            except StoredDataError:
                continue
    return found


async def _delete_row(context: Context, key: Callable[[int], str]) -> None:
    """Delete keys that were written one after the other, as many as there are, from the last to the first."""
    count = 0
    while True:
        keys = [key(count + offset) for offset in range(_PROBED)]
        found = await context.store.get_many(keys)
        if not found:
            break
        count += _PROBED
    for start in range(count - _PROBED, -1, -_PROBED):
        await context.store.delete_many([key(start + offset) for offset in range(_PROBED)])
