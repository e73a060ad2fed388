"""What still runs below an orchestrator whose caller has left its stream, or an agent whose call has failed.

Strands tells us of the end of such a run before it stops the nodes: it leaves them to the garbage collector, and
meanwhile they start tools and ask models. They are stopped here, where that can still be recorded, and before anybody
else may go on with the run. Likewise agents that are tools: until they are collected, they count as busy.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from typing import TYPE_CHECKING, Any

from strands_dapr_session.multiagent.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import AsyncGeneratorType


class UnderWay:
    """The nodes that an orchestrator has begun, or the tools of an agent."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams: list[Callable[[], AsyncGeneratorType[Any, Any] | None]] = []

    def add_task(self) -> None:
        """Remember the task of a node, which is the current one: graphs give each node its own."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def watch(
        self,
        executor: Any,
        method: str = "stream_async",
        *,
        concerns: Callable[[], bool] = lambda: True,
        weakly: bool = False,
    ) -> Callable[[], None]:
        """Remember the streams of an agent, which swarms read in the task of their caller, or of a tool.

        Args:
            executor: The agent or tool, which is about to be called. Several may watch one.
            method: What makes them.
            concerns: Tells, where a stream is made, whether it is to be remembered here.
            weakly: A stream that everybody else has let go of is over, though it was not read to its end: Strands does
                not read those of tools on behind their result.

        Returns:
            Ends that. See `Wrapped.wrap`.
        """

        def remember(run: Any, *args: Any, **kwargs: Any) -> Any:
            stream = run(*args, **kwargs)
            if inspect.isasyncgen(stream) and concerns():
                self._streams.append(weakref.ref(stream) if weakly else lambda: stream)
            return stream

        return Wrapped.wrap(executor, method, remember)

    async def stop(self) -> None:
        """End all of it, and wait until it has ended. What has ended already is left alone.

        Raises:
            CancelledError: The current task was cancelled meanwhile. It has waited nevertheless.
        """
        waiting = _Waiting()
        while tasks := self._tasks - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await waiting.until_done(tasks)
        for remembered in self._streams:
            stream = remembered()
            if stream is not None and stream.ag_frame is not None:
                await _cancel(stream, waiting)
        waiting.check()


class _Waiting:
    """Waits for tasks whatever happens: Strands cancels nodes once more while they end."""

    def __init__(self) -> None:
        self._cancelled: asyncio.CancelledError | None = None

    async def until_done(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Wait until tasks are done."""
        left = set(tasks)
        while left:
            try:
                _, left = await asyncio.wait(left)
            except asyncio.CancelledError as error:
                self._cancelled = error
                left = {task for task in left if not task.done()}

    def check(self) -> None:
        """Be cancelled now, if that was tried meanwhile."""
        if self._cancelled is not None:
            raise self._cancelled


async def _cancel(stream: AsyncIterator[Any], waiting: _Waiting) -> None:
    """End a stream that nobody reads, from the inside.

    To close it would end it from the outside: an agent would count as ended while its tools go on. So it is read on,
    and cancelled wherever it waits.
    """
    while True:
        step = asyncio.ensure_future(_read(stream))
        # A task that has not begun would not cancel anything.
        await waiting.until_done([asyncio.ensure_future(asyncio.sleep(0))])
        step.cancel()
        await waiting.until_done([step])
        if step.cancelled() or step.exception() is not None or not step.result():
            return


async def _read(stream: AsyncIterator[Any]) -> bool:
    """Read on; false at the end."""
    async for _ in stream:
        return True
    return False
