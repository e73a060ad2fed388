"""The runs in a store: what may be done with one, by whoever.

Whoever wants to work on a run claims it. That keeps two workers from the same run as long as both are well; what keeps
them apart when they are not is the session's journal. All methods are called on the I/O loop.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strands_dapr_session.errors import InvocationConflictError, RunNotFoundError, StoredDataError
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import RunKeys
from strands_dapr_session.workflow.state import Request, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands_dapr_session.stores.base import StateStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this worker is to work on.

    Attributes:
        invocation_id: The run.
        token: Names the attempt.
        request: What was asked for.
        state: How it stands, with this claim.
        prompt: What to call the agent with: what was asked for, or what people answered last.
    """

    invocation_id: str
    token: str
    request: Request
    state: RunState
    prompt: Any


class Runs:
    """The runs in a store."""

    def __init__(self, store: StateStore) -> None:
        """Name the store; nothing is read yet."""
        self._store = store

    async def submit(self, invocation_id: str, request: Request) -> RunState:
        """Write down what is asked for, once.

        Returns:
            How the run stands.

        Raises:
            InvocationConflictError: Something else was asked for under this id.
        """
        keys = RunKeys(invocation_id)
        present = Request.read(
            await documents.create(self._store, keys.request, request.plain(), path="prompt"), keys.request
        )
        if present != request:
            differs = [
                name for name in ("agent", "session_id", "prompt") if getattr(present, name) != getattr(request, name)
            ]
            raise InvocationConflictError(
                f"invocation id {invocation_id!r} was submitted before with another {' and '.join(differs)}. "
                "Use an id of its own for each run; to get the same run again, submit the same."
            )
        return await self.state(invocation_id)

    async def request(self, invocation_id: str) -> Request:
        """Read what was asked for.

        Raises:
            RunNotFoundError: Nothing was.
        """
        key = RunKeys(invocation_id).request
        value = await documents.read(self._store, key)
        if value is None:
            raise RunNotFoundError(
                f"no run {invocation_id!r} was submitted to {self._store.name}. Runs are looked for where "
                "`AgentClient(store=...)` points; with Dapr, keys are kept apart by application id too."
            )
        return Request.read(value, key)

    async def state(self, invocation_id: str) -> RunState:
        """Read how a run stands."""
        key = RunKeys(invocation_id).state
        entry = await self._store.get(key)
        return RunState.read(None if entry is None else documents.open_small(key, entry), key)

    async def states(self, invocation_ids: list[str]) -> dict[str, RunState]:
        """Read how runs stand, in one read. What is damaged is left out: it must not stop the others."""
        keys = {RunKeys(each).state: each for each in invocation_ids}
        entries = await self._store.get_many(list(keys)) if keys else {}
        states = {}
        for key, name in keys.items():
            try:
                states[name] = RunState.read(documents.open_small(key, entries[key]) if key in entries else None, key)
            except StoredDataError as error:
                logger.warning("invocation_id=<%s>, error=<%s> | how a run stands cannot be read", name, error)
        return states

    async def change(self, invocation_id: str, edit: Callable[[RunState], RunState]) -> tuple[RunState, bool]:
        """Change how a run stands; see `documents.change`."""
        key = RunKeys(invocation_id).state

        def plainly(value: Any) -> Any:
            before = RunState.read(value, key)
            after = edit(before)
            return value if after == before else after.plain()

        value, changed = await documents.change(self._store, key, plainly)
        return RunState.read(value, key), changed

    # -- for workers ---------------------------------------------------------------------------------------------

    async def claim(
        self, invocation_id: str, token: str, worker: str, is_dead: Callable[[RunState], bool], max_attempts: int
    ) -> RunState:
        """Take a run, unless it is over, waits for people, or a live worker has it.

        Args:
            invocation_id: The run.
            token: A name for the attempt, that nothing else has.
            worker: Who takes it.
            is_dead: Tells whether whoever has the run is dead.
            max_attempts: How many attempts may end before they have called the agent until the run is given up.

        Returns:
            How it stands; if its claim is `token`, it was taken.
        """

        def take(state: RunState) -> RunState:
            if state.claim == token or state.is_over or (state.phase == "waiting" and not state.cancel):
                return state
            if state.holder:
                if not is_dead(state):
                    return state
                state = state.lost()
            if state.failures >= max_attempts:
                return state.over(
                    "failed",
                    "ParkedError",
                    f"{state.failures} attempts in a row ended before they had called the agent, the last one: "
                    f"{state.attempts[-1].detail or state.attempts[-1].ended}",
                )
            return state.begun(worker, token, time.time())

        state, _ = await self.change(invocation_id, take)
        return state

    async def conclude(self, claim: Claim, edit: Callable[[RunState], RunState]) -> RunState:
        """End an attempt, unless the run was taken from it meanwhile."""
        state, _ = await self.change(claim.invocation_id, lambda now: edit(now) if now.claim == claim.token else now)
        return state

    async def complete(self, claim: Claim, result: dict[str, Any]) -> RunState:
        """Write down what a run came to.

        Only a result that the journal has may be written: it is the same whoever writes it.
        """
        await documents.create(self._store, RunKeys(claim.invocation_id).result, result, path="result")
        return await self.conclude(claim, lambda now: now.over("completed"))

    # -- what there is to read -----------------------------------------------------------------------------------

    async def prompt(self, invocation_id: str, request: Request, state: RunState) -> Any:
        """Read what the agent is to be called with now."""
        if not state.answers:
            return request.prompt
        return await documents.read(self._store, RunKeys(invocation_id).answers(state.answers))

    async def result(self, invocation_id: str) -> dict[str, Any] | None:
        """Read what a run came to; None if there is nothing yet."""
        value: dict[str, Any] | None = await documents.read(self._store, RunKeys(invocation_id).result)
        return value
