"""One at a time, whatever event loop or thread it comes from."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Gate:
    """An asynchronous lock between event loops: an agent may be called from several, and `asyncio.Lock` knows one.

    First come, first served.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[concurrent.futures.Future[None]] = deque()

    @property
    def is_taken(self) -> bool:
        """Whether somebody is inside."""
        return self._is_taken

    def enter_if_free(self) -> bool:
        """Enter without waiting; false if somebody is inside. Ends with `leave`."""
        with self._lock:
            if self._is_taken:
                return False
            self._is_taken = True
            return True

    async def __aenter__(self) -> Self:
        """Wait until nobody else is inside."""
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return self
            turn: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._waiting.append(turn)
        try:
            await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the turn came at the very moment of the cancellation
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let the next one in."""
        self.leave()

    def leave(self) -> None:
        """Let the next one in."""
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._is_taken = False
