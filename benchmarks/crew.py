"""Workers of one program, which write down what happens, and are killed and replaced."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import moments

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.moments import Moment
    from dev.nursery import Child, Nursery

DEADLINE = 60.0
"""Seconds that anything may take."""


@dataclass
class Crew:
    """Workers, and the directory that they write into.

    Attributes:
        directory: Where their moments are, and what they print.
        nursery: What starts them.
        arguments: What each is started with.
        at_work: Tells which processes work by now.
        environment: All that is set where they run.
        workers: Those that were started and are not known to have ended.
    """

    directory: Path
    nursery: Nursery
    arguments: Sequence[str]
    at_work: Callable[[], set[int]]
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    workers: list[Child] = field(default_factory=list)

    @property
    def times(self) -> Path:
        """The file of their moments."""
        return self.directory / "times"

    def start(self, *more: str) -> Child:
        """Start a worker, or something else that the program does when it is given more arguments."""
        started = self.nursery.start([*self.arguments, *more], self.environment, self.directory / "workers.log")
        if not more:
            self.workers.append(started)
        return started

    def close(self) -> None:
        """Kill all."""
        for worker in self.workers:
            worker.kill()

    def wait_until_complete(self) -> None:
        """Wait until all workers work."""
        deadline = time.monotonic() + DEADLINE
        while not {worker.pid for worker in self.workers} <= self.at_work():
            if time.monotonic() > deadline:
                raise TimeoutError(self._said())
            time.sleep(0.05)

    def moments(self, what: str, run: str) -> list[Moment]:
        """Read when something happened in a run, and in which process."""
        return moments.moments(self.times, what, run)

    def gaps(self, run: str) -> list[float]:
        """Get the milliseconds from each call of the model in a run to the next."""
        return moments.gaps(self.times, "model", run)

    def failover(self, run: str, number: signal.Signals, after: float = 0.0) -> float:
        """Stop the worker in whose hands a run hangs, and replace it when the tool runs again elsewhere.

        All workers should work when the run is submitted, or it is the start of one that is measured.

        Args:
            run: The run, which will hang in a tool.
            number: What stops the worker.
            after: Seconds for which the tool has run then, at least.

        Returns:
            The milliseconds from the signal to the tool's next start.
        """
        hangs = self._wait("tool", run, 1)
        elsewhere = random.uniform(0, 0.3)  # not always at the same place of whatever comes round again
        time.sleep(max(0.0, hangs.at + after - time.time()) + elsewhere)
        victim = next(worker for worker in self.workers if worker.pid == hangs.pid)
        began = time.time()
        victim.signal(number)
        again = self._wait("tool", run, 2).at
        victim.kill()
        self.workers.remove(victim)
        self.start()
        return (again - began) * 1000

    def _wait(self, what: str, run: str, count: int) -> Moment:
        try:
            return moments.wait(lambda: self.moments(what, run), count, DEADLINE)
        except TimeoutError as error:
            raise TimeoutError(f"{what} of {run} {error}: {self._said()}") from None

    def _said(self) -> str:
        return (self.directory / "workers.log").read_text(errors="replace")[-2000:]
