"""What is asked for another attempt, what is recorded of it, and how it is waited for."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from strands.hooks import AfterModelCallEvent, AfterToolCallEvent, BeforeModelCallEvent, BeforeToolCallEvent

from strands_dapr_session import Retries, RetryPolicy, StoreUnavailableError, strands_compat
from strands_dapr_session.hooks import retrying
from strands_dapr_session.hooks.recording import MODEL_CALL
from strands_dapr_session.hooks.retrying import RetryHook, was_given_up_on
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Tried
from strands_dapr_session.strands_compat import FIRST, LAST

POLICY = RetryPolicy(max_attempts=2, first_delay=10, jitter=0, error_results=True)


class Scene:
    """An agent that is recorded, and time, which passes only while somebody waits.

    Attributes:
        recording: What is recorded of the agent; None if nothing is.
        written: The records.
        slept: Each stretch of a pause, in seconds.
        cancelled_at: When the agent is cancelled.
        stood_down: How often Strands' own strategy was kept from trying again.
    """

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.failures: list[Exception] = []
        self.problem: Exception | None = None
        self.slept: list[float] = []
        self.now = 1000.0
        self.cancelled_at = float("inf")
        self.stood_down = 0
        self.recording: Any = SimpleNamespace(
            invocation=object(),
            batch=["t"],
            tries={},
            settings=SimpleNamespace(retries=Retries(tool=POLICY, model=POLICY), in_doubt={}, in_doubt_default="rerun"),
            name="s/r",
            scope="",
            lock=contextlib.nullcontext(),
            journal=SimpleNamespace(append=self.written.append),
            barrier=self.barrier,
            fail=self.failures.append,
            pause_ends=0.0,
        )
        self.hook: Any = RetryHook(SimpleNamespace(find=lambda _: self.recording))  # type: ignore[arg-type]

    async def barrier(self) -> None:
        if self.problem is not None:
            raise self.problem

    def stand_down(self) -> None:
        self.stood_down += 1

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def tool(self, **given: Any) -> Any:
        """Make the event of a tool that failed."""
        result = {"status": "error", "content": [{"text": "went"}, {"json": 1}, {"text": "wrong"}]}
        event = {
            "agent": self,
            "tool_use": {"toolUseId": "t", "name": "work"},
            "selected_tool": None,
            "result": result,
            "exception": ConnectionError("no"),
            "cancel_message": None,
            "cancel_tool": False,
            "retry": False,
        }
        return SimpleNamespace(**{**event, **given})

    def model(self, **given: Any) -> Any:
        """Make the event of a model call that failed."""
        return SimpleNamespace(**{"agent": self, "exception": ConnectionError("no"), "retry": False, **given})


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene()
    clock = SimpleNamespace(time=lambda: made.now, monotonic=lambda: made.now)
    monkeypatch.setattr(retrying, "time", clock)
    monkeypatch.setattr(retrying, "sleep", made.sleep)
    monkeypatch.setattr(strands_compat, "is_cancelled", lambda _: made.now >= made.cancelled_at)
    monkeypatch.setattr(strands_compat, "stand_down", lambda _: made.stand_down())
    monkeypatch.setattr(strands_compat, "will_retry", lambda event: event.retry)
    return made


def failed(what: str, attempt: int = 1, delay: float | None = 10.0) -> Tried:
    return Tried("", what, attempt, b"", 1000.0, delay)


# -- whether ----------------------------------------------------------------------------------------------------------


async def test_a_failure_is_recorded_with_its_pause_before_another_attempt(scene: Scene) -> None:
    event = scene.tool()
    await scene.hook._after_tool(event)
    assert event.retry
    (tried,) = scene.written
    assert (tried.what, tried.attempt, tried.at, tried.delay) == ("t", 1, 1000.0, 10)
    assert unpack_value(tried.error) == ["ConnectionError", "no"]
    assert scene.recording.tries == {"t": tried}


async def test_a_result_that_tells_of_an_error_is_one(scene: Scene) -> None:
    event = scene.tool(exception=None)
    await scene.hook._after_tool(event)
    assert event.retry
    assert unpack_value(scene.written[0].error) == ["RuntimeError", "went wrong"]


@pytest.mark.parametrize(
    "given",
    [
        {"result": {"status": "success", "content": []}},
        {"exception": ValueError("no")},
        {"cancel_message": "a hook did not want it"},
        {"tool_use": {"toolUseId": "another", "name": "work"}},
    ],
    ids=str,
)
async def test_what_is_not_tried_again(scene: Scene, given: dict[str, Any]) -> None:
    event = scene.tool(**given)
    await scene.hook._after_tool(event)
    assert not event.retry
    assert scene.written == []


@pytest.mark.parametrize(
    ("policy", "error", "is_tried"),
    [
        ("never_twice", ConnectionError("refused"), True),
        ("never_twice", TimeoutError("who knows"), False),
        ("rerun", TimeoutError("who knows"), True),
    ],
)
async def test_what_must_not_run_twice_is_tried_again_if_it_has_surely_ended(
    scene: Scene, policy: str, error: Exception, *, is_tried: bool
) -> None:
    scene.recording.settings.in_doubt = {"work": policy}
    scene.recording.settings.retries = Retries(tool=RetryPolicy(retry_on=(OSError,)))
    event = scene.tool(exception=error)
    await scene.hook._after_tool(event)
    assert event.retry == is_tried


@pytest.mark.parametrize("why", ["no recording", "no invocation"])
async def test_what_is_not_recorded_is_left_alone(scene: Scene, why: str) -> None:
    scene.recording.tries = {"t": failed("t"), MODEL_CALL: failed(MODEL_CALL)}
    scene.recording.invocation = None
    if why == "no recording":
        scene.recording = None
    tool, model = scene.tool(), scene.model()
    await scene.hook._before_tool(tool)
    await scene.hook._after_tool(tool)
    await scene.hook._before_model(model)
    await scene.hook._after_model(model)
    assert not tool.retry
    assert not model.retry
    assert (scene.written, scene.slept) == ([], [])


async def test_attempts_that_a_users_hook_asks_for_are_not_counted(scene: Scene) -> None:
    tool, model = scene.tool(retry=True), scene.model(retry=True)
    await scene.hook._after_tool(tool)
    await scene.hook._after_model(model)
    assert tool.retry
    assert model.retry
    assert scene.written == []


async def test_without_a_policy_strands_decides(scene: Scene) -> None:
    scene.recording.settings.retries = Retries()
    tool, model = scene.tool(), scene.model()
    await scene.hook._after_tool(tool)
    await scene.hook._after_model(model)
    assert not tool.retry
    assert not model.retry
    assert (scene.written, scene.stood_down) == ([], 0)


async def test_with_a_policy_strands_does_not(scene: Scene) -> None:
    another, passing = scene.model(exception=ValueError("no")), scene.model()
    await scene.hook._after_model(another)
    assert not another.retry
    assert (scene.written, scene.stood_down) == ([], 1)
    await scene.hook._after_model(passing)
    assert passing.retry
    assert not was_given_up_on(passing.exception)
    assert scene.stood_down == 2


async def test_a_tool_that_is_cancelled_while_its_failure_is_recorded_is_not_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strands_compat, "will_retry", lambda _: not scene.written)
    event = scene.tool()
    await scene.hook._after_tool(event)
    assert not event.retry


async def test_where_strands_would_not_nothing_is_recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strands_compat, "will_retry", lambda _: False)
    event = scene.tool()
    await scene.hook._after_tool(event)
    assert not event.retry
    assert scene.written == []


async def test_the_last_failure_of_a_tool_is_its_result_and_that_of_a_model_is_recorded(scene: Scene) -> None:
    scene.recording.tries = {"t": failed("t"), MODEL_CALL: failed(MODEL_CALL)}
    tool, model = scene.tool(), scene.model()
    await scene.hook._after_tool(tool)
    assert not tool.retry
    assert scene.written == []
    await scene.hook._after_model(model)
    assert not model.retry
    assert [(each.what, each.attempt, each.delay) for each in scene.written] == [(MODEL_CALL, 2, None)]
    assert was_given_up_on(model.exception)
    assert not was_given_up_on(ConnectionError("no"))


@pytest.mark.parametrize("why", [AttributeError, TypeError])
async def test_an_error_that_cannot_be_marked_does_no_harm(scene: Scene, why: type[Exception]) -> None:
    class FrozenError(ConnectionError):
        def __setattr__(self, name: str, value: object) -> None:
            raise why(name)

    scene.recording.tries = {MODEL_CALL: failed(MODEL_CALL)}
    event = scene.model(exception=FrozenError("no"))
    await scene.hook._after_model(event)
    assert not event.retry


async def test_an_answer_of_the_model_ends_the_count(scene: Scene) -> None:
    scene.recording.tries = {MODEL_CALL: failed(MODEL_CALL), "t": failed("t")}
    for _ in range(2):
        await scene.hook._after_model(scene.model(exception=None))
    assert list(scene.recording.tries) == ["t"]


async def test_what_cannot_be_recorded_is_not_tried_again(scene: Scene) -> None:
    scene.problem = StoreUnavailableError("away")
    tool, model = scene.tool(), scene.model()
    await scene.hook._after_tool(tool)
    await scene.hook._after_model(model)
    assert not tool.retry
    assert not model.retry
    assert scene.failures == [scene.problem] * 2


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["t", MODEL_CALL])
async def test_the_next_attempt_waits_for_what_is_left_of_the_pause(scene: Scene, what: str) -> None:
    scene.recording.tries = {what: failed(what)}
    scene.now = 1006.0
    event = scene.tool() if what == "t" else scene.model()
    await (scene.hook._before_tool(event) if what == "t" else scene.hook._before_model(event))
    assert sum(scene.slept) == pytest.approx(4)
    assert max(scene.slept) <= 0.1  # it looks that often whether it was cancelled
    assert scene.recording.pause_ends == pytest.approx(1010)
    assert not getattr(event, "cancel_tool", False)


async def test_a_tool_whose_agent_is_cancelled_meanwhile_does_not_run(scene: Scene) -> None:
    scene.recording.tries = {"t": failed("t")}
    scene.cancelled_at = 1003.0
    event = scene.tool()
    await scene.hook._before_tool(event)
    assert event.cancel_tool
    assert sum(scene.slept) == pytest.approx(3, abs=0.11)


async def test_what_has_not_failed_waits_for_nothing(scene: Scene) -> None:
    await scene.hook._before_tool(scene.tool())
    await scene.hook._before_model(scene.model())
    assert scene.slept == []


def test_users_hooks_have_the_last_word_on_model_calls_and_the_first_on_tools(scene: Scene) -> None:
    orders: dict[Any, Any] = {}
    scene.hook.register_hooks(SimpleNamespace(add_callback=lambda event, _, order: orders.update({event: order})))
    assert orders == {
        BeforeToolCallEvent: FIRST,
        AfterToolCallEvent: LAST,
        BeforeModelCallEvent: FIRST,
        AfterModelCallEvent: FIRST,
    }
