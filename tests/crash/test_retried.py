"""Killed while something is tried again: the count goes on, and nothing else is different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from strands_dapr_session.testing.compare import (
    Rule,
    Run,
    endings_are_equal,
    it_finishes,
    others_see_the_same,
    results_are_equal,
)
from strands_dapr_session.testing.crash import CrashTest
from tests.crash import durable_programs
from tests.crash.conftest import Place, some

Make = Callable[..., CrashTest]
Check = Callable[[CrashTest, list[Any]], None]


def no_attempt_too_many(_: Run, run: Run) -> Iterator[str]:
    """Only an attempt that a kill cut short, before its failure was recorded, is made once more."""
    starts = [entry for entry in run.of("tool-start") if entry["name"] == "stumble"]
    kills = sum(life.first("killed") is not None for life in run.working)
    if len(starts) > durable_programs.ATTEMPTS + kills:
        yield f"{len(starts)} attempts, with {kills} kills"


ALIKE: tuple[Rule, ...] = (it_finishes, results_are_equal, endings_are_equal, others_see_the_same, no_attempt_too_many)


@pytest.mark.parametrize("name", ["stumbling", "falling"])
def test_killed_between_attempts(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    test = crash_test(getattr(durable_programs, name), sqlite_place, rules=ALIKE)
    moments = [moment for moment in test.moments() if moment.what != "model"]
    check(test, [*some(moments, 3), (moments[-6], moments[2])])
