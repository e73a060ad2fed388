"""Nodes of a batch begin when none is being prepared any more, and late ones when what is replayed has ended."""

from __future__ import annotations

import asyncio

from strands_dapr_session.multiagent.starts import Starts


class Batch:
    """Nodes that wait until they may begin, and those that have begun."""

    def __init__(self) -> None:
        self.starts = Starts()
        self.begun: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def let_wait(self, *names: str) -> None:
        """Have nodes wait, and whoever may begin do so."""
        self._tasks += [asyncio.ensure_future(self._begin(name)) for name in names]
        await self.settle()

    async def _begin(self, name: str) -> None:
        await self.starts.wait(name)
        self.begun.append(name)

    async def settle(self) -> None:
        """Give all that may go on the time for it."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """End what still waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_node_begins_when_all_that_are_being_prepared_are() -> None:
    batch = Batch()
    batch.starts.expect()
    for name in "ab":
        batch.starts.prepare(name)
    batch.starts.has_prepared("a")
    await batch.let_wait("a")
    assert batch.begun == []
    batch.starts.has_prepared("b")
    await batch.let_wait("b")
    assert batch.begun == ["a", "b"]
    batch.starts.prepare("c")  # in a later batch
    await batch.let_wait("d")
    assert batch.begun == ["a", "b"]
    batch.starts.has_prepared("c")
    await batch.settle()
    assert batch.begun == ["a", "b", "d"]


async def test_a_late_node_begins_when_all_that_are_replayed_have_ended() -> None:
    batch = Batch()
    batch.starts.expect(replayed=["a", "b"], late=["c"])
    batch.starts.prepare("c")
    batch.starts.has_prepared("c")
    await batch.let_wait("c", "a", "d")
    assert batch.begun == ["a", "d"]
    batch.starts.has_ended("a")
    batch.starts.has_ended("d")
    await batch.settle()
    assert batch.begun == ["a", "d"]
    batch.starts.has_ended("b")
    await batch.settle()
    assert batch.begun == ["a", "d", "c"]


async def test_each_batch_has_its_own() -> None:
    batch = Batch()
    batch.starts.expect(late=["c"])
    await batch.let_wait("c")
    assert batch.begun == ["c"]  # nothing is replayed
    batch.starts.expect(replayed=["a"], late=["d"])
    await batch.let_wait("c", "d")
    assert batch.begun == ["c", "c"]
    batch.starts.expect()
    await batch.let_wait("d")
    assert batch.begun == ["c", "c", "d", "d"]
    await batch.stop()
