"""How much time an invocation has left, what is said when it has none, and what of an agent is timed at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from strands.hooks import BeforeInvocationEvent
from strands.tools.structured_output.structured_output_tool import StructuredOutputTool
from strands.types.tools import AgentTool

from strands_dapr_session import DeadlineError, Deadlines, strands_compat
from strands_dapr_session.hooks import timekeeping
from strands_dapr_session.hooks.timekeeping import TimekeepingHook, _Watch

pytestmark = pytest.mark.newest_dependencies  # before 1.62 Strands has nothing around tools and models to hook into

NOW = 1000.0


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timekeeping, "time", SimpleNamespace(time=lambda: NOW, monotonic=lambda: 50.0))


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
    scene.watch(invocation=3.5, silence=2).late()
    assert not scene.invocation.overdue  # half a second is left
    error = scene.watch(invocation=3, silence=2).late()
    assert "s/default took longer than 3 seconds and is parked" in str(error)
    assert (error.seconds, scene.invocation.overdue) == (3, True)


# -- what is timed ----------------------------------------------------------------------------------------------------


class Tool(AgentTool):
    """A tool that tells what it was called with, and never ends if it is to hang."""

    tool_name = "work"
    tool_spec: ClassVar[Any] = {"name": "work"}
    tool_type = "plain"
    colour = "red"

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__()
        self.hangs = hangs

    async def stream(self, tool_use: Any, invocation_state: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield (tool_use, invocation_state, kwargs)
        yield "more"
        if self.hangs:
            await asyncio.Event().wait()


@dataclass(frozen=True)
class Context:
    """What a middleware gets."""

    tool: Any = None
    tool_use: Any = None
    agent: Any = None
    replace = replace


class Timed:
    """An agent to which a hook for deadlines listens."""

    def __init__(self, recording: Any = None, **limits: Any) -> None:
        self.stages: dict[object, Callable[..., AsyncGenerator[Any, None]]] = {}
        recordings: Any = SimpleNamespace(find=lambda agent: recording if agent is self else None)
        self._hook = TimekeepingHook(recordings, Deadlines(**limits))
        self.begin()

    def begin(self) -> None:
        """Begin an invocation."""
        self._hook._watch(cast("Any", SimpleNamespace(agent=self)))

    def add_middleware(self, stage: object, function: Any) -> None:
        assert stage not in self.stages
        self.stages[stage] = function

    async def run(self, stage: object, context: Context, enter: Any) -> list[Any]:
        return [event async for event in self.stages[stage](context, enter)]

    async def run_tool(self, tool: Any) -> Any:
        """Get what is run instead of a tool."""

        async def enter(context: Context) -> AsyncGenerator[Any, None]:
            yield context.tool
            yield "more"

        found, more = await self.run(TOOL, Context(tool, {"name": "work"}), enter)
        assert more == "more"
        return found


TOOL, MODEL, CALL = (
    strands_compat.EXECUTE_TOOL_STAGE,
    strands_compat.INVOKE_MODEL_STAGE,
    strands_compat.AGENT_STREAM_STAGE,
)


@pytest.mark.parametrize(
    ("limits", "stages"),
    [
        ({}, []),
        ({"tool": 1}, [TOOL]),
        ({"tools": {"work": 1}}, [TOOL]),
        ({"model": 1}, [TOOL, MODEL]),
        ({"invocation": 1}, [TOOL, CALL]),  # it ends when its tools do
        ({"silence": 1}, [TOOL, CALL]),
    ],
    ids=str,
)
def test_what_has_a_deadline_is_timed_once(limits: Any, stages: list[object]) -> None:
    timed = Timed(**limits)
    timed.begin()
    assert list(timed.stages) == stages


async def test_a_timed_tool_is_the_tool_in_everything_but_its_time() -> None:
    tool = Tool()
    timed = await Timed(tool=5).run_tool(tool)
    assert timed is not tool
    assert (timed.tool_name, timed.tool_spec, timed.tool_type, timed.colour) == (
        "work",
        {"name": "work"},
        "plain",
        "red",
    )
    assert timed.is_dynamic is False  # as every tool has it
    called = [event async for event in timed.stream({"name": "work"}, {"a": 1}, more=2)]
    assert called == [({"name": "work"}, {"a": 1}, {"more": 2}), "more"]


async def test_tools_that_make_structured_output_or_do_not_exist_are_left_alone() -> None:
    output = StructuredOutputTool.__new__(StructuredOutputTool)
    assert await Timed(tool=5).run_tool(output) is output
    assert await Timed(tool=5).run_tool(None) is None


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where it is noted that the threads of a loop are let go."""
    noted: list[str] = []
    monkeypatch.setattr(strands_compat, "forget_threads", lambda: noted.append("threads"))
    return noted


@pytest.fixture
def _running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass whenever somebody looks at the clock."""
    hours = iter(range(0, 3_600_000, 3600))
    monkeypatch.setattr(timekeeping, "time", SimpleNamespace(monotonic=lambda: float(next(hours))))


@pytest.mark.usefixtures("_running")
@pytest.mark.parametrize("limits", [{"tool": 5}, {"tool": 1, "tools": {"work": 5}}], ids=str)
async def test_a_tool_that_hangs_is_told_by_its_name(limits: Any, forgotten: list[str]) -> None:
    timed = await Timed(**limits).run_tool(Tool(hangs=True))
    with pytest.raises(DeadlineError, match="tool 'work' did not answer within 5 seconds") as told:
        await anext(timed.stream({"name": "work"}, {}))
    assert told.value.seconds == 5
    assert forgotten == ["threads"]


@pytest.mark.usefixtures("_running")
async def test_a_tool_without_a_deadline_has_any_time() -> None:
    timed = await Timed(invocation=5).run_tool(Tool())
    assert [each async for each in timed.stream({"name": "work"}, {})] == [({"name": "work"}, {}, {}), "more"]


async def events(*made: Any, hangs: bool = False) -> AsyncGenerator[Any, None]:
    for each in made:
        yield each
    if hangs:
        await asyncio.Event().wait()


async def test_a_model_in_time_is_passed_on() -> None:
    assert await Timed(model=5).run(MODEL, Context(), lambda _: events(1, 2)) == [1, 2]


@pytest.mark.usefixtures("_running")
async def test_a_model_that_hangs_is_told(forgotten: list[str]) -> None:
    with pytest.raises(DeadlineError, match="the model did not answer within 5 seconds") as told:
        await Timed(model=5).run(MODEL, Context(), lambda _: events(1, hangs=True))
    assert told.value.seconds == 5
    assert forgotten == ["threads"]


async def test_other_errors_let_no_threads_go(forgotten: list[str]) -> None:
    async def fail(_: Any) -> AsyncGenerator[Any, None]:
        yield 1
        raise LookupError("no")

    with pytest.raises(LookupError):
        await Timed(model=5).run(MODEL, Context(), fail)
    assert forgotten == []


async def test_an_invocation_that_is_late_is_given_up_on() -> None:
    recording = Scene(began=NOW - 8).recording
    recording.invocation = recording.running
    timed = Timed(recording, invocation=5)
    with pytest.raises(DeadlineError, match="parked"):
        await timed.run(CALL, Context(agent=timed), lambda _: events(1, hangs=True))
    assert recording.running.overdue
    recording.running.began = NOW
    assert await timed.run(CALL, Context(agent=timed), lambda _: events(1, 2)) == [1, 2]


async def test_calls_of_which_nothing_is_recorded_have_any_time() -> None:
    recording = Scene(began=NOW - 8).recording
    recording.invocation = None
    timed = Timed(recording, invocation=5)
    assert await timed.run(CALL, Context(agent=timed), lambda _: events(1, 2)) == [1, 2]
    assert await timed.run(CALL, Context(agent="another"), lambda _: events(1, 2)) == [1, 2]


def test_users_middleware_is_outside_of_what_is_timed() -> None:
    added: list[Any] = []
    hook = TimekeepingHook(cast("Any", None), Deadlines(tool=1))
    registry = SimpleNamespace(add_callback=lambda *what, order: added.append((*what, order)))
    hook.register_hooks(cast("Any", registry))
    assert added == [(BeforeInvocationEvent, hook._watch, strands_compat.LAST)]
