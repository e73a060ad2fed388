"""Trying again, with counts and times that outlive the process.

A failure that is to be tried again is recorded, with the pause that follows it, before the pause begins. The pause is
made before the next attempt starts, by whoever makes it: the same process, or another one that waits for what is left.
"""

from __future__ import annotations

import logging
import time
from asyncio import sleep  # by name: a user's test that replaces `asyncio.sleep` must not shorten pauses
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from strands.hooks import (
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    HookProvider,
)

from strands_dapr_session import strands_compat, telemetry
from strands_dapr_session.errors import DurableSessionError
from strands_dapr_session.hooks.in_doubt import RERUN, policy_of
from strands_dapr_session.hooks.recording import MODEL_CALL
from strands_dapr_session.hooks.retry import causes
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Tried
from strands_dapr_session.strands_compat import FIRST, LAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands import Agent
    from strands.hooks import HookRegistry

    from strands_dapr_session.hooks.recording import Recording, Recordings
    from strands_dapr_session.hooks.retry import RetryPolicy

logger = logging.getLogger(__name__)

_LOOK_UP: Final = 0.1
"""Seconds after which a pause looks whether the agent was cancelled."""


class RetryHook(HookProvider):
    """Tries failed tools and model calls again, as the policies of their session manager say.

    Must be registered after `CheckpointHooks` of the same recordings, so that it sees a tool's result before that is
    recorded.
    """

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent."""
        registry.add_callback(BeforeToolCallEvent, self._before_tool, order=FIRST)
        # Last: other hooks may make a success of it, or ask for another attempt themselves.
        registry.add_callback(AfterToolCallEvent, self._after_tool, order=LAST)
        registry.add_callback(BeforeModelCallEvent, self._before_model, order=FIRST)
        # First: Strands' own strategy leaves it to whoever has asked before it.
        registry.add_callback(AfterModelCallEvent, self._after_model, order=FIRST)

    # -- tools ---------------------------------------------------------------------------------------------------

    async def _before_tool(self, event: BeforeToolCallEvent) -> None:
        """Wait until the next attempt is due."""
        recording = self._recordings.find(event.agent)
        if recording is None or recording.invocation is None:
            return
        tried = recording.tries.get(str(event.tool_use["toolUseId"]))
        if tried is not None and not await _pause(event.agent, recording, tried):
            event.cancel_tool = "Tool execution cancelled"

    async def _after_tool(self, event: AfterToolCallEvent) -> None:
        """Ask for another attempt. Never raises: Strands would take that for the tool's error."""
        recording = self._recordings.find(event.agent)
        tool_use_id = str(event.tool_use["toolUseId"])
        if recording is None or recording.invocation is None or tool_use_id not in recording.batch:
            return
        policy = recording.settings.retries.of_tool(event.tool_use["name"])
        # Tools as they were before decorators may give results without a status.
        if policy is None or event.result.get("status") != "error" or event.retry or _was_stopped(event):
            return
        if not policy.wants(event.exception) or not self._is_known(recording, event):
            return
        event.retry = True
        if not strands_compat.will_retry(event):
            event.retry = False
            return
        error = event.exception or RuntimeError(_text(event.result))
        event.retry = await _note(recording, tool_use_id, error, policy) and strands_compat.will_retry(event)

    @staticmethod
    def _is_known(recording: Recording, event: AfterToolCallEvent) -> bool:
        """Tell whether a tool has surely ended, if it matters: nobody knows what one does that was given up on."""
        settings = recording.settings
        policy = policy_of(event.selected_tool, event.tool_use["name"], settings.in_doubt, settings.in_doubt_default)
        return policy == RERUN or not isinstance(event.exception, TimeoutError)

    # -- model calls ---------------------------------------------------------------------------------------------

    async def _before_model(self, event: BeforeModelCallEvent) -> None:
        """Wait until the next attempt is due."""
        recording = self._recordings.find(event.agent)
        if recording is not None and recording.invocation is not None and MODEL_CALL in recording.tries:
            await _pause(event.agent, recording, recording.tries[MODEL_CALL])

    async def _after_model(self, event: AfterModelCallEvent) -> None:
        """Ask for another attempt."""
        recording = self._recordings.find(event.agent)
        if recording is None or recording.invocation is None:
            return
        if event.exception is None:
            recording.tries.pop(MODEL_CALL, None)
            return
        policy = recording.settings.retries.model
        if policy is None or event.retry:
            return
        strands_compat.stand_down(event.agent)
        if policy.wants(event.exception):
            event.retry = await _note(recording, MODEL_CALL, event.exception, policy)
            if not event.retry:
                _give_up_on(event.exception)


def _give_up_on(error: BaseException) -> None:
    """Mark an error as one that a policy has tried often enough, for whoever might try again what it came from."""
    with suppress(AttributeError, TypeError):  # it takes no attributes
        error.strands_dapr_session_given_up = True  # type: ignore[attr-defined]


def was_given_up_on(error: BaseException | None) -> bool:
    """Tell whether a policy has made its last attempt at what failed with this error."""
    return any(getattr(cause, "strands_dapr_session_given_up", False) for cause in causes(error))


async def _note(recording: Recording, what: str, error: BaseException, policy: RetryPolicy) -> bool:
    """Write down that an attempt failed, and tell whether there is another one."""
    tried = failure(recording.name, recording.scope, what, recording.tries.get(what), error, policy)
    if tried.delay is None and what != MODEL_CALL:
        return False  # the last failure of a tool is its result, and recorded as that
    try:
        with recording.lock:
            recording.journal.append(tried)
        recording.tries[what] = tried
        await recording.barrier()
    except DurableSessionError as problem:
        recording.fail(problem)
        return False
    return tried.delay is not None


async def _pause(agent: Agent, recording: Recording, tried: Tried) -> bool:
    """Wait until the next attempt of an agent is due; false if the agent is cancelled meanwhile."""
    recording.pause_ends = time.monotonic() + seconds_left(tried)
    return await pause(tried, lambda: strands_compat.is_cancelled(agent))


def failure(  # noqa: PLR0913, PLR0917  (they are what a failure is)
    name: str, scope: str, what: str, before: Tried | None, error: BaseException, policy: RetryPolicy
) -> Tried:
    """Describe an attempt that failed.

    What failed for the last time is counted anew: whoever tries it again does so on purpose.

    Args:
        name: The session and root, for the log.
        scope: Whose attempt it was.
        what: What was attempted.
        before: The failure before it.
        error: What went wrong.
        policy: Whether it is tried again, and when.
    """
    attempt = 1 if before is None or before.delay is None else before.attempt + 1
    delay = policy.delay(attempt)
    logger.warning(
        "session=<%s>, what=<%s>, attempt=<%d>, delay=<%s>, error=<%r> | an attempt failed",
        name,
        what,
        attempt,
        delay,
        error,
    )
    telemetry.FAILED_ATTEMPTS.add(1, {"error.type": type(error).__name__, "is_tried_again": delay is not None})
    description = pack_value([type(error).__qualname__, str(error)], path="error")
    return Tried(scope, what, attempt, description, time.time(), delay)


def seconds_left(tried: Tried) -> float:
    """Tell how long it is until the next attempt is due.

    Clocks of machines differ: no pause is longer than was decided, whatever the time seems to be.
    """
    return 0.0 if tried.delay is None else max(0.0, min(tried.at + tried.delay - time.time(), tried.delay))


async def pause(tried: Tried, is_over: Callable[[], bool]) -> bool:
    """Wait until the next attempt is due; false if it is over before that."""
    due = time.monotonic() + seconds_left(tried)
    while (left := due - time.monotonic()) > 0:
        if is_over():
            return False
        await sleep(min(left, _LOOK_UP))
    return True


def _was_stopped(event: AfterToolCallEvent) -> bool:
    """Tell whether a hook kept the tool from running."""
    return event.cancel_message is not None


def _text(result: Any) -> str:
    return " ".join(block["text"] for block in result["content"] if "text" in block)
