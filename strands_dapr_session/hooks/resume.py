"""Records become events: an agent that was killed goes on where its records end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.hooks import (
    AfterInvocationEvent,
    AgentInitializedEvent,
    BeforeInvocationEvent,
    BeforeToolCallEvent,
    HookProvider,
    MessageAddedEvent,
)
from strands.hooks.registry import HookOrder

from strands_dapr_session import strands_compat, telemetry
from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.hooks.checks import check_messages, read_result
from strands_dapr_session.hooks.in_doubt import policy_of_call, settle
from strands_dapr_session.hooks.invocation import calls_in
from strands_dapr_session.hooks.restore import restore_agent
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.strands_compat import FIRST, LAST, LATE

if TYPE_CHECKING:
    from strands.hooks import HookRegistry
    from strands.types.content import ContentBlock, Message

    from strands_dapr_session.hooks.recording import Recording, Recordings
    from strands_dapr_session.records.view import FinishedInvocation

logger = logging.getLogger(__name__)

_REPLAYED = "This invocation has finished before; its recorded result follows."
"""Text of the message that Strands makes for a call that a hook cancels; ours is replaced before anybody reads it."""


class ResumeHook(HookProvider):
    """Restores an agent when it is made, and reinjects what is recorded when an unfinished invocation goes on.

    Strands takes the recorded results of a half-finished batch as they are and runs only the tools without one. Must
    be registered after `CheckpointHooks` of the same recordings, which decides what a call means.
    """

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent."""
        registry.add_callback(AgentInitializedEvent, self._restore)
        registry.add_callback(BeforeInvocationEvent, self._reinject, order=LAST)
        if strands_compat.AFTER_TOOLS is not None:
            registry.add_callback(strands_compat.AFTER_TOOLS, self._recall, order=FIRST)
        registry.add_callback(MessageAddedEvent, self._tidy_message, order=HookOrder.SDK_FIRST)
        registry.add_callback(BeforeToolCallEvent, self._let_call_tools, order=HookOrder.SDK_FIRST)
        # Late: hooks choose which tool runs, and what it is given.
        registry.add_callback(BeforeToolCallEvent, self._settle, order=LATE)
        registry.add_callback(AfterInvocationEvent, self._end, order=LAST)

    def _restore(self, event: AgentInitializedEvent) -> None:
        self.restore(event.agent)

    def restore(self, agent: Any) -> None:
        """Give an agent back what is recorded of it. Reads only: a process that shows a session disturbs nobody.

        Raises:
            ConfigurationError: It is not an `Agent`.
            DuplicateAgentError: The session already has an agent of that id.
            DurableSessionError: The records cannot be read.
        """
        if not isinstance(agent, Agent):
            raise ConfigurationError(
                f"{type(agent).__name__} is not supported: only strands.Agent runs step by step; a bidirectional agent "
                "has no invocations that could be resumed"
            )
        recording = self._recordings.add(agent)
        view = recording.journal.load_sync()
        restore_agent(recording, agent, view)
        recording.found.renew(view)

    def _reinject(self, event: BeforeInvocationEvent) -> None:
        """Set the agent up so that its event loop goes on where the records end."""
        recording = self._recordings.find(event.agent)
        if recording is None:
            return
        if recording.replay is not None:
            event.cancel = _REPLAYED
            self._hand_out(recording, recording.replay, event.agent)
            return
        invocation = recording.invocation
        if invocation is None or not invocation.resumed or invocation.opening is not event:
            return
        invocation.opening = None
        progress = invocation.progress
        is_open = bool(recording.batch)
        if not recording.usage_is_live:
            strands_compat.add_totals(event.agent, progress.usage, progress.latency)
            earlier = event.agent.messages[-progress.messages :] if progress.messages else []
            calls = calls_in(earlier, map(unpack_value, recording.results.values()))
            strands_compat.add_steps(event.agent, progress.batches - is_open, calls)
        strands_compat.add_to_call(event.agent, progress.usage_of_call, progress.batches_of_call - is_open)
        recording.usage_is_live = True
        if invocation.answered:
            strands_compat.share_batch(event.agent)
            return
        telemetry.mark("resumed", attempt=invocation.attempt, tool_results=len(recording.results))
        if not recording.batch:
            strands_compat.reactivate_answers(event.agent)
            event.messages = invocation.prompt[invocation.progress.messages :]
            return
        order = invocation.in_order(recording.batch_as_answered)
        recorded = [recording.results[id_] for id_ in order if id_ in recording.results]
        results = [unpack_value(result, key=recording.name) for result in recorded]
        state = strands_compat.half_finished_batch(
            strands_compat.interrupt_state(event.agent), event.agent.messages[-1], results
        )
        strands_compat.load(event.agent, {"interrupt_state": state})
        invocation.reinjected = True
        telemetry.REINJECTED.add(len(results))
        if invocation.stop is not None:
            strands_compat.stop_again(event.agent, event.invocation_state, invocation.stop)
        event.messages = []

    @staticmethod
    def _hand_out(recording: Recording, finished: FinishedInvocation, agent: Agent) -> None:
        """Let the metrics say what the invocation took, and keep the rest until Strands has made the result."""
        recorded = read_result(finished.result, key=recording.name)
        check_messages([recorded.get("message")], key=recording.name)
        if finished.invocation_id not in recording.counted:
            strands_compat.add_totals(agent, recorded.get("usage", {}), recorded.get("latency", 0))
            recording.counted.append(finished.invocation_id)
        strands_compat.add_to_call(agent, recorded.get("usage_of_call", recorded.get("usage", {})))
        recording.handed_out = recorded

    def _recall(self, event: Any) -> None:
        """Let recorded results end the turn, as they do in the process in which the tools ran."""
        recording = self._recordings.find(event.agent)
        if recording is None or recording.invocation is None or not recording.invocation.reinjected:
            return
        last = recording.transcript.last
        results = {block["toolResult"].get("toolUseId"): block["toolResult"] for block in event.message["content"]}
        for block in [] if last is None else last["content"]:
            call = block.get("toolUse")
            if call is not None and call["toolUseId"] in recording.results and call["toolUseId"] in results:
                strands_compat.recall_result(event.agent, call, results[call["toolUseId"]])

    def _tidy_message(self, event: MessageAddedEvent) -> None:
        """Make messages of a resumed call what they would have been."""
        recording = self._recordings.find(event.agent)
        if recording is None:
            return
        if recording.replay is not None:
            event.message.update(unpack_value(recording.replay.result)["message"])
            recording.replayed = event.message
            return
        invocation = recording.invocation
        if invocation is not None and invocation.reinjected and event.message["role"] == "user":
            # Strands puts recorded results before new ones, also those that an uninterrupted run does not.
            _sort_results(event.message, invocation.in_order(recording.batch_as_answered))
            # Where the agent is cancelled, no tool has run, and Strands keeps the batch.
            self._stop_waiting(event.agent)
            invocation.reinjected = False

    def _let_call_tools(self, event: BeforeToolCallEvent) -> None:
        """Let tools call others directly, now that the event loop has taken the batch: an interrupted agent may not."""
        recording = self._recordings.find(event.agent)
        if recording is not None and recording.invocation is not None and recording.invocation.reinjected:
            self._stop_waiting(event.agent)

    @staticmethod
    def _stop_waiting(agent: Agent) -> None:
        """End the waiting that made Strands take the recorded results."""
        state = strands_compat.interrupt_state(agent)
        if state["activated"]:
            strands_compat.load(agent, {"interrupt_state": strands_compat.without_batch(state)})

    async def _settle(self, event: BeforeToolCallEvent) -> None:
        """Decide about a call that may have run already, unless a hook has cancelled it."""
        recording = self._recordings.find(event.agent)
        tool_use_id = str(event.tool_use["toolUseId"])
        if recording is None or recording.invocation is None or tool_use_id not in recording.in_doubt:
            return
        if event.cancel_tool:
            return
        policy = policy_of_call(event, recording.settings)
        if await settle(event, policy) and tool_use_id not in recording.ambiguous:
            recording.in_doubt.discard(tool_use_id)

    def _end(self, event: AfterInvocationEvent) -> None:
        recording = self._recordings.find(event.agent)
        if recording is None:
            return
        if recording.replay is not None:
            self._end_replay(recording, event)
            return
        invocation = recording.invocation
        if invocation is None or invocation.next_prompt is None or event.result is None:
            return
        if len(invocation.calls) > 1 or strands_compat.next_input(event) is not None:
            return
        if event.result.stop_reason == "interrupt":
            logger.warning(
                "agent_id=<%s> | the unfinished invocation waits for answers; the new prompt was not run",
                event.agent.agent_id,
            )
            return
        event.resume = invocation.next_prompt

    @staticmethod
    def _end_replay(recording: Recording, event: AfterInvocationEvent) -> None:
        """Take the message of the cancelled call out of the conversation again: it is there already."""
        recording.replay = None
        if event.agent.messages[-1:] and event.agent.messages[-1] is recording.replayed:
            event.agent.messages.pop()
        recording.replayed = None


def _sort_results(message: Message, order: list[str]) -> None:
    """Sort the results in a message. Some models give several calls one id: their results are in order already."""
    places: dict[str, list[int]] = {}
    for place, tool_use_id in enumerate(order):
        places.setdefault(tool_use_id, []).append(place)

    def place_of(block: ContentBlock) -> int:
        left = places.get(block.get("toolResult", {}).get("toolUseId", ""))
        return left.pop(0) if left else len(order)

    message["content"].sort(key=place_of)
