"""How many writes and reads travel at a time, what goes together, and what is said of a call that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import grpc
import pytest
from dapr.proto import common_v1

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    SidecarNotFoundError,
    StoreError,
    StoreUnavailableError,
    TooLargeError,
    UnknownComponentError,
)
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from strands_dapr_session.stores.dapr.calls import DaprCalls
from strands_dapr_session.stores.dapr.components import ComponentTraits, traits_of
from strands_dapr_session.stores.dapr.sidecar import CallFailed
from strands_dapr_session.stores.dapr.writes import DaprWrites
from strands_dapr_session.stores.retry import RetryPolicy

SMALL = 64 * 1024
GROUPED = ComponentTraits(groups_writes=True)
SERIAL = ComponentTraits(serial_writes=True)
PLAIN = ComponentTraits()
Code = grpc.StatusCode


class Wire:
    """Answers when it is told."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.open: list[asyncio.Future[None]] = []

    async def save(self, items: Sequence[common_v1.StateItem]) -> CallFailed | None:
        self.sent.append([len(item.value) for item in items])
        self.open.append(asyncio.get_running_loop().create_future())
        await self.open[-1]
        return None

    async def call(self, *_: Any) -> str:
        await self.save([common_v1.StateItem()])
        return "answer"

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def answer_all(self) -> None:
        while any(not each.done() for each in self.open):
            for each in self.open:
                if not each.done():
                    each.set_result(None)
            await self.settle()


def item(size: int) -> common_v1.StateItem:
    return common_v1.StateItem(key="k", value=bytes(size))


@pytest.mark.parametrize(
    ("traits", "sizes", "sent"),
    [
        (GROUPED, [10] * 140, [32] * 4),
        (PLAIN, [10] * 40, [1] * 32),
        (SERIAL, [10] * 40, [1]),
        (GROUPED, [SMALL] * 5, [4, 1]),
        (GROUPED, [SMALL + 1] * 6, [1] * 4),
        (PLAIN, [SMALL + 1] * 6, [1] * 4),
        (SERIAL, [SMALL + 1] * 6, [1]),
        (GROUPED, [10, SMALL + 1, 10], [1, 2]),  # the long one goes beside
    ],
    ids=["grouped", "plain", "serial", "up to a size", "large", "large plain", "large serial", "beside"],
)
async def test_how_creates_travel(traits: ComponentTraits, sizes: list[int], sent: list[int]) -> None:
    wire = Wire()
    writes = DaprWrites(cast("DaprCalls", wire), traits)
    puts = [asyncio.create_task(writes.put(item(size))) for size in sizes]
    await wire.settle()
    assert sorted(map(len, wire.sent)) == sorted(sent)
    await wire.answer_all()
    answers = await asyncio.gather(*puts)
    assert all(answer.failure is None for answer in answers)
    for size, answer in zip(sizes, answers, strict=True):
        assert answer.alone or size <= SMALL


@pytest.mark.parametrize(
    ("traits", "size", "at_once"),
    [(GROUPED, SMALL, 16), (GROUPED, SMALL + 1, 4), (PLAIN, 10, 16), (SERIAL, 10, 1), (SERIAL, SMALL + 1, 1)],
    ids=["small", "large", "plain", "serial", "large serial"],
)
async def test_how_replaces_travel(traits: ComponentTraits, size: int, at_once: int) -> None:
    wire = Wire()
    writes = DaprWrites(cast("DaprCalls", wire), traits)
    puts = [asyncio.create_task(writes.put_alone(item(size))) for _ in range(20)]
    await wire.settle()
    assert len(wire.sent) == at_once
    await wire.answer_all()
    await asyncio.gather(*puts)
    assert len(wire.sent) == 20


async def test_small_replaces_do_not_wait_behind_large_ones() -> None:
    wire = Wire()
    writes = DaprWrites(cast("DaprCalls", wire), GROUPED)
    puts = [asyncio.create_task(writes.put_alone(item(size))) for size in [SMALL + 1] * 6 + [SMALL]]
    await wire.settle()
    assert [sizes[0] for sizes in wire.sent] == [SMALL + 1] * 4 + [SMALL]
    await wire.answer_all()
    await asyncio.gather(*puts)


@pytest.mark.parametrize("verb", ["put", "put_alone"])
async def test_a_forked_child_waits_for_none_of_its_parents_calls(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    writes = DaprWrites(cast("DaprCalls", wire), SERIAL)
    parents = asyncio.create_task(getattr(writes, verb)(item(10)))
    await wire.settle()
    generation = io_thread.generation()
    monkeypatch.setattr(io_thread, "generation", lambda: generation + 1)
    childs = [asyncio.create_task(getattr(writes, verb)(item(10))) for _ in range(2)]
    await wire.settle()
    assert len(wire.sent) == 2  # the parent's and one of the child's, which still go one by one
    await wire.answer_all()
    await asyncio.gather(parents, *childs)


def calls(wire: object, budget: float = 0.0) -> DaprCalls:
    return DaprCalls("dapr://c", "c", cast("Any", wire), RetryPolicy(budget=budget), 5.0)


async def test_so_many_reads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    reader = calls(wire)
    reads = [asyncio.create_task(reader.patiently("GetState", object())) for _ in range(40)]
    await wire.settle()
    assert len(wire.sent) == 32
    generation = io_thread.generation()
    monkeypatch.setattr(io_thread, "generation", lambda: generation + 1)
    reads.append(asyncio.create_task(reader.patiently("GetState", object())))
    await wire.settle()
    assert len(wire.sent) == 33
    await wire.answer_all()
    assert await asyncio.gather(*reads) == ["answer"] * 41


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (Code.UNAUTHENTICATED, "no", StoreError),
        (Code.PERMISSION_DENIED, "no", StoreError),
        (Code.UNIMPLEMENTED, "no", StoreError),
        (Code.RESOURCE_EXHAUSTED, "message larger than max (9 vs. 4)", TooLargeError),
        (Code.RESOURCE_EXHAUSTED, "too many requests", OutcomeUnknown),
        (Code.UNKNOWN, "message larger than max (9 vs. 4)", OutcomeUnknown),
        (Code.INVALID_ARGUMENT, "state store c is not found", UnknownComponentError),
        (Code.FAILED_PRECONDITION, "state store c is not configured", UnknownComponentError),
        (Code.INVALID_ARGUMENT, "state store d is not found", OutcomeUnknown),
        (Code.INTERNAL, "state store c is not well", OutcomeUnknown),
        (Code.ABORTED, "possible etag mismatch", OutcomeUnknown),
        (Code.UNAVAILABLE, "gone", OutcomeUnknown),
    ],
    ids=str,
)
async def test_what_a_failure_says(code: grpc.StatusCode, details: str, kind: type[Exception]) -> None:
    failure = CallFailed(code, details)
    told = calls(Wire()).outcome("k", failure, said_conflict=False)
    assert type(told) is kind
    assert type(calls(Wire()).outcome("k", failure, said_conflict=True)) is KeyConflict

    class Failing:
        async def call(self, *_: Any) -> None:
            raise failure

    if kind is OutcomeUnknown:
        kind = SidecarNotFoundError if code is Code.UNAVAILABLE else StoreUnavailableError
    with pytest.raises((StoreError, TooLargeError)) as caught:
        await calls(Failing()).patiently("GetState", object())
    assert type(caught.value) is kind


async def test_a_connection_is_closed() -> None:
    closed: list[str] = []

    class Sidecar:
        async def close(self) -> None:
            closed.append("closed")

    await calls(Sidecar()).close()
    assert closed == ["closed"]


def test_what_is_known_of_components() -> None:
    assert traits_of("state.redis", "v1") == traits_of("state.redis", "") != PLAIN
    assert traits_of("state.redis", "v2") == traits_of("state.else", "v1") == PLAIN
    assert traits_of("state.redis", "v1").replace_revives
    assert not traits_of("state.postgresql", "v2").replace_revives
    assert traits_of("state.sqlite", "v1").serial_writes
    assert traits_of("state.aws.dynamodb", "v1").max_value_bytes == 380 * 1024
