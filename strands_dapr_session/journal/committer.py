"""Carries records from any thread to the log: one commit at a time, and what becomes ready meanwhile goes together.

A commit starts at once, unless all that is ready can wait for what comes next (see `Committer.add_with_next`). That
saves the round trip that whoever comes next would have to wait out before its own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

from strands_dapr_session import io_thread, telemetry
from strands_dapr_session.errors import DurableSessionError, StoreUnavailableError
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.records.records import SegmentsPlanned
from strands_dapr_session.records.wire import encode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands_dapr_session.journal.acquire import Claim
    from strands_dapr_session.journal.context import Context
    from strands_dapr_session.journal.packer import Packer

_TOGETHER: Final = 1024 * 1024
"""Bytes above which nothing further joins a commit, so that a small record does not wait for megabytes."""


_LONGEST_WAIT: Final = 0.005
"""Seconds after which records that wait for the next ones travel without them. A model takes much longer."""


class Committer:
    """The log as its owner writes it, from one acquisition to its release.

    `add`, `stop` and the attributes may be used from any thread; the rest happens on the I/O thread.

    Attributes:
        failure: Why nothing more will be written.
    """

    def __init__(self, context: Context, claim: Claim, packer: Packer) -> None:
        """Go on after an acquisition.

        Args:
            context: The store.
            claim: The acquisition.
            packer: What packs the log when it has become long.
        """
        self._context = context
        self._log = LogWriter(context, claim)
        self._packer = packer
        self._lock = threading.Lock()
        self._ready: list[Sequence[bytes]] = []
        self._added = 0
        self._acknowledged = 0
        self._running = False
        self._hurried = False  # something that is ready must not wait
        self._timed = False
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.failure: DurableSessionError | None = None

    @property
    def sequence(self) -> int:
        """The last slot that was acknowledged."""
        return self._log.sequence

    @property
    def silence(self) -> float:
        """Seconds since the journal was surely nobody else's."""
        return self._context.seconds() - self._log.proved

    def add(self, records: Sequence[bytes]) -> None:
        """Take encoded records along, all of them in one commit; does nothing after a failure."""
        if self._make_ready(records) and self._hurry():
            io_thread.call_soon(self._start)

    def add_with_next(self, records: Sequence[bytes]) -> None:
        """Do the same, but let them wait for others for a moment: until some are added, or somebody waits for them."""
        if self._make_ready(records) and not self._running:
            io_thread.call_soon(self._start_later)

    def _make_ready(self, records: Sequence[bytes]) -> bool:
        with self._lock:
            if self.failure is not None or not records:
                return False
            self._ready.append(records)
            self._added += len(records)
        return True

    def _hurry(self) -> bool:
        """Let nothing wait that is ready; tells whether commits must be started for that."""
        with self._lock:
            self._hurried = bool(self._ready)
            start = self._hurried and not self._running
            self._running = self._running or start
        return start

    def stop(self, reason: DurableSessionError) -> None:
        """Write nothing more. What is on its way may still arrive."""
        with self._lock:
            if self.failure is None:
                self.failure = reason
            self._ready.clear()

    @property
    def is_settled(self) -> bool:
        """Whether everything that was added is acknowledged, and nothing has failed."""
        return self.failure is None and self._acknowledged == self._added

    async def settled(self) -> None:
        """Wait until everything added so far is acknowledged. On the I/O thread.

        Raises:
            DurableSessionError: It never will be.
        """
        if self.failure is not None:
            raise self.failure
        ticket = self._added
        if self._acknowledged >= ticket:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((ticket, waiter))
        if self._hurry():
            self._start()
        await waiter

    def _start(self) -> None:
        task = asyncio.get_running_loop().create_task(self._run())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    def _start_later(self) -> None:
        if not self._timed:
            self._timed = True
            asyncio.get_running_loop().call_later(_LONGEST_WAIT, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self._timed = False
        if self._hurry():
            self._start()

    async def _run(self) -> None:
        try:
            while records := self._take():
                await self._commit(records)
                self._acknowledged += len(records)
                self._answer()
            if self.failure is not None:  # stopped meanwhile, and some may still wait for what was dropped
                self._fail(self.failure)
        except DurableSessionError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(StoreUnavailableError(f"{self._context.store.name}: the commit was cut off ({error!r})"))
            raise

    async def _commit(self, records: list[bytes]) -> None:
        plan = self._packer.plan_for(self.sequence + 1)
        if plan is not None:
            records = [encode_record(SegmentsPlanned((plan,))), *records]
        store = self._context.store
        with telemetry.Measured(telemetry.COMMIT, self._context.seconds, store) as attributes:
            slot = await self._log.write(records)
        telemetry.COMMIT_SIZE.record(slot.size, attributes)
        self._packer.committed(slot)
        if plan is not None:
            self._packer.start(self._log.layout, plan, slot.number)

    def _take(self) -> list[bytes]:
        """Take what goes into the next commit; nothing while all of it can wait."""
        with self._lock:
            if not self._hurried:
                self._running = False
                if self._ready:
                    self._start_later()
                return []
            size = count = 0
            for group in self._ready:
                size += sum(map(len, group))
                if count and size > _TOGETHER:
                    break
                count += 1
            records = [record for group in self._ready[:count] for record in group]
            self._ready = self._ready[count:]
            self._hurried = bool(self._ready)
            self._running = bool(records)
            return records

    def _answer(self) -> None:
        rest = []
        for ticket, waiter in self._waiters:
            if ticket > self._acknowledged:
                rest.append((ticket, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = rest

    def _fail(self, error: DurableSessionError) -> None:
        self.stop(error)
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(self.failure or error)


_tasks: set[asyncio.Task[None]] = set()
