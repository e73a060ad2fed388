"""Executors of nodes that are called otherwise than by their orchestrator, and get their own method back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from strands_dapr_session.multiagent.attempts import answer_again, let_others_begin, try_again

ANSWERS = [{"interruptResponse": {"interruptId": "1", "response": "yes"}}]


class Executor:
    """Streams what it was called with, and fails as often as it is told to before it ends."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    async def stream_async(self, task: Any, *more: Any, **options: Any) -> AsyncIterator[Any]:
        yield task
        yield more
        yield options
        if self.failures:
            self.failures -= 1
            raise ConnectionError(f"{self.failures} to come")


async def events_of(executor: Executor) -> list[Any]:
    return [event async for event in executor.stream_async("task", "more", option=1)]


EVENTS = ["task", ("more",), {"option": 1}]


class Attempts:
    """Whether there is another attempt, and in what order it was asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.asked: list[str] = []

    async def pausing(self) -> None:
        self.asked.append("pause")

    async def prepare(self, error: Exception) -> bool:
        self.asked.append(str(error))
        return len(self.asked) <= self._most


async def test_what_raises_is_called_again_with_the_same() -> None:
    executor, attempts = Executor(failures=2), Attempts(most=3)
    try_again(executor, attempts.pausing, attempts.prepare)
    assert await events_of(executor) == EVENTS * 3
    assert attempts.asked == ["pause", "1 to come", "0 to come"]


async def test_what_is_not_to_be_called_again_raises() -> None:
    executor, attempts = Executor(failures=9), Attempts(most=2)
    try_again(executor, attempts.pausing, attempts.prepare)
    with pytest.raises(ConnectionError, match="7 to come"):
        await events_of(executor)


async def test_answers_take_the_place_of_the_task() -> None:
    executor = Executor()
    answer_again(executor, ANSWERS)
    assert await events_of(executor) == [ANSWERS, *EVENTS[1:]]


async def test_who_lets_others_begin_is_called_with_the_same() -> None:
    executor = Executor()
    let_others_begin(executor)
    assert await events_of(executor) == EVENTS


async def test_who_lets_others_begin_comes_after_them() -> None:
    executor, begun = Executor(), list[str]()
    let_others_begin(executor)

    async def first() -> None:
        await events_of(executor)
        begun.append("executor")

    async def second() -> None:
        begun.append("other")

    await asyncio.gather(first(), second())
    assert begun == ["other", "executor"]


WAYS: list[Callable[[Executor], Callable[[], None]]] = [
    lambda executor: try_again(executor, Attempts(1).pausing, Attempts(1).prepare),
    lambda executor: answer_again(executor, ANSWERS),
    let_others_begin,
]


@pytest.mark.parametrize("way", WAYS, ids=["try again", "answer again", "let others begin"])
async def test_the_method_of_its_class_is_put_back(way: Callable[[Executor], Callable[[], None]]) -> None:
    executor = Executor()
    undo = way(executor)
    assert "stream_async" in vars(executor)
    undo()
    assert vars(executor) == {"failures": 0}


@pytest.mark.parametrize("way", WAYS, ids=["try again", "answer again", "let others begin"])
async def test_the_users_own_is_put_back(way: Callable[[Executor], Callable[[], None]]) -> None:
    async def own(*_: Any, **__: Any) -> AsyncIterator[Any]:
        yield "own"

    executor = Executor()
    vars(executor)["stream_async"] = own
    undo = way(executor)
    assert await events_of(executor) == ["own"]
    assert vars(executor)["stream_async"] is not own
    undo()
    assert vars(executor)["stream_async"] is own
