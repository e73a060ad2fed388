"""Agents inside custom nodes and plain tools: their calls are recorded below the node or tool call that makes them.

A custom node that had not finished runs again as a whole. What its attached agents had done is not done again: a call
that had finished hands its recorded result out, and the one that was under way goes on inside its own batch of tools.
"""

from __future__ import annotations

import contextvars
import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.hooks import BeforeInvocationEvent, HookProvider
from strands.hooks.registry import HookOrder

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.hooks.checks import read_prompt, read_status
from strands_dapr_session.hooks.invocation import INTERRUPTED, same_prompt
from strands_dapr_session.hooks.ownership import Borrower, restore_borrowed
from strands_dapr_session.hooks.recording import Recording
from strands_dapr_session.journal.layout import quote
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import InvocationFinished, ScopeClosed
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands.hooks import HookRegistry

    from strands_dapr_session.hooks.ownership import Found
    from strands_dapr_session.hooks.recording import Recordings
    from strands_dapr_session.hooks.settings import Settings
    from strands_dapr_session.journal.journal import Journal
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import ScopeView


@dataclass
class Place:
    """A visit of a custom node, or a call of a plain tool, in which agents may be called.

    Attributes:
        recordings: The agents of the session manager.
        journal: The journal of its root.
        settings: How the session manager was configured.
        found: What the journal held when it was last read.
        scope: The path of the node or of the tool call.
        visit: Names the visit or the call; the same until it finishes.
        outer: The place in which this one is.
        calls: How often each agent was called so far.
        called: The agents that were called so far.
        answered: The interrupts with whose answers the code is called.
        asking: The calls in which agents wait for those answers.
        is_repeated: So far the calls were those that are recorded, as far as they are.
    """

    recordings: Recordings
    journal: Journal
    settings: Settings
    found: Found
    scope: str
    visit: str
    outer: Place | None = None
    calls: Counter[str] = field(default_factory=Counter)
    called: weakref.WeakSet[Agent] = field(default_factory=weakref.WeakSet)
    answered: set[str] = field(default_factory=set)
    asking: dict[str, int] = field(default_factory=dict)
    is_repeated: bool = True

    def next_call(self, scope: str, *, is_answer: bool = False) -> Recording:
        """Begin to record the next call of an agent. Calls are told apart by their order.

        Args:
            scope: The name of the agent.
            is_answer: It is no further call, but brings the answers that one waits for.
        """
        self.calls[scope] = self.asking[scope] if is_answer else self.calls[scope] + 1
        return self._recording(scope, self.calls[scope], CallInside(self, is_answer=is_answer))

    def _recording(self, scope: str, number: int, ownership: CallInside) -> Recording:
        recording = Recording(self.journal, self._path(scope, number), self.settings, ownership, self.found)
        recording.visit = self._visit(scope, number)
        return recording

    def _path(self, scope: str, number: int) -> str:
        return f"{self.scope}/{quote(scope)}.{number}"

    def _visit(self, scope: str, number: int) -> str:
        return f"{self.visit}:{scope}:{number}"

    def await_answers(self) -> None:
        """Let agents wait for answers again that the code is about to be given for them: no others are taken.

        Raises:
            DamagedDataError: What is recorded of an agent is not the state of one.
        """
        for agent, scope in self.recordings.attached.items() if self.answered else ():
            number = self._call_that_asked(scope)
            if number:
                self.asking[scope] = number
                recording = self._recording(scope, number, CallInside(self))
                restore_borrowed(recording, agent, self.found.view, may_wait=True)

    def begin_again(self) -> None:
        """Get ready for another attempt of the code, which makes its calls once more from the first on.

        Raises:
            DamagedDataError: What is recorded of an agent is not the state of one.
        """
        self.stop_waiting()
        self.calls.clear()
        self.is_repeated = True
        self.await_answers()

    def _call_that_asked(self, scope: str) -> int:
        """Find the recorded call of an agent in which it asked what is answered; 0 if there is none."""
        number, view = 1, self.found.view
        while self._path(scope, number) in view.scopes:
            part = view.scope(self._path(scope, number))
            status = read_status(part, key=self.journal.name)
            asked = {*status.get("answers", ()), *_interrupts_in(part)}
            if status.get("visit") == self._visit(scope, number) and asked & self.answered:
                return number
            number += 1
        return 0

    def stop_waiting(self) -> None:
        """Let agents that wait for answers here be called with anything: their code may be run again as a whole.

        Where it gets answers instead, `await_answers` lets them wait again.
        """
        for agent in self.called:
            strands_compat.stop_waiting(agent)
            # Strands answers tool calls that it left open, before it tells us of the next call: that is not to be
            # recorded behind them.
            self.recordings.unbind(agent)

    def closed(self) -> list[Record]:
        """List the records that end the scopes of the calls."""
        return [
            ScopeClosed(self._path(scope, number))
            for scope, count in self.calls.items()
            for number in range(1, count + 1)
        ]


def _interrupts_in(scope: ScopeView) -> list[str]:
    """List the interrupts that the recorded state of an agent tells of."""
    packed = scope.documents.get("interrupt_state")
    return [] if packed is None else list(unpack_value(packed)["interrupts"])


_place: contextvars.ContextVar[Place | None] = contextvars.ContextVar("strands_dapr_session_place", default=None)
"""Where the code of this task runs. Strands runs a node, and a tool, in the task that announces it."""


def enter(place: Place) -> None:
    """Let agents that are called from here on in this task be recorded in a place."""
    place.outer = _place.get()
    _place.set(place)


def leave(visit: str) -> list[Record]:
    """Leave a place, if this task is in it, and get the records that end its scopes."""
    place = _place.get()
    if place is None or place.visit != visit:
        return []
    _place.set(place.outer)
    place.stop_waiting()
    return place.closed()


class CallInside(Borrower):
    """Ownership of an agent that something runs of which nothing else is recorded.

    Its end is recorded at once: what runs it goes on with the result.
    """

    def __init__(self, place: Place, *, is_answer: bool = False) -> None:
        """Own the agent for one call in `place`, or, with answers, for the rest of one."""
        super().__init__(lambda _: None)
        self._place = place
        self._is_answer = is_answer

    async def begin(self, recording: Recording, agent: Agent, *, is_call: bool = True) -> View:  # noqa: ARG002
        """Restore the agent if it was called here with the same prompt before. See `Ownership.begin`."""
        await recording.check()
        if recording.to_continue is not None:
            return View()
        was_here = recording.found.has_taken(recording.scope)
        view = recording.found.take(recording.scope)
        scope = view.scope(recording.scope)
        status = read_status(scope, key=recording.name)
        if status.get("visit") == recording.visit and scope.invocation is not None:
            asked, _ = read_prompt(scope.invocation.prompt, key=recording.name)
            self._place.is_repeated &= self._is_answer or same_prompt(asked, recording.given)
            if self._place.is_repeated:
                may_wait = self._is_answer and status.get("state") == INTERRUPTED
                restore_borrowed(recording, agent, view, may_wait=may_wait)
                recording.hands_out = True
                return view
        if was_here or recording.scope in view.scopes:
            recording.journal.append(ScopeClosed(recording.scope))  # left over from another visit, or another prompt
        return View()

    async def end(self, recording: Recording, agent: Agent, last: Sequence[Record]) -> None:
        """Write the last records down. See `Ownership.end`."""
        if any(isinstance(record, InvocationFinished) for record in last):
            recording.journal.append(*last)
            await recording.barrier()
        elif last:
            await super().end(recording, agent, last)


class AttachedHooks(HookProvider):
    """Records the calls of attached agents, wherever they are made."""

    def __init__(self, recordings: Recordings) -> None:
        """Record in `recordings`."""
        self._recordings = recordings
        self._first: weakref.WeakKeyDictionary[Agent, strands_compat.Remembered] = weakref.WeakKeyDictionary()

    def attach(self, agent: Agent, scope: str) -> None:
        """Attach an agent.

        Raises:
            ConfigurationError: It is no agent, has a session manager of its own, or is attached under another name.
        """
        if not strands_compat.is_a(agent, Agent):
            raise ConfigurationError(f"{type(agent).__name__} cannot be attached: only a strands.Agent can")
        if strands_compat.has_own_session(agent):
            raise ConfigurationError(f"agent {agent.agent_id!r} has a session manager: it is recorded there already")
        known = self._recordings.attached.setdefault(agent, scope)
        if known != scope or not scope:
            raise ConfigurationError(f"scope {scope!r}: agent {agent.agent_id!r} is attached as {known!r}")
        if agent not in self._first:
            self._first[agent] = strands_compat.Remembered(agent)

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the calls of an agent."""
        registry.add_callback(BeforeInvocationEvent, self._bind, order=HookOrder.SDK_FIRST - 1)

    def _bind(self, event: BeforeInvocationEvent) -> None:
        scope = self._recordings.attached.get(event.agent)
        if scope is None:
            return
        bound = self._recordings.find(event.agent)
        if bound is not None and bound.to_continue is not None and bound.to_continue.is_same_call(event.agent):
            return  # a hook lets the call go on
        place = _place.get()
        if place is None or not place.journal.owned:
            self._recordings.unbind(event.agent)  # called on its own
            return
        is_answer = scope in place.asking and bool(strands_compat.interrupt_state(event.agent)["activated"])
        if not place.calls[scope] and not is_answer:
            # A conversation lasts for one visit or tool call: a process that did not see the last one has none of it.
            self._first[event.agent].give_back(event.agent)
        place.called.add(event.agent)
        self._recordings.bind(event.agent, place.next_call(scope, is_answer=is_answer))
        if is_answer:
            del place.asking[scope]
