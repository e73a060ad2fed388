"""The crash test itself: it notices what is wrong, and says where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.testing.crash import CrashTest, Report
from strands_dapr_session.testing.keys import keys_of
from strands_dapr_session.testing.kills import Kill
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.plain import difference, plain
from strands_dapr_session.testing.processes import Spawner
from strands_dapr_session.testing.program import Program
from tests.crash import broken_programs, programs
from tests.crash.conftest import Place

Make = Callable[..., CrashTest]


def test_a_program_without_a_session_is_found_out_at_once(sqlite_place: Place, crash_test: Make) -> None:
    with pytest.raises(AssertionError, match="asked again, something ran"):
        crash_test(broken_programs.forgetful, sqlite_place).uninterrupted()


def test_a_model_that_is_asked_something_else_is_noticed(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(broken_programs.dreaming, sqlite_place)
    with pytest.raises(
        AssertionError, match=r"(?s)the model was asked something else.*To see it alone, .*tool-2-after"
    ):
        test.everywhere([Kill("tool", 2, "after")]).check()


def test_a_tool_that_runs_again_in_spite_of_its_result_is_noticed(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(broken_programs.obstinate, sqlite_place)
    report = test.everywhere([moment for moment in test.moments() if moment.what == "tool"])
    assert any("though its result was recorded" in problem for each in report.failed for problem in each.problems)


def test_a_tool_that_does_not_wait_for_its_record_is_noticed(sqlite_place: Place, crash_test: Make) -> None:
    test = crash_test(broken_programs.careless, sqlite_place)
    report = test.everywhere([moment for moment in test.moments() if moment.what in ("store", "tool")])
    assert any("had started" in problem for each in report.failed for problem in each.problems)


def test_processes_may_be_started_from_nothing(workshop: Path) -> None:
    url = f"sqlite:///{workshop / 'runs.db'}"
    with CrashTest(programs.parallel, url, workshop, starter=Spawner(), keys=keys_of(url)) as test:
        report = test.everywhere([Kill("tool", 2, "after")])
    report.check()
    assert report.fired == {"after tool": 1}


def test_nothing_killed_is_nothing_proved() -> None:
    with pytest.raises(AssertionError, match="nothing was killed"):
        Report().check()


def test_a_program_must_be_importable() -> None:
    with pytest.raises(ConfigurationError, match="top level"):
        Program(lambda manager: manager, ["x"]).pickled()


@pytest.mark.parametrize("text", ["store-7-before", "tool-1-after", "model-12-after", "tool-3-before-pause"])
def test_moments_are_read_as_they_are_written(text: str) -> None:
    assert str(Kill.parse(text)) == text


@pytest.mark.parametrize("text", ["", "store-before", "disk-1-before", "store-1-during", "store--1-before"])
def test_other_texts_are_no_moments(text: str) -> None:
    with pytest.raises(ValueError, match="no moment"):
        Kill.parse(text)


def test_a_ledger_survives_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger(path).note("first", number=1)
    with path.open("a") as file:
        file.write('{"at": 1.0, "pid": 1, "ki')
    Ledger(path).note("second", number=2)
    entries = Ledger(path).entries()
    assert [(entry.kind, entry.pid, dict(entry.details)) for entry in entries] == [
        ("first", os.getpid(), {"number": 1}),
        ("second", os.getpid(), {"number": 2}),
    ]


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (True, 1, "value"),
        (1, 1.0, "value"),
        ((1, 2), [1, 2], "value"),
        (b"ab", bytearray(b"ab"), "bytes"),
        ({"a", "b"}, {"a", "c"}, "set"),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}, "['a'][1]['b']"),
        ({"a": 1}, {}, "['a'] is missing"),
        ({}, {"a": 1}, "['a'] is unexpected"),
        ([1], [1, 2], "length"),
        ("x" * 600, "x" * 599 + "y", "value"),
    ],
)
def test_different_values_stay_different(one: Any, other: Any, where: str) -> None:
    assert where in (difference(plain(one), plain(other)) or "")
    assert difference(plain(one), plain(one)) is None


def test_what_is_random_does_not_count() -> None:
    one = {"role": "user", "tracking_id": "a", "metadata": {"metrics": {"latencyMs": 1}, "usage": {"inputTokens": 1}}}
    other = {**one, "tracking_id": "b", "metadata": {"metrics": {"latencyMs": 2}, "usage": {"inputTokens": 1}}}
    assert plain(one) == plain(other)
