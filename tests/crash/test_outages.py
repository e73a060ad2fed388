"""The store, or the way to it, fails under a running agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dev.servers import Daprd, RedisServer, RedisState
from strands_dapr_session.testing.compare import RULES, Life, Run, problems, tokens_are_equal
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.kills import Kill
from strands_dapr_session.testing.program import Program
from tests.crash import programs
from tests.crash.conftest import FULL, Place

Make = Callable[..., CrashTest]

# A call that is made again counts its tokens anew.
WITHOUT_TOKENS = [rule for rule in RULES if rule is not tokens_are_equal]
TYPED = ("StoreUnavailableError(", "SidecarNotFoundError(")


@pytest.fixture
def sidecar(own_redis: RedisServer) -> Iterator[Daprd]:
    """A sidecar for this test alone."""
    with Daprd([RedisState("statestore", own_redis.address)]) as server:
        yield server


PERSISTENT = [
    "persistent",
    "counting",
    "remembering_persistently",
    "windowed_persistently",
    "approving_persistently",
]


def place_of(sidecar: Daprd, *, seconds: float) -> Place:
    return Place(f"dapr://statestore?address={sidecar.address}&retry_seconds={seconds}", None)


def wait_for(test: CrashTest, session_id: str, kind: str, number: int = 1) -> None:
    deadline = time.monotonic() + 20
    while len(test.ledger(session_id).entries(kind)) < number:
        assert time.monotonic() < deadline, f"no {kind}"
        time.sleep(0.02)


def look(test: CrashTest, session_id: str, *lives: Life) -> Run:
    return Run(session_id, (*lives, test.live(session_id, role="look")))


def errors_of(life: Life) -> list[str]:
    return [entry["error"] for entry in life.of("raised", "failed")]


@pytest.mark.parametrize("tools_done", [1, 3])
def test_a_restart_of_the_sidecar_is_not_noticed(tools_done: int, sidecar: Daprd, crash_test: Make) -> None:
    test = crash_test(programs.slow, place_of(sidecar, seconds=12))
    reference = test.uninterrupted()
    session_id = test.new_session("restart")
    process = test.start(session_id)
    wait_for(test, session_id, "tool-end", tools_done)
    sidecar.kill()
    time.sleep(0.3)
    sidecar.start()
    assert problems(reference, look(test, session_id, test.end(session_id, process))) == []


def test_a_restart_of_the_store_behind_it_is_not_noticed(
    own_redis: RedisServer, sidecar: Daprd, crash_test: Make
) -> None:
    test = crash_test(programs.slow, place_of(sidecar, seconds=12))
    reference = test.uninterrupted()
    session_id = test.new_session("restart")
    process = test.start(session_id)
    wait_for(test, session_id, "tool-end")
    own_redis.kill()
    time.sleep(0.3)
    own_redis.start()
    assert problems(reference, look(test, session_id, test.end(session_id, process))) == []


def test_a_sidecar_that_hangs_for_a_while_is_waited_for(sidecar: Daprd, crash_test: Make) -> None:
    test = crash_test(programs.slow, place_of(sidecar, seconds=12))
    reference = test.uninterrupted()
    session_id = test.new_session("hang")
    process = test.start(session_id)
    wait_for(test, session_id, "tool-end")
    sidecar.pause()
    time.sleep(1)
    sidecar.resume()
    assert problems(reference, look(test, session_id, test.end(session_id, process))) == []


def test_an_outage_stops_the_run_and_another_process_finishes_it(sidecar: Daprd, crash_test: Make) -> None:
    test = crash_test(programs.slow, place_of(sidecar, seconds=0.5))
    reference = test.uninterrupted()
    session_id = test.new_session("outage")
    process = test.start(session_id)
    wait_for(test, session_id, "tool-end")
    sidecar.kill()
    first = test.end(session_id, process)
    assert first.status == 1
    assert errors_of(first)[-1].startswith(TYPED)
    assert len(first.of("tool-start")) == 2  # those of the first batch, which had begun
    sidecar.start()
    second = test.live(session_id)
    assert problems(reference, look(test, session_id, first, second), WITHOUT_TOKENS) == []


def test_an_outage_stops_the_run_and_the_same_process_finishes_it(sidecar: Daprd, crash_test: Make) -> None:
    test = crash_test(programs.slow_and_persistent, place_of(sidecar, seconds=0.5))
    reference = test.uninterrupted()
    session_id = test.new_session("outage")
    process = test.start(session_id)
    wait_for(test, session_id, "tool-end")
    sidecar.kill()
    wait_for(test, session_id, "raised")
    sidecar.start()
    life = test.end(session_id, process)
    assert [error.startswith(TYPED) for error in errors_of(life)] == [True]
    assert problems(reference, look(test, session_id, life), WITHOUT_TOKENS) == []


def in_weather(program: Program, faults: object) -> Program:
    return replace(program, faults=faults)  # type: ignore[arg-type]  # any callable


@pytest.mark.parametrize("name", PERSISTENT)
def test_an_outage_at_any_call_is_survived(name: str, sqlite_place: Place, crash_test: Make) -> None:
    program = getattr(programs, name)
    test = crash_test(program, sqlite_place)
    reference = test.uninterrupted()
    lived = reference.lives[0].of("lived")[0]
    wrong, raised = {}, 0
    for first in range(1, len(lived["store"]) + 1, 1 if FULL else 2):
        for length in (1, 4, 9):
            session_id = test.new_session(f"outage-{first}-{length}")
            lives = [test.live(session_id, program=in_weather(program, programs.Outage(first, first + length)))]
            if lives[0].status:  # it was built, or gave up, in the middle of it
                lives.append(test.live(session_id))
            errors = [error for life in lives for error in errors_of(life)]
            found = problems(reference, look(test, session_id, *lives), WITHOUT_TOKENS)
            found += [f"raised {error}" for error in errors if not error.startswith(TYPED)]
            raised += len(errors)
            wrong[f"{first}+{length}"] = found
    assert {moment: found for moment, found in wrong.items() if found} == {}
    assert raised > len(wrong)


@pytest.mark.parametrize("name", ["parallel", "approving", "large", "packing"])
def test_writes_of_which_nobody_knows_the_outcome_are_settled(name: str, sqlite_place: Place, crash_test: Make) -> None:
    program = getattr(programs, name)
    test = crash_test(program, sqlite_place)
    reference = test.uninterrupted()
    wrong = {}
    for seed in range(60 if FULL else 6):
        session_id = test.new_session(f"noise-{seed}")
        noisy = in_weather(program, programs.Noise(seed))
        life = test.live(session_id, program=noisy)
        wrong[seed] = problems(reference, look(test, session_id, life))
    assert {seed: found for seed, found in wrong.items() if found} == {}


def test_kills_in_bad_weather(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(programs.parallel, sqlite_place)
    reference = test.uninterrupted()
    wrong, fired = {}, 0
    for number in range(4, 200 if FULL else 30):
        session_id = test.new_session(f"noise-{number}")
        noisy = in_weather(programs.parallel, programs.Noise(number))
        kills = [Kill("store", 4 + number % 13, "before"), Kill("store", 4 + number % 7, "after"), None]
        lives: list[Life] = []
        while not lives or lives[-1].first("killed"):
            lives.append(test.live(session_id, kills[len(lives)], noisy))
        fired += len(lives) - 1
        wrong[number] = problems(reference, look(test, session_id, *lives))
    assert {number: found for number, found in wrong.items() if found} == {}
    assert fired > len(wrong) / 2
