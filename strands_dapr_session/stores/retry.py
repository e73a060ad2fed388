"""Bounded retries: exponential backoff with full jitter, inside a budget of seconds."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to try again.

    The default budget is longer than a restart of a sidecar takes. Clock, sleep and chance can be replaced in tests.

    Attributes:
        budget: Seconds from the first failure after which nothing is tried again.
        first_delay: Upper bound of the first pause, in seconds; it doubles with every further one.
        longest_delay: Upper bound of any pause, in seconds.
        clock: Monotonic seconds.
        sleep: Waits for some seconds.
        chance: A number in [0, 1).
    """

    budget: float = 12.0
    first_delay: float = 0.02
    longest_delay: float = 1.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    chance: Callable[[], float] = random.random


class Backoff:
    """The pauses between the attempts at one thing."""

    def __init__(self, policy: RetryPolicy) -> None:
        """Start counting at the first failure."""
        self._policy = policy
        self._deadline: float | None = None
        self._bound = policy.first_delay

    async def pause(self) -> bool:
        """Wait before the next attempt; false at once when the budget is spent."""
        policy = self._policy
        now = policy.clock()
        if self._deadline is None:
            self._deadline = now + policy.budget
        left = self._deadline - now
        if left <= 0:
            return False
        # Full jitter: processes that failed together do not come back together.
        await policy.sleep(min(policy.chance() * self._bound, left))
        self._bound = min(self._bound * 2, policy.longest_delay)
        return True
