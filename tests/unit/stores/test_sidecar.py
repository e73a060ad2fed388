"""The channel to a sidecar: replaced when it seems dead, closed before a fork, and never twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.stores.dapr import sidecar as module
from strands_dapr_session.stores.dapr.sidecar import CallFailed, Sidecar, SidecarAddress

Code = grpc.StatusCode


class Channel:
    """A channel on which calls wait until they are told how they end."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[str]] = []
        self.metadata: list[Any] = []
        self.closed: list[float | None] = []
        self.is_slow = False
        self.may_end = asyncio.Event()

    async def close(self, grace: float | None = None) -> None:
        self.closed.append(grace)
        if grace is None:
            for call in self.calls:
                call.cancel()
            if not self.is_slow:
                self.may_end.set()
        else:
            await self.may_end.wait()

    def end(self, how: str | grpc.StatusCode) -> None:
        """Let the oldest call end."""
        call = self.calls.pop(0)
        if isinstance(how, str):
            call.set_result(how)
        else:
            call.set_exception(grpc.aio.AioRpcError(how, grpc.aio.Metadata(), grpc.aio.Metadata(), how.name))


class Stub:
    """The stub of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def Get(self, _: object, *, timeout: float, metadata: Any) -> str:  # noqa: N802, ARG002 - as gRPC's
        self._channel.metadata.append(metadata)
        future = asyncio.get_running_loop().create_future()
        self._channel.calls.append(future)
        return str(await future)


class Scene:
    """A sidecar, and the channels that were made to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.channels: list[Channel] = []
        monkeypatch.setattr(SidecarAddress, "dial", lambda _: self._dial())
        monkeypatch.setattr("strands_dapr_session.stores.dapr.sidecar.api_service_v1.DaprStub", Stub)
        self.sidecar = Sidecar(SidecarAddress("dns:host:1", tls=False, loopback=False))

    def _dial(self) -> Channel:
        self.channels.append(Channel())
        return self.channels[-1]

    def begin(self) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.sidecar.call("Get", object(), 1.0))

    async def ends(self, how: str | grpc.StatusCode, channel: int = -1) -> str:
        """Make a call that ends in some way; gives the answer, or the name of the failure's code."""
        call = self.begin()
        await settle()
        self.channels[channel].end(how)
        return await outcome(call)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def outcome(call: asyncio.Task[Any]) -> str:
    try:
        return str(await call)
    except CallFailed as failure:
        return failure.code.name


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


@pytest.mark.parametrize("between", ["answer", Code.UNAVAILABLE], ids=str)
async def test_three_calls_in_a_row_without_an_answer_and_it_dials_again(
    scene: Scene, between: str | grpc.StatusCode
) -> None:
    for _ in range(2):
        assert await scene.ends(Code.DEADLINE_EXCEEDED) == "DEADLINE_EXCEEDED"
    assert await scene.ends(between) == (between if isinstance(between, str) else between.name)  # somebody is there
    for _ in range(2):
        await scene.ends(Code.DEADLINE_EXCEEDED)
    assert len(scene.channels) == 1
    assert await scene.ends(Code.DEADLINE_EXCEEDED) == "DEADLINE_EXCEEDED"
    assert await scene.ends("answer") == "answer"
    assert len(scene.channels) == 2


async def test_the_count_begins_anew_with_each_connection(scene: Scene) -> None:
    for _ in range(6):
        await scene.ends(Code.DEADLINE_EXCEEDED)
    assert len(scene.channels) == 2
    await scene.ends("answer")
    assert len(scene.channels) == 3


async def test_what_fails_late_on_a_connection_that_was_replaced_does_not_count(scene: Scene) -> None:
    late = [scene.begin() for _ in range(6)]
    await settle()
    for _ in range(3):
        scene.channels[0].end(Code.DEADLINE_EXCEEDED)
    await settle()
    assert await scene.ends("answer") == "answer"
    for _ in range(3):
        scene.channels[0].end(Code.DEADLINE_EXCEEDED)
    assert [await outcome(call) for call in late] == ["DEADLINE_EXCEEDED"] * 6
    assert await scene.ends("answer") == "answer"
    assert len(scene.channels) == 2


async def test_calls_on_a_connection_that_is_replaced_may_still_end_well(scene: Scene) -> None:
    slow = scene.begin()
    await settle()
    scene.channels[0].calls.insert(1, scene.channels[0].calls.pop(0))
    for _ in range(3):
        failing = scene.begin()
        await settle()
        scene.channels[0].calls.pop().set_exception(
            grpc.aio.AioRpcError(Code.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata(), "")
        )
        assert await outcome(failing) == "DEADLINE_EXCEEDED"
    await settle()
    assert scene.channels[0].closed == [30.0]  # no sooner than every call has come to its deadline
    assert scene.sidecar._retired
    scene.channels[0].end("late")
    assert await slow == "late"
    scene.channels[0].may_end.set()
    await settle()
    assert not scene.sidecar._retired
    assert not scene.sidecar._retiring


async def test_all_connections_are_closed_those_included_that_were_replaced(scene: Scene) -> None:
    for _ in range(3):
        await scene.ends(Code.DEADLINE_EXCEEDED)
    await scene.ends("answer")
    under_way = scene.begin()
    await settle()
    await scene.sidecar.close()
    assert [channel.closed[-1] for channel in scene.channels] == [None, None]
    assert await outcome(under_way) == "UNAVAILABLE"
    assert await scene.ends("answer") == "answer"
    assert len(scene.channels) == 3


async def test_who_is_cancelled_is_not_told_of_a_failure(scene: Scene) -> None:
    call = scene.begin()
    await settle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_who_is_cancelled_on_a_connection_that_was_replaced_is_not_told_of_a_failure(scene: Scene) -> None:
    call = scene.begin()
    await settle()
    for _ in range(3):
        failing = scene.begin()
        await settle()
        scene.channels[0].calls.pop().set_exception(
            grpc.aio.AioRpcError(Code.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata(), "")
        )
        await outcome(failing)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


# -- forks ----------------------------------------------------------------------------------------------------------


async def test_while_it_is_held_nothing_is_under_way_and_nothing_begins(scene: Scene) -> None:
    first = scene.begin()
    await settle()
    await scene.sidecar.hold()
    assert first.done()
    assert await outcome(first) == "UNAVAILABLE"
    waiting = [scene.begin(), scene.begin()]
    await settle()
    assert len(scene.channels) == 1
    scene.sidecar.let_go()
    await settle()
    assert len(scene.channels) == 2
    for _ in waiting:
        scene.channels[1].end("answer")
    assert [await outcome(call) for call in waiting] == ["answer"] * 2


async def test_who_waits_goes_on_waiting_when_it_is_held_again(scene: Scene) -> None:
    await scene.sidecar.hold()
    call = scene.begin()
    await settle()
    scene.sidecar.let_go()
    await scene.sidecar.hold()
    await settle()
    assert scene.channels == []
    scene.sidecar.let_go()
    scene.sidecar.let_go()  # nobody holds it
    await settle()
    scene.channels[0].end("answer")
    assert await call == "answer"


async def test_it_is_held_only_when_what_was_replaced_is_closed_too(scene: Scene) -> None:
    for _ in range(3):
        await scene.ends(Code.DEADLINE_EXCEEDED)
    scene.channels[0].is_slow = True
    holding = asyncio.ensure_future(scene.sidecar.hold())
    await settle()
    assert not holding.done()  # its threads run on
    scene.channels[0].may_end.set()
    await holding


async def test_a_child_leaves_its_parents_connections_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await scene.ends(Code.DEADLINE_EXCEEDED)
    await scene.ends("answer")
    await scene.sidecar.hold()
    for channel in scene.channels:
        channel.closed.clear()
    abandoned: list[Any] = []
    generation = io_thread.generation()
    monkeypatch.setattr(io_thread, "generation", lambda: generation + 1)
    monkeypatch.setattr(io_thread, "abandon", abandoned.append)
    for _ in range(2):
        assert await scene.ends("answer") == "answer"  # it is not held: who held it is in the parent
    assert len(scene.channels) == 3
    assert len(abandoned) == 1
    await scene.sidecar.hold()
    assert [channel.closed for channel in scene.channels] == [[], [], [None]]


# -- what is sent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["secret", "", None])
async def test_only_a_token_that_there_is_is_sent(
    scene: Scene, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAPR_API_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("DAPR_API_TOKEN", token)
    await scene.ends("answer")
    assert scene.channels[0].metadata == [(("dapr-api-token", token),) if token else ()]


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("127.0.0.1:1", 0),
        pytest.param("unix:/tmp/s", 0, marks=pytest.mark.newest_dependencies),  # older SDKs know no such address
        ("dapr.example.org:1", 1),
    ],
)
def test_no_proxy_stands_before_a_sidecar_of_this_machine(
    text: str, proxy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, int]] = []
    make: Callable[..., Any] = lambda _, options: made.append(dict(options))  # noqa: E731
    monkeypatch.setattr(grpc.aio, "insecure_channel", make)
    monkeypatch.setattr(grpc.aio, "secure_channel", lambda target, _, options: make(target, options))
    address = SidecarAddress.parse(text)
    address.dial()
    SidecarAddress(address.target, tls=True, loopback=address.loopback).dial()
    assert [each["grpc.enable_http_proxy"] for each in made] == [proxy, proxy]


async def test_all_sidecars_are_held_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class One:
        async def hold(self) -> None:
            told.append("hold")

        def let_go(self) -> None:
            told.append("let go")

        async def close(self) -> None:
            told.append("close")

    monkeypatch.setattr(module, "_sidecars", cast("Any", {1: One(), 2: One()}))
    await module._hold_all()
    module._let_all_go()
    await module._close_all()
    assert told == ["hold", "hold", "let go", "let go", "close", "close"]
