"""Giving an agent back what is recorded of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DamagedDataError, DurableSessionError
from strands_dapr_session.hooks.checks import (
    check_documents,
    check_fingerprint,
    check_messages,
    check_progress,
    check_tool_results,
    read_prompt,
    read_status,
)
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.hooks.invocation import INTERRUPTED, tool_use_ids
from strands_dapr_session.records.codec import unpack_value, unpack_values

if TYPE_CHECKING:
    from strands import Agent

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.records.view import InvocationView, ScopeView, View

logger = logging.getLogger(__name__)


def restore_agent(recording: Recording, agent: Agent, view: View, *, may_wait: bool = True) -> None:
    """Make an agent what the journal says it was, and note what is owed to it.

    Args:
        recording: What is recorded of the agent.
        agent: The agent.
        view: What the journal says.
        may_wait: An agent that waited for answers waits again. Otherwise it is to ask again when it goes on.

    Raises:
        DamagedDataError: What the journal holds is not the state of an agent.
    """
    scope = view.scope(recording.scope)
    try:
        _restore(recording, agent, scope, may_wait=may_wait)
        recording.stashed.restore(agent, view, recording.name)
    except DurableSessionError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DamagedDataError(
            recording.name, f"the records of agent {agent.agent_id!r} do not describe an agent: {error!r}"
        ) from error


def refresh_agent(recording: Recording, agent: Agent, view: View, *, may_wait: bool) -> None:
    """Bring an agent up to what others recorded meanwhile, keeping messages that were only just added to it.

    Args:
        recording: What is recorded of it.
        agent: The agent.
        view: The journal.
        may_wait: See `restore_agent`.

    Raises:
        DamagedDataError: What the journal holds is not the state of an agent.
    """
    fresh = recording.unrecorded(agent)
    restore_agent(recording, agent, view, may_wait=may_wait)
    # Where nothing was recorded the agent still has all of its messages.
    kept = {id(message) for message in agent.messages}
    agent.messages.extend(message for message in fresh if id(message) not in kept)


def _restore(recording: Recording, agent: Agent, scope: ScopeView, *, may_wait: bool) -> None:
    invocation = scope.invocation
    unfinished = invocation is not None and not invocation.finished
    status = read_status(scope, key=recording.name)
    if invocation is not None and unfinished:
        _check_owed(recording, scope, invocation)
    waits_for_answers = unfinished and status.get("state") == INTERRUPTED and may_wait
    if recording.stale and (invocation is not None or recording.seed_documents):
        strands_compat.forget(agent)
        if invocation is None:
            strands_compat.load(agent, recording.seed_documents)
    _restore_documents(recording, agent, scope, unfinished=unfinished, waits_for_answers=waits_for_answers)
    if may_wait:
        strands_compat.take_answers_again(agent, status.get("answers", ()))
    _restore_messages(recording, agent, scope)
    recording.documents.reset(agent, scope.documents)
    recording.results = dict(scope.results)
    recording.owed = unfinished and not waits_for_answers
    recording.status = status
    recording.in_doubt = recording.doubts(scope)
    recording.tries = dict(scope.tries)
    recording.placeholder = recording.held = None
    recording.usage_is_live = False
    recording.stale = False
    recording.lost = []
    _recall_batch(recording, scope)
    if recording.owed and agent.messages and tool_use_ids(agent.messages[-1]):
        recording.held = agent.messages.pop()


def _check_owed(recording: Recording, scope: ScopeView, invocation: InvocationView) -> None:
    """See, before the agent is touched, that what only a run reads that goes on can be read."""
    key = recording.name
    if PROGRESS in scope.documents:
        check_progress(unpack_value(scope.documents[PROGRESS], key=key), key=key)
    check_fingerprint(unpack_value(invocation.fingerprint, key=key), key=key)
    check_tool_results(unpack_values(scope.results.values(), key=key), key=key)
    read_prompt(invocation.prompt, key=key)


def _restore_messages(recording: Recording, agent: Agent, scope: ScopeView) -> None:
    invocation = scope.invocation
    bodies = list(scope.messages)
    messages: list[Any] = unpack_values(bodies, key=recording.name)
    check_messages(messages, key=recording.name)
    if agent.messages and not recording.transcript and messages:
        logger.warning(
            "agent_id=<%s>, messages=<%d> | messages given to the agent are replaced by those of its session",
            agent.agent_id,
            len(agent.messages),
        )
    if recording.lost and not messages:
        agent.messages = list(recording.seed)
    elif messages or recording.transcript:
        # A model that keeps the conversation itself must not be sent it again, but for the call that is under way.
        is_kept = getattr(agent.model, "stateful", False) is True and (invocation is None or invocation.finished)
        agent.messages = [] if is_kept else messages
    recording.transcript.reset(messages, bodies)


def _restore_documents(
    recording: Recording, agent: Agent, scope: ScopeView, *, unfinished: bool, waits_for_answers: bool
) -> None:
    documents: dict[str, Any] = {
        name: unpack_value(packed, key=recording.name)
        for name, packed in scope.documents.items()
        if name in {"state", "conversation_manager_state", "interrupt_state", "model_state"}
    }
    check_documents(documents, key=recording.name)
    interrupts = documents.get("interrupt_state")
    if interrupts is not None and waits_for_answers and strands_compat.has_answers(agent):
        # They came with the call that is about to begin. Meanwhile it may be something else that it waits for.
        documents["interrupt_state"] = strands_compat.with_answers(interrupts, agent)
    elif interrupts is not None and unfinished and not waits_for_answers:
        # The run went on with the answers it had got: keep them, but do not demand them again from the next caller.
        documents["interrupt_state"] = strands_compat.without_batch(interrupts)
    manager_state = documents.pop("conversation_manager_state", None)
    if documents:
        strands_compat.load(agent, documents)
    if manager_state is None:
        return
    try:
        strands_compat.load(agent, {"conversation_manager_state": manager_state})
    except ValueError as error:
        logger.warning(
            "agent_id=<%s>, error=<%s> | another conversation manager than the recorded one begins anew",
            agent.agent_id,
            error,
        )


def _recall_batch(recording: Recording, scope: ScopeView) -> None:
    """Add results that only the interrupt state holds: of calls that ended without running, so without an event."""
    packed = scope.documents.get("interrupt_state")
    if packed is None or not recording.owed:
        return
    held = strands_compat.batch_of(unpack_value(packed, key=recording.name))
    for tool_use_id, result in recording.pack_results(held).items():
        recording.results.setdefault(tool_use_id, result)
