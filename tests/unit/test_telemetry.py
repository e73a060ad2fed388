"""What OpenTelemetry is told by programs that die and go on, each in a process of its own as its providers are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from strands_dapr_session import telemetry
from strands_dapr_session.stores.memory import MemoryStore

Points = list[dict[str, Any]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process told that went on with an agent and a graph, after two that had died in them."""
    database = tmp_path_factory.mktemp("telemetry") / "runs.db"
    for dies_in in ("agent", "graph"):
        assert _run(database, dies_in).returncode == 9
    done = _run(database)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _run(database: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.telemetry_program", str(database), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def points(told: dict[str, Any], name: str) -> Points:
    found: Points = told["metrics"][f"strands_dapr_session.{name}"]
    return sorted(found, key=lambda point: -int(point["count"]))


def test_every_commit_is_measured_and_a_fenced_one_says_so(told: dict[str, Any]) -> None:
    succeeded, fenced = points(told, "commit.duration")
    assert succeeded["attributes"] == {"store": "sqlite"}
    assert fenced["attributes"] == {"store": "sqlite", "error.type": "FencedError"}
    assert fenced["count"] == 1
    [size] = points(told, "commit.size")
    assert size["count"] == succeeded["count"]
    assert size["attributes"] == {"store": "sqlite"}
    assert size["unit"] == "By"
    assert size["sum"] > 100 * size["count"]


def test_loads_and_acquisitions_are_measured_and_takeovers_told_apart(told: dict[str, Any]) -> None:
    [load] = points(told, "load.duration")
    assert load["count"] == 6  # one for each agent and graph that was made
    assert load["attributes"] == {"store": "sqlite"}
    new, taken = points(told, "acquire.duration")
    assert (new["count"], taken["count"]) == (5, 3)
    assert new["attributes"] == {"store": "sqlite", "takeover": False}
    assert taken["attributes"] == {"store": "sqlite", "takeover": True}


def test_packing_is_measured(told: dict[str, Any]) -> None:
    [compaction] = points(told, "compaction.duration")
    assert (compaction["attributes"], compaction["count"]) == ({"store": "sqlite"}, 1)


def test_durations_are_seconds_in_buckets_that_tell_a_millisecond(told: dict[str, Any]) -> None:
    for name in ("commit.duration", "load.duration", "acquire.duration"):
        for point in points(told, name):
            assert point["unit"] == "s"
            assert point["bounds"][:2] == [0.001, 0.0025]
            assert 0 < point["sum"] < 60 * point["count"]


def test_invocations_that_go_on_are_counted(told: dict[str, Any]) -> None:
    agents, orchestrators = points(told, "resumed")
    assert agents["attributes"] == {"of": "agent", "after": "failure"}
    assert agents["count"] == 2  # one of them in the node
    assert orchestrators["attributes"] == {"of": "orchestrator", "after": "failure"}
    assert orchestrators["count"] == 1
    [reinjected] = points(told, "tool_results.reinjected")
    assert reinjected["count"] == 1


def test_the_span_of_an_agent_that_goes_on_is_marked(told: dict[str, Any]) -> None:
    in_the_node, by_itself = told["events"]
    assert in_the_node == ["strands_dapr_session.resumed", {"attempt": 2, "tool_results": 0}]
    assert by_itself == ["strands_dapr_session.resumed", {"attempt": 2, "tool_results": 1}]


def test_failures_under_a_policy_and_what_is_parked_are_counted(told: dict[str, Any]) -> None:
    attempts = [(point["attributes"], point["count"]) for point in points(told, "failed_attempts")]
    assert attempts == [
        ({"error.type": "ConnectionError", "is_tried_again": True}, 1),
        ({"error.type": "ConnectionError", "is_tried_again": False}, 1),
    ]
    [parked] = points(told, "parked")
    assert (parked["attributes"], parked["count"]) == ({}, 1)


def test_the_documentation_lists_every_instrument() -> None:
    page = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
    made = [each for each in vars(telemetry).values() if hasattr(each, "record") or hasattr(each, "add")]
    assert len(made) == 9
    for instrument in made:
        assert f"`{instrument._name}`" in page


class Recorder:
    """Takes the place of a histogram and of a span."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def record(self, value: float, attributes: dict[str, Any]) -> None:
        self.heard.append((value, attributes))

    def add_event(self, name: str, attributes: dict[str, Any]) -> None:
        self.heard.append((name, attributes))


def measure(recorder: Any, *, fails: bool) -> None:
    moments = iter((10.0, 12.5))
    with telemetry.Measured(recorder, lambda: next(moments), MemoryStore()) as attributes:
        attributes["takeover"] = True
        if fails:
            raise LookupError("no")


def test_what_is_measured_takes_as_long_as_its_body() -> None:
    recorder = Recorder()
    measure(recorder, fails=False)
    assert recorder.heard == [(2.5, {"store": "memory", "takeover": True})]


def test_what_fails_is_measured_too_and_raises() -> None:
    recorder = Recorder()
    with pytest.raises(LookupError):
        measure(recorder, fails=True)
    assert recorder.heard == [(2.5, {"store": "memory", "takeover": True, "error.type": "LookupError"})]


def test_a_mark_is_an_event_of_the_span_that_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(trace, "get_current_span", lambda: recorder)
    telemetry.mark("resumed", attempt=2)
    assert recorder.heard == [("strands_dapr_session.resumed", {"attempt": 2})]
