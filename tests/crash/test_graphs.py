"""Every graph and swarm, killed once at every moment, finishes in another process as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strands_dapr_session.testing.compare import Run
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.kills import Kill
from tests.crash import orchestrations
from tests.crash.conftest import FULL, Place, some

Make = Callable[..., CrashTest]
Check = Callable[[CrashTest, list[Any]], None]

NEWEST = pytest.mark.newest_dependencies
"""Before Strands 1.5x a nested swarm that failed counted as completed, and agents as tools could not ask."""

SHARES = {
    "diamond": 9,
    "uneven": 14,
    "choosing": 11,
    "cycling": 14,
    "resetting": 11,
    "nested": 13,
    "rich": 12,
    "windowed": 17,
    "summarizing": 11,
    "two_tasks": 31,
    "flaky_again": 17,
    "softly_failing_again": 17,
    "reconciling": 11,
    "charging_asked": 11,
    "handing": 7,
    "relaying": 11,
    "returning": 11,
    "flaky_swarming_again": 13,
    "swarming": 13,
    "using": 9,
    "using_deeply": 13,
    "using_two": 17,
    "attached": 7,
    "asking": 11,
    "asking_swarming": 9,
    "asking_nested": 17,
    "asking_hook": 15,
    "asking_tool": 13,
    "asking_both": 23,
}
"""One of how many moments is enough every day, on SQLite; random graphs do the rest (see `test_random_graphs`)."""

ON_DAPR = {"diamond": 23, "nested": 41, "handing": 17, "asking_nested": 43, "using_two": 47}
ON_POSTGRES = {"diamond": 37, "handing": 29}

SINCE_1_5X = ("softly_failing", "softly_failing_again", "asking_tool")


def named(names: Any) -> list[Any]:
    return [pytest.param(name, marks=NEWEST if name in SINCE_1_5X else ()) for name in names]


@pytest.mark.parametrize("name", named(SHARES))
def test_killed_on_sqlite(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, SHARES[name], crash_test, check, sqlite_place)


@pytest.mark.parametrize("name", named(SHARES if FULL else ON_DAPR))
def test_killed_on_dapr(name: str, dapr_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, ON_DAPR.get(name, 1), crash_test, check, dapr_place)


@pytest.mark.parametrize("name", named(SHARES if FULL else ON_POSTGRES))
def test_killed_on_postgres(name: str, postgres_place: Place, crash_test: Make, check: Check) -> None:
    _kill_everywhere(name, ON_POSTGRES.get(name, 1), crash_test, check, postgres_place)


def _kill_everywhere(name: str, share: int, crash_test: Make, check: Check, place: Place) -> None:
    test = crash_test(getattr(orchestrations, name), place)
    check(test, some(test.moments(), share))


@pytest.mark.parametrize("name", named(["flaky", "lingering", "custom", "softly_failing", "flaky_swarming"]))
def test_killed_around_a_failure(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    """Something raises, or runs into a timeout, and ends its process; kills come before, and after."""
    test = crash_test(getattr(orchestrations, name), sqlite_place)
    failing = [life for life in test.uninterrupted().lives if life.status == 1]
    rows = some(test.moments(), 19)
    for number in range(len(failing)):
        never = (Kill("store", 0, "before"),) * (number + 1)
        rows += [(*never, *row) for row in some(test.moments(number + 2), 11)]
    check(test, rows)


@pytest.mark.parametrize("name", named(["diamond", "resetting", "nested", "handing", "asking_nested", "using_deeply"]))
def test_killed_again_and_again(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    """Each process dies where the first one did, which is later in the run, and one that died at once is no help."""
    test = crash_test(getattr(orchestrations, name), sqlite_place)
    late = [moment for moment in test.moments() if moment.what != "store" or moment.number > 6]
    check(test, [(moment,) * 4 for moment in (late if FULL else late[::37])])


def test_asked_for_the_same_id_again_nothing_runs(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(orchestrations.rich, sqlite_place)
    session_id = test.new_session("again")

    lives = [test.live(session_id) for _ in range(3)]

    assert [len(life.of("model-start", "tool-start", "custom")) for life in lives[1:]] == [0, 0]
    results = [life.of("returned")[0]["result"] for life in lives]
    assert results[1:] == [results[0]] * 2
    endings = [dict(life.of("end")[0].details) for life in lives]
    assert endings[1:] == [endings[0]] * 2


def test_a_charge_in_doubt_is_not_made_twice(sqlite_place: Place, crash_test: Make) -> None:
    program = replace(
        orchestrations.charging_asked, options={**orchestrations.charging_asked.options, "in_doubt": "never_twice"}
    )
    test = crash_test(program, sqlite_place, rules=())
    moments = [moment for moment in test.moments() if moment.what == "tool"]
    assert moments
    for moment in moments:
        run = test.killed(moment).run
        assert max(charges(run), default=0) <= 1, moment
        assert run.working[-1].of("returned")[0]["result"]["status"] == "completed"


def charges(run: Run) -> list[int]:
    ids = [entry["id"] for entry in run.of("tool-start")]
    return [ids.count(id_) for id_ in sorted(set(ids))]


def test_a_hook_of_a_node_is_not_asked_again(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(orchestrations.asking_hook, sqlite_place)
    session_id = test.new_session("asked")
    work = next(moment for moment in reversed(test.moments()) if moment.what == "tool" and moment.moment == "before")
    test.live(session_id, work)

    life = test.live(session_id)

    assert life.status == 0
    assert life.of("interrupted", "answered") == []
