"""The log as its owner writes it, one commit after the other, from an acquisition to its release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strands_dapr_session.journal.commit import prepare, write
from strands_dapr_session.journal.fence import deleted, fenced_by
from strands_dapr_session.journal.registry import is_live
from strands_dapr_session.stores.base import KeyConflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands_dapr_session.journal.acquire import Claim
    from strands_dapr_session.journal.commit import Slot
    from strands_dapr_session.journal.context import Context


_LONG: Final = 256 * 1024
"""Bytes from which compressing a commit would hold up the commits of other sessions, by about a millisecond."""


class LogWriter:
    """Writes commits, each in the slot after the last. One at a time.

    Attributes:
        layout: The journal.
        sequence: The last slot that was acknowledged.
        proved: When its write began, in `Context.seconds`: until then, at least, nobody had taken the journal over.
    """

    def __init__(self, context: Context, claim: Claim) -> None:
        """Go on after an acquisition."""
        self.layout = claim.layout
        self.sequence = claim.slot.number
        self.proved = claim.verified
        self._context = context
        self._lease = claim.record.lease
        self._verified = claim.verified
        self._unverified: list[str] = []

    async def write(self, records: Sequence[bytes]) -> Slot:
        """Write encoded records as one commit, for sure.

        Raises:
            FencedError: Another worker took the journal over.
            SessionDeletedError: It was deleted.
            StoreUnavailableError: Nothing could be found out. The commit may have happened, or happen later.
        """
        slot = await self._prepare(records)
        self._unverified += slot.keys
        began = self._context.seconds()
        try:
            await write(self._context, slot)
        except KeyConflict as conflict:
            raise fenced_by(self.layout, slot.number, conflict) from conflict
        if self._context.seconds() - self._verified > self._lease:
            await self._verify()
        self.sequence, self.proved = slot.number, began
        return slot

    async def _prepare(self, records: Sequence[bytes]) -> Slot:
        store, layout, number = self._context.store, self.layout, self.sequence + 1
        if sum(map(len, records)) < _LONG:
            return prepare(store, layout, number, records)
        return await self._context.offload(lambda: prepare(store, layout, number, records))

    async def _verify(self) -> None:
        """Make sure that the journal still exists.

        Whoever deletes a journal leaves its fences in place for a lease. After that nothing stops a commit. So an owner
        that has been silent for so long asks the registry, and cleans up after itself if it is too late.
        """
        now = self._context.seconds()
        if not await is_live(self._context, self.layout):
            await self._context.store.delete_many(self._unverified)
            raise deleted(self.layout)
        self._verified = now
        self._unverified.clear()
