"""Every program, killed once at every moment, finishes in another process as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strands_dapr_session.testing.crash import CrashTest
from tests.crash import programs
from tests.crash.conftest import FULL, Place, some

Make = Callable[[Any, Place], CrashTest]
Check = Callable[[CrashTest, list[Any]], None]

SHARES = {
    "sequential": 1,
    "parallel": 1,
    "remembering": 2,
    "window": 3,
    "window_per_turn": 3,
    "window_every_second_turn": 2,
    "truncating": 2,
    "summarizing": 2,
    "rewriting": 2,
    "annotating": 2,
    "retrying": 2,
    "approving": 2,
    "two_prompts": 2,
    "blocks": 3,
    "flaky": 2,
    "flaky_again": 2,
    "failing": 3,
    "repeating": 3,
    "doubling": 2,
    "one_by_one": 2,
    "large": 7,
    "packing": 2,
    "packing_window": 4,
}
"""One of how many moments is enough every day, on SQLite: what differs between stores is tried in fewer programs.

Of two neighbours one is nearly the other: who dies before a write leaves what who dies after the last one does.
"""

ON_DAPR = {"sequential": 3, "parallel": 2, "approving": 5, "two_prompts": 5, "large": 12, "packing": 4}
ON_POSTGRES = {"parallel": 6}
ON_REDIS = {"parallel": 6}


@pytest.mark.parametrize("name", SHARES)
def test_killed_on_sqlite(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, SHARES[name], crash_test, check, sqlite_place)


@pytest.mark.parametrize("name", SHARES if FULL else ON_DAPR)
def test_killed_on_dapr(name: str, dapr_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, ON_DAPR.get(name, 1), crash_test, check, dapr_place)


@pytest.mark.parametrize("name", SHARES if FULL else ON_POSTGRES)
def test_killed_on_postgres(name: str, postgres_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, ON_POSTGRES.get(name, 1), crash_test, check, postgres_place)


@pytest.mark.parametrize("name", SHARES if FULL else ON_REDIS)
def test_killed_on_redis(name: str, redis_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, ON_REDIS.get(name, 1), crash_test, check, redis_place)


def _kill_everywhere(name: str, share: int, crash_test: Make, check: Check, place: Place) -> None:
    test = crash_test(getattr(programs, name), place)
    check(test, some(test.moments(), share))
