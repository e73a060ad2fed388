"""Lifecycle events become records: what an agent does is written down before the next thing rests on it."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AgentInitializedEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    HookProvider,
    MessageAddedEvent,
)
from strands.hooks.registry import HookOrder

from strands_dapr_session import io_thread, strands_compat
from strands_dapr_session.errors import ConfigurationError, DurableSessionError
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.hooks.ending import EndOfCall, beginning, conclude, is_being_cancelled
from strands_dapr_session.hooks.invocation import INTERRUPTED, INVOCATION_ID, RUNNING, copy_messages, tool_use_ids
from strands_dapr_session.hooks.opening import open_invocation
from strands_dapr_session.hooks.parking import last_words
from strands_dapr_session.hooks.results import complete_result
from strands_dapr_session.hooks.tool_calls import ToolHooks
from strands_dapr_session.records.records import Derived, DocumentSet, Spliced
from strands_dapr_session.strands_compat import FIRST, LAST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strands import Agent
    from strands.agent import AgentResult
    from strands.hooks import HookRegistry
    from strands.types.content import Message

    from strands_dapr_session.hooks.invocation import Invocation
    from strands_dapr_session.hooks.recording import Recording, Recordings
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import View

logger = logging.getLogger(__name__)


class CheckpointHooks(HookProvider):
    """Records an agent's execution: owns the journal for an invocation, and commits every step of it.

    Commits start at once and travel while the model thinks; what only repeats other records may wait a moment for the
    next ones. They are awaited at two places: before a tool starts, and before the caller gets the result.
    """

    def __init__(self, recordings: Recordings) -> None:
        """Share what is known of the agents."""
        self._recordings = recordings
        self._tools = ToolHooks(recordings)

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent."""
        registry.add_callback(AgentInitializedEvent, self._watch)
        registry.add_callback(BeforeInvocationEvent, self._note_prompt, order=HookOrder.SDK_FIRST)
        # Last: a hook that refuses the prompt, by raising or cancelling, does so before the journal is owned.
        registry.add_callback(BeforeInvocationEvent, self._begin, order=LAST)
        # First: a hook that raises must not keep us from counting.
        registry.add_callback(MessageAddedEvent, self._count_message, order=FIRST)
        registry.add_callback(MessageAddedEvent, self._message_added, order=LAST)
        if strands_compat.AFTER_TOOLS is not None:
            registry.add_callback(strands_compat.AFTER_TOOLS, self._after_tools, order=LAST)
        registry.add_callback(BeforeModelCallEvent, self._before_model, order=LAST)
        registry.add_callback(AfterModelCallEvent, self._after_model, order=FIRST)
        self._tools.register_hooks(registry)
        registry.add_callback(AfterInvocationEvent, self._note_result, order=FIRST)
        registry.add_callback(AfterInvocationEvent, self._end, order=LAST)

    # -- the invocation ------------------------------------------------------------------------------------------

    def _watch(self, event: AgentInitializedEvent) -> None:
        """Be told of the end of every call."""
        agent = weakref.ref(event.agent)
        event.agent.tracer = EndOfCall(event.agent.tracer, lambda result: self._call_is_over(agent(), result))  # type: ignore[assignment]

    def _note_prompt(self, event: BeforeInvocationEvent) -> None:
        """Remember what the caller asked for, before other hooks rewrite it."""
        recording = self._recordings.find(event.agent)
        if recording is None or event.messages is None:
            return
        recording.replay = recording.replayed = recording.handed_out = None
        if recording.to_continue is not None and not recording.to_continue.is_same_call(event.agent):
            recording.to_continue = None
        if recording.to_continue is None:
            recording.given, recording.adopted = copy_messages(event.messages), list(event.messages)
        # Hooks and conversation managers edit messages where they are. A caller who says it again must say the same.
        for message, copied in zip(event.messages, copy_messages(event.messages), strict=True):
            message["content"] = copied["content"]
        # Where the agent waits for nothing, its caller has repeated answers: see `take_answers_again`.
        recording.is_answer = recording.visit is None and strands_compat.interrupt_state(event.agent)["activated"]
        # Where this process is not sure of what is recorded, the journal will tell what it waits for. And an agent that
        # was given a snapshot waits for what somebody else recorded.
        is_repeated = recording.status.get("state") != INTERRUPTED and not strands_compat.has_batch(event.agent)
        if recording.is_answer and is_repeated and not recording.stale:
            strands_compat.stop_waiting(event.agent, recording.status.get("answers", ()))

    async def _begin(self, event: BeforeInvocationEvent) -> None:
        """Own the journal, and write down what begins or goes on."""
        recording = self._recordings.find(event.agent)
        if recording is None or event.messages is None or event.cancel:
            return  # not ours; `structured_output`, which leaves nothing behind; or a call that a hook cancelled
        # What runs below an orchestrator shares its `invocation_state`; the id is not meant for it.
        key = event.invocation_state.get(INVOCATION_ID) if recording.visit is None else None
        if key is not None and (not isinstance(key, str) or not key.strip()):
            raise ConfigurationError(f"invocation_state[{INVOCATION_ID!r}] must be a non-empty string, got {key!r}")
        async with recording.gate:
            if recording.invocation is not None:
                if strands_compat.may_be_reentered(event.agent):
                    recording.invocation.calls.append(event.invocation_state)
                    return
                await self._end_lost_calls(recording, event.agent)
            recording.failure = None
            view = await recording.ownership.begin(recording, event.agent)
            owed = recording.owed
            try:
                await recording.stashed.look(event.agent)
                self._open(recording, event, key, view)
            except BaseException as error:
                recording.invocation, recording.owed = None, owed
                await recording.ownership.end(recording, event.agent, last_words(recording, error))
                raise
            replay, recording.replay = recording.replay, None
            if replay is not None:
                await recording.ownership.end(recording, event.agent, [])
                recording.replay = replay

    @staticmethod
    def _open(recording: Recording, event: BeforeInvocationEvent, key: str | None, view: View) -> None:
        agent, scope = event.agent, view.scope(recording.scope)
        recording.put_back(agent)
        if not recording.transcript:
            recording.seed = list(agent.messages)
            seed = strands_compat.snapshot(agent, "state", "conversation_manager_state", "model_state")
            recording.seed_documents = seed
        recording.results = dict(scope.results)
        recording.in_doubt = recording.doubts(scope)
        recording.tries = dict(scope.tries)
        invocation = open_invocation(recording, event, key, scope.invocation, view.finished)
        if invocation is None:
            return
        recording.invocation = invocation
        invocation.calls.append(event.invocation_state)
        invocation.opening = event
        recording.owed = False
        first: list[Record] = []
        if not invocation.resumed:
            recording.results.clear()
            recording.in_doubt.clear()
            recording.tries.clear()
            recording.usage_is_live = True
            first.append(beginning(recording, agent))
        # Thorough: the caller may have changed any message since the last call.
        with recording.lock:
            changes = recording.changes(agent, thorough=True)
            if recording.is_answer and not invocation.resumed:
                changes += recording.take_results(strands_compat.batch_of(strands_compat.interrupt_state(agent)))
            # A visit that begins says nothing that the orchestrator's records do not. An attempt, though, must count
            # whatever becomes of it.
            waits = recording.visit is not None and not invocation.resumed
            append = recording.journal.append_with_next if waits else recording.journal.append
            append(*first, *changes, recording.note_status(RUNNING))

    async def _end_lost_calls(self, recording: Recording, agent: Agent) -> None:
        """End an invocation whose call is over without having told us.

        A hook that came after ours raised, or the caller dropped its stream: before Strands 1.6x, that ends the call
        at once, and tells us some time later.
        """
        recording.lost_calls += recording.running.calls
        await self._finish(recording, agent, None, None)

    def _note_result(self, event: AfterInvocationEvent) -> None:
        """Remember the result, in case that another hook raises before it is recorded."""
        recording = self._recordings.find(event.agent)
        if recording is not None and recording.invocation is not None:
            recording.invocation.result = event.result

    async def _end(self, event: AfterInvocationEvent) -> None:
        """Write down how the invocation ended and release the journal; the caller gets its result after that."""
        recording = self._recordings.find(event.agent)
        if recording is None:
            return
        if recording.refused is not None and event.agent.messages[-1:] == [recording.refused]:
            event.agent.messages.pop()
        recording.refused = None
        if event.result is None and _remove(recording.lost_calls, event.invocation_state):
            return
        invocation = recording.invocation
        # `structured_output`, and a call that a hook cancelled, end without having begun for us.
        if invocation is None or not _remove(invocation.calls, event.invocation_state):
            return
        was_cancelled = event.result is None and is_being_cancelled()
        try:
            await self._end_call(recording, invocation, event)
        except DurableSessionError as error:
            if not was_cancelled:
                raise
            logger.warning("agent_id=<%s>, error=<%s> | the end of an invocation is lost", event.agent.agent_id, error)

    async def _end_call(self, recording: Recording, invocation: Invocation, event: AfterInvocationEvent) -> None:
        async with recording.gate:
            if recording.invocation is not invocation:
                return  # another call, which ended at the same time, has ended it
            await recording.stashed.look(event.agent)
            if invocation.calls:
                self._record(recording, event.agent, thorough=True)
                await recording.barrier()
            else:
                resume = strands_compat.next_input(event)
                await self._finish(recording, event.agent, event.result, resume)

    async def _finish(self, recording: Recording, agent: Agent, result: AgentResult | None, resume: Any) -> None:
        last, error = conclude(recording, agent, result, resume)
        if last is None:
            recording.ownership.give_up(recording)
        else:
            await recording.ownership.end(recording, agent, last)
        if error is not None:
            raise error

    def _call_is_over(self, agent: Agent | None, result: AgentResult | None) -> None:
        """End an invocation whose call is over, if the events have not done so. Never raises, never waits.

        The caller gets the exception that kept us from recording the end, so nobody waits for it to be recorded.
        """
        recording = None if agent is None else self._recordings.find(agent)
        if agent is None or recording is None:
            return
        if recording.handed_out is not None and result is not None:
            complete_result(result, recording.handed_out, agent)
            recording.handed_out = None
        if recording.invocation is None:
            return
        if strands_compat.may_be_reentered(agent) or not recording.gate.enter_if_free():
            return
        last, error = conclude(recording, agent, recording.invocation.result, None)
        if error is not None:
            logger.error("agent_id=<%s>, error=<%s> | the end of an invocation was not recorded", agent.agent_id, error)
        io_thread.start(self._end_later(recording, agent, last))

    @staticmethod
    async def _end_later(recording: Recording, agent: Agent, last: list[Record] | None) -> None:
        try:
            if last is None:
                recording.ownership.give_up(recording)
            else:
                await recording.ownership.end(recording, agent, last)
        except DurableSessionError as error:
            logger.warning("agent_id=<%s>, error=<%s> | the end of an invocation is lost", agent.agent_id, error)
        finally:
            recording.gate.leave()

    # -- its steps -----------------------------------------------------------------------------------------------

    def _count_message(self, event: MessageAddedEvent) -> None:
        recording = self._recordings.find(event.agent)
        if recording is not None and recording.invocation is not None:
            recording.invocation.progress.count(event.message)

    async def _message_added(self, event: MessageAddedEvent) -> None:
        recording = self._recordings.find(event.agent)
        if recording is None:
            return
        invocation = recording.invocation
        if invocation is None:
            await self._outside(recording, event.agent, event.message)
            return
        await recording.check()
        if _waits(recording, event.agent, event.message):
            return
        # What a conversation manager or a hook did before the model was asked goes with the answer. Without one it is
        # not recorded: they do it again, to what it was done to before, when the model is asked again.
        thorough = strands_compat.edits_history_midway(event.agent)
        await recording.stashed.look(event.agent, event.message)
        self._record(recording, event.agent, thorough=thorough, is_of_user=event.message["role"] == "user")

    async def _outside(self, recording: Recording, agent: Agent, message: Message) -> None:
        """Record a message that was added while no invocation runs, as a direct tool call does."""
        if recording.replay is not None or recording.is_placeholder(message):
            return
        if recording.owed:
            # Nothing may be recorded behind a batch that waits for results. What was added stays with the agent until
            # the next call; the text of a call that a hook cancelled goes when that call ends.
            recording.refused = message if message["role"] == "assistant" else None
            return
        if not tool_use_ids(message):  # otherwise it has run already, and its result follows at once
            await self.record_now(agent)

    def _after_tools(self, event: Any) -> None:
        """Notice that a hook ends the turn with this batch. In another process it would do so again."""
        recording = self._recordings.find(event.agent)
        if recording is not None and recording.invocation is not None:
            recording.invocation.ends = bool(event.end_turn)

    async def _before_model(self, event: BeforeModelCallEvent) -> None:
        recording = self._recordings.find(event.agent)
        if recording is None or recording.invocation is None:
            return
        if not strands_compat.may_be_reentered(event.agent):
            recording.invocation.progress.count_discarded(strands_compat.usage_of_call(event.agent))
        await recording.check()

    def _after_model(self, event: AfterModelCallEvent) -> None:
        recording = self._recordings.find(event.agent)
        if recording is not None and recording.invocation is not None and event.stop_response is not None:
            recording.invocation.is_cut_off = event.stop_response.stop_reason == "max_tokens"
            recording.invocation.is_over = event.stop_response.stop_reason != "tool_use"

    # -- what Strands calls directly -----------------------------------------------------------------------------

    def record(self, agent: Agent) -> bool:
        """Record every difference of an agent whose invocation runs, without waiting; false if none runs."""
        recording = self._recordings.find(agent)
        if recording is not None and recording.gate.is_taken and _is_on_event_loop():
            return True  # a call of the agent begins or ends, perhaps on this very loop, and records what differs
        if recording is None or recording.invocation is None:
            return False
        if not (strands_compat.wants_structured_output(agent) and recording.holds_back_answer(agent)):
            self._record(recording, agent, thorough=True)  # else see `_waits`
        return True

    async def record_now(self, agent: Agent) -> None:
        """Record every difference of an agent that runs no invocation, and wait until it is acknowledged.

        While an invocation is owed nothing is recorded behind it; the next call does.

        Raises:
            DurableSessionError: It could not be recorded.
        """
        recording = self._recordings.find(agent)
        if recording is None:
            return
        async with recording.gate:
            if recording.invocation is not None:
                self._record(recording, agent, thorough=True)
                return
            await recording.ownership.begin(recording, agent, is_call=False)
            try:
                await recording.stashed.look(agent)
                records = [] if recording.owed else recording.changes(agent, thorough=True)
            except BaseException:
                await recording.ownership.end(recording, agent, [])
                raise
            await recording.ownership.end(recording, agent, records)

    @staticmethod
    def _record(recording: Recording, agent: Agent, *, thorough: bool = False, is_of_user: bool = False) -> None:
        """Record what differs. A message of the user may travel with what follows, if its contents are recorded."""
        try:
            with recording.lock:
                changes = recording.changes(agent, thorough=thorough)
                invocation = recording.invocation  # read once: with `unsafe_reentrant` another thread may end it
                waits = is_of_user and invocation is not None and _are_known(changes, invocation)
                (recording.journal.append_with_next if waits else recording.journal.append)(*changes)
        except DurableSessionError as error:
            recording.fail(error)
            raise


def _waits(recording: Recording, agent: Agent, message: Message) -> bool:
    """Tell whether a message that was just added is recorded with whatever comes next.

    That is most likely the end of the invocation, which an answer must not come before. If it is not: Strands forces
    the model to make structured output of its answer, and the next process would not, were it to begin there.
    """
    invocation = recording.running
    is_forced = strands_compat.wants_structured_output(agent) and recording.holds_back_answer(agent, message)
    if message["role"] != "assistant":
        # Behind the end of a turn nothing would tell that the model is not to be asked again.
        is_end = invocation.ends or invocation.stop is not None or strands_compat.is_stopping(agent)
        return is_end or is_forced or recording.holds_final_answer(message)
    if invocation.is_over or strands_compat.is_cancelled(agent) or not tool_use_ids(message):
        return True
    return is_forced and strands_compat.asks_for_structured_output_only(agent, message)


def _are_known(records: Iterable[Record], invocation: Invocation) -> bool:
    """Tell whether records only repeat what others say: a prompt, results of tools, and the count of messages."""
    is_prompt = invocation.progress.messages <= len(invocation.prompt)

    def is_known(record: Record) -> bool:
        match record:
            case Spliced():
                return is_prompt or all(type(body) is Derived for body in record.bodies)
            case DocumentSet():
                return record.name == PROGRESS
            case _:
                return False

    return all(map(is_known, records))


def _remove(calls: list[Any], call: object) -> bool:
    """Remove the very object from a list; false if it is not there."""
    for index, each in enumerate(calls):
        if each is call:
            del calls[index]
            return True
    return False


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
