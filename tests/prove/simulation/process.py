"""A process in a world: its two event loops, its identity as a worker, its connection, and how it dies."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

from strands_dapr_session import io_thread
from strands_dapr_session.hooks import retrying
from strands_dapr_session.journal import fold, heart, journal, sessions, tenure
from strands_dapr_session.journal.context import Context, in_another_thread
from strands_dapr_session.journal.worker import Identity, ThisProcess
from strands_dapr_session.mailbox import Mailbox
from strands_dapr_session.records.records import Acquired
from strands_dapr_session.stores.dapr.store import DaprStore
from strands_dapr_session.stores.retry import RetryPolicy
from tests.prove.simulation.sidecar import Backend, SimSidecar, Weather
from tests.prove.simulation.world import SimLoop, World

Point = Literal["send", "applied", "reply", "tool-start", "tool-end", "model-start", "model-end", "ask"]


@dataclass(frozen=True)
class Fate:
    """What happens to a process, and when.

    Attributes:
        kind: "kill": it dies. "pause": it stands still. "cut": it loses its connection.
        point: What it passes when that happens.
        number: The how manieth time.
        seconds: How long it stands still, or is cut off.
    """

    kind: Literal["kill", "pause", "cut"]
    point: Point
    number: int
    seconds: float = 0.0

    def __str__(self) -> str:
        how_long = f" for {self.seconds:.2f} s" if self.seconds else ""
        return f"{self.kind}{how_long} at {self.point} {self.number}"


class SimProcess:
    """One process.

    Attributes:
        pid: Its number.
        machine: Where it runs: on the same machine a dead process is seen at once.
        is_dead: It runs no more.
        is_done: Its work has come to an end.
        watch: Writes down what an agent does that is made in it, under a name.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is a choice
        self, world: World, pid: int, machine: str, backend: Backend, weather: Weather, fates: tuple[Fate, ...] = ()
    ) -> None:
        self.world = world
        self.pid = pid
        self.machine = machine
        self.caller = SimLoop(world, self)
        self.io_loop = SimLoop(world, self)
        self.io = _SimIoThread(self.io_loop)
        self.worker = _SimWorker(self)
        self.is_dead = self.is_done = False
        self.paused_until = 0.0
        self.passed: Counter[str] = Counter()
        self._fates = list(fates)
        self.sidecar = SimSidecar(self, backend, weather)
        retry = RetryPolicy(clock=self._clock, sleep=asyncio.sleep, chance=world.chance.random)
        self.store = DaprStore("statestore", f"127.0.0.1:{pid}", retry=retry)
        self.store._calls._sidecar = self.sidecar  # type: ignore[assignment] # stands in for it
        self.retry = retry
        self.watch: Callable[[str, Any], None]
        world.loops += [self.caller, self.io_loop]
        _processes.append(self)

    def _clock(self) -> float:
        return self.world.now

    @property
    def runs(self) -> bool:
        """Whether its loops take part."""
        return not self.is_dead and self.paused_until <= self.world.now

    def start(self, coro: Coroutine[Any, Any, None]) -> None:
        """Begin its work."""

        async def work() -> None:
            try:
                await coro
                await self._end_in_good_order()
            except Exception as error:  # noqa: BLE001 - it is the process's own
                self.note("failed", error=repr(error))
                await self._end_in_good_order()
            self.is_done = True
            self.die("ended")

        self.note("birth", machine=self.machine)
        self.caller.call_soon(lambda: self.caller.create_task(work()))

    async def _end_in_good_order(self) -> None:
        """Do what the interpreter does at exit: operations get a moment, hearts stop."""
        for _ in range(50):  # also if the process stands still meanwhile: that is no time in which they get on
            await asyncio.sleep(0.01)
        await io_thread.run(heart.Heart.of(self.store).stop())

    def note(self, kind: str, **details: Any) -> None:
        """Write down what happens here."""
        if self.is_dead and kind != "death":
            return
        self.world.note(self.pid, kind, **details)

    # -- how it ends ---------------------------------------------------------------------------------------------

    async def point(self, point: Point) -> None:
        """Pass a point at which something may happen to it."""
        if self.pass_by(point):
            await self.world.current.create_future() if self.is_dead else await asyncio.sleep(0)  # type: ignore[union-attr]

    def applied(self, method: str) -> None:
        """A call of it was carried out."""
        if method in ("SaveState", "DeleteBulkState"):
            self.pass_by("applied")

    def pass_by(self, point: Point) -> bool:
        """Pass a point; true if something happened."""
        self.passed[point] += 1
        number = self.passed[point]
        happening = [fate for fate in self._fates if (fate.point, fate.number) == (point, number)]
        for fate in happening:
            self._fates.remove(fate)
            self.suffer(fate)
        return bool(happening)

    def suffer(self, fate: Fate) -> None:
        """Have something happen."""
        if self.is_dead:
            return
        self.world.faults[f"{fate.kind} at {fate.point}"] += 1
        if fate.kind == "kill":
            self.die("killed")
        elif fate.kind == "cut":
            self.note("cut", seconds=fate.seconds)
            self.sidecar.down_until = self.world.now + fate.seconds
        else:
            self.note("paused", seconds=fate.seconds)
            self.paused_until = self.world.now + fate.seconds
            self.world.at(self.paused_until, self._resume)

    def _resume(self) -> None:
        if not self.is_dead:
            self.note("resumed")

    def die(self, how: str) -> None:
        """End, at once."""
        if not self.is_dead:
            self.is_dead = True
            self.note("death", how=how)


class _DeadError(BaseException):
    """Ends what a dead process was about to do. Nothing of it reaches anybody."""


class _SimIoThread(io_thread._IoThread):
    """The bridge of one process, without its thread."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.inbox = Mailbox(loop)
        self._outboxes: dict[asyncio.AbstractEventLoop, Mailbox] = {}
        self._operations: set[asyncio.Task[Any]] = set()

    @property
    def is_current(self) -> bool:
        return _worlds[-1].current is self.loop


class _SimWorker(ThisProcess):
    """A worker of a simulated machine."""

    def __init__(self, process: SimProcess) -> None:
        super().__init__()
        self._process = process
        token = f"{process.pid:04x}{process.world.chance.getrandbits(48):012x}"
        self._identity = Identity(token, process.machine, str(process.pid), "", "", "")

    def is_alive(self, owner: Acquired) -> bool | None:
        other = Identity.parse(owner.worker)
        if other is not None and other.token != self.identity.token and other.host == self._process.machine:
            process = next(p for p in _processes if p.world is self._process.world and str(p.pid) == other.pid)
            return False if process.is_dead else None
        return super().is_alive(owner)


class _CurrentWorker:
    """Stands in for `worker.this_process`: the worker of whoever runs now."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current_process().worker, name)


class _WorldTime:
    """Stands in for the module `time` where pauses are made."""

    @staticmethod
    def time() -> float:
        return _worlds[-1].now

    monotonic = time


_worlds: list[World] = []
_processes: list[SimProcess] = []
"""Never emptied: what belongs to the dead must not be collected, or its `finally` blocks would run."""


def current_process() -> SimProcess:
    loop = _worlds[-1].current if _worlds else None
    if loop is None:
        raise RuntimeError("no simulated process runs")
    process: SimProcess = loop.process
    return process


def _run_sync(coro: Coroutine[Any, Any, Any]) -> Any:
    """Block the thread of the caller until the I/O loop has done something. The rest of the world goes on."""
    process, loop = current_process(), _worlds[-1].current
    if process.is_dead or loop is None:
        coro.close()
        raise _DeadError
    task = process.io_loop.create_task(coro)
    process.io_loop.call_soon(lambda: None)
    loop.is_blocked = True
    # Strands builds orchestrators in an event loop of a thread of its own. Generators of others that begin meanwhile
    # are not that loop's, which closes all of its own when it ends.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None, finalizer=_finalize)
    try:
        process.world.run(lambda: task.done() or process.is_dead)
    finally:
        sys.set_asyncgen_hooks(*hooks)
        loop.is_blocked = False
    if process.is_dead:
        raise _DeadError
    return task.result()


def _context(store: Any, workers: Any, **_: Any) -> Context:
    process = current_process()
    clock = process._clock
    return Context(
        store, workers, retry=process.retry, clock=clock, seconds=clock, sleep=asyncio.sleep, offload=in_another_thread
    )


@contextmanager
def simulated(world: World, seed: str) -> Iterator[None]:
    """Replace what is of this process and of the machine: time, threads, identity, randomness."""
    drawn = iter(range(1, 2**62))

    def token_bytes(size: int = 32) -> bytes:
        return hashlib.shake_128(f"{seed} {next(drawn)}".encode()).digest(size)

    replaced: list[tuple[Any, str, Any]] = [
        (io_thread, "_current", lambda: current_process().io),
        (io_thread, "is_current", lambda: current_process().io.is_current),
        (io_thread, "run_sync", _run_sync),
        (fold, "_LONGEST_STRETCH", float("inf")),
        (journal, "Context", _context),
        (sessions, "Context", _context),
        (retrying, "time", _WorldTime),
        (uuid, "uuid4", lambda: uuid.UUID(bytes=token_bytes(16), version=4)),
        (secrets, "token_bytes", token_bytes),
        *((module, "this_process", _CurrentWorker()) for module in (journal, tenure, heart, sessions)),
    ]
    hooks = sys.get_asyncgen_hooks()
    _worlds.append(world)
    with ExitStack() as stack:
        for target, name, value in replaced:
            stack.enter_context(mock.patch.object(target, name, value))
        sys.set_asyncgen_hooks(finalizer=_finalize)
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*hooks)


def _finalize(generator: Any) -> None:
    """Close an abandoned generator as its loop would, unless its process is dead."""
    loop = _worlds[-1].current
    if loop is not None and not loop.process.is_dead:
        loop.call_soon(loop.create_task, generator.aclose())
