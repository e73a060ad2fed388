"""Runs of any length: the stack that Strands piles up with every model call is let go of from time to time.

Strands' event loop calls itself for each turn, and dies of it near the 318th model call of an invocation
("maximum recursion depth exceeded"). Here the loop is left before a model call, and entered again at the very same
place, so that neither callers nor hooks, metrics or limits see a difference. Nothing of it is recorded: what is on the
stack is nothing that a process which goes on elsewhere would need.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from strands.hooks import BeforeInvocationEvent, BeforeModelCallEvent, HookProvider

from strands_dapr_session import strands_compat
from strands_dapr_session.strands_compat import FIRST, LAST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from strands import Agent
    from strands.hooks import HookRegistry

TURNS: Final = 32
"""Model calls on one stack: some 100 frames of the 1,000 that Python allows, so that agents which are tools of agents
have room too. Every event of a model's stream passes through all of them, so fewer are faster as well."""


class _StackIsHigh(BaseException):
    """Leaves the event loop. No `Exception`: Strands would take it for a failure of the model, and tell hooks so."""


class Ceiling(HookProvider):
    """Keeps the stack of an agent's event loop low.

    Does nothing where Strands has no middleware around the event loop (before 1.62): there a run dies after some 318
    model calls, and goes on with a fresh stack when the agent is called again.
    """

    def __init__(self) -> None:
        self._lifted: weakref.WeakSet[Agent] = weakref.WeakSet()
        self._turns: dict[tuple[int, int], int] = {}

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent."""
        if strands_compat.AGENT_STREAM_STAGE is None:
            return
        registry.add_callback(BeforeInvocationEvent, self._lift, order=LAST)
        # First: the call that is left here has not begun for anybody else, and begins once.
        registry.add_callback(BeforeModelCallEvent, self._count, order=FIRST)

    def _lift(self, event: BeforeInvocationEvent) -> None:
        """Get around the agent's event loop; late, so that users' middleware is outside and runs once for each call."""
        if event.agent not in self._lifted:
            self._lifted.add(event.agent)
            event.agent.add_middleware(strands_compat.AGENT_STREAM_STAGE, self._run)

    def _count(self, event: BeforeModelCallEvent) -> None:
        call = (id(event.agent), id(event.invocation_state))
        turns = self._turns.get(call)
        if turns is None:
            return
        if turns == TURNS:
            raise _StackIsHigh
        self._turns[call] = turns + 1

    async def _run(self, context: Any, enter: Callable[[Any], AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
        """Run the event loop to its end, on one stack after the other."""
        call = (id(context.agent), id(context.invocation_state))
        is_announced = False
        try:
            while True:
                self._turns[call] = 0
                try:
                    async for event in enter(context):
                        if is_announced and strands_compat.is_start_of_cycle(event):
                            continue  # it was announced on the stack before
                        is_announced = False
                        yield event
                except _StackIsHigh:
                    strands_compat.leave_cycle(context.agent, context.invocation_state)
                    context, is_announced = replace(context, messages=[]), True
                else:
                    return
        finally:
            self._turns.pop(call, None)
