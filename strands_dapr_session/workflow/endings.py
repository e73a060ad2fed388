"""How an attempt at a run ends: what is written down about it, and who goes on then.

A run that has to wait for another one of its session waits behind it, and is told when that is over. All methods are
called on the I/O loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from strands_dapr_session.errors import (
    DriftError,
    FencedError,
    OwnershipError,
    RunNotFoundError,
    SessionBusyError,
    StoreUnavailableError,
    TooLargeError,
    UnencodableValueError,
    UnfinishedRunError,
)
from strands_dapr_session.hooks.retrying import was_given_up_on
from strands_dapr_session.workflow.execution import Asking, Finished, Raised, Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from strands_dapr_session.workflow.execution import Ending
    from strands_dapr_session.workflow.offers import Offers
    from strands_dapr_session.workflow.runs import Claim, Runs
    from strands_dapr_session.workflow.settings import WorkerSettings
    from strands_dapr_session.workflow.state import Phase, RunState

logger = logging.getLogger(__name__)

Step: TypeAlias = Literal["done", "waiting", "later"]
"""What the run's workflow is to do next: end, wait for answers, or offer the run again after a while."""


@dataclass(frozen=True, slots=True)
class Held:
    """Another worker has the run, and is alive."""


def step_after(state: RunState) -> Step | Held:
    """Tell what is to be done about a run that a worker does not have, or has no more."""
    if state.is_over:
        return "done"
    return "waiting" if state.phase == "waiting" else Held()


class Endings:
    """The ends of the attempts of one worker."""

    def __init__(
        self,
        runs: Runs,
        offers: Offers,
        settings: WorkerSettings,
        leave: Callable[[str, str, str, str], Awaitable[Step]],
    ) -> None:
        """Set up.

        Args:
            runs: The runs of the store.
            offers: Where those are laid out that are due.
            settings: How to behave.
            leave: Leaves a run to workers that can run it; called with its id, its agent, and the type and message of
                the error.
        """
        self._runs = runs
        self._offers = offers
        self._settings = settings
        self._leave = leave

    async def conclude(self, claim: Claim, ending: Ending) -> Step | Held:
        """Write down how an attempt ended."""
        match ending:
            case Finished(result):
                return await self._finished(claim, result)
            case Asking(interrupts):
                state = await self._runs.conclude(claim, lambda now: now.asking(interrupts))
                return step_after(state)
            case Stopped("cancel"):
                return await self._over(claim, "cancelled", "RunCancelledError", "cancelled")
            case Stopped("drain"):
                return await self._later(claim, "drained", "its worker was told to end")
            case Raised(error) if not isinstance(error, FencedError):
                return await self._raised(claim, error)
            case _:
                logger.warning("invocation_id=<%s> | another worker has taken the run over", claim.invocation_id)
                return Held()

    async def _finished(self, claim: Claim, result: dict[str, Any]) -> Step | Held:
        try:
            state = await self._runs.complete(claim, result)
        except (TooLargeError, UnencodableValueError) as error:
            return await self._over(claim, "failed", type(error).__name__, str(error))
        await self.let_others_go_on(claim.invocation_id, state)
        return "done"

    async def _raised(self, claim: Claim, error: BaseException) -> Step | Held:
        name, text = type(error).__name__, str(error)
        logger.warning("invocation_id=<%s>, error=<%s: %s> | the attempt failed", claim.invocation_id, name, text)
        if isinstance(error, SessionBusyError):
            return await self._busy(claim, error)
        if isinstance(error, UnfinishedRunError) and error.invocation_id not in {None, claim.invocation_id}:
            return await self._behind(claim, str(error.invocation_id), text)
        if isinstance(error, DriftError):
            await self._runs.conclude(claim, lambda now: now.let_go("refused", text))
            return await self._leave(claim.invocation_id, claim.request.agent, name, text)
        if isinstance(error, (StoreUnavailableError, OwnershipError)):
            return await self._later(claim, "failed", f"{name}: {text}")
        if isinstance(error, self._settings.retry_on) and not was_given_up_on(error):
            return await self._later(claim, "failed", f"{name}: {text}", failed=True)
        return await self._over(claim, "failed", name, text)

    async def _over(self, claim: Claim, phase: Phase, error_type: str, message: str) -> Step | Held:
        state = await self._runs.conclude(claim, lambda now: now.over(phase, error_type, message))
        if not state.is_over:
            return Held()
        await self.let_others_go_on(claim.invocation_id, state)
        return "done"

    async def _later(self, claim: Claim, ended: str, detail: str, *, failed: bool = False) -> Step | Held:
        state = await self._runs.conclude(claim, lambda now: now.let_go(ended, detail, failed=failed))
        if state.is_over:
            return "done"
        if state.holder:
            return Held()
        # The workflow offers it again, if that is heard of: this may be the last worker, and about to leave.
        await self._offers.lay_out(claim.request.agent, claim.invocation_id)
        return "later"

    # -- waiting for other runs -----------------------------------------------------------------------------------

    async def _busy(self, claim: Claim, error: SessionBusyError) -> Step | Held:
        """Let a run wait until the run that its session is busy with is over, or for a while if that is none."""
        other = error.invocation_id
        if other is None or other == claim.invocation_id:
            return await self._later(claim, "busy", str(error))

        def follow(now: RunState) -> RunState:
            # One that waits itself, and that others finish, may be waiting for this one.
            return now.followed_by(claim.invocation_id) if now.phase == "running" else now

        now, _ = await self._runs.change(other, follow)
        if now.phase != "running":
            return await self._later(claim, "busy", str(error))
        return await self._put_off(claim, other, str(error))

    async def _behind(self, claim: Claim, other: str, text: str) -> Step | Held:
        """Let a run wait until another one is over, which its workers or people are going to finish."""
        try:
            await self._runs.request(other)
        except RunNotFoundError:
            return await self._over(claim, "failed", UnfinishedRunError.__name__, text)
        now, _ = await self._runs.change(other, lambda now: now.followed_by(claim.invocation_id))
        if now.phase in {"completed", "cancelled"}:
            return await self._later(claim, "busy", text)
        if now.is_over:
            what_to_do = f"It is run {other!r}, which failed: restart() or abandon() that one, then restart() this one."
            return await self._over(claim, "failed", UnfinishedRunError.__name__, f"{text} {what_to_do}")
        return await self._put_off(claim, other, text)

    async def _put_off(self, claim: Claim, other: str, text: str) -> Step | Held:
        state = await self._runs.conclude(claim, lambda now: now.put_off(other, text))
        if state.holder:
            return Held()
        if (await self._runs.state(other)).is_over:
            await self._let_go_on(claim.invocation_id, other)  # it was told before it waited
        return "later"

    async def let_others_go_on(self, invocation_id: str, state: RunState) -> None:
        """Tell the first of the runs that wait for one which is over, or which nobody here can run.

        The others wait for that one from now on. Were they all told, all but one would find the session taken again, so
        that a queue would be tried as often as the square of its length. Safe to repeat, and to be done by several.
        """
        states = await self._runs.states(list(state.followers))
        for each, now in states.items():
            if now.is_due and not now.holder:
                await self.lay_out(each)  # it was told by somebody who may have died before this
        waiting = [each for each, now in states.items() if now.waits_for(invocation_id)]
        for place, each in enumerate(waiting):
            if await self._hand_over(invocation_id, each, waiting[place + 1 :]):
                return

    async def _hand_over(self, invocation_id: str, first: str, others: list[str]) -> bool:
        """Let others wait for the first of them, and that one go on; false if it does not wait any more."""
        now, _ = await self._runs.change(
            first, lambda now: now.followed_by(*others) if now.waits_for(invocation_id) else now
        )
        if not now.waits_for(invocation_id):
            return False
        await asyncio.gather(
            *(self._runs.change(each, lambda now: now.to_follow(first, invocation_id)) for each in others)
        )
        # Last of all: what has not begun yet cannot have come to wait for one of them.
        await self._let_go_on(first, invocation_id)
        return True

    async def _let_go_on(self, follower: str, invocation_id: str) -> None:
        state, changed = await self._runs.change(follower, lambda now: now.its_turn(invocation_id))
        if changed or state.is_due:
            await self.lay_out(follower)

    async def lay_out(self, invocation_id: str) -> None:
        """Lay out a run that Dapr is not to be waited for to bring, unless it was purged."""
        with contextlib.suppress(RunNotFoundError):
            agent = (await self._runs.request(invocation_id)).agent
            await self._offers.lay_out(agent, invocation_id, at_once=True)
