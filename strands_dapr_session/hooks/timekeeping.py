"""Ending what takes too long: tools, model calls, invocations, and invocations of which nothing is heard.

What is cancelled ends where it waits. A plain function in a thread cannot be ended: it goes on, its outcome is unknown,
and nothing that it returns is ever recorded or shown to the model.
"""

from __future__ import annotations

import logging
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from strands.hooks import BeforeInvocationEvent, HookProvider
from strands.types.tools import AgentTool

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DeadlineError
from strands_dapr_session.hooks.deadlines import Deadlines
from strands_dapr_session.hooks.lockstep import GRACE, in_time
from strands_dapr_session.hooks.parking import HOW_TO_RESTART
from strands_dapr_session.strands_compat import LAST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from strands import Agent
    from strands.hooks import HookRegistry
    from strands.types.tools import ToolGenerator, ToolSpec, ToolUse

    from strands_dapr_session.hooks.recording import Recording, Recordings

    Enter = Callable[[Any], AsyncGenerator[Any, None]]

logger = logging.getLogger(__name__)


class TimekeepingHook(HookProvider):
    """Keeps the deadlines of a session manager.

    Must be registered after `CheckpointHooks` of the same recordings, and before `Ceiling`: the latter's stacks belong
    to one invocation.
    """

    def __init__(self, recordings: Recordings, deadlines: Deadlines) -> None:
        self._recordings = recordings
        self._deadlines = deadlines
        self._watched: weakref.WeakSet[Agent] = weakref.WeakSet()

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register for the events of an agent."""
        registry.add_callback(BeforeInvocationEvent, self._watch, order=LAST)

    def _watch(self, event: BeforeInvocationEvent) -> None:
        """Get around what is to be timed; late, so that users' middleware is outside and its time does not count."""
        agent, deadlines = event.agent, self._deadlines
        if agent in self._watched:
            return
        self._watched.add(agent)
        if deadlines != Deadlines():
            # Also where only the invocation has a deadline: it ends when its tools do.
            agent.add_middleware(strands_compat.EXECUTE_TOOL_STAGE, self._run_tool)
        if deadlines.model is not None:
            agent.add_middleware(strands_compat.INVOKE_MODEL_STAGE, self._ask_model)
        if deadlines.invocation is not None or deadlines.silence is not None:
            agent.add_middleware(strands_compat.AGENT_STREAM_STAGE, self._run)

    async def _run_tool(self, context: Any, enter: Enter) -> AsyncGenerator[Any, None]:
        if context.tool is not None and not strands_compat.is_structured_output(context.tool):
            context = context.replace(tool=_TimedTool(context.tool, self._deadlines.of_tool(context.tool_use["name"])))
        async for event in enter(context):
            yield event

    async def _ask_model(self, context: Any, enter: Enter) -> AsyncGenerator[Any, None]:
        seconds = self._deadlines.model or 0
        late = partial(DeadlineError, f"the model did not answer within {seconds:g} seconds", seconds)
        async for event in _limited(enter(context), seconds, late):
            yield event

    async def _run(self, context: Any, enter: Enter) -> AsyncGenerator[Any, None]:
        recording = self._recordings.find(context.agent)
        if recording is None or recording.invocation is None:
            async for event in enter(context):
                yield event
            return
        watch = _Watch(recording, self._deadlines)
        async for event in in_time(enter(context), watch.left, watch.late, grace=2 * GRACE):
            yield event


class _Watch:
    """Watches one invocation."""

    def __init__(self, recording: Recording, deadlines: Deadlines) -> None:
        self._recording = recording
        self._invocation = recording.running
        self._deadlines = deadlines

    def left(self) -> float:
        """Tell how many seconds are left until something is to be done."""
        return min(self._left_of_invocation(), self._left_of_silence())

    def _left_of_invocation(self) -> float:
        limit = self._deadlines.invocation
        # Clocks of machines differ: whatever the time seems to be, this is no more than all of it.
        return float("inf") if limit is None else min(self._invocation.began + limit - time.time(), limit)

    def _left_of_silence(self) -> float:
        limit = self._deadlines.silence
        if limit is None:
            return float("inf")
        return limit - min(self._recording.journal.silence, time.monotonic() - self._recording.pause_ends)

    def late(self) -> DeadlineError:
        """Say what is late, and see to what becomes of it."""
        name, limits = self._recording.name, self._deadlines
        if limits.invocation is not None and self._left_of_invocation() <= 0:
            self._invocation.overdue = True
            return DeadlineError(
                f"an invocation of {name} took longer than {limits.invocation:g} seconds and is parked. "
                + HOW_TO_RESTART,
                limits.invocation,
            )
        silence = limits.silence or 0
        return DeadlineError(
            f"an invocation of {name} recorded nothing for {silence:g} seconds and was given up on. The next call "
            "goes on with it.",
            silence,
        )


class _TimedTool(AgentTool):
    """A tool that is given up on after some time, and when its invocation is cancelled, whether it likes it or not."""

    def __init__(self, tool: AgentTool, seconds: float | None) -> None:
        """Time a tool.

        Args:
            tool: The tool.
            seconds: How long it may take; None for any time.
        """
        super().__init__()
        self._tool = tool
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        """Be the tool in everything else."""
        return getattr(self._tool, name)

    @property
    def tool_name(self) -> str:
        """See `AgentTool`."""
        return self._tool.tool_name

    @property
    def tool_spec(self) -> ToolSpec:
        """See `AgentTool`."""
        return self._tool.tool_spec

    @property
    def tool_type(self) -> str:
        """See `AgentTool`."""
        return self._tool.tool_type

    async def stream(self, tool_use: ToolUse, invocation_state: dict[str, Any], **kwargs: Any) -> ToolGenerator:
        """Run the tool."""
        name, seconds = tool_use["name"], self._seconds if self._seconds is not None else float("inf")
        late = partial(
            DeadlineError,
            f"tool {name!r} did not answer within {seconds:g} seconds and was given up on. It may or may not have "
            "taken effect.",
            seconds,
        )
        async for event in _limited(self._tool.stream(tool_use, invocation_state, **kwargs), seconds, late):
            yield event


async def _limited(
    events: AsyncGenerator[Any, None], seconds: float, late: Callable[[], DeadlineError]
) -> AsyncGenerator[Any, None]:
    """Pass events on for so many seconds in all."""
    end = time.monotonic() + seconds
    try:
        async for event in in_time(events, lambda: end - time.monotonic(), late):
            yield event
    except DeadlineError:
        # A thread that goes on must not keep Strands' own loop, and with it the caller, from ending.
        strands_compat.forget_threads()
        raise
