"""Small writes that wait at the same time travel together."""

from __future__ import annotations

import asyncio

import pytest

from strands_dapr_session.stores.dapr.coalesce import Coalescer, GroupLimits, Sent


class Wire:
    """Takes groups, and answers when it is told."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.answers: list[asyncio.Future[str | None]] = []

    async def send(self, items: list[int]) -> str | None:
        self.groups.append(items)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_put_in_one_turn_travels_together() -> None:
    wire = Wire()
    coalescer = Coalescer(wire.send, GroupLimits(items=3, bytes=1000, calls=2))
    puts = [asyncio.create_task(coalescer.put(number, 1)) for number in range(8)]
    await settle()
    assert wire.groups == [[0, 1, 2], [3, 4, 5]]  # two calls are under way, the rest waits
    wire.answers[0].set_result(None)
    await settle()
    assert wire.groups == [[0, 1, 2], [3, 4, 5], [6, 7]]
    wire.answers[1].set_result("conflict")
    wire.answers[2].set_result(None)
    outcomes = await asyncio.gather(*puts)
    applied: Sent[str] = Sent(None, alone=False)
    failed = Sent("conflict", alone=False)
    assert outcomes == [applied] * 3 + [failed] * 3 + [applied] * 2


async def test_groups_are_bounded_by_bytes_and_a_large_item_goes_alone() -> None:
    wire = Wire()
    coalescer = Coalescer(wire.send, GroupLimits(items=9, bytes=10, calls=9))
    puts = [asyncio.create_task(coalescer.put(size, size)) for size in (4, 6, 1, 50, 2)]
    await settle()
    assert wire.groups == [[4, 6], [1], [50], [2]]
    for answer in wire.answers:
        answer.set_result("failed")
    assert [(await put).alone for put in puts] == [False, False, True, True, True]


async def test_an_unexpected_error_reaches_everybody() -> None:
    async def send(items: list[int]) -> str | None:
        raise OSError(f"lost {items}")

    coalescer = Coalescer(send, GroupLimits(items=9, bytes=10, calls=1))
    for outcome in await asyncio.gather(*(coalescer.put(n, 1) for n in range(2)), return_exceptions=True):
        assert isinstance(outcome, OSError)
    with pytest.raises(OSError, match=r"lost \[3\]"):
        await coalescer.put(3, 1)


async def test_who_goes_away_disturbs_nobody() -> None:
    wire = Wire()
    coalescer = Coalescer(wire.send, GroupLimits(items=9, bytes=10, calls=1))
    leaver, stayer = (asyncio.create_task(coalescer.put(n, 1)) for n in range(2))
    await settle()
    leaver.cancel()
    await settle()
    wire.answers[0].set_result(None)
    assert await stayer == Sent(None, alone=False)
