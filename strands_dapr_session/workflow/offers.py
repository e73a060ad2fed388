"""What is due: runs that nobody has and somebody should, laid out where workers look.

Dapr gives work to workers, and mostly that is how a run gets to one. It is not to be relied on alone:

* A workflow that is scheduled, or told something, while the last worker leaves is accepted and never heard of again
  (seen with Dapr 1.18.2, once in ten times within the milliseconds after a kill).
* A worker that is frozen is given work like any other, until Dapr notices after some 14 s.
* While no worker is connected, Dapr takes no workflow at all.
* Dapr gives work to any worker that is connected, in turn, whether it knows the agent or not.

So whoever makes a run due lays it out as well, and workers take what lies there for a while. A run that is due is held
by a worker, or laid out, or named by the card of a worker that died between the two.

Each agent has several documents, so that many clients need not wait for each other. All methods are called on the I/O
loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from strands_dapr_session.errors import DamagedDataError, StoredDataError
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import offers_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Mapping

    from strands_dapr_session.stores.base import StateStore

logger = logging.getLogger(__name__)

_SHARDS: Final = 16
_MOST: Final = 1024
"""Runs in one document: it is written whole by each submission."""


class Offer(NamedTuple):
    """A run that is laid out.

    Attributes:
        at_once: It is known that Dapr does not bring it; otherwise it may be on its way.
        mark: Tells one laying out of a run from the next.
    """

    at_once: bool
    mark: bytes


class Offers:
    """What is laid out in a store, by the name of the agent."""

    def __init__(self, store: StateStore) -> None:
        """Name the store; nothing is read yet."""
        self._store = store

    async def lay_out(self, agent: str, invocation_id: str, *, at_once: bool = False) -> bool:
        """Lay a run out; false if there is so much already that it is not to become more.

        Args:
            agent: What is to run.
            invocation_id: The run.
            at_once: Whether workers should take it when they see it, and not give Dapr the time to bring it.
        """
        key = offers_key(agent, _shard(invocation_id))
        offer = Offer(at_once, secrets.token_bytes(6))

        def add(now: Any) -> Any:
            present = _read(key, now)
            if invocation_id not in present and len(present) >= _MOST:
                return now
            return {name: list(each) for name, each in {**present, invocation_id: offer}.items()}

        value, _ = await documents.change(self._store, key, add)
        return invocation_id in value

    async def lay_out_and_tell(self, agent: str, invocation_id: str, telling: Awaitable[bool]) -> bool:
        """Lay a run out while Dapr is told of it: each takes a while, and one is to do if the other does not.

        Args:
            agent: What is to run.
            invocation_id: The run.
            telling: Gives whether Dapr has heard of it.

        Returns:
            Whether somebody will look at it: false if Dapr has not heard of it, and too much is laid out already.
        """
        told, _ = await asyncio.gather(telling, self.lay_out(agent, invocation_id))
        return told or await self.lay_out(agent, invocation_id, at_once=True)

    async def look(self, agents: Collection[str]) -> dict[str, dict[str, Offer]]:
        """Read what is laid out for some agents: by agent, by run. What is damaged must not hide the rest."""
        keys = {offers_key(agent, shard): agent for agent in agents for shard in range(_SHARDS)}
        found: dict[str, dict[str, Offer]] = {agent: {} for agent in agents}
        for key, entry in (await self._store.get_many(list(keys))).items():
            try:
                found[keys[key]].update(_read(key, documents.open_small(key, entry)))
            except StoredDataError as error:
                logger.warning("key=<%s>, error=<%s> | runs that are laid out cannot be read", key, error)
        return found

    async def take_away(self, agent: str, offers: Mapping[str, Offer]) -> None:
        """Take away what was seen, unless it was laid out again since then."""
        by_shard: dict[int, dict[str, Offer]] = {}
        for invocation_id, offer in offers.items():
            by_shard.setdefault(_shard(invocation_id), {})[invocation_id] = offer
        for shard, gone in by_shard.items():
            key = offers_key(agent, shard)

            def without(now: Any, key: str = key, gone: Mapping[str, Offer] = gone) -> Any:
                present = _read(key, now)
                if not any(present.get(name) == offer for name, offer in gone.items()):
                    return now
                return {name: list(each) for name, each in present.items() if gone.get(name) != each}

            await documents.change(self._store, key, without)

    async def forget(self, agents: Collection[str], invocation_id: str) -> None:
        """Take a run away that is no more, however often it was laid out."""
        for agent in agents:
            offers = await self.look([agent])
            if invocation_id in offers[agent]:
                await self.take_away(agent, {invocation_id: offers[agent][invocation_id]})


def _shard(invocation_id: str) -> int:
    return zlib.crc32(invocation_id.encode()) % _SHARDS


def _read(key: str, value: Any) -> dict[str, Offer]:
    """Read a document's value.

    Raises:
        DamagedDataError: It is none.
    """
    try:
        offers = {}
        for name, (at_once, mark) in (value or {}).items():
            offers[str(name)] = Offer(bool(at_once), bytes(mark))
    except (AttributeError, TypeError, ValueError) as error:
        raise DamagedDataError(key, "not a list of runs") from error
    return offers
