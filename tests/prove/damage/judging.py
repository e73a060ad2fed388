"""What must hold whatever lies in a store, for one damaged value."""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Final

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DurableSessionError, StoredDataError
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from tests.prove.damage.readers import read
from tests.prove.damage.stored import Stored
from tests.prove.damage.ways import Damage

LONGEST: Final = 20
"""Seconds of the processor that one value may cost. Most cost microseconds, a whole session milliseconds."""

MOST_MEMORY: Final = 1536 * 1024 * 1024
"""Bytes that a process may have more, while it reads a damaged value, than before it has read any.

An empty list takes a byte in a store and 64 bytes in Python, with the place that refers to it; nothing takes more. So
whatever is forged needs less than 72 times the bytes that it unfolds to. This is 96 times the largest that is tried.
"""


class HangError(BaseException):
    """Something took so long that it may never end. No handler on the way takes it for damage."""


class ViolationError(Exception):
    """What must hold does not."""


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged value.

    Attributes:
        refused: The error that it was refused with; None if it was not.
    """

    refused: DurableSessionError | None


def read_directly(stored: Stored, damage: Damage) -> Outcome:
    """Hand a value to whatever reads what is under its key, without a store."""
    with _judged(damage) as outcome:
        read(stored.layout, damage.key, damage.value)
        if not (damage.is_forged or damage.is_older):
            raise ViolationError("it was accepted")
    return outcome[0]


def load(stored: Stored, damage: Damage) -> Outcome:
    """Load a session with a damaged value: refused, or all that it says is true."""
    store = stored.store()
    put(store, damage)
    with _judged(damage) as outcome:
        view = stored.load(store)
        if damage.is_forged:
            return Outcome(None)
        if damage.is_older and damage.key == stored.registry and not view.sequence:
            return Outcome(None)  # a registry from before the session: there is none
        if not stored.is_true(view) or (view.sequence != stored.end and not damage.is_older):
            raise ViolationError(f"it was accepted: a session of {view.sequence} commits instead of {stored.end}")
    return outcome[0]


def go_on(stored: Stored, damage: Damage) -> Outcome:
    """Start a program again on a session with a damaged value: refused before anything happens, or all goes well."""
    store, ran = stored.store(), list[str]()
    put(store, damage)
    before = dict(store._entries)
    with _judged(damage) as outcome:
        found = stored.go_on(store, ran)
        if not (damage.is_forged or damage.is_older) and (found, ran) != (stored.outcome, stored.ran):
            raise ViolationError(f"it was accepted, and the run came to something else: {ran} {found}")
    if outcome[0].refused is not None and not damage.is_forged:
        if ran:
            raise ViolationError(f"{ran} ran, and then it was refused: {outcome[0].refused!r}")
        if store._entries != before:
            changed = [key for key in store._entries if store._entries[key] != before.get(key)]
            raise ViolationError(f"it was refused, but these had been written: {changed}")
    return outcome[0]


def put(store: MemoryStore, damage: Damage) -> None:
    """Put a damaged value into a store."""
    entry = store._entries[damage.key]
    store._entries[damage.key] = type(entry)(damage.value, entry.etag)


def load_through(store: StateStore, stored: Stored, damage: Damage) -> Outcome:
    """Load a session from any store that holds it, with a value damaged, and put the value right again."""

    async def replace(value: bytes) -> None:
        entry = await store.get(damage.key)
        if entry is None:
            raise ViolationError(f"{damage.key} is gone")
        await store.replace(damage.key, value, entry.etag)

    io_thread.run_sync(replace(damage.value))
    try:
        with _judged(damage) as outcome:
            view = stored.load(store)
            if not (damage.is_forged or damage.is_older) and not stored.is_true(view):
                raise ViolationError("it was accepted")
    finally:
        io_thread.run_sync(replace(stored.values[damage.key]))
    return outcome[0]


@contextlib.contextmanager
def _judged(damage: Damage) -> Iterator[list[Outcome]]:
    """Take an error of our own that names a key for a refusal, and nothing else."""
    outcome = [Outcome(None)]
    try:
        yield outcome
    except StoredDataError as error:
        outcome[0] = Outcome(error)
        causes: BaseException | None = error
        while causes is not None:
            if isinstance(causes, MemoryError):
                raise ViolationError(f"it took more memory than allowed, and was refused for that: {error}") from error
            causes = causes.__cause__ or causes.__context__
        if not error.key or error.key not in str(error):
            raise ViolationError(f"it was refused without saying where: {error!r}") from error
    except DurableSessionError as error:
        outcome[0] = Outcome(error)
        if not damage.is_forged and not damage.is_older:
            raise ViolationError(f"it was refused as something else than damage: {error!r}") from error
    except (ViolationError, HangError):
        raise
    except BaseException as error:
        raise ViolationError(f"it came out as {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def bounded_memory(limit: int = MOST_MEMORY) -> Iterator[None]:
    """Let the process get no more memory than it has now and so many bytes; what asks for more fails."""
    if sys.platform != "linux":
        yield
        return
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of the kernel's
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def alarm_clock(seconds: int = LONGEST) -> Iterator[Callable[[], object]]:
    """Interrupt what costs too much; the function that this gives begins the time anew. In the main thread only.

    It is the processor's time, of all threads: how busy the machine is otherwise tells nothing.
    """

    def ring(_: int, __: FrameType | None) -> None:
        faulthandler.dump_traceback(all_threads=True)
        raise HangError(f"no end after {seconds} s of the processor")

    before = signal.signal(signal.SIGPROF, ring)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_PROF, seconds)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
