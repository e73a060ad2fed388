"""Agents as tools: what such an agent does is recorded below the tool call that runs it."""

from __future__ import annotations

import contextvars
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.hooks import (
    AfterInvocationEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeToolCallEvent,
    HookProvider,
)
from strands.hooks.registry import HookOrder

from strands_dapr_session import strands_compat
from strands_dapr_session.hooks.ownership import Borrower, is_owed, restore_borrowed
from strands_dapr_session.hooks.recording import Recording
from strands_dapr_session.journal.layout import below
from strands_dapr_session.multiagent import attached
from strands_dapr_session.multiagent.attached import Place
from strands_dapr_session.multiagent.underway import UnderWay
from strands_dapr_session.records.records import ScopeClosed
from strands_dapr_session.strands_compat import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands.hooks import HookRegistry

    from strands_dapr_session.hooks.recording import Recordings


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool call that is about to run an agent."""

    parent: Recording
    invocation_id: str
    tool_use_id: str
    agent: Agent | None
    answers: dict[str, Any] = field(default_factory=dict)

    @property
    def visit(self) -> str:
        return f"{self.invocation_id}:{self.tool_use_id}"

    @property
    def scope(self) -> str:
        return below(self.parent.scope, self.tool_use_id)


@dataclass(slots=True)
class _Tools:
    """The agents that a call of an agent has used as tools so far, and what puts these tools back."""

    under_way: UnderWay = field(default_factory=UnderWay)
    undo: dict[int, Callable[[], None]] = field(default_factory=dict)

    def watch(self, tool: Any, parent: Recording) -> None:
        """Remember what a tool streams for an agent. Others may use the same tool at the same time."""
        if id(tool) not in self.undo:
            self.undo[id(tool)] = self.under_way.watch(
                tool,
                "stream",
                concerns=lambda: (call := _call.get()) is not None and call.parent is parent,
                weakly=True,
            )


_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("strands_dapr_session_tool_call", default=None)
"""The call of this task. Strands runs the tool, and with it the agent, in the task that announced the call."""


class SubAgentHooks(HookProvider):
    """Follows a recorded agent into the agents that it uses as tools."""

    def __init__(self, recordings: Recordings, listen: Callable[[Agent], None]) -> None:
        """Follow the agents of `recordings`; `listen` registers the session manager's hooks with another one."""
        self._recordings = recordings
        self._listen = listen
        self._before: weakref.WeakKeyDictionary[Agent, tuple[str, strands_compat.Remembered]]
        self._before = weakref.WeakKeyDictionary()
        self._under_way: weakref.WeakKeyDictionary[Agent, _Tools] = weakref.WeakKeyDictionary()

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent, which may be a parent, a tool, or both."""
        registry.add_callback(BeforeToolCallEvent, self._before_tool, order=HookOrder.SDK_LAST)
        # Before the call's result is recorded, so that the end of its scope goes with it.
        registry.add_callback(AfterToolCallEvent, self._after_tool, order=HookOrder.SDK_LAST - 1)
        registry.add_callback(BeforeInvocationEvent, self._bind, order=HookOrder.SDK_FIRST - 1)
        # First: what it leaves behind is recorded before its own end.
        registry.add_callback(AfterInvocationEvent, self._end, order=FIRST)

    async def _before_tool(self, event: BeforeToolCallEvent) -> None:
        """Note where the tool runs: an agent that it is, or calls, is recorded there.

        Raises:
            DurableSessionError: It is tried again, and what it had done cannot be read.
        """
        _call.set(None)
        parent = self._recordings.find(event.agent)
        agent = getattr(event.selected_tool, "agent", None)
        tool_use_id = str(event.tool_use["toolUseId"])
        invocation = None if parent is None else parent.invocation
        if parent is None or invocation is None or tool_use_id not in parent.batch or event.cancel_tool:
            return
        if strands_compat.is_a(agent, Agent) and not strands_compat.has_own_session(agent):
            self._listen(agent)
            answers = strands_compat.answers_for_tool(event.agent, tool_use_id)
            call = _Call(parent, invocation.id, tool_use_id, agent, answers)
            if not strands_compat.is_answering_tool(event.agent, agent, tool_use_id):
                # What it asked before may not have been recorded, or the call failed: it asks anew.
                strands_compat.stop_waiting(agent)
                bound = self._recordings.find(agent)
                if bound is not None and bound.invocation is None:
                    self._recordings.unbind(agent)
            elif not strands_compat.interrupt_state(agent)["activated"]:
                self._await_answers(call, agent)
            if answers:
                strands_compat.forget_old_answers(event.agent, agent, tool_use_id)
            if not strands_compat.may_be_reentered(event.agent):  # whose calls could not be told apart
                self._under_way.setdefault(event.agent, _Tools()).watch(event.selected_tool, parent)
            _call.set(call)
        else:
            call = _Call(parent, invocation.id, tool_use_id, agent)
            if parent.found.has_taken_below(call.scope):
                # Another attempt: it makes its calls once more, and those that had ended are not to be made again.
                parent.found.renew_part(call.scope, await parent.journal.load_again())
            place = Place(self._recordings, parent.journal, parent.settings, parent.found, call.scope, call.visit)
            attached.enter(place)

    @staticmethod
    def _await_answers(call: _Call, agent: Agent) -> None:
        """Let the agent wait again for what it asked in another process.

        Strands does so itself, with what it kept, but for an agent that keeps its conversation.
        """
        parent, view = call.parent, call.parent.found.view
        if is_owed(view, call.scope, call.visit, key=parent.name):
            recording = Recording(parent.journal, call.scope, parent.settings, Borrower(lambda _: None), parent.found)
            restore_borrowed(recording, agent, view, may_wait=True)

    def _bind(self, event: BeforeInvocationEvent) -> None:
        """Record the agent below the tool call, once: it may be called again by whatever it runs."""
        call = _call.get()
        if call is None or call.agent is not event.agent or call.parent.invocation is None:
            return
        _call.set(None)
        parent, scope, found = call.parent, call.scope, call.parent.found
        visit = call.visit
        kept = parent.nested
        borrower = Borrower(lambda records: kept.__setitem__(call.tool_use_id, records))
        borrower.answers = call.answers
        recording = Recording(parent.journal, scope, parent.settings, borrower, found)
        recording.visit = visit
        is_used = found.has_taken(scope)
        is_to_go_on = not is_used and is_owed(found.view, scope, visit, key=recording.name)
        self._look_back(event.agent, visit, is_to_go_on=is_to_go_on)
        if is_used or (scope in found.view.scopes and not is_to_go_on):
            found.take(scope)
            parent.journal.append(ScopeClosed(scope))  # left over from another call, or from this one before a retry
        self._recordings.bind(event.agent, recording)

    def _look_back(self, agent: Agent, visit: str, *, is_to_go_on: bool) -> None:
        """Let an agent that keeps its conversation forget what it said in this very call before, if that is lost."""
        before = self._before.get(agent)
        if before is None or before[0] != visit:
            self._before[agent] = (visit, strands_compat.Remembered(agent))
        elif not is_to_go_on and not strands_compat.interrupt_state(agent)["activated"]:
            before[1].give_back(agent)

    async def _end(self, event: AfterInvocationEvent) -> None:
        """Stop agents that the call used as tools, if it failed beside them. Strands leaves them where they are."""
        tools = self._under_way.pop(event.agent, None)
        if tools is None:
            return
        try:
            if event.result is None:
                await tools.under_way.stop()
        finally:
            for undo in tools.undo.values():
                undo()

    def _after_tool(self, event: AfterToolCallEvent) -> None:
        """End the scope of the call together with the record of its result."""
        parent = self._recordings.find(event.agent)
        tool = event.selected_tool
        agent = getattr(tool, "agent", None)
        tool_use_id = str(event.tool_use["toolUseId"])
        # Once: with `unsafe_reentrant`, another thread may end it meanwhile.
        invocation = None if parent is None else parent.invocation
        if parent is None or invocation is None:
            return
        call = _Call(parent, invocation.id, tool_use_id, agent)
        closed = attached.leave(call.visit)  # also where the tool is an agent that is recorded in a session of its own
        if closed and not event.retry:
            parent.nested.setdefault(tool_use_id, []).extend(closed)
        if not strands_compat.is_a(agent, Agent):
            return
        recording = self._recordings.find(agent)
        if event.retry or recording is None or recording.scope != call.scope:
            return
        self._recordings.unbind(agent)
        parent.nested.setdefault(tool_use_id, []).append(ScopeClosed(call.scope))
