from __future__ import annotations

from benchmarks.smoke import Check, fast, judge
from benchmarks.wire import Call, round_trips


def test_a_check_that_exceeds_its_limit_every_time_fails() -> None:
    [verdict] = judge([Check("slow", 2.0, iter([2.1, 2.2, 2.3, 2.4]).__next__)])

    assert not verdict.passed
    assert verdict.ratio == 2.4


def test_a_check_that_exceeds_its_limit_is_measured_again() -> None:
    [verdict] = judge([Check("disturbed", 2.0, iter([9.0, 8.0, 1.9]).__next__)])

    assert verdict.passed


def test_a_check_within_its_limit_is_measured_once() -> None:
    [verdict] = judge([Check("fast", 2.0, iter([2.0]).__next__)])

    assert verdict.passed


def test_what_a_busy_machine_does_to_half_of_the_repetitions_does_not_count() -> None:
    assert fast([1.0] * 50 + [100.0] * 50) == 1.0


def test_what_makes_all_repetitions_slower_does() -> None:
    assert fast([1.5] * 50 + [150.0] * 50) == 1.5


def test_of_calls_at_the_same_time_only_one_counts_as_a_round_trip() -> None:
    def call(began: float, ended: float) -> Call:
        return Call("GetState", 0, 0, began, ended)

    assert round_trips([]) == 0
    assert round_trips([call(0, 1), call(1, 2), call(2.5, 3)]) == 3
    assert round_trips([call(0, 1), call(1.1, 3), call(1.1, 2), call(1.2, 4), call(4, 5)]) == 3
