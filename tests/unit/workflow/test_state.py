"""How a run stands after everything that may happen to it, and what that means for workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.workflow.state import OVER, PHASES, Attempt, Phase, Request, RunState

FULL = RunState(
    phase="running",
    generation=2,
    failures=3,
    unpark=True,
    holder="w",
    claim="c",
    cancel=True,
    answers=4,
    interrupts=({"id": "i", "name": "n", "reason": [1]},),
    error=("T", "m"),
    behind="other",
    followers=("f", "g"),
    misfit_since=5.5,
    attempts=(Attempt("v", 1.0, "lost", "d"), Attempt("w", 2.0)),
)


def test_everything_comes_back_from_the_store() -> None:
    assert RunState.read(FULL.plain(), "k") == FULL
    assert RunState.read(None, "k") == RunState()
    assert RunState.read(RunState().plain(), "k") == RunState()
    assert list(FULL.plain()) == [
        "phase", "generation", "failures", "unpark", "holder", "claim", "cancel", "answers", "interrupts", "error",
        "behind", "followers", "misfit_since", "attempts",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [*({name: None} for name in FULL.plain() if name not in {"unpark", "cancel", "holder", "claim", "behind"}),
     {"phase": "gone"}, {"error": ["one"]}, {"attempts": [["w", 1.0, ""]]}, {"interrupts": [{}]}],
    ids=repr,
)  # fmt: skip
def test_what_is_no_state_is_damage(wrong: dict[str, Any]) -> None:
    with pytest.raises(DamagedDataError, match="'k'"):
        RunState.read({**FULL.plain(), **wrong}, "k")


def test_a_state_that_lacks_something_is_damage() -> None:
    for name in FULL.plain():
        with pytest.raises(DamagedDataError):
            RunState.read({key: value for key, value in FULL.plain().items() if key != name}, "k")


def test_requests_come_back_and_nothing_else_does() -> None:
    request = Request("a", "s", {"x": [1]})
    assert Request.read(request.plain(), "k") == request
    for wrong in (None, [], ["a", "s"], ["a", 1, "p"], [1, "s", "p"], ["a", "s", "p", "q"]):
        with pytest.raises(DamagedDataError, match="not a request"):
            Request.read(wrong, "k")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("cancel", [True, False])
@pytest.mark.parametrize("behind", ["", "x"])
def test_what_is_due(phase: Phase, *, cancel: bool, behind: str) -> None:
    state = RunState(phase=phase, cancel=cancel, behind=behind)
    assert state.is_over == (phase in {"completed", "failed", "cancelled"}) == (phase in OVER)
    assert state.is_due == ((phase in {"pending", "running"} and not behind) or (cancel and not state.is_over))


def test_what_a_dead_worker_leaves_to_others() -> None:
    begun = RunState().begun("w", "c", 1.0)
    assert begun.is_left_by("w")
    assert not begun.is_left_by("v")
    assert begun.let_go("drained").is_left_by("w")
    assert not RunState().is_left_by("w")  # it was never taken
    assert not begun.asking(()).is_left_by("w")
    assert not begun.over("completed").is_left_by("w")
    assert begun.over("completed").attempts[0].ended == "completed"


def test_an_attempt_begins_and_ends() -> None:
    state = replace(RunState(), behind="other", interrupts=({"id": "i"},)).begun("w", "c", 7.0)
    assert (state.phase, state.holder, state.claim, state.behind, state.interrupts) == ("running", "w", "c", "", ())
    assert state.attempts == (Attempt("w", 7.0),)
    left = state.let_go("lost", "why", failed=True)
    assert (left.phase, left.holder, left.claim, left.failures) == ("pending", "", "", 1)
    assert left.attempts == (Attempt("w", 7.0, "lost", "why"),)
    again = left.begun("v", "d", 8.0).let_go("drained")
    assert again.failures == 1
    assert [each.ended for each in again.attempts] == ["lost", "drained"]
    assert again.let_go("twice").attempts == again.attempts  # nobody has it: nothing ends
    called = replace(left, unpark=True).called()
    assert (called.failures, called.unpark) == (0, False)


@pytest.mark.parametrize("count", [31, 32, 33, 40])
def test_the_first_and_the_newest_attempts_are_kept(count: int) -> None:
    state = RunState()
    for number in range(count):
        state = state.begun(f"w{number}", "c", float(number))
    began = [int(each.began) for each in state.attempts]
    assert began == (list(range(count)) if count <= 32 else [0, *range(count - 31, count)])


def test_long_words_are_cut() -> None:
    state = RunState().begun("w", "c", 1.0).let_go("lost", "x" * 3000)
    assert len(state.attempts[0].detail) == 2000
    assert state.over("failed", "T", "y" * 3000).error == ("T", "y" * 2000)


def test_how_it_ends() -> None:
    asked = ({"id": "i"},)
    begun = replace(RunState(), failures=2, misfit_since=3.0).begun("w", "c", 1.0)
    waiting = begun.asking(asked)
    assert (waiting.phase, waiting.holder, waiting.claim, waiting.interrupts) == ("waiting", "", "", asked)
    assert (waiting.failures, waiting.misfit_since, waiting.attempts[0].ended) == (0, 0.0, "interrupted")
    over = replace(waiting, holder="w", claim="c").over("failed", "T", "m")
    assert (over.phase, over.holder, over.claim, over.interrupts, over.error) == ("failed", "", "", (), ("T", "m"))


def test_answers_are_taken_once_and_in_order() -> None:
    waiting = replace(RunState().begun("w", "c", 1.0).asking(({"id": "i"},)), answers=1)
    assert waiting.answered(1) is waiting
    assert waiting.answered(3) is waiting
    answered = waiting.answered(2)
    assert (answered.phase, answered.answers, answered.interrupts) == ("pending", 2, ())
    assert answered.answered(3) is answered
    assert RunState().answered(1) == RunState()


def test_cancelling() -> None:
    assert RunState().to_cancel().cancel
    for phase in OVER:
        state = RunState(phase=phase)
        assert state.to_cancel() is state


def test_runs_wait_for_each_other() -> None:
    begun = RunState().begun("w", "c", 1.0)
    behind = begun.put_off("first", "its session is busy")
    assert (behind.phase, behind.behind, behind.holder, behind.failures) == ("pending", "first", "", 0)
    assert behind.attempts[0].ended == "put off"
    assert behind.its_turn("second") is behind
    assert behind.its_turn("first").behind == ""
    first = RunState().followed_by("a").followed_by("b").followed_by("a")
    assert first.followers == ("a", "b")
    for phase in OVER:
        state = RunState(phase=phase)
        assert state.followed_by("a") is state


def test_a_misfit_is_given_up_after_a_while() -> None:
    first = RunState().unfit(100.0, 10.0, "T", "m")
    assert (first.phase, first.misfit_since) == ("pending", 100.0)
    assert first.unfit(109.0, 10.0, "T", "m") is first
    assert first.unfit(110.0, 10.0, "T", "m").error == ("T", "m")
    assert first.unfit(110.0, 10.0, "T", "m").phase == "failed"
    begun = first.begun("w", "c", 105.0)
    assert begun.let_go("refused").misfit_since == 100.0
    assert begun.let_go("drained").misfit_since == 0.0


def test_again() -> None:
    failed = replace(
        RunState().begun("w", "c", 1.0).over("failed", "T", "m"),
        generation=1,
        failures=5,
        misfit_since=2.0,
        cancel=True,
    )
    assert failed.again(0) is failed
    assert failed.again(2) is failed
    fresh = failed.again(1)
    assert (fresh.phase, fresh.generation, fresh.failures, fresh.cancel, fresh.unpark) == ("pending", 2, 0, False, True)
    assert (fresh.error, fresh.misfit_since) == (("", ""), 0.0)
    running = replace(RunState().begun("w", "c", 1.0), cancel=True).again(0)
    assert (running.phase, running.generation, running.cancel, running.unpark) == ("running", 1, True, False)
    assert running.holder == "w"


def test_what_failed_is_given_up_by_whoever_takes_it_next() -> None:
    failed = replace(RunState().begun("w", "c", 1.0).over("failed", "T", "m"), failures=5)
    given_up = failed.given_up()
    assert (given_up.phase, given_up.cancel, given_up.is_due) == ("pending", True, True)
    assert (given_up.generation, given_up.failures) == (1, 0)  # by a new workflow, and not parked before it is built
    assert given_up.given_up() is given_up
    for phase in PHASES:
        state = RunState(phase=phase)
        assert (state.given_up() is state) == (phase != "failed")
