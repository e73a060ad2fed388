"""A tool starts on acknowledged ground, and its result is written down as the model will see it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent, HookProvider

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DurableSessionError
from strands_dapr_session.hooks.in_doubt import INTERRUPT_NAME, RERUN, note_offered, policy_of_call
from strands_dapr_session.hooks.invocation import RUNNING
from strands_dapr_session.idempotency import clear_key, set_key
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import ToolFinished, ToolStarted
from strands_dapr_session.strands_compat import FIRST, LAST

if TYPE_CHECKING:
    from strands import Agent
    from strands.hooks import HookRegistry

    from strands_dapr_session.hooks.invocation import Invocation
    from strands_dapr_session.hooks.recording import Recording, Recordings
    from strands_dapr_session.records.records import DocumentSet, Noted

_runs_for: Final[ContextVar[Invocation | None]] = ContextVar("strands_dapr_session_runs_for", default=None)
"""The invocation for which the tool of this context was started. One that was given up on may end much later."""


class ToolHooks(HookProvider):
    """Records the tool calls of an agent; see `CheckpointHooks`."""

    def __init__(self, recordings: Recordings) -> None:
        """Share what is known of the agents."""
        self._recordings = recordings

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent."""
        registry.add_callback(BeforeToolCallEvent, self._before_hooks, order=FIRST)
        registry.add_callback(BeforeToolCallEvent, self._before, order=LAST)
        registry.add_callback(AfterToolCallEvent, self._after, order=LAST)

    def _before_hooks(self, event: BeforeToolCallEvent) -> None:
        """Note what hooks may change, so that it can be told what they did."""
        note_offered(event)
        if self._recordings.find(event.agent) is not None:
            strands_compat.forget_open_questions(event.agent, str(event.tool_use["toolUseId"]))

    async def _before(self, event: BeforeToolCallEvent) -> None:
        """Let a tool start only on acknowledged ground."""
        recording = self._recordings.find(event.agent)
        tool_use_id = str(event.tool_use["toolUseId"])
        _runs_for.set(None)
        if recording is None or recording.invocation is None or tool_use_id not in recording.batch:
            clear_key()  # a direct call, which nobody repeats
            return
        if event.cancel_tool or strands_compat.is_asking(event.agent, tool_use_id):
            return  # it will not start; Strands lets us know of an interrupt only in this way
        invocation, name = recording.invocation, event.tool_use["name"]
        if policy_of_call(event, recording.settings) != RERUN:
            self._record_start(recording, event.agent, tool_use_id, name)
            if tool_use_id in invocation.asking:
                invocation.asking.remove(tool_use_id)
                recording.journal.append(recording.note_status(RUNNING))
        await recording.check()
        await recording.barrier()
        _runs_for.set(invocation)
        recording.admitted[tool_use_id] = id(asyncio.get_running_loop())
        # Calls that share an id are told apart by what is asked.
        asked = [repr((name, event.tool_use["input"]))] if tool_use_id in recording.ambiguous else []
        set_key(recording.name, recording.scope, invocation.id, str(invocation.progress.batches), tool_use_id, *asked)
        # Nodes of a graph that run at the same time share this dict, and tools take their agent from it: another node
        # may have put its own there while we waited. Nothing waits between here and the tool.
        event.invocation_state["agent"] = event.agent

    @staticmethod
    def _record_start(recording: Recording, agent: Agent, tool_use_id: str, name: str) -> None:
        """Mark that a tool starts. What was answered about it when it was in doubt says nothing of the next time."""
        with recording.lock:
            changed: list[DocumentSet] = []
            if strands_compat.forget_answer(agent, tool_use_id, INTERRUPT_NAME):
                changed, version = recording.documents.changed(agent)
                recording.documents.take(changed, version)
            recording.journal.append(ToolStarted(recording.scope, tool_use_id, name), *changed)

    async def _after(self, event: AfterToolCallEvent) -> None:
        """Record the result that the model will see. Never raises: Strands would take that for the tool's error."""
        clear_key()
        recording = self._recordings.find(event.agent)
        tool_use_id = str(event.tool_use["toolUseId"])
        if strands_compat.will_retry(event):
            return
        if recording is None or recording.invocation is None or tool_use_id not in recording.batch:
            return
        if _is_late(recording) or recording.admitted.get(tool_use_id) not in {None, id(asyncio.get_running_loop())}:
            return  # the latter is a background task: what the model got for this call is an acknowledgement
        if strands_compat.is_structured_output(event.selected_tool) and event.result["status"] == "success":
            # What it made of the input is only in Strands' memory. It does nothing else, so it may well run again.
            recording.structured.add(tool_use_id)
            return
        if tool_use_id in recording.ambiguous or event.result.get("toolUseId") != tool_use_id:
            # Strands would not know it for the result of this call: it is only a part of its message. So the tool runs
            # again in another process, and asks to stop again.
            _note_stop(recording, event)
            return
        try:
            with recording.lock:
                result = pack_value(event.result, path="toolResult")
                state, version = recording.documents.changed(event.agent)
                nested = recording.nested.pop(tool_use_id, [])
                beside = recording.beside()
                edits = recording.edits(event.agent)
                finished = ToolFinished(recording.scope, tool_use_id, result)
                stop = _note_stop(recording, event)
                recording.journal.append(*nested, *edits, finished, *stop, *state, *beside)
                recording.documents.take(state, version)
        except DurableSessionError as error:
            recording.fail(error)
            return
        recording.results[tool_use_id] = result
        recording.tries.pop(tool_use_id, None)
        recording.in_doubt.discard(tool_use_id)


def _note_stop(recording: Recording, event: AfterToolCallEvent) -> list[Noted]:
    """Write down that a tool asked the agent to stop, if it just did."""
    stop = strands_compat.will_stop(event.agent, event.invocation_state)
    if stop == recording.running.stop:
        return []
    recording.running.stop = stop
    return [recording.note_status(RUNNING)]


def _is_late(recording: Recording) -> bool:
    """Tell whether the tool that ends here was given up on with its invocation, and is somebody else's by now."""
    started_for = _runs_for.get()
    return started_for is not None and started_for is not recording.invocation
