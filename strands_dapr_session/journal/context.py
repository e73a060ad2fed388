"""What the protocol needs from outside: a store, time, and somebody who knows which workers live."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from strands_dapr_session.stores.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from strands_dapr_session.journal.recent import RecentLogs
    from strands_dapr_session.records.records import Acquired
    from strands_dapr_session.stores.base import StateStore

T = TypeVar("T")


class Workers(Protocol):
    """Knows this worker, and what can be told about others without asking the store."""

    @property
    def name(self) -> str:
        """What this worker calls itself in an acquisition."""

    def is_alive(self, owner: Acquired) -> bool | None:
        """Tell whether an acquisition is surely held, surely not, or (None) only its heartbeat can tell."""

    def heartbeat_key(self, owner: Acquired) -> str | None:
        """The key where the owner's heartbeat would be."""

    def has_given_up(self, owner: Acquired, heartbeat: bytes | None) -> bool:
        """Tell whether the owner's own heartbeat says that it let go of this acquisition."""


def _seconds() -> float:
    """Seconds that pass also while the machine sleeps, where the system counts them."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


async def in_another_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of the default executor; see `Context.offload`."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


async def _inline(function: Callable[[], T]) -> T:
    return function()


@dataclass(frozen=True, slots=True)
class Context:
    """What the protocol needs from outside. A model check replaces all of it.

    Attributes:
        store: The store.
        workers: Who lives.
        retry: How long to go on when the store gives no answer.
        clock: Monotonic seconds of this process's life; those of a machine that sleeps need not count.
        seconds: Monotonic seconds of the world's.
        sleep: Waits for some seconds.
        offload: Runs a function that keeps the processor busy, where that disturbs nobody.
        recent: What was read lately, if that is to be remembered.
    """

    store: StateStore
    workers: Workers
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Callable[[], float] = time.monotonic
    seconds: Callable[[], float] = _seconds
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    offload: Callable[[Callable[[], T]], Awaitable[T]] = _inline
    recent: RecentLogs | None = None
