"""What Strands has had since 1.5x and 1.6x: agents made of it, killed once at every moment."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from strands_dapr_session.testing.crash import CrashTest
from tests.crash.conftest import Place, some

pytestmark = pytest.mark.newest_dependencies  # the oldest Strands has none of it

SHARES = {
    "guarded": 3,
    "coached": 3,
    "informed": 5,
    "routed": 4,
    "sheltered": 4,
    "aiming": 4,
    "skilled": 5,
    "stopping": 5,
    "ending": 3,
    "stashing": 4,
}
"""One of how many moments is enough every day."""


@pytest.mark.parametrize("name", SHARES)
def test_killed(
    name: str,
    sqlite_place: Place,
    crash_test: Callable[[Any, Place], CrashTest],
    check: Callable[[CrashTest, list[Any]], None],
) -> None:
    programs = importlib.import_module("tests.crash.newer_programs")
    test = crash_test(getattr(programs, name), sqlite_place)
    check(test, some(test.moments(), SHARES[name]))
