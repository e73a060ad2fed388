"""A store that misbehaves on demand, around one that does not.

    store = FaultyStore(MemoryStore(), scripted({3: LoseReply()}))

Every call of a verb is counted and recorded. Before each, a plan says what goes wrong with it, if anything. The faults
are those that real stores and networks produce, and no others: what is acknowledged was applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown, StateStore

if TYPE_CHECKING:
    from strands_dapr_session.stores.base import Entry, StoreCapabilities

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb.

    Attributes:
        number: Counted from 1.
        verb: The name of the method.
        keys: The keys it is about.
        size: How many bytes it writes.
    """

    number: int
    verb: str
    keys: tuple[str, ...] = ()
    size: int = 0

    @property
    def writes(self) -> bool:
        """Whether it creates or replaces a key."""
        return self.verb in {"create", "replace"}


class Fault(ABC):
    """Something that goes wrong with one call."""

    @abstractmethod
    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:
        """Make the call, or not, and answer, or not."""


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """The call takes longer.

    Attributes:
        seconds: How much, before it is applied.
    """

    seconds: float

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        """Wait, then call."""
        await asyncio.sleep(self.seconds)
        return await apply()


@dataclass(frozen=True, slots=True)
class LoseReply(Fault):
    """The call is carried out and its answer is lost."""

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        """Call, and fail whatever came of it."""
        with contextlib.suppress(KeyConflict, OutcomeUnknown):
            await apply()
        raise _no_answer(call)


@dataclass(frozen=True, slots=True)
class LoseRequest(Fault):
    """The call never arrives, which looks the same as a lost answer."""

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        """Fail."""
        raise _no_answer(call)


@dataclass(frozen=True, slots=True)
class ArriveLate(Fault):
    """A write gets no answer, and is carried out only after further calls, as from a queue of a network.

    Attributes:
        calls: Just before the call that is so many calls later.
    """

    calls: int = 2

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:
        """Put a write aside, and fail."""
        if call.writes:
            store.postpone(call.number + self.calls, apply)
        raise _no_answer(call)


@dataclass(frozen=True, slots=True)
class RefuseOwn(Fault):
    """A write is sent twice by a layer below: the first copy is applied, the answer is the conflict of the second."""

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        """Call, and answer with a conflict if it writes."""
        answer = await apply()
        if call.writes:
            raise KeyConflict(call.keys[0])
        return answer


Plan: TypeAlias = Callable[[Call], "Fault | None"]
"""Says what goes wrong with a call."""


def nothing(call: Call) -> None:
    """A plan by which all goes well."""


def scripted(faults: Mapping[int, Fault]) -> Plan:
    """Make a plan of faults by the number of the call."""
    return lambda call: faults.get(call.number)


def outage(first: int, last: int) -> Plan:
    """Make a plan by which the store cannot be reached from one call to another, both included."""
    return lambda call: LoseRequest() if first <= call.number <= last else None


def seeded(seed: int, rate: float, faults: Sequence[Fault]) -> Plan:
    """Make a plan by which that share of calls fails, by chance, but the same for the same seed and calls."""
    chance = random.Random(seed)
    return lambda _: chance.choice(faults) if chance.random() < rate else None


@dataclass(eq=False)
class FaultyStore(StateStore):
    """Passes calls on to another store, with faults.

    Attributes:
        inner: The store.
        plan: What goes wrong, asked before each call; may be replaced at any time.
        on_call: Called before each call; may end the process.
        on_applied: Called after each call has been carried out, before it is answered; may end the process.
        calls: All calls so far.
    """

    is_proven = True  # its faults are those that the protocol is made for; a probe would only add calls to count

    inner: StateStore
    plan: Plan = nothing
    on_call: Callable[[Call], object] = nothing
    on_applied: Callable[[Call], object] = nothing
    calls: list[Call] = field(default_factory=list)
    _postponed: list[tuple[int, Callable[[], Awaitable[object]]]] = field(default_factory=list)

    @property
    def name(self) -> str:  # type: ignore[override]  # read-only here
        """The name of the inner store."""
        return f"faulty {self.inner.name}"

    @property
    def capabilities(self) -> StoreCapabilities:  # type: ignore[override]  # read-only here
        """Those of the inner store."""
        return self.inner.capabilities

    def count(self, *verbs: str) -> int:
        """How often verbs were called; all of them if none is named."""
        return sum(not verbs or call.verb in verbs for call in self.calls)

    def postpone(self, number: int, apply: Callable[[], Awaitable[object]]) -> None:
        """Carry something out just before the call of that number."""
        self._postponed.append((number, apply))

    async def deliver_postponed(self, before: int | None = None) -> None:
        """Carry out what was postponed, all of it or up to a number of a call. Nobody hears what became of it."""
        due = [item for item in self._postponed if before is None or item[0] <= before]
        self._postponed = [item for item in self._postponed if item not in due]
        for _, apply in due:
            with contextlib.suppress(KeyConflict, OutcomeUnknown):
                await apply()

    async def open(self) -> None:
        """See `StateStore.open`; not counted."""
        await self.inner.open()

    async def get(self, key: str) -> Entry | None:
        """See `StateStore.get`."""
        return await self._call("get", (key,), 0, lambda: self.inner.get(key))

    async def get_many(self, keys: Sequence[str], *, sizes: Mapping[str, int] | None = None) -> dict[str, Entry]:
        """See `StateStore.get_many`."""
        return await self._call("get_many", tuple(keys), 0, lambda: self.inner.get_many(keys, sizes=sizes))

    async def create(self, key: str, value: bytes) -> None:
        """See `StateStore.create`."""
        await self._call("create", (key,), len(value), lambda: self.inner.create(key, value))

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """See `StateStore.replace`."""
        await self._call("replace", (key,), len(value), lambda: self.inner.replace(key, value, etag))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `StateStore.delete_many`."""
        await self._call("delete_many", tuple(keys), 0, lambda: self.inner.delete_many(keys))

    async def close(self) -> None:
        """See `StateStore.close`; not counted."""
        await self.inner.close()

    async def _call(self, verb: str, keys: tuple[str, ...], size: int, apply: Callable[[], Awaitable[T]]) -> T:
        call = Call(len(self.calls) + 1, verb, keys, size)
        self.calls.append(call)
        await self.deliver_postponed(before=call.number)
        self.on_call(call)

        async def carry_out() -> T:
            answer = await apply()
            self.on_applied(call)
            return answer

        fault = self.plan(call)
        return await (carry_out() if fault is None else fault.around(call, carry_out, self))


def _no_answer(call: Call) -> Exception:
    if call.writes:
        return OutcomeUnknown(call.keys[0], "no answer (injected)")
    return StoreUnavailableError(f"no answer to {call.verb} (injected)")
