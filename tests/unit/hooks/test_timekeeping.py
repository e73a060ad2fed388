"""How much time an invocation has left, and what is said when it has none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from strands_dapr_session import Deadlines
from strands_dapr_session.hooks.timekeeping import _Watch

pytestmark = pytest.mark.newest_dependencies  # before 1.62 Strands has nothing around tools and models to hook into

NOW = 1000.0


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.hooks.timekeeping.time.time", lambda: NOW)
    monkeypatch.setattr("strands_dapr_session.hooks.timekeeping.time.monotonic", lambda: 50.0)


class Scene:
    """An invocation of which some things are known."""

    def __init__(self, *, began: float = NOW - 3, silence: float = 2.0, pause_ends: float = 0.0) -> None:
        self.invocation = SimpleNamespace(began=began, overdue=False)
        self.recording: Any = SimpleNamespace(
            running=self.invocation, journal=SimpleNamespace(silence=silence), pause_ends=pause_ends, name="s/default"
        )

    def watch(self, **limits: Any) -> _Watch:
        return _Watch(self.recording, Deadlines(**limits))


@pytest.mark.parametrize(
    ("limit", "began", "left"),
    [(10, NOW - 3, 7), (3, NOW - 3, 0), (2, NOW - 3, -1), (10, NOW + 500, 10)],
    ids=["on its way", "just now", "over", "begun by a clock that is ahead"],
)
def test_what_is_left_of_an_invocation(limit: float, began: float, left: float) -> None:
    assert Scene(began=began).watch(invocation=limit).left() == left


@pytest.mark.parametrize(
    ("limit", "silence", "pause_ends", "left"),
    [(10, 2, 0, 8), (2, 2, 0, 0), (10, 2, 49, 9), (10, 2, 55, 15), (10, 5, 20, 5)],
)
def test_what_is_left_of_a_silence(limit: float, silence: float, pause_ends: float, left: float) -> None:
    # A pause between two attempts is no silence.
    assert Scene(silence=silence, pause_ends=pause_ends).watch(silence=limit).left() == left


def test_without_a_limit_time_never_ends() -> None:
    assert Scene().watch(tool=1).left() == float("inf")


def test_whichever_comes_first() -> None:
    assert Scene().watch(invocation=10, silence=5).left() == 3
    assert Scene().watch(invocation=4, silence=5).left() == 1


def test_an_invocation_that_took_too_long_is_marked_and_one_that_was_silent_is_not() -> None:
    scene = Scene()
    error = scene.watch(invocation=10, silence=2).late()
    assert "s/default recorded nothing for 2 seconds" in str(error)
    assert (error.seconds, scene.invocation.overdue) == (2, False)
    error = scene.watch(invocation=3, silence=2).late()
    assert "s/default took longer than 3 seconds and is parked" in str(error)
    assert (error.seconds, scene.invocation.overdue) == (3, True)
