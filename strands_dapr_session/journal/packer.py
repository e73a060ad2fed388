"""Decides when a journal's log is packed, and packs it beside the commits. All of it happens on the I/O thread."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from strands_dapr_session import telemetry
from strands_dapr_session.errors import DurableSessionError
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.layout import random_name
from strands_dapr_session.stores.base import KeyConflict

if TYPE_CHECKING:
    from strands_dapr_session.journal.commit import Slot
    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.head import Head
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.journal.load import Log
    from strands_dapr_session.journal.settings import JournalSettings

logger = logging.getLogger(__name__)

_PATIENCE = 4
"""How many times as many slots as usual may wait for as many bytes as the checkpoint has, which is written anew every
time: so a large checkpoint at most doubles what is written."""


class Packer:
    """Keeps count of what is not packed yet."""

    def __init__(self, context: Context, settings: JournalSettings) -> None:
        self._context = context
        self._settings = settings
        self._layout: Layout | None = None
        self._task: asyncio.Task[None] | None = None
        self._sequence = 0
        self._checkpoint_bytes = 0
        self._bytes_by_slot: dict[int, int] = {}
        self._not_before = 0

    def saw(self, log: Log) -> None:
        """Start counting from a journal that was read."""
        self._layout = log.layout
        self._sequence = log.head.sequence
        self._checkpoint_bytes = log.head.checkpoint_bytes
        sizes = {number: len(entry.value) for number, entry in enumerate(log.slots, log.head.sequence + 1)}
        if log.parts:
            sizes[log.end] += sum(len(entry.value) for entry in log.parts.values())
        self._bytes_by_slot = sizes

    def committed(self, slot: Slot) -> None:
        """Count a commit."""
        self._bytes_by_slot[slot.number] = slot.size

    def plan_for(self, number: int) -> str | None:
        """Name the compaction that should be announced in the slot that is about to be written, if it is time."""
        if self._layout is None or self._task is not None or number < self._not_before:
            return None
        count, size = number - self._sequence, sum(self._bytes_by_slot.values())
        usual = self._settings.compact_slots
        is_due = size >= self._settings.compact_bytes or (
            count >= usual and (size >= self._checkpoint_bytes or count >= _PATIENCE * usual)
        )
        return f"p{random_name()}" if is_due else None

    def start(self, layout: Layout, plan: str, through: int) -> None:
        """Pack, now that the plan is in the log."""
        self._task = asyncio.get_running_loop().create_task(self._pack(layout, plan, through))
        _tasks.add(self._task)  # it goes on when the journal is not used any more
        self._task.add_done_callback(_tasks.discard)

    async def finished(self) -> None:
        """Wait until nothing is being packed."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _pack(self, layout: Layout, plan: str, through: int) -> None:
        head: Head | None = None
        try:
            with telemetry.Measured(telemetry.COMPACTION, self._context.seconds, self._context.store):
                head = await compact(self._context, layout, plan, through)
        except (DurableSessionError, KeyConflict) as error:
            logger.warning(
                "session_id=<%s>, error=<%s> | packing the journal failed, and will be tried again later",
                layout.session_id,
                error,
            )
        finally:
            self._task = None
            self._not_before = through + self._settings.compact_slots
        if self._context.recent is not None:
            self._context.recent.forget(layout)
        if head is None or layout != self._layout:
            return
        self._sequence = head.sequence
        self._checkpoint_bytes = head.checkpoint_bytes
        self._bytes_by_slot = {number: size for number, size in self._bytes_by_slot.items() if number > head.sequence}


_tasks: set[asyncio.Task[None]] = set()
