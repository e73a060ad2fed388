"""Bounded retries."""

from __future__ import annotations

from strands_dapr_session.stores.retry import Backoff, RetryPolicy


class FakeTime:
    """A clock that moves when somebody sleeps, and by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_pauses_double_up_to_the_longest_and_end_with_the_budget() -> None:
    time = FakeTime()
    policy = RetryPolicy(
        budget=2.0, first_delay=0.1, longest_delay=0.5, clock=time.clock, sleep=time.sleep, chance=lambda: 1.0
    )
    backoff = Backoff(policy)
    pauses = 0
    while await backoff.pause():
        pauses += 1
    assert [round(seconds, 6) for seconds in time.slept] == [0.1, 0.2, 0.4, 0.5, 0.5, 0.3]
    assert pauses == 6
    assert not await backoff.pause()


async def test_pauses_are_shortened_by_chance() -> None:
    time = FakeTime()
    chances = iter([0.0, 0.5, 0.25])
    policy = RetryPolicy(
        first_delay=1.0, longest_delay=9.0, clock=time.clock, sleep=time.sleep, chance=chances.__next__
    )
    backoff = Backoff(policy)
    for _ in range(3):
        assert await backoff.pause()
    assert time.slept == [0.0, 1.0, 1.0]


async def test_the_budget_counts_from_the_first_failure() -> None:
    time = FakeTime()
    backoff = Backoff(RetryPolicy(budget=1.0, clock=time.clock, sleep=time.sleep))
    time.now += 1000
    assert await backoff.pause()
    time.now += 1.0
    assert not await backoff.pause()
