"""How writes travel to a Dapr sidecar: small ones grouped, large ones beside them, each kind in bounded number."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from strands_dapr_session import io_thread
from strands_dapr_session.stores.dapr.coalesce import Coalescer, GroupLimits, Sent

if TYPE_CHECKING:
    from dapr.proto import common_v1

    from strands_dapr_session.stores.dapr.calls import DaprCalls
    from strands_dapr_session.stores.dapr.components import ComponentTraits
    from strands_dapr_session.stores.dapr.sidecar import CallFailed

_SMALL = 64 * 1024
"""Larger ones go beside the groups, so that no commit of a few hundred bytes waits behind a packed segment."""

_GROUPED = GroupLimits(items=32, bytes=256 * 1024, calls=4)
_SINGLY = GroupLimits(items=1, bytes=0, calls=32)
_SERIALLY = GroupLimits(items=1, bytes=0, calls=1)
_SMALL_ALONE_AT_ONCE = 16
_LARGE_AT_ONCE = 4


class DaprWrites:
    """Sends writes."""

    def __init__(self, calls: DaprCalls, traits: ComponentTraits) -> None:
        """Set how items are sent."""
        self._calls = calls
        self._serial = traits.serial_writes
        self._limits = _GROUPED if traits.groups_writes else _SERIALLY if traits.serial_writes else _SINGLY
        self._bind()

    async def put(self, item: common_v1.StateItem) -> Sent[CallFailed]:
        """Send an item, with others if it is small."""
        self._leave_parent_behind()
        size = len(item.value)
        if size <= _SMALL:
            return await self._groups.put(item, size)
        return Sent(await self.put_alone(item), alone=True)

    async def put_alone(self, item: common_v1.StateItem) -> CallFailed | None:
        """Send an item in a call of its own; returns why it failed."""
        self._leave_parent_behind()
        async with self._small if len(item.value) <= _SMALL else self._large:
            return await self._calls.save([item])

    def _leave_parent_behind(self) -> None:
        if self._generation != io_thread.generation():
            self._bind()

    def _bind(self) -> None:
        """Make what belongs to one event loop."""
        self._generation = io_thread.generation()
        self._groups: Coalescer[common_v1.StateItem, CallFailed] = Coalescer(self._calls.save, self._limits)
        self._small = asyncio.Semaphore(1 if self._serial else _SMALL_ALONE_AT_ONCE)
        self._large = asyncio.Semaphore(1 if self._serial else _LARGE_AT_ONCE)
