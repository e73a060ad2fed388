"""The front of the protocol: a journal that any thread and any event loop may use."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strands_dapr_session import io_thread, telemetry
from strands_dapr_session.errors import (
    DamagedDataError,
    DurableSessionError,
    StoreUnavailableError,
    TooLargeError,
    UnencodableValueError,
)
from strands_dapr_session.journal.acquire import Position, Wish, acquire
from strands_dapr_session.journal.commit import LONGEST_COMMIT
from strands_dapr_session.journal.committer import Committer
from strands_dapr_session.journal.context import Context, in_another_thread
from strands_dapr_session.journal.fold import fold, fold_politely
from strands_dapr_session.journal.layout import check_id, probe_keys, random_name
from strands_dapr_session.journal.packer import Packer
from strands_dapr_session.journal.reading import read_journal
from strands_dapr_session.journal.recent import RecentLogs
from strands_dapr_session.journal.sessions import delete_journals
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.tenure import Tenure
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.records import Released, SegmentsPlanned
from strands_dapr_session.records.view import View
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.probe import check_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands_dapr_session.journal.acquire import Claim
    from strands_dapr_session.journal.load import Log
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.stores.base import StateStore

_PROOFS: Final = 5
"""Commits by which an owner tries to prove that it is still the owner, before it calls the store too slow."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What an acquisition found.

    Attributes:
        view: The journal up to and including the acquisition. If nothing has moved it keeps no messages: the journal's
            caller has them.
        moved: Whether what the journal says may differ from the view that the caller was given last: somebody else
            wrote, or something that this journal appended was not recorded.
        takeover: Whether the owner before had not released.
    """

    view: View
    moved: bool
    takeover: bool


class Journal:
    """The ordered log of one root, of which one worker at a time is the owner.

    Records are appended without waiting and travel in the background; `barrier` waits until they are safe. No method
    blocks the caller's event loop, and none needs a particular one.
    """

    def __init__(
        self, store: StateStore, session_id: str, root_id: str, *, settings: JournalSettings | None = None
    ) -> None:
        """Name a journal; nothing is read or written yet.

        Args:
            store: Where it is. Several journals may share one.
            session_id: The session.
            root_id: The agent or orchestrator in it.
            settings: How to behave.

        Raises:
            InvalidIdentifierError: An id cannot be used.
        """
        self.session_id = check_id("session_id", session_id)
        self.root_id = check_id("root_id", root_id)
        self.settings = settings or JournalSettings()
        self._context = Context(store, this_process, offload=in_another_thread, recent=RecentLogs.of(store))
        self._packer = Packer(self._context, self.settings)
        self._lock = threading.RLock()
        self._position: Position | None = None
        self._view = View(keep_bodies=False)
        self._is_caller_behind = False
        self._tenure: Tenure | None = None

    @property
    def name(self) -> str:
        """The session and root, for messages, and as the key in errors of what is recorded where no key is known."""
        return f"{self.session_id}/{self.root_id}"

    # -- reading -------------------------------------------------------------------------------------------------

    async def load(self) -> View:
        """Read the newest state, without owning or disturbing anything.

        Raises:
            StoredDataError: What is stored is damaged, incomplete, or newer than this package.
            StoreError: The store cannot be read.
        """
        log = await io_thread.run(self._read())
        return self._loaded(log, View() if log is None else await fold_politely(log))

    async def load_again(self) -> View:
        """Read what is recorded by now, while this process owns it. What cannot be read ends the ownership.

        Otherwise the error would be that of whatever has asked, a tool for example, and count as its result.

        Raises:
            DurableSessionError: See `load` and `barrier`.
        """
        try:
            await self.barrier()
            return await self.load()
        except DurableSessionError as error:
            self._committer().stop(error)
            raise

    def load_sync(self) -> View:
        """Read the newest state from plain code. See `load`."""
        log = io_thread.run_sync(self._read())
        return self._loaded(log, View() if log is None else fold(log))

    async def _read(self) -> Log | None:
        """Read the journal; None if there is none. On the I/O thread."""
        context = self._context
        with telemetry.Measured(telemetry.LOAD, context.seconds, context.store):
            await context.store.open()
            log = await read_journal(context, self.session_id, self.root_id)
        if log is not None and not self.owned:
            self._packer.saw(log)
        return log

    def _loaded(self, log: Log | None, view: View) -> View:
        """Remember what the caller is about to know."""
        with self._lock:
            if not self.owned:
                self.abandon()
                self._view = view.without_bodies()
                self._is_caller_behind = False
                self._position = None
                if log is not None:
                    self._position = Position(log.layout, log.end, log.head.stamp, view.owner, own=False)
        return view

    # -- owning --------------------------------------------------------------------------------------------------

    @property
    def owned(self) -> bool:
        """Whether this object owns the journal, as far as this process knows."""
        tenure = self._tenure
        return (
            tenure is not None
            and tenure.committer is not None
            and tenure.committer.failure is None
            and tenure.is_of_this_process
        )

    @property
    def silence(self) -> float:
        """Seconds since anything was last acknowledged for this owner; 0 if the journal is not owned."""
        tenure = self._tenure
        return tenure.committer.silence if tenure is not None and tenure.committer is not None else 0.0

    async def acquire(self, first: Sequence[Record] = ()) -> Acquisition:
        """Become the owner, so that records can be appended. Makes the journal if there is none.

        Args:
            first: Records to write together with the acquisition. They must be true whatever is found.

        Raises:
            SessionBusyError: Another live worker owns it.
            StoredDataError: What is stored is damaged, incomplete, or newer than this package.
            StoreError: The store does not answer. Whether the journal is owned is unknown; it can be acquired again.
            RuntimeError: This object owns it already.
        """
        with self._lock:
            if self.owned:
                raise RuntimeError("this journal is owned already: release it before it is acquired again")
            self.abandon()
            known = None if self._is_caller_behind else self._position
        encoded = _encode(first)
        tenure = Tenure(self._context, random_name(), self.settings.lease, self)
        try:
            wish = Wish(self.session_id, self.root_id, self.settings, tenure.acquisition, encoded)
            claim = await tenure.begin(lambda: self._acquire(wish, known))
        except BaseException:
            tenure.give_up()
            raise
        return self._begin(tenure, claim, first, encoded)

    async def _acquire(self, wish: Wish, known: Position | None) -> Claim:
        """Acquire, on the I/O thread."""
        if self.settings.probe and not self._context.store.is_proven:
            await check_store(self._context.store, keys=probe_keys(self.session_id, self.root_id))
        with telemetry.Measured(telemetry.ACQUIRE, self._context.seconds, self._context.store) as attributes:
            claim = await acquire(self._context, wish, known)
            attributes["takeover"] = claim.record.takeover
        if claim.log is None:
            self._packer.committed(claim.slot)
        else:
            self._packer.saw(claim.log)
        return claim

    def _begin(self, tenure: Tenure, claim: Claim, first: Sequence[Record], encoded: list[bytes]) -> Acquisition:
        """Take over what an acquisition found."""
        with self._lock:
            before = self._position
            sequence, layout = (before.sequence, before.layout) if before else (0, claim.layout)
            moved = self._is_caller_behind or (sequence, layout) != (claim.slot.number - 1, claim.layout)
            if claim.view is None or not moved:
                for record in (claim.record, *first[: claim.first]):
                    self._view.apply(record)
                view = self._view
            else:
                self._view, view = claim.view.without_bodies(), claim.view
            self._view.sequence = claim.slot.number
            self._is_caller_behind = False
            self._position = Position(claim.layout, claim.slot.number, claim.stamp, claim.record, own=True)
            self._tenure = tenure
            tenure.committer = Committer(self._context, claim, self._packer)
            for record in first[claim.first :]:
                self._view.apply(record)
            tenure.committer.add(encoded[claim.first :])
        return Acquisition(view, moved=moved, takeover=claim.record.takeover)

    def append(self, *records: Record) -> None:
        """Hand over records, in order: all of them get into the same commit, or none.

        They travel in the background, together with others that are ready.

        Does nothing after a failure: `barrier` tells about it.

        Raises:
            RuntimeError: The journal is not owned.
            UnencodableValueError: A record cannot follow those before it. Neither it nor anything after it is written.
            TooLargeError: Together they are longer than a commit may be. Nothing is written.
        """
        with self._lock:
            self._committer().add(self._apply(records))

    def append_with_next(self, *records: Record) -> None:
        """Hand over records that say nothing which could not be found out again, and so may wait for a moment.

        They travel with the next ones, or by themselves when a few milliseconds have passed. See `append`.
        """
        with self._lock:
            self._committer().add_with_next(self._apply(records))

    def _apply(self, records: Sequence[Record]) -> list[bytes]:
        """Apply and encode records that are to be written next; none after a failure."""
        committer = self._committer()
        if committer.failure is not None:
            return []
        encoded = _encode(records)
        for record in records:
            try:
                self._view.apply(record)
            except DamagedDataError as error:
                mistake = UnencodableValueError(type(record).__name__, error.reason)
                committer.stop(mistake)
                raise mistake from error
        return encoded

    async def barrier(self) -> None:
        """Wait until all that was appended is safe, and this process can still believe that it owns the journal.

        Raises:
            FencedError: Another worker has taken the journal over.
            SessionDeletedError: It was deleted.
            StoreError: The store does not answer. The last records may or may not be recorded.
            RuntimeError: The journal is not owned.
        """
        await self._settled()
        for _ in range(_PROOFS):
            if self._committer().silence <= self.settings.lease:
                return
            # This process, or the store, stood still for so long that others may have taken it for dead, perhaps after
            # they had acknowledged what was waited for. A commit that says nothing proves that they have not, unless
            # it has taken that long in its turn.
            self.append(SegmentsPlanned(()))
            await self._settled()
        if self._committer().silence > self.settings.lease:
            raise StoreUnavailableError(
                f"{self._context.store.name}: commits take longer than the lease of {self.settings.lease:g} s, so that "
                "others may take this process for dead at any time. What was recorded is safe; a longer lease helps."
            )

    async def _settled(self) -> None:
        committer = self._committer()
        if not committer.is_settled:
            await io_thread.run(committer.settled())

    async def release(self, *last: Record) -> None:
        """Write the last records and let go of the journal, in one commit. Afterwards it is not owned.

        Raises:
            FencedError: See `barrier`. After a failure call `abandon`, or acquire again.
        """
        with self._lock:
            tenure = self._tenure
            committer = self._committer()
            if tenure is not None and committer.failure is None:
                tenure.leave()
            self.append(*last, Released(tenure.acquisition if tenure else ""))
        await self._settled()
        with self._lock:
            if tenure is not None and self._tenure is tenure:
                tenure.end()
                self._tenure = None
                if self._position is not None:
                    self._position = replace(self._position, sequence=committer.sequence, owner=None)

    def abandon(self) -> None:
        """Stop owning the journal without writing that down, after a failure.

        This process may acquire it again at once; others after the lease.
        """
        with self._lock:
            if self._tenure is not None:
                self._tenure.give_up()
                self._tenure = None
                self._is_caller_behind = True

    def mistrust(self) -> None:
        """Say that the caller's state may differ from what is recorded: the next acquisition reads everything again."""
        with self._lock:
            self._is_caller_behind = True

    async def delete(self) -> None:
        """Delete the journal and everything in it. Whoever owns it is taken over first.

        Can be run again when it was killed.

        Raises:
            SessionBusyError: Another live worker owns it; nothing was changed.
            StoreError: The store does not answer. Run it again.
        """
        with self._lock:
            self.abandon()
            self._is_caller_behind = True
        await delete_journals(self._context, self.session_id, [self.root_id], self.settings)

    def _committer(self) -> Committer:
        tenure = self._tenure
        if tenure is None or tenure.committer is None:
            raise RuntimeError("the journal is not owned: acquire it first")
        if not tenure.is_of_this_process:
            raise RuntimeError("the journal is owned by the process that this one was forked from")
        return tenure.committer


def _encode(records: Sequence[Record]) -> list[bytes]:
    """Encode records that belong together, and so must fit into one commit."""
    encoded = [encode_record(record) for record in records]
    size = sum(map(len, encoded))
    if size > LONGEST_COMMIT:
        names = ", ".join(sorted({type(record).__name__ for record in records}))
        raise TooLargeError(f"{names}: {size} bytes are more than the {LONGEST_COMMIT} that one commit may have")
    return encoded
