"""A tool that may have run when its process died: what each policy promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from strands_dapr_session.hooks.in_doubt import UNKNOWN_OUTCOME
from strands_dapr_session.testing.compare import RULES, Rule, Run, it_finishes, others_see_the_same
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.plain import plain
from tests.crash import programs
from tests.crash.conftest import FULL, Place, some

Make = Callable[..., CrashTest]
Check = Callable[[CrashTest, list[Any]], None]

CHARGES = {"v1c0t0": "charged 5", "v1c1t0": "charged 7"}


def no_charge_twice(_: Run, run: Run) -> Iterator[str]:
    """A charge never starts twice."""
    started = [entry["id"] for entry in run.of("tool-start") if entry["name"] == "charge"]
    yield from (f"charge {id_} started {started.count(id_)} times" for id_ in set(started) if started.count(id_) > 1)


def no_charge_after_its_end(_: Run, run: Run) -> Iterator[str]:
    """A charge that took place does not start again."""
    ended: set[str] = set()
    for entry in run.of("tool-start", "tool-end"):
        if entry.kind == "tool-end":
            ended.add(entry["id"])
        elif entry["name"] == "charge" and entry["id"] in ended:
            yield f"charge {entry['id']} started again after it had ended"


def the_model_is_told_the_truth(_: Run, run: Run) -> Iterator[str]:
    """A charge either has its result, or is said to be unknown, which it is only after a start was recorded."""
    end = run.working[-1].first("end")
    results = {} if end is None else dict(_results(end["messages"]))
    for id_, text in CHARGES.items():
        started = any(entry["id"] == id_ for entry in run.of("tool-start"))
        killed = any(life.first("killed") for life in run.working)
        if results.get(id_) not in (text, plain(UNKNOWN_OUTCOME)):
            yield f"charge {id_} has the result {results.get(id_)!r}"
        if results.get(id_) == text and not started:
            yield f"charge {id_} has a result and never ran"
        if results.get(id_) != text and not killed:
            yield f"charge {id_} was in doubt though nobody was killed"


def _results(messages: list[Any]) -> Iterator[tuple[str, str]]:
    for message in messages:
        for block in message["content"]:
            if "toolResult" in block:
                yield block["toolResult"]["toolUseId"], block["toolResult"]["content"][0]["text"]


ONCE_AT_MOST: tuple[Rule, ...] = (it_finishes, others_see_the_same, no_charge_twice, the_model_is_told_the_truth)

CASES = {
    "never_twice": ONCE_AT_MOST,
    "asked_to_skip": ONCE_AT_MOST,
    "asked_to_run": RULES,
    "reconciled": (*RULES, no_charge_after_its_end),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_with_tools_in_doubt(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    test = crash_test(getattr(programs, name), sqlite_place, rules=CASES[name])
    moments = test.moments()
    tools = [(moment,) for moment in moments if moment.what == "tool"]
    check(test, tools + [row for row in some(moments, 2) if row not in tools])


@pytest.mark.parametrize("name", CASES)
def test_killed_twice_with_tools_in_doubt(name: str, sqlite_place: Place, crash_test: Make, check: Check) -> None:
    test = crash_test(getattr(programs, name), sqlite_place, rules=CASES[name])
    # Around the tools the second process does other things than the first: it asks, or finds out.
    firsts = [moment for moment in test.moments() if moment.what == "tool"]
    rows = [(first, second) for first in firsts for second in test.moments()]
    check(test, rows if FULL else rows[::13])


def test_the_policies_do_come_in(sqlite_place: Place, crash_test: Make) -> None:
    outcomes = []
    for name, rules in CASES.items():
        test = crash_test(getattr(programs, name), sqlite_place, rules=rules)
        outcome = test.killed(next(moment for moment in test.moments() if str(moment) == "tool-1-after"))
        assert not outcome.problems
        starts = [entry for entry in outcome.run.of("tool-start") if entry["id"] == "v1c0t0"]
        outcomes.append((name, len(starts), len(outcome.run.of("interrupted"))))
    assert outcomes == [("never_twice", 1, 0), ("asked_to_skip", 1, 1), ("asked_to_run", 2, 1), ("reconciled", 1, 0)]


def test_every_doubt_is_asked_about(sqlite_place: Place, crash_test: Make) -> None:
    """Whoever said that a call may run again did not say that it may run a third time."""
    test = crash_test(programs.asked_to_run, sqlite_place)
    moment = next(moment for moment in test.moments() if str(moment) == "tool-1-after")
    outcome = test.killed(moment, moment)
    assert outcome.fired == ("after tool", "after tool")
    assert not outcome.problems
    assert len([entry for entry in outcome.run.of("tool-start") if entry["id"] == "v1c0t0"]) == 3
    assert len(outcome.run.of("interrupted")) == 2
