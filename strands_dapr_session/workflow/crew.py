"""Which workers there are, what each has in hand, and who has fallen silent.

Each worker has a card: a small document that it writes again every third of a lease, and before it takes a run. One
document lists the workers. So a single bulk read tells everybody how everybody is. All methods are called on the I/O
loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError, StoredDataError
from strands_dapr_session.journal.worker import Identity, this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import seal
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import WORKERS, card_key
from strands_dapr_session.workflow.vigil import Vigil

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands_dapr_session.stores.base import Entry, StateStore

logger = logging.getLogger(__name__)

_WRITES: Final = 3
_REMEMBERED: Final = 20
"""Leases after which a worker that has left is not watched any more."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a worker says of itself.

    Attributes:
        worker: Its name.
        app_id: The Dapr application that it belongs to.
        agents: The agents that it can run.
        runs: The runs that it has in hand.
        lease: Seconds of silence after which it may be taken for dead.
    """

    worker: str
    app_id: str
    agents: tuple[str, ...]
    runs: tuple[str, ...]
    lease: float

    def plain(self, beat: int) -> list[Any]:
        """Take it apart, to be stored."""
        return [beat, self.worker, self.app_id, list(self.agents), list(self.runs), self.lease]

    @classmethod
    def read(cls, key: str, entry: Entry) -> Card:
        """Read a stored one.

        Raises:
            StoredDataError: It is damaged.
        """
        match documents.open_small(key, entry):
            case [int(), str() as worker, str() as app_id, [*agents], [*runs], int() | float() as lease]:
                return cls(worker, app_id, tuple(map(str, agents)), tuple(map(str, runs)), float(lease))
            case _:
                pass
        raise DamagedDataError(key, "not a worker's card")


@dataclass(slots=True)
class _Sighting:
    """What was last seen of a worker.

    Attributes:
        value: Its card as it was; None if there was none.
        since: Since when it has not changed, by this process's own clock.
        card: What the last one said.
    """

    value: bytes | None
    since: float
    card: Card | None = None


async def list_cards(store: StateStore) -> list[Card]:
    """Read what every worker says of itself, the dead included that nobody has buried yet."""
    entry = await store.get(WORKERS)
    tokens = _tokens(entry)
    keys = [card_key(token) for token in tokens]
    entries = await store.get_many(keys) if keys else {}
    return [Card.read(key, entries[key]) for key in keys if key in entries]


class Crew:
    """The workers of a store, as one of them sees them.

    Attributes:
        store: The store.
    """

    def __init__(self, store: StateStore, card: Callable[[], Card], lease: float) -> None:
        """Set up; nothing is read or written yet.

        Args:
            store: Where the cards are.
            card: Says what this worker's card is to say.
            lease: Seconds of silence after which others may be taken for dead.
        """
        self.store = store
        self._card = card
        self._lease = lease
        self._beat = 0
        self._wanted = 0
        self._written = 0
        self._writing = asyncio.Lock()
        self._seen: dict[str, _Sighting] = {}
        self._looked = 0.0
        self._vigil = Vigil()

    # -- this worker ---------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """What this worker's keys are made of."""
        return this_process.identity.token

    async def join(self) -> None:
        """Become known."""
        await self.announce()
        await self._enlist()

    async def _enlist(self) -> None:
        name = this_process.name
        await documents.change(self.store, WORKERS, lambda now: {**(now or {}), self.token: name})

    async def wait(self, seconds: float) -> None:
        """Wait, but no longer than until a worker of this machine is gone."""
        await self._vigil.wait(seconds)

    async def leave(self) -> None:
        """Be known no more."""
        self._vigil.keep(())
        await self._strike(self.token)

    async def announce(self) -> None:
        """Write this worker's card. Whoever asks while it is written shares the next one.

        Raises:
            StoreError: It could not be written.
        """
        self._wanted += 1
        number = self._wanted
        async with self._writing:
            if self._written < number:
                number = self._wanted
                await self._write()
                self._written = number

    async def _write(self) -> None:
        key = card_key(self.token)
        self._beat += 1
        value = seal(key, pack_value([secrets.token_bytes(8), self._card().plain(self._beat)]))
        for _ in range(_WRITES):
            present = await self.store.get(key)
            try:
                if present is None:
                    await self.store.create(key, value)
                else:
                    await self.store.replace(key, value, present.etag)
            except (KeyConflict, OutcomeUnknown) as problem:
                logger.debug("store=<%s>, problem=<%s> | writing the card again", self.store.name, problem)
                continue
            return
        # Whoever buries it meanwhile, or an answer that got lost: the next one is on its way.
        logger.warning("store=<%s> | the card of this worker was not written", self.store.name)

    # -- the others ----------------------------------------------------------------------------------------------

    async def look(self) -> list[Card]:
        """Look at everybody once.

        Returns:
            The last cards of those that are dead.

        Raises:
            DurableSessionError: The store could not be read.
        """
        keys = {card_key(token): token for token in self._seen}
        asked = time.monotonic()
        entries = await self.store.get_many([WORKERS, *keys])
        tokens = _tokens(entries.get(WORKERS))
        if self.token not in tokens:
            await self._enlist()  # somebody took this worker for dead, as when its process was stopped for a while
        now = time.monotonic()
        if now - self._looked > self._lease:
            # It is this process that was away: that the others' cards have not changed meanwhile, it cannot know.
            for seen in self._seen.values():
                seen.since = now
        self._looked = asked  # what was written while the answer was on its way is not in it
        others = {token: name for token, name in tokens.items() if token != self.token}
        fresh = {card_key(token): token for token in others.keys() - self._seen.keys()}
        if fresh:
            self._seen.update({token: _Sighting(None, now) for token in fresh.values()})
            entries = {**entries, **await self.store.get_many(list(fresh))}
        for key, token in {**keys, **fresh}.items():
            self._see(token, key, entries.get(key), now)
        for token, seen in list(self._seen.items()):
            if token not in others and now - seen.since > _REMEMBERED * self._lease:
                del self._seen[token]  # nobody has asked for long
        self._vigil.keep(others.values())
        return [self._last_card(token, name) for token, name in others.items() if self.is_dead(name)]

    def _see(self, token: str, key: str, entry: Entry | None, now: float) -> None:
        value = None if entry is None else entry.value
        seen = self._seen[token]
        if value != seen.value:
            seen.value, seen.since = value, now
            if seen.card is not None:
                this_process.presume_alive(seen.card.worker)
        if entry is not None:
            try:
                seen.card = Card.read(key, entry)
            except StoredDataError as error:
                logger.warning("key=<%s>, error=<%s> | a worker's card cannot be read", key, error)

    def _last_card(self, token: str, name: str) -> Card:
        card = self._seen[token].card if token in self._seen else None
        return card or Card(name, "", (), (), self._lease)

    def is_dead(self, worker: str) -> bool:
        """Tell whether a worker is gone, or has been silent for a lease. Never of one that nobody has watched yet."""
        other = Identity.parse(worker)
        if other is None:
            return True
        if other.token == self.token:
            return False
        if other.is_gone(this_process.identity):
            return True
        seen = self._seen.setdefault(other.token, _Sighting(None, time.monotonic()))  # watched from here on
        lease = seen.card.lease if seen.card is not None else self._lease
        return self._looked - seen.since >= lease

    def has_let_go(self, worker: str, invocation_id: str, since: float) -> bool:
        """Tell whether a worker's card, read after a time, does not have a run in hand that its claim names.

        The card says so before the run is claimed, until its end is written down. A worker that could not write it down
        is alive, and will not come back to the run by itself.
        """
        other = Identity.parse(worker)
        seen = None if other is None else self._seen.get(other.token)
        if seen is None or seen.value is None or seen.card is None:
            return False
        return self._looked > since and invocation_id not in seen.card.runs

    async def bury(self, worker: str) -> None:
        """Forget a dead worker whose runs others have taken. If it only slept, it enlists again."""
        other = Identity.parse(worker)
        if other is not None:
            await self._strike(other.token)

    async def _strike(self, token: str) -> None:
        def without(now: Any) -> Any:
            return {name: value for name, value in (now or {}).items() if name != token}

        await documents.change(self.store, WORKERS, without)
        await self.store.delete_many([card_key(token)])


def _tokens(entry: Entry | None) -> dict[str, str]:
    """Read which workers there are, by token."""
    if entry is None:
        return {}
    value = documents.open_small(WORKERS, entry)
    if not isinstance(value, dict):
        raise DamagedDataError(WORKERS, "not a list of workers")
    return {str(token): str(name) for token, name in value.items()}
