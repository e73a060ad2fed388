"""What a worker does about a run that it is offered: take it, run it, and have written down what came of it.

However often a run is offered, by Dapr or because its worker fell silent, one process works on it once at a time:
offers of a run that is in hand get the outcome of the attempt that is under way. All methods are called on the I/O
loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from asyncio import sleep
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DurableSessionError, RunNotFoundError
from strands_dapr_session.journal.layout import random_name
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.workflow.endings import Endings, Held, step_after
from strands_dapr_session.workflow.execution import Execution
from strands_dapr_session.workflow.keys import RunKeys
from strands_dapr_session.workflow.offers import Offer, Offers
from strands_dapr_session.workflow.runs import Claim, Runs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from strands_dapr_session.workflow.crew import Card, Crew
    from strands_dapr_session.workflow.endings import Step
    from strands_dapr_session.workflow.engine import Engine
    from strands_dapr_session.workflow.execution import Reason
    from strands_dapr_session.workflow.settings import WorkerSettings
    from strands_dapr_session.workflow.state import RunState

logger = logging.getLogger(__name__)

_FIRST_POLL: Final = 0.02
_LONGEST_POLL: Final = 0.25
_REFUSED_KEPT: Final = 256
_LOOKED_AT: Final = 256
"""Runs of an agent that are looked at in one look, when more are laid out: others look too, and look again."""
_DAPR_BRINGS_WITHIN: Final = 1.0
"""Seconds after which a run that is laid out is taken without Dapr. To be wrong costs a claim that comes too late."""


@dataclass(slots=True)
class _InHand:
    """A run that this worker has in hand.

    Attributes:
        token: Its claim.
        execution: What runs; None before it does.
    """

    token: str
    execution: Execution | None = None


class Attending:
    """The runs that one worker has in hand."""

    def __init__(
        self,
        crew: Crew,
        engine: Engine,
        builds: Mapping[str, Callable[[str], Any]],
        prepare: Callable[[Claim, Any], Awaitable[tuple[dict[str, Any], ...]]],
        settings: WorkerSettings,
    ) -> None:
        """Set up.

        Args:
            crew: The workers of the store that has the runs.
            engine: Dapr Workflow.
            builds: What makes each agent that this worker can run.
            prepare: Called, on the loop of the attempt, with what was built before it is called; see `Execution`.
            settings: How to behave.
        """
        self._runs = Runs(crew.store)
        self._offers = Offers(crew.store)
        self._crew = crew
        self._engine = engine
        self._builds = builds
        self._prepare = prepare
        self._settings = settings
        self._endings = Endings(self._runs, self._offers, settings, self._misfit)
        self._places = asyncio.Semaphore(settings.max_concurrent_runs)
        self._tasks: dict[str, asyncio.Task[Step | Held]] = {}
        self._in_hand: dict[str, _InHand] = {}
        self._seen_held: dict[str, tuple[str, float]] = {}
        self._adoptions: set[asyncio.Task[None]] = set()
        self._draining = False
        self._refused: deque[str] = deque(maxlen=_REFUSED_KEPT)
        self._first_seen: dict[tuple[str, Offer], float] = {}
        self._look_again: dict[str, float] = {}

    @property
    def in_hand(self) -> tuple[str, ...]:
        """The runs that this worker has taken, or is about to take."""
        return tuple(self._in_hand)

    async def attend(self, invocation_id: str) -> Step:
        """Do what there is to do for a run that Dapr offers, and wait for it wherever it is done."""
        pause = _FIRST_POLL
        while True:
            step = await self.adopt(invocation_id)
            if not isinstance(step, Held):
                return step
            await sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL)

    async def adopt(self, invocation_id: str) -> Step | Held:
        """Do what there is to do for a run, unless another worker has it and is alive."""
        task = self._tasks.get(invocation_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._work(invocation_id))
            self._tasks[invocation_id] = task
            task.add_done_callback(lambda done: self._is_done(invocation_id, done))
        return await asyncio.shield(task)

    def _is_done(self, invocation_id: str, task: asyncio.Task[Step | Held]) -> None:
        self._tasks.pop(invocation_id, None)
        if task.cancelled() or task.exception() is not None or not isinstance(task.result(), Held):
            self._seen_held.pop(invocation_id, None)
        if not task.cancelled() and task.exception() is not None:  # perhaps nobody waits for it any more
            logger.warning(
                "invocation_id=<%s>, error=<%s> | a run was not attended to", invocation_id, task.exception()
            )

    async def look_around(self) -> None:
        """Take the runs that Dapr did not bring to anybody who can run them, and this worker can."""
        laid_out = await self._offers.look(self._builds)
        now = time.monotonic()
        for invocation_id in [name for name, at in self._look_again.items() if now >= at]:
            del self._look_again[invocation_id]
            self.adopt_soon(invocation_id)
        every = {each for offered in laid_out.values() for each in offered.items()}
        self._first_seen = {each: self._first_seen.get(each, now) for each in every}
        for agent, offered in laid_out.items():
            candidates = [each for each in offered if each not in self._refused and each not in self._tasks]
            if len(candidates) > _LOOKED_AT:
                candidates = random.sample(candidates, _LOOKED_AT)
            found: dict[str, Offer] = {}
            for invocation_id, state in (await self._runs.states(candidates)).items():
                offer = offered[invocation_id]
                ripe = offer.at_once or now - self._first_seen[invocation_id, offer] >= _DAPR_BRINGS_WITHIN
                if not state.is_due or self._is_held(invocation_id, state):
                    found[invocation_id] = offer
                elif ripe and not self._places.locked():
                    self.adopt_soon(invocation_id)
            if found:
                await self._offers.take_away(agent, found)

    async def look_after(self, dead: Card) -> bool:
        """Take over what a dead worker had in hand.

        Returns:
            Whether nothing is left that only its card tells of.
        """
        left = False
        for invocation_id, state in (await self._runs.states(list(dead.runs))).items():
            if state.is_over:
                await self._endings.let_others_go_on(invocation_id, state)  # it may have died before it could
            elif not state.is_left_by(dead.worker):
                continue
            elif not state.holder and invocation_id in self._refused:
                await self._endings.lay_out(invocation_id)
            else:
                left = True
                self.adopt_soon(invocation_id)
        return not left

    def adopt_soon(self, invocation_id: str) -> None:
        """Begin to adopt a run, and go on."""
        task = asyncio.get_running_loop().create_task(self._adopt_quietly(invocation_id))
        self._adoptions.add(task)
        task.add_done_callback(self._adoptions.discard)

    async def _adopt_quietly(self, invocation_id: str) -> None:
        try:
            step = await self.adopt(invocation_id)
            if isinstance(step, Held):
                return
            # It may have come here without Dapr: its workflow was never begun, or has lost its place, and is to end
            # or wait like the run. What is still due is laid out, and comes here again.
            workflow = RunKeys(invocation_id).workflow((await self._runs.state(invocation_id)).generation)
            if step != "done":
                await self._engine.schedule(workflow, invocation_id)
            if step != "later":
                await self._engine.wake(workflow)
        except RunNotFoundError:
            await self._offers.forget(self._builds, invocation_id)  # it was purged
        except DurableSessionError as error:
            logger.warning("invocation_id=<%s>, error=<%s> | a run could not be taken over yet", invocation_id, error)

    # -- being told ----------------------------------------------------------------------------------------------

    def stop(self, invocation_id: str, reason: Reason) -> None:
        """Stop an attempt that is under way."""
        in_hand = self._in_hand.get(invocation_id)
        if in_hand is not None and in_hand.execution is not None:
            in_hand.execution.stop(reason)

    def check(self, states: Mapping[str, RunState]) -> None:
        """Stop what is no longer this worker's, or is to be cancelled.

        Args:
            states: How the runs in hand stand, as just read.
        """
        for invocation_id, state in states.items():
            in_hand = self._in_hand.get(invocation_id)
            if in_hand is None or in_hand.execution is None:
                continue
            if state.claim != in_hand.token:
                in_hand.execution.stop("lost")
            elif state.cancel:
                in_hand.execution.stop("cancel")

    async def drain(self, grace: float) -> None:
        """Take nothing more, wait for what is under way, and stop what takes longer.

        Args:
            grace: Seconds to wait.
        """
        self._draining = True
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=grace)
        for invocation_id in self.in_hand:
            self.stop(invocation_id, "drain")
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    # -- one attempt ---------------------------------------------------------------------------------------------

    async def _work(self, invocation_id: str) -> Step | Held:  # noqa: PLR0911 - one for each reason to leave it
        state = await self._runs.state(invocation_id)
        if state.is_over:
            return "done"
        if self._is_held(invocation_id, state):
            return Held()
        if state.behind and not state.cancel and await self._is_to_wait(invocation_id, state.behind):
            return "later"
        request = await self._runs.request(invocation_id)
        if request.agent not in self._builds:
            known = ", ".join(sorted(self._builds))
            why = f"no worker knows the agent {request.agent!r}. The last one that was asked knows: {known}"
            return await self._misfit(invocation_id, request.agent, "UnknownAgentError", why)
        async with self._places:
            if self._draining:
                return "later"
            in_hand = self._in_hand[invocation_id] = _InHand(random_name())
            try:
                await self._crew.announce()  # so that others know whose it is before anything depends on it
                state = await self._runs.claim(
                    invocation_id,
                    in_hand.token,
                    this_process.name,
                    lambda now: self._is_dead(invocation_id, now),
                    self._settings.max_attempts,
                )
                if state.is_over:
                    await self._endings.let_others_go_on(invocation_id, state)
                if state.claim != in_hand.token:
                    return step_after(state)
                prompt = await self._runs.prompt(invocation_id, request, state)
                claim = Claim(invocation_id, in_hand.token, request, state, prompt)
                return await self._execute(claim, in_hand)
            finally:
                del self._in_hand[invocation_id]

    async def _execute(self, claim: Claim, in_hand: _InHand) -> Step | Held:
        build = self._builds[claim.request.agent]
        in_hand.execution = Execution(claim, build, lambda root: self._prepare(claim, root))
        if self._draining:
            in_hand.execution.stop("drain")
        ending = await in_hand.execution.run()
        return await self._endings.conclude(claim, ending)

    async def _misfit(self, invocation_id: str, agent: str, error_type: str, message: str) -> Step:
        """Leave a run to others; give it up when nobody has taken it for too long."""
        self._refused.append(invocation_id)

        def note(state: RunState) -> RunState:
            if state.holder and self._is_dead(invocation_id, state):
                # Nobody has to watch the dead one any more: others may not know it, and would wait for it.
                state = state.lost()
            if state.phase != "pending":
                return state
            return state.unfit(time.time(), self._settings.misfit_timeout, error_type, message)

        state, _ = await self._runs.change(invocation_id, note)
        if state.phase != "waiting" and not state.holder:
            await self._endings.let_others_go_on(invocation_id, state)  # others of its session need not wait for it
        if state.is_over:
            return "done"
        await self._offers.lay_out(agent, invocation_id, at_once=True)
        # Whether anybody has taken it until then is looked at here too: its workflow may have lost its place.
        if state.misfit_since:
            left = self._settings.misfit_timeout - (time.time() - state.misfit_since)
            self._look_again[invocation_id] = time.monotonic() + max(left, 0.0)
        return "later"

    # -- others --------------------------------------------------------------------------------------------------

    async def _is_to_wait(self, invocation_id: str, behind: str) -> bool:
        """Tell whether what a run waits for is still to come to its end. Whoever ends it tells the next one as well."""
        other = await self._runs.state(behind)
        is_gone = not other.attempts  # it had begun, and was purged since
        return not (other.is_over or is_gone or other.behind == invocation_id)

    def _is_held(self, invocation_id: str, state: RunState) -> bool:
        return bool(state.holder) and not self._is_dead(invocation_id, state)

    def _is_dead(self, invocation_id: str, state: RunState) -> bool:
        """Tell whether whoever has a run will not go on with it."""
        if state.holder == this_process.name:
            return all(state.claim != each.token for each in self._in_hand.values())
        if self._crew.is_dead(state.holder):
            this_process.presume_dead(state.holder)
            return True
        claim, since = self._seen_held.get(invocation_id, ("", 0.0))
        if claim != state.claim:
            self._seen_held[invocation_id] = (state.claim, time.monotonic())
            return False
        return self._crew.has_let_go(state.holder, invocation_id, since)
