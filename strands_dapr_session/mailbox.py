"""Callables bound for an event loop, from any thread, delivered with one wake-up however many there are."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Mailbox:
    """Callables bound for one event loop, delivered with one wake-up however many there are."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, letter: Callable[[], object]) -> bool:
        """Leave a callable for the loop; false when the loop is closed and nobody will call it."""
        self._letters.append(letter)
        if self._woken:
            return True
        # Two threads may both get here and wake the loop twice, which is harmless. The other order, a letter posted
        # and nobody woken, cannot happen: `_deliver` lowers the flag before it looks.
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._letters.clear()
            return False
        return True

    def _deliver(self) -> None:
        self._woken = False
        for _ in range(len(self._letters)):
            letter = self._letters.popleft()
            try:
                letter()
            except Exception:
                logger.exception("a callback on the event loop failed")
