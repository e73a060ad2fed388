"""A stream of events that can be given up on, whatever it is busy with."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

T = TypeVar("T")

logger = logging.getLogger(__name__)

GRACE: Final = 1.0
"""Seconds that something which was cancelled has to clean up before it is left alone."""

_left_alone: Final[set[asyncio.Task[None]]] = set()
"""Tasks that did not end when they were cancelled. Nobody listens to them any more."""


class _Pump:
    """Takes events out of a generator in a task of its own, one whenever it is asked to.

    In one task from beginning to end: what a generator sets in its context must be there when it goes on.
    """

    def __init__(self, events: AsyncGenerator[T, None]) -> None:
        self._events = events
        self._out: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self._next: asyncio.Queue[None] = asyncio.Queue()
        self._is_stopped = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with aclosing(self._events):
                async for event in self._events:
                    if self._is_stopped:
                        return  # it took no notice of being cancelled
                    self._out.put_nowait(("event", event))
                    await self._next.get()
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            self._out.put_nowait(("error", asyncio.CancelledError()))
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the next event
            self._out.put_nowait(("error", error))
        else:
            self._out.put_nowait(("end", None))

    def go_on(self) -> None:
        """Let the generator make its next event."""
        self._next.put_nowait(None)

    async def take(self, left: Callable[[], float]) -> tuple[str, object] | None:
        """Wait for what comes next; None when no time is left."""
        waiting = asyncio.ensure_future(self._out.get())
        try:
            while not waiting.done():
                seconds = left()
                if seconds <= 0:
                    return None
                await asyncio.wait({waiting}, timeout=seconds)
            return waiting.result()
        finally:
            waiting.cancel()

    async def stop(self, grace: float) -> bool:
        """Cancel the generator, and give it some seconds to clean up; false if it needs longer."""
        self._is_stopped = True
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=grace)
        if self._task.done():
            return True
        _left_alone.add(self._task)
        self._task.add_done_callback(_left_alone.discard)
        return False


async def in_time(
    events: AsyncGenerator[T, None],
    left: Callable[[], float],
    late: Callable[[], BaseException],
    grace: float = GRACE,
) -> AsyncGenerator[T, None]:
    """Pass events on until there is no time left for the next one.

    Args:
        events: Makes the events; each only when the one before was dealt with. It is cancelled at the end of the time.
            If it does not end then, it is left alone, and whatever it may still say reaches nobody.
        left: Tells the seconds that are left; it is asked again when they are over.
        late: Makes the exception to raise then.
        grace: Seconds that it has to clean up when it is cancelled.
    """
    pump = _Pump(events)
    try:
        while True:
            taken = await pump.take(left)
            if taken is None:
                if not await pump.stop(grace):
                    logger.warning("error=<%s> | what was given up on does not end", late())
                raise late()
            kind, value = taken
            if kind == "end":
                return
            if kind == "error":
                raise value  # type: ignore[misc]
            yield value  # type: ignore[misc]
            pump.go_on()
    finally:
        await pump.stop(grace)
