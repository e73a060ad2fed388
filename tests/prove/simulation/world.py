"""Time, chance and processes: what decides which step of whom comes next."""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import Counter
from collections.abc import Callable
from typing import Any

from strands_dapr_session.testing.ledger import Entry

_STEP_SECONDS = 20e-6
"""What one callback of an event loop costs at most, so that time passes also for who is busy."""

_MOST_STEPS = 300_000


class StuckError(Exception):
    """Nothing can happen any more, or too much happens, and the schedule is not over."""


class SimLoop(asyncio.BaseEventLoop):
    """An event loop that runs one callback when the world says so. Order within a loop is that of asyncio."""

    def __init__(self, world: World, process: Any) -> None:
        super().__init__()
        self.world = world
        self.process = process
        self.is_blocked = False

    def time(self) -> float:
        return self.world.now

    def _write_to_self(self) -> None:  # what another thread would do to wake us
        pass

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + max(delay, 0), callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        """Run it here and now: threads are of the machine, not of the schedule."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to who waits
            future.set_exception(error)
        return future

    def is_running(self) -> bool:
        return True

    def default_exception_handler(self, context: Any) -> None:
        if self.process.is_dead:
            return
        self.world.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    @property
    def next_timer(self) -> float | None:
        """When the next timer is due."""
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        return scheduled[0]._when if scheduled else None

    @property
    def runs(self) -> bool:
        """Whether it takes part: its process lives and does not stand still, and its thread waits for nobody."""
        return not self.is_blocked and bool(self.process.runs)

    @property
    def has_work(self) -> bool:
        """Whether a callback is ready, or a timer due."""
        if self._ready:  # type: ignore[attr-defined]
            return True
        timer = self.next_timer
        return timer is not None and timer <= self.world.now

    def step(self) -> None:
        """Run one callback."""
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        ready = self._ready  # type: ignore[attr-defined]
        while (timer := self.next_timer) is not None and timer <= self.world.now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        handle = ready.popleft()
        if handle._cancelled:
            return
        before = events._get_running_loop()
        events._set_running_loop(self)
        self.world.current, previous = self, self.world.current
        try:
            handle._run()
        finally:
            self.world.current = previous
            events._set_running_loop(before)


class World:
    """A clock, a die, and loops that take turns.

    Attributes:
        now: Seconds.
        chance: What decides.
        current: The loop whose callback runs.
        ledger: What happened, in order.
        faults: How often each kind of fault happened.
        complaints: What event loops reported.
    """

    def __init__(self, seed: str) -> None:
        self.now = 1000.0
        self.chance = random.Random(seed)
        self.current: SimLoop | None = None
        self.ledger: list[Entry] = []
        self.faults: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.loops: list[SimLoop] = []
        self.steps = 0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = 0

    def at(self, time: float, event: Callable[[], object]) -> None:
        """Have something happen outside of all processes."""
        self._numbers += 1
        heapq.heappush(self._events, (time, self._numbers, event))

    def note(self, pid: int, kind: str, **details: Any) -> None:
        """Write down what happened."""
        self.ledger.append(Entry(self.now, pid, kind, details))

    def run(self, is_over: Callable[[], bool]) -> None:
        """Let things happen until it is over.

        Raises:
            StuckError: It never will be.
        """
        chance = self.chance
        while not is_over():
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            working = [loop for loop in self.loops if loop.runs and loop.has_work]
            if not working:
                self._wait()
                continue
            loop = working[0] if len(working) == 1 else chance.choice(working)
            # Mostly a thread runs until it waits; sometimes another one comes in between.
            for _ in range(64):
                loop.step()
                self.steps += 1
                self.now += chance.random() * _STEP_SECONDS
                if not (loop.runs and loop.has_work) or chance.random() < 0.2:
                    break
            if self.steps > _MOST_STEPS:
                raise StuckError(f"{self.steps} steps, and no end")

    def _wait(self) -> None:
        """Let time pass until something is due."""
        times = [self._events[0][0]] if self._events else []
        times += [when for loop in self.loops if loop.runs and (when := loop.next_timer) is not None]
        if not times:
            raise StuckError("nothing is going to happen any more")
        self.now = max(self.now, min(times))
