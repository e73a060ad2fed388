"""Programs that are killed, and killed again while they resume, or after they failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.kills import Kill
from tests.crash import programs
from tests.crash.conftest import FULL, Place

Make = Callable[[Any, Place], CrashTest]
Check = Callable[[CrashTest, list[Any]], None]

NEVER = Kill("store", 0, "before")
TOGETHER = {
    "sequential": 11,
    "parallel": 11,
    "approving": 23,
    "window_every_second_turn": 17,
    "two_prompts": 17,
    "packing": 97,
}


def rows_of_two(moments: list[Kill], share: int) -> list[tuple[Kill, ...]]:
    """Pair every moment with every other; a resumed process makes about as many calls as the one before."""
    rows: list[tuple[Kill, ...]] = [(first, second) for first in moments for second in moments]
    return rows[::3] if FULL else rows[:: share * 5]


@pytest.mark.parametrize("name", TOGETHER)
def test_killed_again_while_resuming(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    test = crash_test(getattr(programs, name), sqlite_place)
    check(test, rows_of_two(test.moments(), TOGETHER[name]))


def test_killed_again_and_again(dapr_place: Place, crash_test: Make, check: Check) -> None:
    test = crash_test(programs.parallel, dapr_place)
    moments = test.moments()
    check(test, [(moment,) * 4 for moment in (moments if FULL else moments[::7])])


@pytest.mark.parametrize("name", ["flaky"])
def test_killed_in_the_process_after_a_failure(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    test = crash_test(getattr(programs, name), sqlite_place)
    check(test, [(NEVER, moment) for moment in test.moments(life=2)[:: 1 if FULL else 2]])
