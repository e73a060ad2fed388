"""Whether a node that raised gets another attempt, and what is got ready for it, beside what nodes do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from strands_dapr_session import DeadlineError, RetryPolicy, StoreUnavailableError
from strands_dapr_session.hooks.invocation import STATUS
from strands_dapr_session.journal.layout import below
from strands_dapr_session.multiagent.run import Run
from strands_dapr_session.multiagent.visits import Visits
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Acquired, InvocationStarted, Noted, Tried
from strands_dapr_session.records.view import View

AT_ONCE = RetryPolicy(3, first_delay=0.0, retry_on=(Exception,))


class Scene:
    """An orchestrator that visits nodes, and what becomes of that."""

    def __init__(self, view: View | None = None) -> None:
        self.done: list[Any] = []
        journal = SimpleNamespace(root_id="g", name="s/g", append=self.done.append)
        self.root: Any = SimpleNamespace(
            journal=journal, found=SimpleNamespace(view=view or View()), look_again=self._look_again
        )
        shape: Any = SimpleNamespace(orchestrator=SimpleNamespace(nodes={}))
        self.visits = Visits(cast("Any", self.root), "", shape)
        self.run: Any = SimpleNamespace(
            token=lambda node_id: f"1:{node_id}", tries={}, finished={}, first=set(), is_answered=False
        )

    async def _look_again(self, path: str) -> None:
        self.done.append(f"looked again at {path}")

    async def prepare_again(self, error: Exception, policy: RetryPolicy = AT_ONCE) -> bool:
        return await self.visits._prepare_again(cast("Run", self.run), "a", policy, error)

    def what_happens(self) -> str:
        return self.visits._what_happens(cast("Run", self.run), "a")


@pytest.mark.parametrize("error", [ValueError("no"), DeadlineError("too late", 1.0)], ids=repr)
async def test_a_node_that_raised_is_tried_again_and_read_again_before(error: Exception) -> None:
    scene = Scene()
    assert await scene.prepare_again(error) is True
    tried, looked = scene.done
    assert isinstance(tried, Tried)
    assert (tried.scope, tried.what, tried.attempt, tried.delay) == ("", "1:a", 1, 0.0)
    assert scene.run.tries == {"1:a": tried}
    assert looked == f"looked again at {below('', 'a')}"


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (StoreUnavailableError("gone"), AT_ONCE),
        (ValueError("no"), RetryPolicy(3, first_delay=0.0, retry_on=(KeyError,))),
    ],
    ids=["ours", "not wanted"],
)
async def test_what_is_not_to_be_tried_again_leaves_no_trace(error: Exception, policy: RetryPolicy) -> None:
    scene = Scene()
    assert await scene.prepare_again(error, policy) is False
    assert (scene.done, scene.run.tries) == ([], {})


async def test_the_last_failure_is_recorded_and_no_more() -> None:
    scene = Scene()
    for number in (1, 2, 3):
        assert await scene.prepare_again(ValueError("no")) is (number < 3)
    assert [each.attempt for each in scene.done if isinstance(each, Tried)] == [1, 2, 3]
    assert scene.done[-1].delay is None


async def test_a_place_whose_node_is_tried_again_begins_again() -> None:
    scene = Scene()
    scene.visits._places["a"] = cast("Any", SimpleNamespace(begin_again=lambda: scene.done.append("began again")))
    await scene.prepare_again(ValueError("no"))
    assert scene.done[-1] == "began again"


def unfinished(visit: str) -> View:
    """What is recorded of a node that was killed in a visit."""
    view, path = View(), below("", "a")
    for record in (
        Acquired("a", "w", takeover=False, lease=3.0),
        InvocationStarted(path, "i", None, pack_value(None), pack_value(None), 1),
        Noted(path, STATUS, pack_value({"state": "running", "visit": visit})),
    ):
        view.apply(record, key="s/g")
    return view


def part() -> Any:
    return SimpleNamespace(scope=below("", "a"))


@pytest.mark.parametrize("kind", ["agents", "below"])
@pytest.mark.parametrize(("visit", "what"), [("1:a", "resumed"), ("0:a", "run")])
def test_a_node_whose_visit_is_unfinished_is_resumed(kind: str, visit: str, what: str) -> None:
    scene = Scene(unfinished(visit))
    getattr(scene.visits, kind)["a"] = part()
    assert scene.what_happens() == what
    scene.run.finished["a"] = object()
    assert scene.what_happens() == "replayed"


@pytest.mark.parametrize(
    ("is_answered", "first", "what"),
    [(True, {"a"}, "resumed"), (True, {"b"}, "run"), (False, {"a"}, "run")],
)
def test_a_node_that_gets_its_answer_is_resumed(*, is_answered: bool, first: set[str], what: str) -> None:
    scene = Scene()
    scene.run.is_answered, scene.run.first = is_answered, first
    assert scene.what_happens() == what
