"""What goes over the wire to a sidecar: every call, counted by a gRPC interceptor in the channel that is used."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
import grpc.aio

from strands_dapr_session import io_thread
from strands_dapr_session.stores.dapr import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        method: Its name.
        sent: Bytes of the request.
        received: Bytes of the answer.
        began: When, in seconds of `time.perf_counter`.
        ended: When the answer was there.
    """

    method: str
    sent: int
    received: int
    began: float
    ended: float


def round_trips(calls: list[Call]) -> int:
    """Count the round trips that followed each other: of calls at the same time only one counts."""
    count, until = 0, 0.0
    for call in sorted(calls, key=lambda call: call.ended):
        if call.began >= until:
            count, until = count + 1, call.ended
    return count


@dataclass
class Wire:
    """What was sent so far. `delay` makes every call take so many seconds longer."""

    calls: list[Call] = field(default_factory=list)
    delay: float = 0.0

    def take(self) -> list[Call]:
        """Take the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class _Counter(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        began = time.perf_counter()
        if self._wire.delay:
            await asyncio.sleep(self._wire.delay)
        call = await continuation(details, request)
        answer = await call
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        self._wire.calls.append(
            Call(method.rpartition("/")[2], request.ByteSize(), answer.ByteSize(), began, ended=time.perf_counter())
        )
        return call


@contextlib.contextmanager
def counted() -> Iterator[Wire]:
    """Count the calls of all channels that are opened meanwhile; those that are open are closed first."""
    wire = Wire()
    dial = grpc.aio.insecure_channel

    def insecure_channel(target: str, options: Any = None) -> grpc.aio.Channel:
        return dial(target, options=options, interceptors=[_Counter(wire)])

    io_thread.run_sync(_close_channels())
    try:
        with mock.patch.object(grpc.aio, "insecure_channel", insecure_channel):
            yield wire
    finally:
        io_thread.run_sync(_close_channels())


async def _close_channels() -> None:
    for each in tuple(sidecar._sidecars.values()):  # noqa: SLF001 - only benchmarks need to begin with new channels
        await each.close()
