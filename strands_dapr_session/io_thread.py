"""The one bridge between callers' event loops and ours: a daemon thread with one asyncio loop for the whole process.

Strands runs every synchronous call in a fresh event loop, and a gRPC channel belongs to one loop for life. So the
stores live on a loop of their own, started when it is first needed. Callers reach it from any event loop with `run`,
from plain threads with `run_sync`, and with `call_soon` when nobody waits for the answer.

What has been handed over is carried through. A caller that is cancelled, or interrupted while it blocks, stops
waiting; the operation goes on and its result is dropped. A write that has left the process cannot be taken back, so
pretending to cancel it would only hide its outcome.

Calls cross in batches: however many are made before the loop wakes up, it is woken once, and each caller's loop is
woken once for all answers that are ready. Waking a thread is most of what a call costs.

A forked child starts a thread of its own. Libraries that do not survive a fork have closed their connections before it
(see `at_fork`), and the loop stands still while it happens. What else belonged to the parent's loop is kept
but never touched again, because closing it would reach through shared descriptors into the parent (see `abandon`).
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from strands_dapr_session.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

logger = logging.getLogger(__name__)

T = TypeVar("T")
Closer: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"

_GRACE_AT_EXIT = 1.0
"""Seconds that operations under way are given when the interpreter exits. What must be durable was awaited before."""

_GRACE_AT_FORK = 5.0
"""Seconds that a fork waits at most for connections to be closed."""

_GRACE_OF_CLOSER = 0.5


class _IoThread:
    """The thread, its loop, and what is under way on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.inbox = Mailbox(self.loop)
        self._outboxes: dict[asyncio.AbstractEventLoop, Mailbox] = {}
        self._operations: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._main, name="strands-dapr-session-io", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def start(self, coro: Coroutine[Any, Any, T], context: contextvars.Context) -> asyncio.Task[T]:
        """Begin an operation. On the I/O thread only."""
        # `create_task(context=...)` needs Python 3.11; running it inside the context does the same.
        task = context.run(self.loop.create_task, coro)
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
        return task

    def answer(self, caller: asyncio.AbstractEventLoop, letter: Callable[[], object]) -> None:
        """Deliver a callable to the loop of a caller. On the I/O thread only."""
        outbox = self._outboxes.get(caller)
        if outbox is None:
            # Synchronous agents come with a new loop for every call, so forget those that are over.
            self._outboxes = {loop: box for loop, box in self._outboxes.items() if not loop.is_closed()}
            outbox = self._outboxes[caller] = Mailbox(caller)
        if not outbox.post(letter):
            del self._outboxes[caller]

    def hold(self) -> Callable[[], None]:
        """Close what cannot be forked and make the loop stand still. From another thread; returns what lets it go."""
        held, released = threading.Event(), threading.Event()

        async def stand_still() -> None:
            await _call_all(_close_before_fork)
            held.set()
            released.wait()
            for reopen in _reopen_after_fork:
                reopen()

        self.inbox.post(lambda: self.start(stand_still(), contextvars.copy_context()))
        if not held.wait(_GRACE_AT_FORK):
            logger.warning("timeout=<%s> | forking although connections could not be closed in time", _GRACE_AT_FORK)
        return released.set

    def stop(self) -> None:
        """Let operations finish for a moment, cancel the rest, end the loop and the thread."""
        stopping = asyncio.run_coroutine_threadsafe(self._wind_up(), self.loop)
        with contextlib.suppress(Exception):
            stopping.result(2 * _GRACE_AT_EXIT)
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE_AT_EXIT)

    async def _wind_up(self) -> None:
        if self._operations:
            await asyncio.wait(tuple(self._operations), timeout=_GRACE_AT_EXIT)
        await _call_all(_close_at_exit)
        leftover = asyncio.all_tasks() - {asyncio.current_task()}
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover, timeout=_GRACE_AT_EXIT / 4)


_lock = threading.Lock()
_thread: _IoThread | None = None
_generation = 0
_exiting = False
_abandoned: list[object] = []
_close_at_exit: list[Closer] = []
_close_before_fork: list[Closer] = []
_reopen_after_fork: list[Callable[[], object]] = []
_let_go: list[Callable[[], None]] = []


def _current() -> _IoThread:
    global _thread  # noqa: PLW0603 - one thread a process is the purpose of this module
    current = _thread
    if current is not None:
        return current
    with _lock:
        if _exiting:
            raise RuntimeError("the interpreter is shutting down: no further store operation can be started")
        if _thread is None:
            _thread = _IoThread()
        return _thread


async def run(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the I/O loop and await its result, from any event loop.

    When the caller is cancelled the coroutine goes on to its end and its result is dropped.

    Args:
        coro: The coroutine, not yet started. Its context variables are those of the caller.

    Returns:
        What the coroutine returns; its exception is raised here.
    """
    try:
        io = _current()
    except RuntimeError:
        coro.close()
        raise
    caller = asyncio.get_running_loop()
    context = contextvars.copy_context()
    if caller is io.loop:
        return await asyncio.shield(io.start(coro, context))
    waiter: asyncio.Future[T] = caller.create_future()

    def finished(task: asyncio.Task[T]) -> None:
        io.answer(caller, lambda: _pass_on(task, waiter))

    if not io.inbox.post(lambda: io.start(coro, context).add_done_callback(finished)):
        coro.close()
        raise RuntimeError("the interpreter is shutting down: no further store operation can be started")
    return await waiter


def run_sync(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the I/O loop and block until it is done, from any thread but the I/O thread.

    When the wait is interrupted (Ctrl-C) the coroutine goes on to its end and its result is dropped.

    Args:
        coro: The coroutine, not yet started. Its context variables are those of the caller.

    Returns:
        What the coroutine returns; its exception is raised here.

    Raises:
        RuntimeError: On the I/O thread, which would wait for itself for ever.
    """
    try:
        io = _current()
    except RuntimeError:
        coro.close()
        raise
    if io.is_current:
        coro.close()
        raise RuntimeError("run_sync() was called on the I/O thread and would wait for itself: await instead")
    context = contextvars.copy_context()
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def finished(task: asyncio.Task[T]) -> None:
        _pass_on(task, done)

    if not io.inbox.post(lambda: io.start(coro, context).add_done_callback(finished)):
        coro.close()
        raise RuntimeError("the interpreter is shutting down: no further store operation can be started")
    return done.result()


def call_soon(function: Callable[[], object]) -> None:
    """Have a plain callable called on the I/O loop soon, and go on. Its result is dropped, its exception logged."""
    _current().inbox.post(function)


def start(coro: Coroutine[Any, Any, None]) -> None:
    """Begin a coroutine on the I/O loop, and go on. Like any operation, it is given a moment when the process ends."""
    io, context = _current(), contextvars.copy_context()
    io.inbox.post(lambda: io.start(coro, context))


def is_current() -> bool:
    """Whether the calling thread is the I/O thread."""
    return _thread is not None and _thread.is_current


def generation() -> int:
    """A number that changes in a forked child: connections made under another one are the parent's."""
    return _generation


def abandon(thing: object) -> None:
    """Keep an object that belongs to the parent's loop alive and untouched, for as long as this process lives.

    An event loop shares its epoll descriptor with the parent, a connection its socket: letting the garbage collector
    close them in a forked child would unregister or shut down the parent's.
    """
    _abandoned.append(thing)


def close_at_exit(closer: Closer) -> None:
    """Have an async callable run on the I/O loop before the interpreter exits."""
    _close_at_exit.append(closer)


def at_fork(close: Closer, reopen: Callable[[], object]) -> None:
    """Have callables run on the I/O loop of a process that forks.

    For libraries with threads and locks of their own, of which a child inherits a snapshot that cannot work.

    Args:
        close: Called before: drops what is open and lets nothing be opened. What it cuts off must recover.
        reopen: Called after, in the parent: lets it be opened again.
    """
    _close_before_fork.append(close)
    _reopen_after_fork.append(reopen)


async def _call_all(closers: list[Closer]) -> None:
    for closer in tuple(closers):
        try:
            await asyncio.wait_for(closer(), _GRACE_OF_CLOSER)
        except Exception:
            logger.exception("a connection could not be closed")


def _pass_on(task: asyncio.Task[T], waiter: asyncio.Future[T] | concurrent.futures.Future[T]) -> None:
    # Asking for the exception also marks it as seen: a caller that went away leaves no "never retrieved" message.
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if waiter.done():
        return
    if _exiting and task.cancelled():
        return  # Cancelled by us. Who still waits is a daemon thread, which the interpreter ends without a word.
    if error is None:
        waiter.set_result(task.result())
    elif isinstance(error, asyncio.CancelledError):
        waiter.cancel()
        if isinstance(waiter, concurrent.futures.Future):
            waiter.set_running_or_notify_cancel()
    else:
        waiter.set_exception(error)


def _before_fork() -> None:
    current = _thread
    if current is not None and not current.is_current:
        _let_go.append(current.hold())


def _after_fork_in_parent() -> None:
    while _let_go:
        _let_go.pop()()


def _after_fork_in_child() -> None:
    global _thread, _lock, _generation  # noqa: PLW0603 - see `_current`
    _let_go.clear()
    _lock = threading.Lock()
    _generation += 1
    if _thread is not None:
        abandon(_thread)
        _thread = None


def _at_exit() -> None:
    global _thread, _exiting  # noqa: PLW0603 - see `_current`
    with _lock:
        _exiting = True
        ending, _thread = _thread, None
    if ending is not None:
        ending.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
