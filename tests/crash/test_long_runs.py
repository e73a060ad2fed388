"""A run that needs more than one stack, killed around the places where one is left for the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strands_dapr_session.hooks.ceiling import TURNS
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.kills import Kill
from tests.crash import durable_programs
from tests.crash.conftest import FULL, Place

pytestmark = pytest.mark.newest_dependencies  # Strands has had a way around its event loop since 1.62


def test_killed_between_two_stacks(
    sqlite_place: Place, crash_test: Callable[..., CrashTest], check: Callable[[CrashTest, list[Any]], None]
) -> None:
    test = crash_test(durable_programs.long, sqlite_place)
    rows = [f"tool-{TURNS}-after", f"model-{TURNS + 1}-before", f"model-{TURNS + 1}-after,model-2-before"]
    if FULL:
        rows += map(str, test.moments())
    check(test, [tuple(map(Kill.parse, row.split(","))) for row in rows])
