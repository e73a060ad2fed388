"""Graphs are killed, resumed in new processes, and compared with runs that were left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash import orchestrators
from tests.crash.orchestrators import ANSWERS, TASK, Life, differences, run

ALONE = (Life(),)
ASKED = (Life((TASK, ANSWERS)),)

CASES = {
    "in a batch of tools": (orchestrators.diamond, [Life(kill="a2"), Life()]),
    "two nodes in flight": (orchestrators.diamond, [Life(kill="b2"), Life()]),
    "three times": (orchestrators.diamond, [Life(kill="a2"), Life(kill="c2"), Life(kill="d1"), Life()]),
    "a sibling has finished": (orchestrators.uneven, [Life(kill="b2"), Life()]),
    "after the last node": (orchestrators.diamond, [Life(kill="after:d"), Life()]),
    "behind a condition": (orchestrators.choice, [Life(kill="x1"), Life()]),
    "first visit of a cycle": (orchestrators.cycle, [Life(kill="r2"), Life()]),
    "second visit of a cycle": (orchestrators.cycle, [Life(kill="d2#2"), Life()]),
    "second visit, agents reset": (orchestrators.cycle_reset, [Life(kill="r2#2"), Life()]),
    "conversation manager": (orchestrators.windowed, [Life(kill="aaa2"), Life()]),
    "nested graph": (orchestrators.nested, [Life(kill="y2"), Life()]),
    "nested swarm": (orchestrators.nested, [Life(kill="q2"), Life()]),
    "custom node": (orchestrators.nested, [Life(kill="fn:fn"), Life(kill="z2"), Life()]),
    "model raised": (orchestrators.diamond, [Life(fail="c:1"), Life()]),
    "model raised, same process": (orchestrators.diamond, [Life((TASK, TASK), fail="c:1", again=True)]),
    "custom node raised": (orchestrators.nested, [Life(fail="fn:fn"), Life()]),
    "nested swarm failed": (orchestrators.softly, [Life(fail="q:1"), Life()]),
    "nested swarm failed, same process": (orchestrators.softly, [Life((TASK, TASK), fail="q:1", again=True)]),
    "nested swarm failed, then killed": (orchestrators.softly, [Life(fail="q:1"), Life(kill="q1"), Life()]),
    "agent as tool": (orchestrators.graph_with_tool, [Life(kill="s2"), Life()]),
    "root agent with an agent as tool": (orchestrators.with_tool, [Life(kill="s2"), Life()]),
}

ASKING = {
    "answered in a new process": (orchestrators.asking, [Life(), Life((ANSWERS,))]),
    "answered in the same process": (orchestrators.asking, [Life((TASK, ANSWERS))]),
    "answered, then killed": (orchestrators.asking, [Life(), Life((ANSWERS,), kill="approve:a"), Life()]),
    "killed while one waits": (orchestrators.asking, [Life(kill="b2"), Life(), Life((ANSWERS,))]),
    "nested": (
        orchestrators.asking_nested,
        [Life(), Life((ANSWERS,), kill="approve:x"), Life(kill="y2"), Life()],
    ),
    "agent as tool and its parent": (orchestrators.asking_tool, [Life(), Life((ANSWERS,), kill="s2"), Life()]),
}


NEWEST = pytest.mark.newest_dependencies
"""Before Strands 1.5x a nested swarm that failed counted as completed, and agents as tools could not ask."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=NEWEST if "swarm failed" in n else ()) for n in CASES])
def test_resumed(name: str, tmp_path: Path) -> None:
    build, lives = CASES[name]

    assert_same(build, ALONE, lives, tmp_path)


@pytest.mark.parametrize("name", [pytest.param(n, marks=NEWEST if "as tool" in n else ()) for n in ASKING])
def test_answered(name: str, tmp_path: Path) -> None:
    build, lives = ASKING[name]

    assert_same(build, ASKED, lives, tmp_path)


def test_hook_of_a_node_is_not_asked_again(tmp_path: Path) -> None:
    alone = run(orchestrators.asking_hook, tmp_path / "alone", *ASKED)
    killed = run(orchestrators.asking_hook, tmp_path / "killed", Life(), Life((ANSWERS,), kill="c2"), Life())

    assert differences(alone, killed) == []
    assert killed.ran - alone.ran == Counter({"hook yes": 1})  # users' hooks run again for a node that goes on


def test_second_run_of_a_session(tmp_path: Path) -> None:
    alone = run(orchestrators.diamond, tmp_path / "alone", Life((TASK, TASK)))
    killed = run(orchestrators.diamond, tmp_path / "killed", Life(), Life(kill="b2", first=1), Life(first=1))

    assert differences(alone, killed) == []


def test_same_id_runs_nothing_again(tmp_path: Path) -> None:
    once = run(orchestrators.diamond, tmp_path / "once", Life())
    twice = run(orchestrators.diamond, tmp_path / "twice", Life(), Life())

    assert twice.ran == once.ran
    assert twice.result == once.result
    assert twice.agents == once.agents


def test_what_was_recorded_does_not_run_again(tmp_path: Path) -> None:
    killed = run(orchestrators.diamond, tmp_path, Life(kill="d2"), Life())

    assert {what for what, times in killed.ran.items() if times > 1} == set()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "build",
    [
        orchestrators.graph_with_tool,
        orchestrators.with_tool,
        pytest.param(orchestrators.asking_tool, marks=NEWEST),
    ],
)
def test_killed_around_every_write(build: Callable[[Any], Any], tmp_path: Path) -> None:
    assert orchestrators.everywhere(build, tmp_path) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "build",
    [
        orchestrators.uneven,
        orchestrators.cycle_reset,
        orchestrators.nested,
        orchestrators.asking,
        # With the oldest Strands the processes do not get to the answers, why is not known; see `test_answered`.
        pytest.param(orchestrators.asking_nested, marks=NEWEST),
    ],
)
def test_killed_around_every_third_write(build: Callable[[Any], Any], tmp_path: Path) -> None:
    assert orchestrators.everywhere(build, tmp_path, step=3) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("build", [orchestrators.asking_both, orchestrators.two_tools, orchestrators.softly])
@NEWEST
def test_killed_three_times_by_chance(build: Callable[[Any], Any], tmp_path: Path) -> None:
    assert orchestrators.anywhere(build, tmp_path, seed=1, times=8) == []


def assert_same(build: Callable[[Any], Any], alone: Any, lives: Any, directory: Path) -> None:
    reference = run(build, directory / "alone", *alone)
    other = run(build, directory / "killed", *lives)

    assert other.lost or len(lives) + len(lives[0].calls) > 2
    assert differences(reference, other) == []
