"""The workflow of a run, driven by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from strands_dapr_session.workflow.orchestration import ACTIVITY, ANSWERED, run_workflow


class Context:
    """Stands for Dapr's: says what was asked for, instead of doing it."""

    def __init__(self) -> None:
        self.again: dict[str, Any] | None = None
        self.keeps_events = False

    def call_activity(self, name: str, *, input: str) -> tuple[str, Any]:  # noqa: A002 - as Dapr calls it
        assert name == ACTIVITY
        return "activity", input

    def create_timer(self, after: timedelta) -> tuple[str, Any]:
        return "timer", after.total_seconds()

    def wait_for_external_event(self, name: str) -> tuple[str, Any]:
        assert name == ANSWERED
        return "event", None

    def continue_as_new(self, order: dict[str, Any], *, save_events: bool) -> None:
        self.again, self.keeps_events = order, save_events


def drive(steps: list[Any], order: dict[str, Any] | None = None) -> tuple[list[tuple[str, Any]], Context]:
    """Give the activity these outcomes, one after the other; say what the workflow asked for."""
    context: Any = Context()
    workflow = run_workflow(context, order or {"invocation_id": "run"})
    asked = []
    left = list(steps)
    try:
        task = next(workflow)
        while True:
            asked.append(task)
            if task[0] != "activity":
                task = workflow.send(None)
                continue
            step = left.pop(0)
            task = workflow.throw(step) if isinstance(step, Exception) else workflow.send(step)
    except StopIteration:
        return asked, context


def test_it_ends_when_the_run_is_over() -> None:
    asked, context = drive(["done"])
    assert asked == [("activity", "run")]
    assert context.again is None


def test_it_waits_for_people_without_a_timer() -> None:
    asked, _ = drive(["waiting", "done"])
    assert asked == [("activity", "run"), ("event", None), ("activity", "run")]


def test_it_offers_the_run_again_after_ever_longer_pauses_also_when_a_worker_failed() -> None:
    asked, _ = drive(["later", RuntimeError("no"), "later", "later", "waiting", "later", "done"])
    assert [seconds for kind, seconds in asked if kind == "timer"] == [0.1, 0.2, 0.4, 0.8, 0.1]


def test_its_history_stays_short() -> None:
    asked, context = drive(["later"] * 20)
    assert context.again == {"invocation_id": "run", "pauses": 20}
    assert context.keeps_events
    assert asked[-1] == ("timer", 10.0)
    asked, _ = drive(["later", "done"], context.again)
    assert asked[1] == ("timer", 10.0)
