"""A sidecar in this process that keeps state, and fails as it is told."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from dapr.proto import api_service_v1, api_v1
from google.protobuf.empty_pb2 import Empty

LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True)
class Failure:
    """How a call fails.

    Attributes:
        code: With which code; None: never, the call hangs.
        details: With which words.
        applied: Whether it is carried out all the same.
    """

    code: grpc.StatusCode | None
    details: str = "told to fail"
    applied: bool = False


class FakeSidecar(api_service_v1.DaprServicer):
    """Behaves as a daprd with an in-memory component."""

    def __init__(self) -> None:
        self.components: list[dict[str, Any]] = [{"name": "statestore", "type": "state.in-memory", "version": "v1"}]
        self.values: dict[str, tuple[bytes, str]] = {}
        self.failures: defaultdict[str, deque[Failure]] = defaultdict(deque)
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str]] = []
        self.unreadable: set[str] = set()
        self._etags = 0
        self._hanging = asyncio.Semaphore(0)

    async def hanging(self, calls: int) -> None:
        """Wait until so many calls hang."""
        for _ in range(calls):
            await self._hanging.acquire()

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    async def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail("GetMetadata", request, context)
        return api_v1.GetMetadataResponse(
            id="app", registered_components=[api_v1.RegisteredComponents(**component) for component in self.components]
        )

    async def GetState(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail("GetState", request, context)
        value, etag = self.values.get(request.key, (b"", ""))
        return api_v1.GetStateResponse(data=value, etag=etag)

    async def GetBulkState(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail("GetBulkState", request, context)
        items = []
        for key in reversed(request.keys):
            value, etag = self.values.get(key, (b"", ""))
            if key in self.unreadable:
                items.append(api_v1.BulkStateItem(key=key, error="hiccup"))
            else:
                items.append(api_v1.BulkStateItem(key=key, data=value, etag=etag))
        answer = api_v1.GetBulkStateResponse(items=items)
        if answer.ByteSize() > LIMIT:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"grpc: trying to send message larger than max ({answer.ByteSize()} vs. {LIMIT})",
            )
        return answer

    async def SaveState(self, request: Any, context: Any) -> Any:  # noqa: N802
        failure = await self._maybe_fail("SaveState", request, context)
        conflict = False
        for item in request.states:
            held = self.values.get(item.key)
            if (held[1] if held else "") != item.etag.value:
                conflict = True
                continue
            self._etags += 1
            self.values[item.key] = item.value, str(self._etags)
        if failure is not None:
            await context.abort(failure.code, failure.details)
        if conflict:
            await context.abort(grpc.StatusCode.ABORTED, "possible etag mismatch")
        return Empty()

    async def DeleteBulkState(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail("DeleteBulkState", request, context)
        for item in request.states:
            self.values.pop(item.key, None)
        return Empty()

    async def _maybe_fail(self, method: str, request: Any, context: Any) -> Failure | None:
        self.calls.append((method, request))
        self.metadata.append({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
        if not self.failures[method]:
            return None
        failure = self.failures[method].popleft()
        if failure.code is None:
            self._hanging.release()
            await asyncio.Event().wait()
        if failure.applied:
            return failure
        await context.abort(failure.code, failure.details)
        return None


@asynccontextmanager
async def served(
    sidecar: FakeSidecar, credentials: grpc.ServerCredentials | None = None, *, address: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    """Serve it on loopback; gives its address. On the I/O loop."""
    server = grpc.aio.server()
    api_service_v1.add_DaprServicer_to_server(sidecar, server)
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
