"""Graphs and swarms made by chance, killed by chance.

Every case has a seed, which a failure names. To try others, and many:
``RANDOM_GRAPHS=5000-6000 .venv/bin/pytest -n auto tests/crash/test_random_graphs.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from strands_dapr_session.testing.crash import CrashTest
from tests.crash import random_orchestrations
from tests.crash.conftest import FULL, Place

Make = Callable[..., CrashTest]

FIRST, _, LAST = os.environ.get("RANDOM_GRAPHS", "0-500" if FULL else "0-40").partition("-")
SEEDS = range(int(FIRST), int(LAST or int(FIRST) + 1))
GROUP = 4
"""Seeds that one test tries."""


@pytest.mark.newest_dependencies  # what they are made of is in `SINCE_1_5X` of test_graphs
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", SEEDS[::GROUP])
def test_killed_by_chance(first: int, sqlite_place: Place, crash_test: Make) -> None:
    for seed in [seed for seed in range(first, first + GROUP) if seed in SEEDS]:
        test = crash_test(random_orchestrations.program(seed), sqlite_place)
        lives = [number for number, life in enumerate(test.uninterrupted().lives, 1) if life.role == "run"]
        moments = [test.moments(number) for number in lives]
        for time in range(3 if FULL else 1):
            outcome = test.killed(*random_orchestrations.kills(moments, seed * 100 + time))
            assert not outcome.problems, f"seed {seed}, {outcome}"
