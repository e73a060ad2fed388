"""Becoming the owner of a journal.

An acquisition is a record in the first free slot, t. It holds if and only if, read after it was written, the registry
still names this incarnation and the head has not packed slot t. Otherwise somebody wrote, packed and deleted a slot t
before: this record lies where nobody will look, and the acquisition starts over.

An acquisition after an owner that did not release is a takeover. Its slot is never deleted, because it is exactly where
the old owner will try to write next.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strands_dapr_session.errors import DurableSessionError, SessionBusyError, StoredDataError
from strands_dapr_session.journal.commit import LONGEST_SLOT, Slot, prepare, write
from strands_dapr_session.journal.fold import fold
from strands_dapr_session.journal.head import read_head
from strands_dapr_session.journal.layout import Layout, random_name, shard_key
from strands_dapr_session.journal.load import Log, empty_log, read_further, read_log
from strands_dapr_session.journal.registry import Place, change_place, is_live, place_in
from strands_dapr_session.journal.worker import describe
from strands_dapr_session.records.records import Acquired, Released
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.base import Entry, KeyConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.settings import JournalSettings
    from strands_dapr_session.records.view import View

logger = logging.getLogger(__name__)

_FIRST_POLL = 0.02
_LONGEST_POLL = 0.25


@dataclass(frozen=True, slots=True)
class Position:
    """What somebody knows of a journal without having read it just now.

    Attributes:
        layout: Where it is.
        sequence: The last slot that is known.
        stamp: The head that was last seen.
        owner: Who has acquired and not released it.
        own: The last slot is this process's own, and was acknowledged: what is known up to it needs no proof.
    """

    layout: Layout
    sequence: int
    stamp: bytes
    owner: Acquired | None
    own: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """An acquisition that holds.

    Attributes:
        layout: Where the journal is.
        slot: The slot of the acquisition.
        record: The acquisition.
        before: The owner that it takes over.
        first: How many of the records given are in that slot; none if they were too long for it.
        log: The journal up to and including that slot; None if nothing changed since the position given.
        view: What it says, up to and including the acquisition; None if there is no log, or nobody asked.
        stamp: The head that was last seen.
        verified: When the registry was seen to name the journal, in `Context.seconds`.
    """

    layout: Layout
    slot: Slot
    record: Acquired
    before: Acquired | None
    first: int
    log: Log | None
    view: View | None
    stamp: bytes
    verified: float


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants to own what.

    Attributes:
        session_id: The session.
        root_id: The root.
        settings: What to do when somebody else owns it.
        acquisition: The name to give to the ownership.
        first: Encoded records to write together with the acquisition.
        understand: What makes a view of the journal, before anything is written to it; None if its contents are of no
            interest.
    """

    session_id: str
    root_id: str
    settings: JournalSettings
    acquisition: str
    first: Sequence[bytes] = ()
    understand: Callable[[Log], View] | None = fold


async def acquire(context: Context, wish: Wish, known: Position | None = None) -> Claim:
    """Own a journal, making it if it does not exist.

    Args:
        context: The store and the workers.
        wish: Who wants to own what.
        known: What is known of the journal; saves reading it when that is still true.

    Raises:
        SessionBusyError: Somebody else owns it and is alive.
        StoredDataError: What is stored is damaged; nothing was changed.
    """
    attempt = _Attempt(context, wish)
    if known is not None and known.owner is None:
        claim = await attempt.claim(known, None)
        if claim is not None:
            return claim
    while True:
        layout, is_new = await attempt.find()
        try:
            log = empty_log(layout) if is_new else await attempt.read_until_free(layout)
            claim = await attempt.claim(_position(log), log)
        except StoredDataError:
            if await is_live(context, layout):
                raise
            continue  # it was deleted while it was read
        if claim is not None:
            return claim


async def give_back(context: Context, claim: Claim) -> None:
    """Release a journal that was acquired and is not needed after all."""
    released = encode_record(Released(claim.record.acquisition))
    try:
        await write(context, prepare(context.store, claim.layout, claim.slot.number + 1, [released]))
    except (KeyConflict, DurableSessionError) as error:
        logger.warning("session_id=<%s>, error=<%s> | the journal was not released", claim.layout.session_id, error)


class _Attempt:
    """One call of `acquire`."""

    def __init__(self, context: Context, wish: Wish) -> None:
        self._context = context
        self._wish = wish
        self._patience = _Patience(context, wish.settings)

    async def find(self) -> tuple[Layout, bool]:
        """Find the journal in the registry, or enter it; also tell whether it is new."""
        session_id, root_id = self._wish.session_id, self._wish.root_id
        key = shard_key(session_id)
        entry = await self._context.store.get(key)
        incarnation, fresh = place_in(key, entry, session_id, root_id).live, random_name()
        if incarnation is None:
            place = await change_place(
                self._context, session_id, root_id, lambda now: Place(now.live or fresh, now.dead), entry
            )
            incarnation = place.live if place is not None else None
        return Layout(session_id, root_id, incarnation or fresh), incarnation == fresh

    async def read_until_free(self, layout: Layout) -> Log:
        """Read the journal; while somebody owns it, wait until they have released it or are dead."""
        context = self._context
        log = await read_log(context, layout)
        owner = log.owner()
        while owner is not None and not self._patience.knows_it_gone(owner):
            key = context.workers.heartbeat_key(owner)
            log, others = await read_further(context, log, [key] if key else [])
            before, owner = owner, log.owner()
            if owner == before:
                beat = others.get(key) if key else None
                if self._patience.is_over(owner, log.end, beat.value if beat else None):
                    return log
                if self._patience.is_spent():
                    raise await self._busy(owner, log)
                await self._patience.wait()
        return log

    async def _busy(self, owner: Acquired, log: Log) -> SessionBusyError:
        view = await self._understand(log)
        last = None if view is None else view.scope("").invocation
        return SessionBusyError(
            f"{describe(owner.worker)} runs an invocation of this session. Nothing was changed. "
            'Try again when it is done, wait longer with busy_timeout, or take it over with on_busy="steal".',
            None if last is None or last.finished else last.key,
        )

    async def claim(self, position: Position, log: Log | None) -> Claim | None:
        """Try to own the journal at the slot after a position; None when that failed."""
        context, layout, number = self._context, position.layout, position.sequence + 1
        view = await self._understand(log)
        record = Acquired(
            self._wish.acquisition,
            context.workers.name,
            takeover=position.owner is not None,
            lease=self._wish.settings.lease,
        )
        slot, first = self._prepare(layout, number, record)
        try:
            await write(context, slot)
        except KeyConflict:
            return None
        verified = context.seconds()
        registry = shard_key(self._wish.session_id)
        entries = await context.store.get_many([layout.head, registry])
        head = read_head(layout, entries.get(layout.head))
        place = place_in(registry, entries.get(registry), self._wish.session_id, self._wish.root_id)
        if head.sequence >= number:
            # It stays where it is, although it does not hold: somebody may have packed it as what it seemed to be, a
            # takeover, and rely on it to stop the owner before.
            return None
        if place.live != layout.incarnation:
            if layout.incarnation not in place.dead:
                await context.store.delete_many([slot.key])  # see `purge.purge_again`
            return None
        if head.stamp != position.stamp and not position.own:
            log = await read_log(context, layout)
            if not log.holds(number, slot.value):
                return None
            del log.slots[number - log.head.sequence :]
            view = await self._understand(log)
        elif log is not None:
            log.slots.append(Entry(slot.value, ""))
            if view is not None:
                _apply(log, number, view)
        return Claim(layout, slot, record, position.owner, first, log, view, head.stamp, verified)

    async def _understand(self, log: Log | None) -> View | None:
        understand = self._wish.understand
        return None if log is None or understand is None else await self._context.offload(lambda: understand(log))

    def _prepare(self, layout: Layout, number: int, record: Acquired) -> tuple[Slot, int]:
        """Make the slot. It is always in one piece: if the acquisition fails, nobody knows of its parts."""
        encoded, first = encode_record(record), self._wish.first
        if sum(map(len, first)) <= LONGEST_SLOT // 2:
            return prepare(self._context.store, layout, number, [encoded, *first]), len(first)
        return prepare(self._context.store, layout, number, [encoded]), 0


def _apply(log: Log, number: int, view: View) -> None:
    for record in log.records(number):
        view.apply(record, key=log.layout.slot(number))
    view.sequence = number


def _position(log: Log) -> Position:
    return Position(log.layout, log.end, log.head.stamp, log.owner(), own=False)


class _Patience:
    """Judges whether an owner is dead, by this process's own clock, and how long to wait for a live one."""

    def __init__(self, context: Context, settings: JournalSettings) -> None:
        self._context = context
        self._settings = settings
        self._deadline = context.clock() + settings.busy_timeout
        self._pause = _FIRST_POLL
        self._sign: tuple[str, int, bytes | None] | None = None
        self._since = 0.0
        self._was_seen_alive = False
        self._is_alive = False

    def knows_it_gone(self, owner: Acquired) -> bool:
        """Tell whether there is nothing to wait for."""
        return self._settings.on_busy == "steal" or self._context.workers.is_alive(owner) is False

    def is_over(self, owner: Acquired, end: int, beat: bytes | None) -> bool:
        """Tell whether an owner has given up, or has shown no sign of life for its lease.

        Args:
            owner: The owner.
            end: The last slot of the journal; a commit is a sign of life.
            beat: The owner's heartbeat.
        """
        workers, now = self._context.workers, self._context.clock()
        if workers.has_given_up(owner, beat):
            return True
        sign = (owner.acquisition, end, beat)
        if sign != self._sign:
            self._was_seen_alive = self._sign is not None and self._sign[0] == owner.acquisition
            self._sign, self._since = sign, now
        alive = workers.is_alive(owner)
        if not alive and now - self._since >= owner.lease:
            return True
        self._is_alive = bool(alive) or self._was_seen_alive
        return False

    def is_spent(self) -> bool:
        """Tell whether an owner that is not over is not waited for any longer."""
        return self._context.clock() >= self._deadline or (self._settings.on_busy == "raise" and self._is_alive)

    async def wait(self) -> None:
        """Pause before looking again."""
        await self._context.sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_POLL)
