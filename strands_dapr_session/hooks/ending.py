"""How an invocation ends: what is written down last, and noticing that it is over when no event tells."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DurableSessionError, UnencodableValueError
from strands_dapr_session.hooks.drift import fingerprint
from strands_dapr_session.hooks.invocation import (
    FAILED,
    INTERRUPTED,
    PARKED,
    RUNNING,
    ToContinue,
    as_messages,
    pack_prompt,
)
from strands_dapr_session.hooks.results import pack_result
from strands_dapr_session.records.records import InvocationFinished, InvocationStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands import Agent
    from strands.agent import AgentResult

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.records.records import Record


def conclude(
    recording: Recording, agent: Agent, result: AgentResult | None, resume: Any
) -> tuple[list[Record] | None, DurableSessionError | None]:
    """End the invocation that runs, as far as this process is concerned.

    Args:
        recording: What is recorded of the agent; nothing runs in it afterwards.
        agent: The agent.
        result: What the caller gets; None if it gets an exception.
        resume: What the same call goes on with, if it does.

    Returns:
        The records to write, None if the journal is lost; and why the invocation could not be recorded to its end.
    """
    try:
        if recording.failure is not None:
            raise recording.failure
        return _last_records(recording, agent, result, resume), None
    except DurableSessionError as error:
        recording.stale = recording.owed = True
        recording.lost = list(agent.messages)
        strands_compat.stop_waiting(agent, recording.running.answers)
        if not isinstance(error, UnencodableValueError) or not recording.journal.owned:
            return None, error
        # The store is well, only a value could not be recorded: let others go on from the last step that was.
        return [recording.note_status(FAILED, error=str(error))], error
    finally:
        recording.invocation = None


def is_being_cancelled() -> bool:
    """Tell whether what ends was cancelled, in a hook that Strands awaits while the cancellation passes.

    Whoever cancels waits for the cancellation to come back. An error in its place looks to Strands as if a tool had
    failed: it goes on with that, and the one who cancels, its executor of parallel tools, waits for ever.
    """
    return isinstance(sys.exc_info()[1], asyncio.CancelledError)


def _last_records(recording: Recording, agent: Agent, result: AgentResult | None, resume: Any) -> list[Record]:
    invocation = recording.running
    if result is None:
        recording.owed = True
        strands_compat.stop_waiting(agent, invocation.answers)
        return [*recording.changes(agent, thorough=True), _failure(recording)]
    if result.stop_reason == "interrupt" or _still_waits(agent, result):
        if invocation.reinjected:
            # Strands puts recorded results before new ones, also those that an uninterrupted run does not.
            strands_compat.sort_batch(agent, invocation.in_order(recording.batch_as_answered))
        completed = strands_compat.batch_of(strands_compat.interrupt_state(agent))
        invocation.settled = tuple(each["toolUseId"] for each in completed)
        invocation.asking = [
            id_ for id_ in recording.batch if id_ not in recording.results and id_ not in recording.in_doubt
        ]
        invocation.stop = None  # Strands has forgotten it, too
        invocation.progress.end_call(is_open=bool(recording.batch))
        return [*recording.changes(agent, thorough=True), recording.note_status(INTERRUPTED)]
    prompt = None if resume is invocation.next_prompt else as_messages(resume)
    if prompt is not None:
        invocation.go_on_with(prompt)
        recording.owed = True
        recording.to_continue = ToContinue(invocation, strands_compat.call_of(agent))
        changes = recording.changes(agent, thorough=True)
        return [*changes, beginning(recording, agent), recording.note_status(RUNNING)]
    records = recording.changes(agent, thorough=True)
    outcome = "cancelled" if result.stop_reason == "cancelled" else "completed"
    recording.counted.append(invocation.id)
    return [*records, InvocationFinished(recording.scope, invocation.id, outcome, pack_result(result, invocation))]


def _still_waits(agent: Agent, result: AgentResult) -> bool:
    """Tell whether a call was cancelled before the answers that came with it were used: they are waited for again."""
    return result.stop_reason == "cancelled" and bool(strands_compat.interrupt_state(agent)["activated"])


def _failure(recording: Recording) -> Record:
    if not recording.running.overdue:
        return recording.note_status(FAILED)
    return recording.note_status(PARKED, error="it took longer than it may")


def beginning(recording: Recording, agent: Agent) -> InvocationStarted:
    """Say what the invocation that runs is to do: from the beginning, or from here on."""
    invocation = recording.running
    prompt = pack_prompt(invocation.asked, invocation.prompt)
    return InvocationStarted(
        recording.scope, invocation.id, invocation.key, prompt, fingerprint(agent), invocation.attempt
    )


class EndOfCall(strands_compat.WatchedTracer):
    """A tracer that tells when a call of an agent is over, whatever became of it.

    Where a hook raises, or a conversation manager, Strands goes past the hooks that come later, ours among them. The
    end of the agent's span it always reports; `Agent.tracer` is public.
    """

    def __init__(self, tracer: Any, tell: Callable[[AgentResult | None], None]) -> None:
        super().__init__(tracer)
        self._tell = tell

    def end_agent_span(self, *args: Any, **kwargs: Any) -> Any:
        """Tell, and end the span."""
        self._tell(kwargs.get("response"))
        return self._tracer.end_agent_span(*args, **kwargs)

    def end_span_with_cancellation(self, *args: Any, **kwargs: Any) -> Any:
        """Tell, and end the span."""
        self._tell(None)
        return self._tracer.end_span_with_cancellation(*args, **kwargs)
