"""Swarms are killed, resumed in new processes, and compared with runs that were left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash import orchestrators
from tests.crash.orchestrators import ANSWERS, TASK, Life, differences, run

CASES = {
    "in the second node": (orchestrators.swarm, [Life(kill="q2"), Life()]),
    "between the handoff and its sibling": (orchestrators.swarm, [Life(kill="p2"), Life()]),
    "the same, twice": (orchestrators.swarm, [Life(kill="p2"), Life(kill="p2"), Life()]),
    "between two nodes": (orchestrators.swarm, [Life(kill="after:p"), Life()]),
    "after the last node": (orchestrators.swarm, [Life(kill="after:q"), Life()]),
    "after two handoffs": (orchestrators.relay, [Life(kill="r1"), Life()]),
    "failed": (orchestrators.swarm, [Life(fail="q:1"), Life()]),
    "failed, same process": (orchestrators.swarm, [Life((TASK, TASK), fail="q:1", again=True)]),
    "failed after the handoff": (orchestrators.swarm, [Life(fail="p:1"), Life()]),
}


@pytest.mark.parametrize("name", CASES)
def test_resumed(name: str, tmp_path: Path) -> None:
    build, lives = CASES[name]
    alone = run(build, tmp_path / "alone", Life())
    other = run(build, tmp_path / "killed", *lives)

    assert differences(alone, other) == []


@pytest.mark.parametrize(
    "lives",
    [
        [Life((TASK, ANSWERS))],
        [Life(), Life((ANSWERS,))],
        [Life(), Life((ANSWERS,), kill="approve:q"), Life()],
    ],
    ids=["same process", "new process", "killed"],
)
def test_answered(lives: list[Life], tmp_path: Path) -> None:
    alone = run(orchestrators.asking_swarm, tmp_path / "alone", Life((TASK, ANSWERS)))
    other = run(orchestrators.asking_swarm, tmp_path / "killed", *lives)

    assert differences(alone, other) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("build", [orchestrators.swarm, orchestrators.relay, orchestrators.asking_swarm])
def test_killed_around_every_write(build: Callable[[Any], Any], tmp_path: Path) -> None:
    assert orchestrators.everywhere(build, tmp_path) == []
