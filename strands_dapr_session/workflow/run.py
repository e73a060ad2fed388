"""`Run`: how one run stands, what it came to, and what can still be done about it."""

from __future__ import annotations

import time
from asyncio import sleep
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    ConfigurationError,
    InvocationConflictError,
    RunCancelledError,
    RunFailedError,
    RunFinishedError,
    RunNotWaitingError,
    RunTimeoutError,
)
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import RunKeys
from strands_dapr_session.workflow.offers import Offers
from strands_dapr_session.workflow.stream import Follower

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

    from pydantic import BaseModel
    from strands.agent import AgentResult
    from strands.multiagent.base import MultiAgentResult

    from strands_dapr_session.stores.base import StateStore
    from strands_dapr_session.workflow.engine import Engine
    from strands_dapr_session.workflow.runs import Runs
    from strands_dapr_session.workflow.state import Attempt, Phase, RunState
    from strands_dapr_session.workflow.stream import RunEvent

_FIRST_POLL: Final = 0.005
_LONGEST_POLL: Final = 0.25
_ASK_DAPR_EVERY: Final = 5.0


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands.

    Attributes:
        phase: ``"pending"``, ``"running"``, ``"waiting"`` for answers, ``"completed"``, ``"failed"``, ``"cancelled"``.
        worker: The name of the worker that has it; empty when none has.
        interrupts: What it asks: ids, names and reasons, as Strands' interrupts have them.
        error: Why it failed: the type of the error, and its message.
        attempts: The attempts at it: the first, and the newest.
    """

    phase: Phase
    worker: str
    interrupts: tuple[dict[str, Any], ...]
    error: tuple[str, str]
    attempts: tuple[Attempt, ...]


class Run:
    """A run, wherever it runs."""

    def __init__(self, invocation_id: str, runs: Runs, engine: Engine, store: StateStore) -> None:
        """Name a run; use `AgentClient.submit` or `AgentClient.run` instead."""
        self.invocation_id = invocation_id
        self._runs = runs
        self._engine = engine
        self._store = store

    def status(self) -> RunStatus:
        """Say how it stands.

        Raises:
            RunNotFoundError: Nothing was submitted under this id.
            StoreError: The store cannot be read.
        """
        state = io_thread.run_sync(self._state())
        return RunStatus(state.phase, state.holder, state.interrupts, state.error, state.attempts)

    async def _state(self) -> RunState:
        await self._store.open()
        await self._runs.request(self.invocation_id)
        return await self._runs.state(self.invocation_id)

    def result(
        self, timeout: float | None = None, *, structured_output_model: type[BaseModel] | None = None
    ) -> AgentResult | MultiAgentResult:
        """Wait for its result: Strands' own, with what it cost in all its attempts, but without traces.

        Args:
            timeout: Seconds to wait. A run that waits for answers is waited for like any other.
            structured_output_model: What the agent's structured output is to be an instance of. Without it, it is an
                object of `RecordedOutput`, which has the same fields: ``.price``, ``.model_dump()``.

        Raises:
            pydantic.ValidationError: The structured output is none of this model.
            RunFailedError: It failed. Its message says why; `restart` lets it go on, `abandon` gives it up.
            RunCancelledError: It was cancelled, or abandoned.
            RunTimeoutError: It is not over yet.
            RunNotFoundError: Nothing was submitted under this id.
            StoreError: The store cannot be read.
        """
        result = io_thread.run_sync(self._result(timeout))
        from strands_dapr_session.workflow import outcome  # noqa: PLC0415 - who only submits need not import agents

        return outcome.unpack(result, structured_output_model)

    async def _result(self, timeout: float | None) -> dict[str, Any]:
        await self._state()
        deadline = None if timeout is None else time.monotonic() + timeout
        ask_dapr_at = time.monotonic() + _ASK_DAPR_EVERY
        pause = _FIRST_POLL
        while True:
            state = await self._runs.state(self.invocation_id)
            if state.is_over:
                return await self._outcome(state)
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise RunTimeoutError(
                    f"run {self.invocation_id!r} is {state.phase} after {timeout:g} s. It goes on: ask for its "
                    "result again."
                )
            if now >= ask_dapr_at:
                ask_dapr_at = now + _ASK_DAPR_EVERY
                await self._check_workflow(state)
            await sleep(pause if deadline is None else max(0.0, min(pause, deadline - now)))
            pause = min(pause * 1.5, _LONGEST_POLL)

    async def _outcome(self, state: RunState) -> dict[str, Any]:
        if state.phase == "completed":
            result = await self._runs.result(self.invocation_id)
            if result is not None:
                return result
        if state.phase == "cancelled":
            raise RunCancelledError(f"run {self.invocation_id!r} was cancelled, or given up after it had failed")
        kind, message = state.error
        raise RunFailedError(
            f"run {self.invocation_id!r} failed after {len(state.attempts)} attempts: {kind}: {message}. "
            "What it recorded is kept: restart() lets it go on from there, abandon() gives it up.",
            kind,
            state.attempts,
        )

    async def _check_workflow(self, state: RunState) -> None:
        """Notice a workflow that somebody ended by other means."""
        status = await self._engine.status(RunKeys(self.invocation_id).workflow(state.generation))
        if status in {"TERMINATED", "FAILED"}:
            now = await self._runs.state(self.invocation_id)
            if not now.is_over and now.generation == state.generation:
                raise RunFailedError(
                    f"Dapr says that the workflow of run {self.invocation_id!r} is {status}: nobody goes on with it. "
                    "restart() begins another one, which goes on from what is recorded.",
                    status,
                    now.attempts,
                )

    def stream(self, from_offset: int = 0) -> Iterator[RunEvent]:
        """Follow it: its recorded steps in order, each once, until it is over. Any number of processes may.

        Args:
            from_offset: The offset of the last event that is known; goes on after it, without gap or repetition.

        Yields:
            What was recorded: messages, tool results, beginnings of attempts, the end.

        Raises:
            RunNotFoundError: Nothing was submitted under this id.
            StoreError: The store cannot be read.
        """
        follower = Follower(self._store, self._runs, self.invocation_id, from_offset)
        io_thread.run_sync(self._state())
        while True:
            events = io_thread.run_sync(follower.further())
            if events is None:
                return
            yield from events

    # -- answers -------------------------------------------------------------------------------------------------

    def respond(self, responses: Sequence[Mapping[str, Any]]) -> None:
        """Answer what the run asks; it goes on at once. Giving the same answers again changes nothing.

        Args:
            responses: As Strands takes them: ``[{"interruptResponse": {"interruptId": ..., "response": ...}}]``. The
                ids are those of `RunStatus.interrupts`.

        Raises:
            RunNotWaitingError: It waits for no answers.
            ConfigurationError: These are no answers, or to other interrupts than the run's.
            InvocationConflictError: Somebody else gave other answers at the same time.
            UnencodableValueError: An answer would not survive storage.
            RunNotFoundError: Nothing was submitted under this id.
            WorkflowUnavailableError: The answers are kept, but the sidecar does not answer: give them again.
        """
        io_thread.run_sync(self._respond([dict(each) for each in responses]))

    async def _respond(self, responses: list[dict[str, Any]]) -> None:
        state = await self._state()
        given = _answered(responses)
        if state.phase != "waiting":
            await self._check_repeated(state, responses)
        else:
            asked = [each["id"] for each in state.interrupts]
            unknown = [each for each in given if each not in asked]
            if unknown:
                raise ConfigurationError(f"run {self.invocation_id!r} does not ask {unknown[0]!r}. It asks: {asked}")
            number = state.answers + 1
            key = RunKeys(self.invocation_id).answers(number)
            if await documents.create(self._store, key, responses, path="responses") != responses:
                raise InvocationConflictError(
                    f"run {self.invocation_id!r} was answered differently by somebody else at the same time"
                )
            state, _ = await self._runs.change(self.invocation_id, lambda now: now.answered(number))
        await self._wake(state)

    async def _wake(self, state: RunState) -> None:
        """Let somebody look at the run at once."""
        await self._lay_out(self._engine.wake(RunKeys(self.invocation_id).workflow(state.generation)))

    async def _lay_out(self, telling: Coroutine[Any, Any, bool]) -> None:
        agent = (await self._runs.request(self.invocation_id)).agent
        await Offers(self._store).lay_out_and_tell(agent, self.invocation_id, telling)

    async def _check_repeated(self, state: RunState, responses: list[dict[str, Any]]) -> None:
        """Accept answers that were given before.

        Raises:
            RunNotWaitingError: They were not.
        """
        before = None
        if state.answers and not state.is_over:
            before = await documents.read(self._store, RunKeys(self.invocation_id).answers(state.answers))
        if before != responses:
            raise RunNotWaitingError(
                f"run {self.invocation_id!r} is {state.phase} and waits for no answers. See status().interrupts."
            )

    # -- ending it, and beginning again --------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the run to end. A worker that has it lets its agent stop at the next safe point, within seconds.

        Raises:
            RunFinishedError: It is over.
            RunNotFoundError: Nothing was submitted under this id.
            WorkflowUnavailableError: The wish is recorded, but the sidecar does not answer: ask again.
        """
        io_thread.run_sync(self._cancel())

    async def _cancel(self) -> None:
        await self._state()
        state, _ = await self._runs.change(self.invocation_id, lambda now: now.to_cancel())
        if state.is_over and state.phase != "cancelled":
            raise RunFinishedError(f"run {self.invocation_id!r} has {state.phase}: it cannot be cancelled any more")
        if not state.is_over:
            await self._wake(state)

    def restart(self) -> None:
        """Let a run that failed, or whose workflow was ended by other means, go on from what is recorded.

        Raises:
            RunFinishedError: It has not failed.
            RunNotFoundError: Nothing was submitted under this id.
            WorkflowUnavailableError: The sidecar does not answer: do it again.
        """
        io_thread.run_sync(self._restart())

    async def _restart(self) -> None:
        state = await self._state()
        generation = state.generation
        workflow = await self._engine.status(RunKeys(self.invocation_id).workflow(generation))
        if state.phase == "failed" or (workflow in {"TERMINATED", "FAILED"} and not state.is_over):
            state, _ = await self._runs.change(self.invocation_id, lambda now: now.again(generation))
        elif state.is_over or workflow is not None:
            raise RunFinishedError(f"run {self.invocation_id!r} is {state.phase}: only runs that failed are restarted")
        workflow = RunKeys(self.invocation_id).workflow(state.generation)
        await self._lay_out(self._engine.schedule(workflow, self.invocation_id))

    def abandon(self) -> None:
        """Give up a run that failed: it is not to go on. A worker frees its session for another, within seconds.

        That is what a graph or swarm needs before it takes another task; an agent gives up by itself what failed. What
        the run did stays. From here on it counts as cancelled. A second time changes nothing.

        Raises:
            RunFinishedError: It has not failed: what is not over is ended with `cancel`.
            RunNotFoundError: Nothing was submitted under this id.
            WorkflowUnavailableError: The wish is recorded, but the sidecar does not answer: ask again.
        """
        io_thread.run_sync(self._abandon())

    async def _abandon(self) -> None:
        await self._state()
        state, _ = await self._runs.change(self.invocation_id, lambda now: now.given_up())
        if state.phase == "cancelled":
            return
        if state.is_over or not state.cancel:
            what_to_do = "nothing of it is unfinished" if state.is_over else "end it with cancel()"
            raise RunFinishedError(
                f"run {self.invocation_id!r} is {state.phase}: only runs that failed are abandoned; {what_to_do}"
            )
        workflow = RunKeys(self.invocation_id).workflow(state.generation)
        await self._lay_out(self._engine.schedule(workflow, self.invocation_id))

    def purge(self) -> None:
        """Remove what is kept of a run that is over, for good. Its session stays. Safe to repeat.

        Its id must not be used again.

        Raises:
            RunFinishedError: It is not over.
            WorkflowUnavailableError: The sidecar does not answer: do it again.
            StoreError: The store failed half-way: do it again.
        """
        io_thread.run_sync(self._purge())

    async def _purge(self) -> None:
        await self._store.open()
        keys = RunKeys(self.invocation_id)
        state = await self._runs.state(self.invocation_id)
        # Without a request, an earlier try has got so far.
        if not state.is_over and await self._store.get(keys.request) is not None:
            raise RunFinishedError(f"run {self.invocation_id!r} is {state.phase}: only what is over can be purged")
        for generation in range(state.generation + 1):
            await self._engine.purge(keys.workflow(generation))
        for key in (keys.request, keys.result, *map(keys.answers, range(1, state.answers + 1))):
            await self._store.delete_many(await documents.all_keys(self._store, key))
        await self._store.delete_many([keys.state])


def _answered(responses: list[dict[str, Any]]) -> list[str]:
    """List the interrupts that are answered.

    Raises:
        ConfigurationError: These are no answers.
    """
    try:
        given = [str(each["interruptResponse"]["interruptId"]) for each in responses]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            'answers must be a list of {"interruptResponse": {"interruptId": ..., "response": ...}}'
        ) from error
    if not given:
        raise ConfigurationError("there must be at least one answer")
    return given
