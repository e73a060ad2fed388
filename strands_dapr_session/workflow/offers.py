"""Runs that did not reach a worker which can run them, laid out for those that can.

Dapr gives work to any worker that is connected, and in turn: with three of them and three pieces of work for each
offer, it may be the same wrong one every time. So the wrong one lays the run out where the right ones look. So does a
client whose run nobody takes: a worker that is frozen is given work like any other, until Dapr notices after some 14 s,
and while no worker is connected Dapr takes no workflow at all. All methods are called on the I/O loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import offers_key

_MOST: Final = 1024

if TYPE_CHECKING:
    from collections.abc import Collection

    from strands_dapr_session.stores.base import StateStore


class Offers:
    """What is laid out in a store, by the name of the agent."""

    def __init__(self, store: StateStore) -> None:
        """Name the store; nothing is read yet."""
        self._store = store

    async def lay_out(self, agent: str, invocation_id: str) -> bool:
        """Lay a run out; false if there is so much already that it is not to become more."""

        def add(now: Any) -> Any:
            present = list(now or [])
            return present if invocation_id in present or len(present) >= _MOST else [*present, invocation_id]

        value, _ = await documents.change(self._store, offers_key(agent), add)
        return invocation_id in value

    async def look(self, agents: Collection[str]) -> dict[str, list[str]]:
        """Read what is laid out for some agents."""
        keys = {offers_key(agent): agent for agent in agents}
        entries = await self._store.get_many(list(keys))
        return {
            keys[key]: [str(each) for each in documents.open_small(key, entry) or []] for key, entry in entries.items()
        }

    async def take_away(self, agent: str, invocation_ids: Collection[str]) -> None:
        """Take away what somebody has found."""
        await documents.change(
            self._store, offers_key(agent), lambda now: [each for each in now or [] if each not in invocation_ids]
        )
