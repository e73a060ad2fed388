"""One ownership of a journal by this process, from the wish to acquire it to its end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from strands_dapr_session import io_thread
from strands_dapr_session.errors import FencedError
from strands_dapr_session.journal.acquire import give_back
from strands_dapr_session.journal.heart import Heart
from strands_dapr_session.journal.worker import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from strands_dapr_session.journal.acquire import Claim
    from strands_dapr_session.journal.committer import Committer
    from strands_dapr_session.journal.context import Context


class Tenure:
    """Keeps the rest of the process informed: what it holds, that its heart must beat, and when that is over.

    Attributes:
        acquisition: The name of this ownership.
        committer: What writes for it; None until it has begun.
    """

    def __init__(self, context: Context, acquisition: str, lease: float, holder: object) -> None:
        """Announce an ownership before it is written, so that this process never takes it for dead.

        Args:
            context: The store.
            acquisition: A name that nothing else has.
            lease: How often the heart must beat.
            holder: The object that owns; when it is gone, so is the ownership.
        """
        self.acquisition = acquisition
        self.committer: Committer | None = None
        self._context = context
        self._lease = lease
        self._worker = this_process.name
        self._lock = threading.Lock()
        self._claim: Claim | None = None
        self._is_wanted = True
        this_process.hold(acquisition, holder)

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process is not a fork of the one that owns."""
        return self._worker == this_process.name

    async def begin(self, acquire: Callable[[], Coroutine[Any, Any, Claim]]) -> Claim:
        """Acquire on the I/O thread. If the caller is cancelled meanwhile, the journal is released again."""
        try:
            return await io_thread.run(self._begin(acquire))
        except asyncio.CancelledError:
            with self._lock:
                self._is_wanted = False
                claim = self._claim
            if claim is not None:
                io_thread.call_soon(lambda: _spawn(self._return(claim)))
            raise

    async def _begin(self, acquire: Callable[[], Coroutine[Any, Any, Claim]]) -> Claim:
        await self._context.store.open()
        claim = await acquire()
        with self._lock:
            self._claim = claim
            is_wanted = self._is_wanted
        if is_wanted:
            heart = Heart.of(self._context.store)
            heart.begin(self.acquisition, self._lease)
            if claim.before is not None:
                heart.bury(claim.before)
        else:
            await self._return(claim)
        return claim

    def leave(self) -> None:
        """The journal is about to be released."""
        if self.is_of_this_process:
            with contextlib.suppress(RuntimeError):  # at exit, when every heart is stopped anyway
                io_thread.call_soon(lambda: Heart.of(self._context.store).leave(self.acquisition))

    def end(self) -> None:
        """The journal has been released."""
        self._let_go(released=True)

    def give_up(self) -> None:
        """The journal is not released, but this process will not write for this ownership any more."""
        if self.committer is not None:
            self.committer.stop(FencedError("this process gave the journal up after a failure: acquire it again"))
        self._let_go(released=False)

    def _let_go(self, *, released: bool) -> None:
        if self.is_of_this_process:
            this_process.let_go(self.acquisition, released=released)

    async def _return(self, claim: Claim) -> None:
        """Release what nobody waits for any more."""
        await give_back(self._context, claim)


def _spawn(coro: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(coro)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()
