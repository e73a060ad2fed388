"""A stream that can be given up on: until then it is the stream itself, and afterwards nobody hears of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from strands_dapr_session.hooks import lockstep
from strands_dapr_session.hooks.lockstep import in_time

AMPLE = 30.0


def ample() -> float:
    return AMPLE


class TooLateError(Exception):
    """What is raised when the time is over."""


def after(*left: float) -> Callable[[], float]:
    """Tell how much time is left, one after the other; the last one for ever."""
    values = list(left)
    return lambda: values.pop(0) if len(values) > 1 else values[0]


async def listen(stream: AsyncIterator[object], heard: list[str]) -> None:
    async for each in stream:
        heard.append(f"got {each}")  # noqa: PERF401 - it may end with an error


async def test_a_stream_in_time_is_the_stream_itself() -> None:
    seen: list[str] = []

    async def numbers() -> Any:
        try:
            for number in range(3):
                seen.append(f"made {number}")
                yield number
        finally:
            seen.append("closed")

    async for number in in_time(numbers(), ample, TooLateError):
        await asyncio.sleep(0)  # it makes nothing meanwhile
        await asyncio.sleep(0)
        seen += [f"got {number}"]
    assert seen == ["made 0", "got 0", "made 1", "got 1", "made 2", "got 2", "closed"]


async def test_a_stream_that_fails_or_is_left() -> None:
    closed: list[str] = []

    async def numbers() -> Any:
        try:
            yield 1
            raise LookupError("no more")
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    with pytest.raises(LookupError, match="no more"):
        async for _ in in_time(numbers(), ample, TooLateError):
            pass
    left = in_time(numbers(), ample, TooLateError)
    assert await left.__anext__() == 1
    await left.aclose()
    assert closed == ["closed"] * 2


async def test_whoever_waits_for_a_stream_may_be_cancelled() -> None:
    closed: list[str] = []

    async def numbers() -> Any:
        try:
            await asyncio.sleep(AMPLE)
            yield 1
        finally:
            closed.append("closed")

    async def consume() -> None:
        async for _ in in_time(numbers(), ample, TooLateError):
            pass

    task = asyncio.ensure_future(consume())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == ["closed"]


async def test_what_cancels_itself_is_cancelled() -> None:
    async def cancelled() -> Any:
        yield 1
        raise asyncio.CancelledError

    seen: list[str] = []
    with pytest.raises(asyncio.CancelledError):
        await listen(in_time(cancelled(), ample, TooLateError), seen)
    assert seen == ["got 1"]


async def test_what_is_late_is_cancelled_and_has_cleaned_up_before_that_is_told() -> None:
    seen: list[str] = []

    async def numbers() -> Any:
        try:
            yield 1
            await asyncio.sleep(AMPLE)
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    with pytest.raises(TooLateError):
        await listen(in_time(numbers(), after(AMPLE, 0.01, 0.0), TooLateError), seen)
    assert seen == ["got 1", "cleaned up"]


async def test_time_that_is_added_meanwhile_counts() -> None:
    async def numbers() -> Any:
        await asyncio.sleep(0.05)
        yield 1

    # At the end of the time that it had at first there is more, as after a step that was recorded.
    assert [each async for each in in_time(numbers(), after(0.001, 0.001, AMPLE), TooLateError)] == [1]


async def test_no_time_is_none() -> None:
    async def numbers() -> Any:
        await asyncio.sleep(AMPLE)
        yield 1

    with pytest.raises(TooLateError):
        await anext(in_time(numbers(), after(0.0), TooLateError))


async def test_what_does_not_end_is_left_alone_and_reaches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    may_end = asyncio.Event()

    async def stubborn() -> Any:
        try:
            while not may_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await may_end.wait()
            yield 1
            seen.append("went on")
        finally:
            seen.append("closed")

    with pytest.raises(TooLateError):
        await listen(in_time(stubborn(), after(0.01, 0.0), TooLateError, grace=0.01), seen)
    assert "does not end" in caplog.text
    (left_alone,) = lockstep._left_alone  # or the garbage collector might end it
    assert seen == []
    may_end.set()
    await asyncio.wait({left_alone})
    await asyncio.sleep(0)
    assert seen == ["closed"]
    assert not lockstep._left_alone


async def test_what_it_sets_in_its_context_is_there_when_it_goes_on() -> None:
    name: ContextVar[str] = ContextVar("name", default="none")

    async def names() -> Any:
        name.set("its own")
        yield name.get()
        yield name.get()

    assert [each async for each in in_time(names(), ample, TooLateError)] == ["its own"] * 2
    assert name.get() == "none"
