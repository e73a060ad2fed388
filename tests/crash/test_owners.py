"""Several processes want the same session: one runs it, and whoever was taken for dead cannot do harm."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strands_dapr_session.testing.compare import Life, Run, problems
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.kills import Kill
from tests.crash import orchestrations, programs
from tests.crash.conftest import FULL, POINT, Place

Make = Callable[..., CrashTest]


def race(test: CrashTest, runners: int) -> list[Life]:
    session_id = test.new_session("race")
    processes = [test.start(session_id) for _ in range(runners)]
    return [test.end(session_id, process) for process in processes]


BOTH = pytest.mark.parametrize("made", [programs, orchestrations], ids=["agent", "graph"])


@BOTH
def test_of_several_that_will_not_wait_exactly_one_runs(made: Any, place: Place, crash_test: Make) -> None:
    test = crash_test(made.slow_and_impatient, place)
    lives = race(test, 4)
    winners = [life for life in lives if not life.status]
    assert len(winners) == 1
    assert problems(test.uninterrupted(), Run("", tuple(winners))) == []
    for life in lives:
        if life.status:
            assert "SessionBusyError" in life.of("failed")[0]["error"]
            assert life.of("tool-start", "model-start") == []


@BOTH
def test_of_several_that_wait_one_runs_and_all_get_its_result(made: Any, place: Place, crash_test: Make) -> None:
    test = crash_test(made.slow, place)
    lives = race(test, 3)
    assert [life.status for life in lives] == [0, 0, 0]
    reference = test.uninterrupted()
    ran = [life for life in lives if life.of("tool-start", "model-start")]
    assert len(ran) == 1
    assert problems(reference, Run("", tuple(ran))) == []
    what = "result" if made is orchestrations else "message"
    expected = reference.of("returned")[0][what]
    assert [life.of("returned")[0][what] for life in lives] == [expected] * 3


def test_the_dead_of_this_machine_are_not_waited_for(place: Place, crash_test: Make) -> None:
    test = crash_test(programs.parallel, place)  # its lease is a minute
    session_id = test.new_session("dead")
    test.live(session_id, Kill("tool", 2, "after"))
    began = time.monotonic()
    assert test.live(session_id).status == 0
    assert time.monotonic() - began < 10


def test_the_heartbeat_of_the_dead_is_buried(sqlite_place: Place, crash_test: Make) -> None:
    program = replace(programs.slow, options={"lease": 0.5, "busy_timeout": 20.0})
    test = crash_test(program, sqlite_place)
    session_id = test.new_session("dead")
    test.live(session_id, Kill("tool", 3, "after"))
    assert heartbeats(sqlite_place) != []
    assert test.live(session_id).status == 0
    assert heartbeats(sqlite_place) == []


def heartbeats(place: Place) -> list[str]:
    return [key for key in place.list_keys() if ":worker:" in key] if place.list_keys else []


@pytest.fixture(params=[programs, orchestrations], ids=["agent", "graph"])
def paused(request: pytest.FixtureRequest, dapr_place: Place, crash_test: Make) -> CrashTest:
    # Not SQLite: a process that is stopped in the middle of a transaction locks everybody out.
    return crash_test(request.param.short_of_lease, dapr_place)


def moments_to_pause(test: CrashTest) -> list[Kill]:
    if POINT:
        return [Kill.parse(POINT)]
    moments = [moment for moment in test.moments() if moment.what != "store" or moment.number > 3]
    some = moments if FULL else moments[:: max(5, len(moments) // 9)]
    return [replace(moment, pause=True) for moment in some]


def test_who_was_paused_for_a_lease_does_nothing_more(paused: CrashTest) -> None:
    reference = paused.uninterrupted()
    wrong, fenced, fired = {}, 0, 0
    for moment in moments_to_pause(paused):
        for _ in range(_TRIES):
            outcome = _overtake(paused, reference, moment)
            if outcome is None:
                break  # commits that go together in one run may go apart in another
            wrong[str(moment)], is_fenced = outcome
            if not wrong[str(moment)]:
                fired += 1
                fenced += is_fenced
                break
    assert {moment: found for moment, found in wrong.items() if found} == {}
    assert fired >= (1 if POINT else 5)
    assert fenced >= (0 if POINT else 3)


_TRIES = 3
"""A thread that was admitted in time may write down that its tool starts just after another one was paused, which is
hardly ever seen twice. What is not held back for sure is seen every time."""


def _overtake(paused: CrashTest, reference: Run, moment: Kill) -> tuple[list[str], bool] | None:
    """Let another process finish while one is paused; get what is wrong, and whether the paused one was fenced off."""
    session_id = paused.new_session(str(moment))
    zombie = paused.start(session_id, moment)
    try:
        zombie.wait_until_stopped(2)
    except TimeoutError:
        zombie.wait()
        return None
    other = paused.live(session_id)
    zombie.signal(signal.SIGCONT)
    life = paused.end(session_id, zombie)
    last = paused.live(session_id, role="look")
    at = next(index for index, entry in enumerate(life.entries) if entry.kind == "paused")
    before, after = replace(life, entries=life.entries[:at]), replace(life, entries=life.entries[at:])
    found = problems(reference, Run(session_id, (before, other, last)))
    found += [f"the zombie ran {entry}" for entry in after.of("tool-start") if entry["id"] not in _admitted(after)]
    if not life.status:
        return found, False
    error = after.of("failed")[0]["error"]
    found += [] if "FencedError" in error else [f"the zombie died of {error}"]
    return found, "FencedError" in error


def _admitted(after: Life) -> list[str]:
    """Name the tools that were admitted already when it was paused: nothing can hold them back.

    The one before which it was paused. And, of nodes that run at the same time, one whose thread was about to write
    down that it starts while another thread stopped the process behind a commit: it is the first thing that follows.
    """
    paused, *rest = after.entries
    if paused["moment"].startswith("store") and rest and rest[0].kind == "tool-start" and rest[0]["agent"] != "default":
        return [str(rest[0]["id"])]
    return [str(paused["id"])] if paused["moment"].endswith("before-pause") and "id" in paused.details else []
