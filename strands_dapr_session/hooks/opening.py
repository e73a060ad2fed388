"""Deciding what a call of an agent means, given what is recorded: something new, or something owed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from strands_dapr_session import strands_compat, telemetry
from strands_dapr_session.errors import InvocationConflictError
from strands_dapr_session.hooks import owed
from strands_dapr_session.hooks.checks import read_prompt, read_result
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.hooks.drift import check_drift
from strands_dapr_session.hooks.invocation import (
    FAILED,
    INTERRUPTED,
    PARKED,
    Invocation,
    Progress,
    answered_so_far,
    digest_of,
    plain_prompt,
    same_prompt,
    tool_use_ids,
    unpack_prompt,
)
from strands_dapr_session.hooks.parking import count_tries
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.view import FinishedInvocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands import Agent
    from strands.hooks import BeforeInvocationEvent
    from strands.types.content import ContentBlock, Message, Messages

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.records.view import InvocationView

logger = logging.getLogger(__name__)


def open_invocation(
    recording: Recording,
    event: BeforeInvocationEvent,
    key: str | None,
    last: InvocationView | None,
    finished: Mapping[str, FinishedInvocation],
) -> Invocation | None:
    """Decide what the call is.

    * The id of a finished invocation: its recorded result is handed out (`recording.replay`), nothing runs.
    * Nothing owed: a new invocation.
    * Answers to interrupts: the invocation that waits for them goes on.
    * The same prompt as the owed one, or none: the owed one goes on.
    * Another prompt, after a crash: the owed one goes on, and the new prompt runs in the same call when it is done.
    * Another prompt, after the caller was told of a failure: it is a new one. What the failed one recorded stays.

    Where an orchestrator or a tool call runs the agent, the prompt decides nothing: see `_open_visit`.

    Args:
        recording: What is recorded of the agent.
        event: The event of the call.
        key: The id that the caller gave, if any.
        last: The agent's last invocation as recorded.
        finished: Finished invocations by the ids that callers gave.

    Returns:
        The invocation; None if nothing is to run.

    Raises:
        InvocationConflictError: The id was used before with another prompt.
        DriftError: The agent is not the one that began, and drift is refused.
        ParkedError: The owed invocation was tried as often as it may be.
    """
    if recording.visit is not None:
        if recording.hands_out and last is not None and last.finished:
            recording.replay = _last_result(recording, last)
            return None
        return _continued(recording, event, last) or _open_visit(recording, event, last)
    found = _continued(recording, event, last) or _open_call(recording, event, key, last, finished)
    owed.found()
    return found


def _open_call(
    recording: Recording,
    event: BeforeInvocationEvent,
    key: str | None,
    last: InvocationView | None,
    finished: Mapping[str, FinishedInvocation],
) -> Invocation | None:
    agent, prompt = event.agent, list(event.messages or [])
    if key is not None and key in finished:
        _require_same(_asked_for(recording, finished[key]), recording.given, key, "has finished")
        recording.replay = finished[key]
        return None
    recording.replay = None
    if last is not None and last.finished and recording.is_answer:
        recording.replay = _last_result(recording, last)
        return None
    if last is None or last.finished:
        owed.refuse_new(recording.name)
        invocation = _new(recording, key, prompt)
        if recording.is_answer:  # to what somebody else asked: the agent was given a snapshot
            invocation.answers = _answers(recording, agent)
        return invocation
    if key is not None and last.key == key:
        _require_same(digest_of(unpack_prompt(last.prompt)[0]), recording.given, key, "is unfinished")
    if recording.status.get("state") == INTERRUPTED and not recording.owed:
        if strands_compat.interrupt_state(agent)["activated"]:
            return _go_on(recording, agent, last, answered=True)
        return _new(recording, key, prompt)  # somebody cleared the interrupts: whoever waited for them gave up
    return _open_owed(recording, agent, key, prompt, last)


def _last_result(recording: Recording, last: InvocationView) -> FinishedInvocation:
    """Get what the last invocation came to, for a caller that did not hear of it."""
    recorded = read_result(last.result, key=recording.name)
    result = pack_value({**recorded, "message": recording.transcript.last}, path="result")
    return FinishedInvocation(recording.scope, last.id, last.prompt, last.outcome, result)


def _new(recording: Recording, key: str | None, prompt: Messages) -> Invocation:
    return Invocation(key, prompt, plain_prompt(recording.given))


def _continued(recording: Recording, event: BeforeInvocationEvent, last: InvocationView | None) -> Invocation | None:
    """Find the invocation whose call goes on with another prompt, if it does."""
    waiting, recording.to_continue = recording.to_continue, None
    if waiting is None:
        return None
    # What runs in a visit has had the journal all the time, and the view was read before.
    if recording.visit is None and (recording.moved or last is None or last.id != waiting.invocation.id):
        # Others may have gone on with it: what is recorded tells from where.
        recording.is_answer = last is not None and last.id == waiting.invocation.id
        return None
    waiting.invocation.prompt = list(event.messages or [])
    waiting.invocation.resumed = False
    return waiting.invocation


def _open_owed(
    recording: Recording, agent: Agent, key: str | None, prompt: Messages, last: InvocationView
) -> Invocation:
    """Decide between the owed invocation and a new one."""
    if _is_taken_back(recording, agent):
        owed.refuse_new(recording.name)
        agent.messages[:] = [message for message in agent.messages if message is not recording.transcript.last]
        return _new(recording, key, prompt)
    asked, _ = unpack_prompt(last.prompt)
    another_id = key is not None and last.key is not None and key != last.key
    says_same = recording.has_adopted(agent) or same_prompt(asked, recording.given)
    same = not recording.given or (says_same and not another_id)
    has_answer = _has_answer(recording, last)
    is_stuck = _is_stuck(recording, agent) or (has_answer and "cut_off" in recording.status)
    if is_stuck or (not same and recording.status.get("state") in {FAILED, PARKED}):
        owed.refuse_new(recording.name)
        close_batch(recording, agent)
        return _new(recording, key, prompt)
    invocation = _go_on(recording, agent, last)
    if not recording.transcript:
        invocation.progress.messages = 0  # Strands clears what a model keeps itself, also after a failure
    if has_answer and agent.messages[-1] is recording.transcript.last:
        # Its caller never got the answer: something failed on the way. The model is asked for it once more.
        agent.messages.pop()
        invocation.progress.messages -= 1
    if not same:
        invocation.next_prompt = list(recording.given)
    return invocation


def _open_visit(recording: Recording, event: BeforeInvocationEvent, last: InvocationView | None) -> Invocation:
    """Go on with the owed invocation if it is of the same visit.

    An orchestrator builds the prompt anew, perhaps with its parts in another order. Answers to interrupts have come
    with the agent's state.
    """
    agent, prompt = event.agent, list(event.messages or [])
    is_owed = last is not None and not last.finished and recording.status.get("visit") == recording.visit
    if is_owed and last is not None and strands_compat.interrupt_state(agent)["activated"]:
        return _go_on(recording, agent, last, answered=True)
    if not is_owed or last is None or _is_stuck(recording, agent) or _has_answer(recording, last):
        if agent.messages and tool_use_ids(agent.messages[-1]):
            close_batch(recording, agent)
        return _new(recording, None, prompt)
    return _go_on(recording, agent, last)


def _go_on(recording: Recording, agent: Agent, last: InvocationView, *, answered: bool = False) -> Invocation:
    check_drift(agent, last.fingerprint, recording.settings.drift)
    status = recording.status
    tries, place = count_tries(recording)
    progress = Progress.read(recording.documents.recorded(PROGRESS))
    attempt = int(status.get("attempt", last.attempt)) + 1
    asked, prompt = unpack_prompt(last.prompt)
    logger.info(
        "agent_id=<%s>, invocation_id=<%s>, attempt=<%d> | going on with an unfinished invocation",
        agent.agent_id,
        last.id,
        attempt,
    )
    telemetry.RESUMED.add(1, {"of": "agent", "after": "answers" if answered else "failure"})
    return Invocation(
        last.key,
        prompt,
        asked,
        last.id,
        attempt,
        tries,
        place,
        began=time.time() if answered else status.get("began") or time.time(),
        progress=progress,
        resumed=True,
        answered=answered,
        answers=_answers(recording, agent),
        settled=tuple(status.get("settled", ())),
        asking=list(status.get("asking", ())),
        stop=status.get("stop") if recording.batch else None,
    )


def _answers(recording: Recording, agent: Agent) -> list[str]:
    """List the interrupts that were answered so far."""
    interrupts = strands_compat.interrupt_state(agent)["interrupts"]
    return answered_so_far(recording.status.get("answers", ()), interrupts)


def _is_taken_back(recording: Recording, agent: Agent) -> bool:
    """Tell whether the caller has removed the end of what is recorded, or put other messages in its place.

    The message that asks for the open batch does not count: it has just been put back.
    """
    last = len(recording.transcript) - 1 - bool(recording.batch)
    return last >= 0 and recording.transcript.is_missing(last, agent.messages)


def _is_stuck(recording: Recording, agent: Agent) -> bool:
    """Tell whether the caller added messages of its own behind a batch of tools that still waits for results."""
    return bool(recording.batch and recording.unrecorded(agent))


def _has_answer(recording: Recording, last: InvocationView) -> bool:
    """Tell whether the owed invocation has recorded a last answer."""
    _, prompt = unpack_prompt(last.prompt)
    message = recording.transcript.last
    has_begun = Progress.read(recording.documents.recorded(PROGRESS)).messages > len(prompt)
    asks = bool(recording.batch) and "over" not in recording.status
    return has_begun and message is not None and message["role"] == "assistant" and not asks


def _asked_for(recording: Recording, finished: FinishedInvocation) -> bytes | None:
    """Name what a finished invocation was asked for; None if it was recorded before results named it.

    Its prompt is kept only if it is short.
    """
    if finished.prompt:
        return digest_of(read_prompt(finished.prompt, key=recording.name)[0])
    named: bytes | None = read_result(finished.result, key=recording.name).get("asked")
    return named


def _require_same(asked: bytes | None, given: Messages, key: str, how: str) -> None:
    if given and asked not in {None, digest_of(plain_prompt(given))}:
        raise InvocationConflictError(
            f"invocation id {key!r} {how} with another prompt. Use an id of its own for each prompt; to hand out the "
            "recorded result or go on, give the same prompt or none."
        )


def close_batch(recording: Recording, agent: Agent) -> None:
    """Answer a batch of tools that will not be finished: with what is recorded, and with "interrupted" for the rest."""
    if not recording.batch:
        return
    answers: list[ContentBlock] = []
    for tool_use_id in recording.batch:
        recorded = recording.results.get(tool_use_id)
        result: Any = (
            unpack_value(recorded)
            if recorded is not None
            else {
                "toolUseId": tool_use_id,
                "status": "error",
                "content": [{"text": strands_compat.INTERRUPTED_TEXT}],
            }
        )
        answers.append({"toolResult": result})
    message: Message = {"role": "user", "content": answers}
    agent.messages.insert(len(recording.transcript), message)
