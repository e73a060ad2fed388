"""What the process after a crash may ask: the same, something new, nothing, or the same without an id."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from strands_dapr_session.testing.compare import (
    RULES,
    Run,
    others_see_the_same,
    problems,
    results_are_equal,
    tokens_are_equal,
)
from strands_dapr_session.testing.crash import CrashTest, Report
from strands_dapr_session.testing.kills import Kill
from strands_dapr_session.testing.program import Program
from tests.crash import programs
from tests.crash.conftest import POINT, Place

Make = Callable[..., CrashTest]

MESSAGES = 4
"""What one call of the unnamed program adds to the conversation: prompt, tool use, results, answer."""


def cut_and_go_on(test: CrashTest, then: Program) -> Iterator[tuple[Kill, Run]]:
    """Kill a program at every moment, and let the next process run another one."""
    moments = [Kill.parse(POINT)] if POINT else test.moments()
    for moment in moments:
        run = test.run([moment], then=then)
        if run.working[0].first("killed"):  # commits that go together in one run may go apart in another
            yield moment, run


def test_a_new_prompt_runs_after_what_is_owed(sqlite_place: Place, crash_test: Make) -> None:
    # In one call for both prompts, Strands counts the tokens of both.
    test = crash_test(programs.first, sqlite_place, rules=[rule for rule in RULES if rule is not tokens_are_equal])
    both = crash_test(programs.two_prompts, sqlite_place).uninterrupted()
    only_the_second = crash_test(programs.second_only, sqlite_place).uninterrupted()
    report, owed = Report(), 0
    for moment, run in cut_and_go_on(test, programs.second_only):
        found = run.working[1].found
        owed += bool(found("unfinished"))
        if not found("unfinished") and not found("finished"):
            # It died before anything was recorded: for all others the first prompt never was.
            report.outcomes.append(test.judge([moment], Run(run.session_id, run.lives[1:]), only_the_second))
        else:
            report.outcomes.append(test.judge([moment], run, without_first_result(both, run)))
    report.check()
    assert owed > 5


def without_first_result(reference: Run, run: Run) -> Run:
    """Leave out what only the first process is told, unless it was told before it died."""
    told = {entry["id"] for entry in run.of("returned")}
    lives = [
        type(life)(
            life.role,
            life.status,
            tuple(entry for entry in life.entries if entry.kind != "returned" or entry["id"] in told),
        )
        for life in reference.lives
    ]
    return Run(reference.session_id, tuple(lives))


def test_no_prompt_finishes_what_is_owed(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(programs.first, sqlite_place)
    reference = test.uninterrupted()
    # The one call has another name, and asking for nothing once more is something new.
    rules = [rule for rule in RULES if rule not in (results_are_equal, others_see_the_same)]
    wrong, owed = {}, 0
    for moment, run in cut_and_go_on(test, programs.nothing_new):
        if not run.working[1].found("unfinished"):
            continue  # nothing had begun, or nothing was left: asking for nothing then is another thing
        owed += 1
        wrong[str(moment)] = problems(reference, run, rules)
        result, expected = run.of("returned")[-1], reference.of("returned")[-1]
        if result["message"] != expected["message"]:
            wrong[str(moment)].append(f"returned {result['message']}")
    assert {moment: found for moment, found in wrong.items() if found} == {}
    assert owed > 5


def test_without_ids_a_prompt_is_asked_until_it_returns(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(programs.unnamed, sqlite_place)
    reference = test.uninterrupted()
    report, repeated = Report(), 0
    for moment, run in cut_and_go_on(test, programs.unnamed):
        if is_lost_in_return(run):
            # All was recorded, and the caller died before it knew. Only an id could tell a repetition from a wish.
            repeated += 1
            continue
        report.outcomes.append(test.judge([moment], run, reference))
    report.check()
    assert repeated <= 6, repeated  # a call or two around each of the two returns


def is_lost_in_return(run: Run) -> bool:
    """Tell whether a process died after its call was recorded to the end, and before it returned."""
    first, second = run.working[0], run.working[-1]
    calls, returns = len(first.of("call")), len(first.of("returned"))
    found = second.first("found")
    recorded = sum(map(len, found["answers"].values())) if found is not None else 0
    return calls > returns and not second.found("unfinished") and recorded > MESSAGES * returns
