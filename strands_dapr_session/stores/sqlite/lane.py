"""A thread for blocking work that takes whatever waits, in groups, and wakes the caller's loop once for each group."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Tool = TypeVar("Tool")
T = TypeVar("T")

_LARGEST_GROUP = 256
"""Bounds how long the first of a group waits for the last."""


class Job(Generic[Tool]):
    """One piece of work: a function of the lane's tool, and what came of it."""

    __slots__ = ("_error", "_function", "_future", "_result")

    def __init__(self, function: Callable[[Tool], Any], future: asyncio.Future[Any]) -> None:
        """Bind the function to the future that waits for it."""
        self._function = function
        self._future = future
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self, tool: Tool) -> None:
        """Do the work. Its result stands only if the group does not fail afterwards."""
        self._result = self._function(tool)

    def fail(self, error: BaseException) -> None:
        """Give it this error, whatever it did."""
        self._error = error

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the future."""
        return self._future.get_loop()

    def answer(self) -> None:
        """Tell the future. On its loop."""
        if self._future.done():
            return
        if self._error is None:
            self._future.set_result(self._result)
        else:
            self._future.set_exception(self._error)


class Lane(Generic[Tool]):
    """The thread. It ends when it is stopped, and it never keeps the process alive."""

    def __init__(self, name: str, work: Callable[[list[Job[Tool]]], None]) -> None:
        """Start the thread.

        Args:
            name: Of the thread.
            work: Carries out a group of jobs: runs each, or fails each.
        """
        self._work = work
        self._queue: SimpleQueue[Job[Tool] | asyncio.Future[None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    async def do(self, function: Callable[[Tool], T]) -> T:
        """Have a function run on the thread, in a group with what else waits, and await its result."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(Job(function, future))
        return await future

    async def stop(self) -> None:
        """End the thread after what waits."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(ended)
        await ended

    def _main(self) -> None:
        ended: asyncio.Future[None] | None = None
        while ended is None:
            group, ended = self._next_group()
            if group:
                try:
                    self._work(group)
                except BaseException as error:  # noqa: BLE001 - nobody may be left waiting
                    for job in group:
                        job.fail(error)
                _answer(group)
        with contextlib.suppress(RuntimeError):
            ended.get_loop().call_soon_threadsafe(_set, ended)

    def _next_group(self) -> tuple[list[Job[Tool]], asyncio.Future[None] | None]:
        """Wait for a job and take what is there with it, and the future to be set if the lane is to end after it."""
        group: list[Job[Tool]] = []
        item = self._queue.get()
        while isinstance(item, Job):
            group.append(item)
            if len(group) == _LARGEST_GROUP:
                return group, None
            try:
                item = self._queue.get_nowait()
            except Empty:
                return group, None
        return group, item


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _answer(group: list[Job[Any]]) -> None:
    """Answer a group with one wake-up of each loop; a loop that was closed meanwhile waits for nothing."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer_all, jobs)


def _answer_all(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.answer()
