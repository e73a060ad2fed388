"""A sidecar with a store behind it, and the network before it: codes and semantics of the real ones, and their faults.

What each component answers is measured with a real daprd 1.18: a write that finds another ETag gets ABORTED, a creation
that finds a key gets INTERNAL on Redis and PostgreSQL, a replacement of a key that is gone succeeds on Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from dapr.proto import api_v1
from google.protobuf.empty_pb2 import Empty

from strands_dapr_session.stores.dapr.sidecar import CallFailed
from tests.prove.simulation.world import World

Code = grpc.StatusCode

COMPONENTS = {
    "redis": ("state.redis", "v1"),
    "postgresql": ("state.postgresql", "v2"),
    "sqlite": ("state.sqlite", "v1"),
    "in-memory": ("state.in-memory", "v1"),
}

_CREATE_CONFLICT = {
    "redis": (Code.INTERNAL, "failed saving state in state store statestore: failed to set key"),
    "postgresql": (Code.INTERNAL, "failed saving state in state store statestore: no item was updated"),
    "sqlite": (Code.ABORTED, "failed saving state in state store statestore: possible etag mismatch"),
    "in-memory": (Code.ABORTED, "failed saving state in state store statestore: possible etag mismatch"),
}
_ETAG_CONFLICT = (Code.ABORTED, "failed saving state in state store statestore: possible etag mismatch")
_HICCUPS = {
    "redis": [(Code.INTERNAL, "failed to set key: EOF"), (Code.ABORTED, "possible etag mismatch: connection reset")],
    "postgresql": [(Code.INTERNAL, "failed to connect: connection refused"), (Code.INTERNAL, "unexpected EOF")],
    "sqlite": [(Code.INTERNAL, "database is locked (5) (SQLITE_BUSY)")],
    "in-memory": [(Code.INTERNAL, "state store statestore is busy")],
}
_GONE = (Code.UNAVAILABLE, "failed to connect to all addresses; connection refused")
_CUT = (Code.UNAVAILABLE, "Socket closed")


@dataclass(frozen=True, slots=True)
class Weather:
    """How often calls go wrong, and for how long."""

    faults: float = 0.0
    slow: float = 0.0
    longest: float = 6.0


class Backend:
    """What the store holds."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.kind = kind
        self.entries: dict[str, tuple[bytes, str]] = {}
        self.late: set[str] = set()
        """Keys that a request wrote of which nobody could know any more."""
        self._etags = 0

    def dump(self) -> dict[str, bytes]:
        """Copy all of it."""
        return {key: value for key, (value, _) in self.entries.items()}

    def save(self, item: Any, pid: int, *, late: bool) -> tuple[Code, str] | None:
        """Write one item; returns how that failed."""
        key, expected = item.key, item.etag.value
        held = self.entries.get(key)
        if held is None and expected:
            if self.kind != "redis":
                return _ETAG_CONFLICT
        elif held is not None and not expected:
            return _CREATE_CONFLICT[self.kind]
        elif held is not None and held[1] != expected:
            return _ETAG_CONFLICT
        self._etags += 1
        etag = str(int(held[1]) + 1 if held else 1) if self.kind == "redis" else f"e{self._etags}"
        self.entries[key] = (bytes(item.value), etag)
        self.world.note(pid, "applied", key=key, late=late)
        if late:
            self.late.add(key)
        else:
            self.late.discard(key)
        return None

    def read(self, key: str) -> tuple[bytes, str]:
        """Read one key; absent ones have no ETag."""
        return self.entries.get(key, (b"", ""))

    def answer(self, method: str, request: Any, pid: int, *, late: bool = False) -> Any:
        """Carry a call out."""
        match method:
            case "GetMetadata":
                kind, version = COMPONENTS[self.kind]
                component = api_v1.RegisteredComponents(name="statestore", type=kind, version=version)
                return api_v1.GetMetadataResponse(id="app", registered_components=[component])
            case "GetState":
                value, etag = self.read(request.key)
                return api_v1.GetStateResponse(data=value, etag=etag)
            case "GetBulkState":
                keys = list(request.keys)
                self.world.chance.shuffle(keys)
                found = [(key, *self.read(key)) for key in keys]
                return api_v1.GetBulkStateResponse(
                    items=[api_v1.BulkStateItem(key=key, data=value, etag=etag) for key, value, etag in found]
                )
            case "SaveState":
                failures = [failure for item in request.states if (failure := self.save(item, pid, late=late))]
                return CallFailed(*failures[0]) if failures else Empty()
            case "DeleteBulkState":
                for item in request.states:
                    self.entries.pop(item.key, None)
                    self.world.note(pid, "deleted", key=item.key)
                return Empty()
            case _:
                raise AssertionError(method)


class SimSidecar:
    """One process's connection to the sidecar; stands in for `stores.dapr.sidecar.Sidecar`."""

    def __init__(self, process: Any, backend: Backend, weather: Weather) -> None:
        self.process = process
        self.backend = backend
        self.weather = weather
        self.down_until = 0.0

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """Make one call. See `Sidecar.call`."""
        process, world = self.process, self.process.world
        await process.point("send")
        loop = world.current
        future: Any = loop.create_future()
        call = _Call(self, method, request, future, loop)
        call.send()
        timer = loop.call_later(timeout, call.end, CallFailed(Code.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        outcome = await future
        timer.cancel()
        await process.point("reply")
        if isinstance(outcome, CallFailed):
            if method == "SaveState":
                world.note(process.pid, "refused", keys=[i.key for i in request.states], why=str(outcome))
            raise outcome
        if method == "SaveState":
            for item in request.states:
                world.note(process.pid, "acknowledged", key=item.key)
        return outcome

    async def close(self) -> None:
        """Nothing to close."""


class _Call:
    """One call on its way."""

    def __init__(self, sidecar: SimSidecar, method: str, request: Any, future: Any, loop: Any) -> None:
        self._sidecar = sidecar
        self._method = method
        self._request = request
        self._future = future
        self._loop = loop
        self._world: World = sidecar.process.world
        self._chance = self._world.chance

    def end(self, outcome: Any) -> None:
        """Let the caller have an outcome, if it still waits. On its loop."""
        if not self._future.done():
            self._future.set_result(outcome)

    def send(self) -> None:
        """Put it on its way."""
        weather, chance, sidecar = self._sidecar.weather, self._chance, self._sidecar
        if sidecar.down_until > self._world.now:
            self._world.faults["outage"] += 1
            self._reply(CallFailed(*_GONE), 0.0005)
            return
        delay = chance.expovariate(1 / 0.001)
        if chance.random() < weather.slow:
            delay += chance.random() ** 3 * weather.longest
            self._count("slow request")
        if chance.random() < weather.faults:
            chance.choice(_FAULTS)(self, delay)
        else:
            self._arrive(delay)

    def _count(self, fault: str) -> None:
        self._world.faults[fault] += 1

    def _arrive(self, delay: float, *, late: bool = False, then: Callable[[Any], object] | None = None) -> None:
        """Have it carried out after a while; then answer, unless something else is to be done."""
        pieces = self._pieces()

        def carry_out() -> None:
            process = self._sidecar.process
            # What arrives when its sender is dead, or was told that it failed, nobody can clean up.
            is_late = late or process.is_dead or self._future.done()
            outcome = self._sidecar.backend.answer(self._method, pieces.pop(0), process.pid, late=is_late)
            outcomes.append(outcome)
            process.applied(self._method)
            if pieces:
                self._world.at(self._world.now + self._chance.expovariate(1 / 0.0005), carry_out)
                return
            (then or self._answer)(_joined(outcomes))

        outcomes: list[Any] = []
        self._world.at(self._world.now + delay, carry_out)

    def _pieces(self) -> list[Any]:
        """Cut it where a store carries it out in several steps: bulk reads and writes are no snapshots."""
        if self._method == "SaveState" and len(self._request.states) > 1:
            pieces = [_with_states(self._request, [item]) for item in self._request.states]
            self._chance.shuffle(pieces)
            return pieces
        if self._method == "GetBulkState" and len(self._request.keys) > 1 and self._chance.random() < 0.3:
            keys = list(self._request.keys)
            self._chance.shuffle(keys)
            middle = self._chance.randrange(1, len(keys))
            return [_with_keys(self._request, keys[:middle]), _with_keys(self._request, keys[middle:])]
        if self._method == "DeleteBulkState" and len(self._request.states) > 1 and self._chance.random() < 0.3:
            states = list(self._request.states)
            return [_with_states(self._request, states[1:]), _with_states(self._request, states[:1])]
        return [self._request]

    def _answer(self, outcome: Any) -> None:
        self._reply(outcome, self._chance.expovariate(1 / 0.0007))

    def _reply(self, outcome: Any, delay: float) -> None:
        self._world.at(self._world.now + delay, lambda: self._loop.call_soon(self.end, outcome))

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _lose_request(self, delay: float) -> None:  # noqa: ARG002
        self._count("request lost")

    def _lose_reply(self, delay: float) -> None:
        self._count("reply lost")
        self._arrive(delay, then=lambda _: None)

    def _cut_before(self, delay: float) -> None:
        self._count("cut before it was applied")
        self._reply(CallFailed(*_CUT), delay)

    def _cut_after(self, delay: float) -> None:
        self._count("cut after it was applied")
        self._arrive(delay, then=lambda _: self._answer(CallFailed(*_CUT)))

    def _arrive_late(self, delay: float) -> None:
        self._count("applied after it had failed")
        self._reply(CallFailed(*_CUT), delay)
        self._arrive(
            delay + 0.001 + self._chance.random() ** 2 * self._sidecar.weather.longest, late=True, then=_ignore
        )

    def _repeat(self, delay: float) -> None:
        """A layer below sends it again: the answer is about the second copy."""
        self._count("sent twice")
        again = self._chance.random() < 0.5
        self._arrive(delay, then=_ignore if again else None)
        self._arrive(delay + self._chance.expovariate(1 / 0.002), late=not again, then=None if again else _ignore)

    def _hiccup(self, delay: float) -> None:
        code, details = self._chance.choice(_HICCUPS[self._sidecar.backend.kind])
        if self._chance.random() < 0.5:
            self._count(f"{code.name} before it was applied")
            self._reply(CallFailed(code, details), delay)
        else:
            self._count(f"{code.name} after it was applied")
            self._arrive(delay, then=lambda _: self._answer(CallFailed(code, details)))

    def _go_down(self, delay: float) -> None:
        """The sidecar is gone for a while."""
        self._count("sidecar down")
        self._sidecar.down_until = self._world.now + self._chance.random() ** 3 * 18
        self._reply(CallFailed(*_GONE), delay)


_FAULTS = [
    _Call._lose_request,
    _Call._lose_reply,
    _Call._cut_before,
    _Call._cut_after,
    _Call._arrive_late,
    _Call._repeat,
    _Call._hiccup,
    _Call._hiccup,
    _Call._go_down,
]


def _ignore(_: Any) -> None:
    pass


def _joined(outcomes: list[Any]) -> Any:
    failure = next((each for each in outcomes if isinstance(each, CallFailed)), None)
    if failure is not None:
        return failure
    if isinstance(outcomes[0], api_v1.GetBulkStateResponse):
        return api_v1.GetBulkStateResponse(items=[item for each in outcomes for item in each.items])
    return outcomes[-1]


def _with_states(request: Any, states: list[Any]) -> Any:
    return type(request)(store_name=request.store_name, states=states)


def _with_keys(request: Any, keys: list[str]) -> Any:
    return type(request)(store_name=request.store_name, keys=keys)
