"""The gRPC channel to a Dapr sidecar: one for each address in a process, on the I/O loop.

Only the generated stub of the Dapr SDK is used: `DaprClient` blocks on a health probe of its own, prints, and hides the
options that safe writes need.

gRPC does not survive a fork, so all channels are closed before one. That helps only if nobody else in the process keeps
gRPC running: who uses it for other things and forks must do the same, or start processes by *spawn*.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import grpc
from dapr.conf.helpers import GrpcEndpoint
from dapr.proto import api_service_v1

from strands_dapr_session import io_thread
from strands_dapr_session.errors import ConfigurationError

logger = logging.getLogger(__name__)

_UNANSWERED_UNTIL_REDIAL = 3
"""So many calls in a row without an answer, and the connection is taken for dead, as after a network partition."""

_LONGEST_CALL = 30.0
"""Seconds after which every call has come to its deadline."""

_LARGEST_ANSWER = 64 * 1024 * 1024
"""Leaves the limit to the sidecar, whose refusal tells more than ours would."""

_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST_ANSWER),
    ("grpc.max_send_message_length", _LARGEST_ANSWER),
    # A sidecar that was restarted is found again at once, instead of after up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Or a new channel would inherit the old one's connection.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class SidecarAddress:
    """Where a sidecar listens.

    Attributes:
        target: For gRPC, such as ``dns:127.0.0.1:50001``.
        tls: Whether it speaks TLS.
        loopback: Whether it is on this machine, so that no proxy may stand between.
    """

    target: str
    tls: bool
    loopback: bool

    def __str__(self) -> str:
        return self.target.removeprefix("dns:") + ("?tls=true" if self.tls else "")

    @classmethod
    def parse(cls, text: str) -> SidecarAddress:
        """Read an address as the Dapr SDK does: ``host:port``, ``https://host``, ``dns:host:port?tls=true``, ….

        Raises:
            ConfigurationError: It is none of these.
        """
        try:
            with warnings.catch_warnings():
                # The SDK deprecates the http and https that its own documentation shows.
                warnings.simplefilter("ignore")
                endpoint = GrpcEndpoint(text)
        except ValueError as error:
            raise ConfigurationError(f"address of the Dapr sidecar {text!r}: {error}") from error
        loopback = endpoint.hostname in {"localhost", "127.0.0.1", "[::1]", "::1"} or endpoint.scheme.startswith("unix")
        return cls(endpoint.endpoint, endpoint.tls, loopback)

    @classmethod
    def from_environment(cls) -> SidecarAddress:
        """Read the variables that Dapr sets, with Dapr's defaults."""
        endpoint = os.environ.get("DAPR_GRPC_ENDPOINT")
        if endpoint:
            return cls.parse(endpoint)
        host = os.environ.get("DAPR_RUNTIME_HOST") or "127.0.0.1"
        return cls.parse(f"{host}:{os.environ.get('DAPR_GRPC_PORT') or 50001}")

    def dial(self) -> grpc.aio.Channel:
        """Make a channel. On the I/O loop, to which it belongs."""
        # On loopback there is no proxy to go through, whatever the environment says.
        options = (*_OPTIONS, ("grpc.enable_http_proxy", int(not self.loopback)))
        if self.tls:
            return grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(), options=options)
        return grpc.aio.insecure_channel(self.target, options=options)


class CallFailed(Exception):  # noqa: N818 - an outcome, told to the store
    """A call to the sidecar failed.

    Attributes:
        code: What gRPC calls it.
        details: What the sidecar, or gRPC, says about it.
    """

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        """Tell code and details."""
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class Sidecar:
    """Calls a sidecar, over a channel that is made when needed, and made anew when it seems dead."""

    def __init__(self, address: SidecarAddress) -> None:
        """Name the sidecar; nothing is contacted yet."""
        self.address = address
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._generation = io_thread.generation()
        self._retired: set[grpc.aio.Channel] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._held: asyncio.Event | None = None
        self._unanswered = 0

    async def call(self, method: str, request: object, timeout: float) -> Any:
        """Make one call.

        Args:
            method: The name of a method of the Dapr service.
            request: Its request.
            timeout: Seconds until it is given up.

        Raises:
            CallFailed: It failed.
        """
        self._leave_parent_behind()
        while self._held is not None:
            await self._held.wait()
        self._connect()
        self._under_way += 1
        try:
            return await self._call(method, request, timeout)
        finally:
            self._under_way -= 1

    async def _call(self, method: str, request: object, timeout: float) -> Any:
        channel = self._channel
        try:
            answer = await getattr(self._stub, method)(request, timeout=timeout, metadata=self._metadata)
        except asyncio.CancelledError:
            # A call also ends this way when its channel is closed under it.
            if self._channel is channel or channel in self._retired:
                raise
            failure = CallFailed(grpc.StatusCode.UNAVAILABLE, "the connection was closed because the process forks")
        except grpc.aio.AioRpcError as error:
            failure = CallFailed(error.code(), error.details() or "")
        else:
            self._unanswered = 0
            return answer
        if self._channel is channel:
            self._note(failure)
        # Whoever keeps this error keeps its traceback, this frame, and what its variables hold; a channel that is held
        # keeps gRPC's threads running, which no fork survives. `from None` would not be enough.
        del channel
        raise failure

    async def close(self) -> None:
        """Close all channels. Calls under way fail; the next call opens a new one."""
        channels = self._retired
        if self._channel is not None:
            channels.add(self._channel)
        self._channel, self._stub, self._retired = None, None, set()
        for channel in channels:
            await channel.close()

    async def hold(self) -> None:
        """Close all channels, and open none until `let_go`. Returns when no call is under way."""
        self._held = asyncio.Event()
        await self.close()
        while self._under_way or self._retiring:  # noqa: ASYNC110 - they are cancelled, and end within a turn or two of the loop
            await asyncio.sleep(0)

    def let_go(self) -> None:
        """Let calls go on."""
        if self._held is not None:
            self._held.set()
            self._held = None

    def _leave_parent_behind(self) -> None:
        if self._generation != io_thread.generation():
            io_thread.abandon((self._channel, self._stub, self._retired, self._retiring, self._held))
            self._channel, self._stub, self._retired, self._retiring = None, None, set(), set()
            self._held, self._under_way = None, 0
            self._generation = io_thread.generation()

    def _connect(self) -> None:
        if self._channel is None:
            token = os.environ.get("DAPR_API_TOKEN")
            self._metadata = (("dapr-api-token", token),) if token else ()
            self._channel = self.address.dial()
            self._stub = api_service_v1.DaprStub(self._channel)
            self._unanswered = 0

    def _note(self, failure: CallFailed) -> None:
        """Dial again when nothing has been answered for a while: the other end may be gone without a trace."""
        if failure.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._unanswered = 0
            return
        self._unanswered += 1
        channel = self._channel
        if self._unanswered < _UNANSWERED_UNTIL_REDIAL or channel is None:
            return
        logger.warning("address=<%s>, unanswered=<%s> | dialing again", self.address.target, self._unanswered)
        self._channel = self._stub = None
        self._retired.add(channel)
        task = asyncio.get_running_loop().create_task(self._retire(channel))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, channel: grpc.aio.Channel) -> None:
        await channel.close(grace=_LONGEST_CALL)
        self._retired.discard(channel)


_sidecars: dict[SidecarAddress, Sidecar] = {}


def sidecar_at(address: SidecarAddress) -> Sidecar:
    """Return this process's one `Sidecar` of an address."""
    return _sidecars.setdefault(address, Sidecar(address))


async def _close_all() -> None:
    for sidecar in tuple(_sidecars.values()):
        await sidecar.close()


async def _hold_all() -> None:
    for sidecar in tuple(_sidecars.values()):
        await sidecar.hold()
    # gRPC ends its threads when the last object of it is gone.
    gc.collect()


def _let_all_go() -> None:
    for sidecar in tuple(_sidecars.values()):
        sidecar.let_go()


# A child of a process in which gRPC runs hangs or crashes as soon as it uses gRPC itself.
io_thread.at_fork(_hold_all, _let_all_go)
io_thread.close_at_exit(_close_all)
