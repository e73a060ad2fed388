"""The floor under a load: the raw state API, which reads the same bytes and decodes them, and does nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import msgpack  # type: ignore[import-untyped]
import zstandard
from dapr.proto import api_service_v1, api_v1, common_v1

from benchmarks.places import REDIS

if TYPE_CHECKING:
    from strands.types.content import Message

    from benchmarks.places import Addresses

NAME = "raw state API"

_SEGMENT_BYTES = 1024 * 1024
_SEGMENTS_IN_A_READ = 8
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_FIRST_WRITE = common_v1.StateOptions(
    concurrency=common_v1.StateOptions.CONCURRENCY_FIRST_WRITE,
    consistency=common_v1.StateOptions.CONSISTENCY_STRONG,
)


class RawState:
    """The generated stub on a channel of the caller's own, blocking."""

    def __init__(self, at: Addresses, component: str = REDIS) -> None:
        self._channel = grpc.insecure_channel(at.dapr, options=_OPTIONS)
        self._stub: Any = api_service_v1.DaprStub(self._channel)
        self._component = component

    def write(self, key: str, value: bytes) -> None:
        """Write a key."""
        item = common_v1.StateItem(key=key, value=value)
        self._stub.SaveState(api_v1.SaveStateRequest(store_name=self._component, states=[item]))

    def read(self, keys: list[str]) -> list[bytes]:
        """Read keys, in order."""
        request = api_v1.GetBulkStateRequest(store_name=self._component, keys=keys, parallelism=0)
        found = {item.key: item.data for item in self._stub.GetBulkState(request).items}
        return [found[key] for key in keys]

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class RawStateAsync:
    """The same on the caller's own event loop."""

    def __init__(self, at: Addresses, component: str = REDIS) -> None:
        self._channel = grpc.aio.insecure_channel(at.dapr, options=_OPTIONS)
        self._stub: Any = api_service_v1.DaprStub(self._channel)
        self._component = component

    async def create(self, key: str, value: bytes) -> None:
        """Write a key that does not exist, with the options that a commit has."""
        item = common_v1.StateItem(key=key, value=value, options=_FIRST_WRITE)
        await self._stub.SaveState(api_v1.SaveStateRequest(store_name=self._component, states=[item]))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


@dataclass(frozen=True)
class RawConversation:
    """A conversation in compressed segments of a mebibyte, under keys that the reader knows."""

    raw: RawState
    keys: list[str]
    length: int

    @classmethod
    def write(cls, raw: RawState, name: str, messages: list[Message]) -> RawConversation:
        """Write a conversation."""
        keys: list[str] = []
        bodies: list[Message] = []
        size = 0
        for number, message in enumerate(messages, 1):
            bodies.append(message)
            size += len(msgpack.packb(message))
            if size >= _SEGMENT_BYTES or number == len(messages):
                keys.append(f"floor-{name}-{len(keys)}")
                raw.write(keys[-1], zstandard.compress(msgpack.packb(bodies), 1))
                bodies, size = [], 0
        return cls(raw, keys, len(messages))

    def read(self) -> list[Message]:
        """Read it, and decode it.

        Raises:
            RuntimeError: Something is missing.
        """
        messages: list[Message] = []
        for start in range(0, len(self.keys), _SEGMENTS_IN_A_READ):
            for value in self.raw.read(self.keys[start : start + _SEGMENTS_IN_A_READ]):
                messages += msgpack.unpackb(zstandard.decompress(value))
        if len(messages) != self.length:
            raise RuntimeError(f"the floor read {len(messages)} messages of {self.length}")
        return messages
