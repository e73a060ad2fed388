from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.moments import Times, gaps, moments, wait


def test_what_is_noted_is_read_by_kind_and_run(tmp_path: Path) -> None:
    path = tmp_path / "times"
    assert moments(path, "model", "a") == []

    times = Times(path)
    for what, run in (("model", "a"), ("tool", "a"), ("model", "b"), ("model", "a")):
        times.note(what, run)

    assert [moment.pid for moment in moments(path, "model", "a")] == [os.getpid()] * 2
    assert len(moments(path, "tool", "a")) == 1
    assert moments(path, "tool", "b") == []


def test_gaps_are_those_between_the_moments_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "times"
    path.write_text("10.0 1 model a\n10.5 2 model b\n10.25 1 model a\n10.3 1 tool a\n10.75 3 model a\n")

    assert gaps(path, "model", "a") == [250.0, 500.0]
    assert gaps(path, "tool", "a") == []


def test_waiting_gives_the_moment_that_was_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "times"
    path.write_text("1.0 7 tool a\n2.0 8 tool a\n3.0 9 tool a\n")

    assert wait(lambda: moments(path, "tool", "a"), 2, timeout=0).pid == 8
    with pytest.raises(TimeoutError, match="3 times"):
        wait(lambda: moments(path, "tool", "a"), 4, timeout=0)
