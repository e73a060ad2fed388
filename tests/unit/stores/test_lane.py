"""The thread that does blocking work in groups: everybody who waits gets an answer, whatever others do."""

from __future__ import annotations

import asyncio
import threading

import pytest

from strands_dapr_session.stores.sqlite.lane import Job, Lane


class Work:
    """Carries out groups, of which the first waits until it may go on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, group: list[Job[str]]) -> None:
        self.sizes.append(len(group))
        self.has_begun.set()
        assert self.may_go_on.wait(60)
        for job in group:
            job.run("tool")

    async def begin(self, lane: Lane[str]) -> asyncio.Task[str]:
        """Let a first group begin, behind which others wait."""
        first = asyncio.ensure_future(lane.do(str.upper))
        assert await asyncio.to_thread(self.has_begun.wait, 60)
        return first


async def test_what_waits_goes_in_groups_that_are_not_too_large() -> None:
    work = Work()
    lane = Lane("lane", work)
    first = await work.begin(lane)
    rest = [asyncio.ensure_future(lane.do(str.upper)) for _ in range(600)]
    await asyncio.sleep(0)
    work.may_go_on.set()
    assert await asyncio.gather(first, *rest) == ["TOOL"] * 601
    assert work.sizes == [1, 256, 256, 88]
    await lane.stop()


async def test_who_gives_up_waiting_harms_nobody_in_the_group() -> None:
    work = Work()
    lane = Lane("lane", work)
    first = await work.begin(lane)
    impatient, patient = (asyncio.ensure_future(lane.do(str.upper)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    work.may_go_on.set()
    assert [await first, await patient] == ["TOOL"] * 2
    assert impatient.cancelled()
    await lane.stop()


async def test_a_group_that_fails_fails_for_everybody_and_the_next_one_is_done() -> None:
    work = Work()

    def break_down(group: list[Job[str]]) -> None:
        work(group)
        if len(group) > 1:
            raise OSError("the disk is gone")

    lane = Lane("lane", break_down)
    first = await work.begin(lane)
    others = [asyncio.ensure_future(lane.do(str.upper)) for _ in range(3)]
    await asyncio.sleep(0)
    work.may_go_on.set()
    ends = await asyncio.gather(first, *others, return_exceptions=True)
    assert ends[0] == "TOOL"
    assert [str(end) for end in ends[1:]] == ["the disk is gone"] * 3
    assert await lane.do(str.upper) == "TOOL"
    await lane.stop()


async def test_a_caller_whose_loop_is_gone_harms_nobody_in_the_group() -> None:
    work = Work()
    lane = Lane("lane", work)
    first = await work.begin(lane)

    def leave() -> None:
        loop = asyncio.new_event_loop()
        left = loop.create_task(lane.do(str.upper))
        loop.run_until_complete(asyncio.sleep(0))
        left.cancel()
        loop.run_until_complete(asyncio.gather(left, return_exceptions=True))
        loop.close()

    await asyncio.to_thread(leave)
    other = asyncio.ensure_future(lane.do(str.upper))
    await asyncio.sleep(0)
    work.may_go_on.set()
    assert [await first, await asyncio.wait_for(other, 30)] == ["TOOL"] * 2
    assert work.sizes == [1, 2]
    await lane.stop()


async def test_it_ends_after_what_waits() -> None:
    work = Work()
    lane = Lane("lane", work)
    first = await work.begin(lane)
    second = asyncio.ensure_future(lane.do(str.upper))
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(lane.stop())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not stopping.done()
    work.may_go_on.set()
    await stopping
    assert first.done()
    assert second.done()
    lane._thread.join(30)
    assert not lane._thread.is_alive()


async def test_who_gives_up_waiting_for_the_end_harms_nobody(recwarn: pytest.WarningsRecorder) -> None:
    work = Work()
    lane = Lane("lane", work)
    first = await work.begin(lane)
    stopping = asyncio.ensure_future(lane.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    work.may_go_on.set()
    assert await first == "TOOL"
    await asyncio.to_thread(lane._thread.join, 30)
    await asyncio.sleep(0)
    assert not recwarn.list
