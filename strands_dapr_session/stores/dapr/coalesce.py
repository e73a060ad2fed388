"""Small writes that wait at the same time travel together."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Failure = TypeVar("Failure")


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """How writes are grouped.

    Attributes:
        items: The most that one call carries.
        bytes: The most that one call carries, unless a single item is larger.
        calls: How many calls are under way at a time; what comes meanwhile waits and so gets grouped.
    """

    items: int
    bytes: int
    calls: int


@dataclass(frozen=True, slots=True)
class Sent(Generic[Failure]):
    """What became of the call that carried an item.

    Attributes:
        failure: Why it failed; None if all of its items were applied.
        alone: Whether it carried no other item, so that a failure can only be about this one.
    """

    failure: Failure | None
    alone: bool


class Coalescer(Generic[T, Failure]):
    """Groups items into calls. Bound to the event loop that it is first used on."""

    def __init__(self, send: Callable[[list[T]], Awaitable[Failure | None]], limits: GroupLimits) -> None:
        """Set how items are sent.

        Args:
            send: Sends items in one call; returns None when all were applied.
            limits: How many go together.
        """
        self._send = send
        self._limits = limits
        self._waiting: deque[tuple[T, int, asyncio.Future[Sent[Failure]]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def put(self, item: T, size: int) -> Sent[Failure]:
        """Send an item, together with others if there are any, and await what became of it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sent[Failure]] = loop.create_future()
        self._waiting.append((item, size, future))
        if not self._scheduled:
            # Not at once: whatever is put in this turn of the loop goes along.
            self._scheduled = True
            loop.call_soon(self._start_calls)
        return await future

    def _start_calls(self, _: object = None) -> None:
        self._scheduled = False
        while self._waiting and len(self._calls) < self._limits.calls:
            call = asyncio.get_running_loop().create_task(self._call(self._next_group()))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            call.add_done_callback(self._start_calls)

    def _next_group(self) -> list[tuple[T, asyncio.Future[Sent[Failure]]]]:
        group: list[tuple[T, asyncio.Future[Sent[Failure]]]] = []
        room = self._limits.bytes
        while self._waiting and len(group) < self._limits.items:
            item, size, future = self._waiting[0]
            if group and size > room:
                break
            room -= size
            group.append((item, future))
            self._waiting.popleft()
        return group

    async def _call(self, group: list[tuple[T, asyncio.Future[Sent[Failure]]]]) -> None:
        try:
            failure = await self._send([item for item, _ in group])
        except BaseException as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        sent = Sent(failure, alone=len(group) == 1)
        for _, future in group:
            if not future.done():
                future.set_result(sent)
