"""One attempt at a run: an agent is built and called, in a thread and an event loop of its own.

So a tool that blocks delays nobody else, and the heartbeat of the process least of all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from strands.multiagent.base import MultiAgentResult, Status

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import ConfigurationError, DurableSessionError, RunFailedError
from strands_dapr_session.hooks.invocation import INVOCATION_ID
from strands_dapr_session.workflow import outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from strands_dapr_session.workflow.runs import Claim

Reason: TypeAlias = Literal["cancel", "drain", "lost"]
"""Why an attempt is stopped: somebody cancelled the run, this worker ends, or another worker has taken the run."""

_PATIENCE_AFTER_CANCEL = 2.0
"""Seconds that an agent has to stop by itself at a safe point when its run is cancelled."""

_UNTIL_CANCELLED_AGAIN = 2.0
"""Seconds until a task that was cancelled, and has not ended, is cancelled once more."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The agent gave a result, as `outcome.pack` makes it."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """The agent waits for answers to its interrupts."""

    interrupts: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The agent was stopped."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Raised:
    """The agent raised an exception, or could not be built."""

    error: BaseException


Ending: TypeAlias = Finished | Asking | Stopped | Raised


class Execution:
    """An attempt at a run, while it is under way."""

    def __init__(
        self,
        claim: Claim,
        build: Callable[[str], Any],
        prepare: Callable[[Any], Awaitable[tuple[dict[str, Any], ...]]],
    ) -> None:
        """Set up; nothing runs yet.

        Args:
            claim: The run.
            build: Makes what is to be called, from the id of its session.
            prepare: Called with it before it is; returns the questions that it has, so that it is not to be called.
        """
        self._claim = claim
        self._build = build
        self._prepare = prepare
        self._ending: concurrent.futures.Future[Ending] = concurrent.futures.Future()
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Ending]] | None = None
        self._root: Any = None
        self._has_finished = False

    async def run(self) -> Ending:
        """Run it to its end. Never raises."""
        name = f"strands-run {self._claim.invocation_id}"
        threading.Thread(target=self._main, name=name, daemon=True).start()
        return await asyncio.wrap_future(self._ending)

    def stop(self, reason: Reason) -> None:
        """Stop it; the first reason counts. What was recorded stays, and its journal is released."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            running = self._running
        if running is None:
            return  # it will see the reason when it begins
        with contextlib.suppress(RuntimeError):  # it has just ended
            running[0].call_soon_threadsafe(self._stop_here)

    def _stop_here(self) -> None:
        """Stop on the agent's loop."""
        if self._running is None:
            return  # it has ended
        loop, task = self._running
        if self._reason == "cancel" and self._root is None:
            return  # what is being built is needed to give up what is recorded of the run; it is not called then
        cancel = getattr(self._root, "cancel", None)
        if self._reason == "cancel" and cancel is not None:
            cancel()
            loop.call_later(_PATIENCE_AFTER_CANCEL, _cancel, loop, task)
        else:
            _cancel(loop, task)

    # -- in its thread -------------------------------------------------------------------------------------------

    def _main(self) -> None:
        loop = asyncio.new_event_loop()
        tools = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="strands-tool")
        loop.set_default_executor(tools)
        task = loop.create_task(self._call())
        with self._lock:
            self._running = loop, task
            is_stopped = self._reason not in {None, "cancel"}
        if is_stopped:
            task.cancel()
        try:
            ending = loop.run_until_complete(task)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is how the attempt ended
            ending = Raised(error)
        reason = self._reason
        if isinstance(ending, Raised) and reason is not None and (reason != "cancel" or self._root is not None):
            ending = Stopped(reason)
        with self._lock:
            self._running = None
        if ending == Stopped("cancel") and not self._has_finished:
            ending = self._give_up()
        self._ending.set_result(ending)
        # A tool without `async` cannot be stopped. Its thread goes on, and only this one waits for it.
        _end_tasks(loop)
        tools.shutdown(wait=True, cancel_futures=True)
        loop.close()

    def _give_up(self) -> Ending:
        """Let the session take something new. As long as it does not, the run is not over."""
        try:
            strands_compat.session_manager_of(self._root).abandon(self._root, self._claim.invocation_id)
        except DurableSessionError as error:
            return Raised(error)
        return Stopped("cancel")

    async def _call(self) -> Ending:
        claim = self._claim
        root = self._build(claim.request.session_id)
        if inspect.isawaitable(root):
            root = await root
        check_root(root, claim.request)
        self._root = root
        if self._claim.state.cancel or self._reason == "cancel":
            return Stopped("cancel")
        questions = await self._prepare(root)
        if questions:
            return Asking(questions)
        result = await root.invoke_async(claim.prompt, invocation_state={INVOCATION_ID: claim.invocation_id})
        return self._understand(result)

    def _understand(self, result: Any) -> Ending:
        """Say what a result of an agent, a graph or a swarm means."""
        if result.interrupts:
            asked = tuple({"id": each.id, "name": each.name, "reason": each.reason} for each in result.interrupts)
            return Asking(asked)
        if getattr(result, "stop_reason", None) == "cancelled" and self._reason == "cancel":
            self._has_finished = True
            return Stopped("cancel")
        if getattr(result, "status", None) == Status.FAILED:
            # It is unfinished, as if it had raised: called again it runs what failed, and it refuses another task.
            return Raised(_why_it_failed(result))
        return Finished(outcome.pack(result))


def _why_it_failed(result: MultiAgentResult) -> Exception:
    """Find the first exception in the result of a graph or swarm, which swarms give where graphs raise."""
    for node in result.results.values():
        if isinstance(node.result, Exception):
            return node.result
        if isinstance(node.result, MultiAgentResult) and node.result.status == Status.FAILED:
            return _why_it_failed(node.result)
    return RunFailedError(
        "its result has the status FAILED, and no exception: a node was cancelled, or it reached a limit of its own",
        Status.FAILED.name,
    )


def check_root(root: Any, request: Any) -> None:
    """Refuse what a run could not be resumed with.

    Raises:
        ConfigurationError: It is no agent, graph or swarm, or is not durable, or not in the session.
    """
    manager = strands_compat.session_manager_of(root)
    what = f"build() of the agent {request.agent!r} returned"
    if not hasattr(root, "invoke_async"):
        raise ConfigurationError(f"{what} {type(root).__name__}: it must return an Agent, a Graph or a Swarm")
    if not hasattr(manager, "abandon"):
        raise ConfigurationError(
            f"{what} one without session_manager=DaprSessionManager(...): nothing of the run would be recorded"
        )
    if manager.session_id != request.session_id:
        raise ConfigurationError(
            f"{what} one of the session {manager.session_id!r}, but was called for {request.session_id!r}"
        )


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Graphs read the events of their nodes with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that
    comes together with an event.
    """
    if not task.done():
        task.cancel()
        loop.call_later(_UNTIL_CANCELLED_AGAIN, _cancel, loop, task)


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the agent left running, as `asyncio.run` does."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
