"""What is under way is ended where it waits, to its end, and whoever ends it is cancelled afterwards if at all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from strands_dapr_session.multiagent.underway import UnderWay


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# -- tasks ------------------------------------------------------------------------------------------------------------


class Node:
    """A node in a task of its own, which needs a few steps to clean up."""

    def __init__(self, under_way: UnderWay, *, steps: int = 5, ends: bool = False) -> None:
        self.seen: list[str] = []
        self._under_way = under_way
        self._steps, self._ends = steps, ends
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        self._under_way.add_task()
        if self._ends:
            return
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(self._steps):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    self.seen.append("cancelled again")
            self.seen.append("cleaned up")


async def test_nodes_are_cancelled_and_have_cleaned_up_when_they_are_stopped() -> None:
    under_way = UnderWay()
    nodes = [Node(under_way, steps=steps) for steps in (0, 5, 20)]
    ended = Node(under_way, ends=True)
    await settle()
    await under_way.stop()
    assert all(node.task.cancelled() for node in nodes)
    assert [node.seen[-1] for node in nodes] == ["cleaned up"] * 3
    assert not ended.task.cancelled()
    await under_way.stop()  # there is nothing left


async def test_a_node_that_stops_the_others_is_not_stopped() -> None:
    under_way = UnderWay()
    node = Node(under_way)

    async def stopping() -> str:
        under_way.add_task()
        await settle()
        await under_way.stop()
        return "went on"

    assert await asyncio.ensure_future(stopping()) == "went on"
    assert node.task.cancelled()


async def test_what_a_node_begins_while_it_ends_is_stopped_too() -> None:
    under_way = UnderWay()
    later: list[Node] = []

    async def begetting() -> None:
        under_way.add_task()
        try:
            await asyncio.Event().wait()
        finally:
            later.append(Node(under_way))
            await settle()

    task = asyncio.ensure_future(begetting())
    await settle()
    await under_way.stop()
    assert task.cancelled()
    assert later[0].task.cancelled()
    assert later[0].seen[-1] == "cleaned up"


@pytest.mark.parametrize("times", [1, 3])
async def test_who_is_cancelled_while_it_stops_others_waits_for_them_all_the_same(times: int) -> None:
    under_way = UnderWay()
    nodes = [Node(under_way, steps=steps) for steps in (2, 30)]
    await settle()
    stopping = asyncio.ensure_future(under_way.stop())
    for _ in range(times):
        await settle()
        stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert [node.seen[-1] for node in nodes] == ["cleaned up"] * 2


# -- streams ----------------------------------------------------------------------------------------------------------


class Agent:
    """Streams, and notes what happens to its streams."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.events = 2
        self.stubborn = 0
        self.error: BaseException | None = None

    @property
    def ended(self) -> list[str]:
        return [each.removesuffix(" ended") for each in self.seen if not each.startswith("tool")]

    async def stream_async(self, name: str = "a") -> AsyncIterator[str]:
        task = None
        try:
            for number in range(self.events):
                yield f"{name}{number}"
            task = asyncio.ensure_future(self._tool(name))
            await task
        finally:
            while self.stubborn:
                self.stubborn -= 1
                yield "still here"
            if task is not None:
                await asyncio.wait({task})
            self.seen.append(f"{name} ended")
            if self.error is not None:
                raise self.error

    async def _tool(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.seen.append(f"tool of {name} ended")


async def begin(agent: Any, events: int, name: str = "a") -> AsyncIterator[str]:
    """Read so much of a stream, and leave it."""
    stream: AsyncIterator[str] = agent.stream_async(name)
    for _ in range(events):
        await anext(stream)
    return stream


@pytest.mark.parametrize("events", [0, 1, 2])
async def test_a_stream_that_nobody_reads_is_ended_from_the_inside(events: int) -> None:
    under_way, agent = UnderWay(), Agent()
    under_way.watch(agent)
    stream = await begin(agent, events)
    await under_way.stop()
    assert agent.seen[-1] == "a ended"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_that_has_something_to_say_when_it_is_cancelled_is_read_to_its_end() -> None:
    under_way, agent = UnderWay(), Agent()
    agent.stubborn = 3
    under_way.watch(agent)
    await begin(agent, 2)
    await under_way.stop()
    assert agent.seen == ["tool of a ended", "a ended"]


async def test_a_stream_that_fails_as_it_ends_does_not_keep_others_from_it() -> None:
    under_way, agent = UnderWay(), Agent()
    agent.error = LookupError("no")
    under_way.watch(agent)
    await begin(agent, 2, "a")
    await begin(agent, 2, "b")
    await under_way.stop()
    assert agent.seen == ["tool of a ended", "a ended", "tool of b ended", "b ended"]


async def test_who_is_cancelled_while_it_ends_a_stream_ends_it_all_the_same() -> None:
    under_way, agent = UnderWay(), Agent()
    under_way.watch(agent)
    await begin(agent, 2)
    stopping = asyncio.ensure_future(under_way.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert agent.seen == ["tool of a ended", "a ended"]


async def test_a_stream_that_has_ended_is_left_alone() -> None:
    under_way, agent = UnderWay(), Agent()
    under_way.watch(agent)
    stream: Any = await begin(agent, 1)
    await stream.aclose()
    assert agent.seen == ["a ended"]
    await under_way.stop()
    assert agent.seen == ["a ended"]


async def test_only_streams_that_concern_it_are_ended() -> None:
    one, other, agent = UnderWay(), UnderWay(), Agent()
    is_one = [True]
    one.watch(agent, concerns=lambda: is_one[0])
    other.watch(agent, concerns=lambda: not is_one[0])
    await begin(agent, 1, "a")
    is_one[0] = False
    await begin(agent, 1, "b")
    await other.stop()
    assert agent.ended == ["b"]
    await one.stop()
    assert agent.ended == ["b", "a"]


async def test_a_stream_that_is_remembered_weakly_is_over_when_others_let_it_go() -> None:
    under_way, agent = UnderWay(), Agent()
    under_way.watch(agent, weakly=True)
    kept = await begin(agent, 1, "a")
    await begin(agent, 1, "b")
    await settle()  # the event loop closes it
    gc.collect()
    await settle()
    assert agent.ended == ["b"]
    await under_way.stop()
    assert agent.ended == ["b", "a"]
    del kept


async def test_what_makes_no_streams_is_called_and_no_more() -> None:
    class Plain:
        def stream(self, name: str, *, more: int) -> list[Any]:
            return [name, more]

    under_way, plain = UnderWay(), Plain()
    stop_watching = under_way.watch(plain, "stream")
    assert plain.stream("a", more=1) == ["a", 1]
    await under_way.stop()
    stop_watching()
    assert vars(plain) == {}


async def test_whoever_watches_no_more_hears_of_no_further_streams() -> None:
    one, other, agent = UnderWay(), UnderWay(), Agent()
    leave = one.watch(agent)
    other.watch(agent)
    leave()
    await begin(agent, 1)
    await one.stop()
    assert agent.ended == []
    await other.stop()
    assert agent.ended == ["a"]
