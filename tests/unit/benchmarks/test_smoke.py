from __future__ import annotations

from benchmarks.smoke import Check, fast, judge


def test_a_check_that_exceeds_its_limit_twice_fails() -> None:
    [verdict] = judge([Check("slow", 2.0, iter([2.1, 2.2]).__next__)])

    assert not verdict.passed
    assert verdict.ratio == 2.2


def test_a_check_that_exceeds_its_limit_once_is_measured_once_more() -> None:
    [verdict] = judge([Check("disturbed", 2.0, iter([9.0, 1.9]).__next__)])

    assert verdict.passed


def test_a_check_within_its_limit_is_measured_once() -> None:
    [verdict] = judge([Check("fast", 2.0, iter([2.0]).__next__)])

    assert verdict.passed


def test_what_a_busy_machine_does_to_half_of_the_repetitions_does_not_count() -> None:
    assert fast([1.0] * 50 + [100.0] * 50) == 1.0


def test_what_makes_all_repetitions_slower_does() -> None:
    assert fast([1.5] * 50 + [150.0] * 50) == 1.5
