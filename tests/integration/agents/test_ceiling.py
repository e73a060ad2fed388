"""Runs with more model calls than Strands has room for on its stack, and nobody who sees a difference."""

from __future__ import annotations

import gc
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    MessageAddedEvent,
)

import strands_dapr_session
from strands_dapr_session import DaprSessionManager, strands_compat
from strands_dapr_session.hooks import ceiling
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import add_hook, assert_free

pytestmark = pytest.mark.newest_dependencies  # before 1.62 Strands has nothing around its event loop to hook into

EVENTS = (
    BeforeInvocationEvent,
    MessageAddedEvent,
    BeforeModelCallEvent,
    AfterModelCallEvent,
    BeforeToolCallEvent,
    AfterToolCallEvent,
    AfterInvocationEvent,
)


class Verdict(BaseModel):
    """What structured output is asked for."""

    good: bool


class CountingModel(ScriptedModel):
    """Asks for a tool so many times, whatever the conversation looks like."""

    def __init__(self, turns: int, *last: Any) -> None:
        super().__init__([*[[("add", {"a": 1})]] * turns, *(last or ("done",))])
        self.turn = 0

    def _position(self, _: Any) -> tuple[str, int, int]:  # type: ignore[override]  # there it needs no self
        self.calls.clear()
        self.turn += 1
        return "", self.turn, self.turn - 1


@tool
async def add(a: int) -> str:
    """Add one."""
    return str(a + 1)


@tool(context=True)
async def ask(tool_context: ToolContext) -> str:
    """Ask a person."""
    return str(tool_context.interrupt("may I"))


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of three turns, so that short runs need many."""
    monkeypatch.setattr(ceiling, "TURNS", 3)


OURS = [
    tracemalloc.Filter(inclusive=True, filename_pattern=f"{strands_dapr_session.__path__[0]}/*"),
    tracemalloc.Filter(inclusive=False, filename_pattern=f"{strands_dapr_session.__path__[0]}/testing/*"),
]


def window() -> SlidingWindowConversationManager:
    return SlidingWindowConversationManager(window_size=10, per_turn=True)


def agent_with(store: StateStore | None, model: Any, **options: Any) -> Agent:
    manager = None if store is None else DaprSessionManager("s", store=store)
    return Agent(model=model, tools=[add, ask], session_manager=manager, callback_handler=None, **options)


def measure_stack(agent: Agent) -> Callable[[], int]:
    """Measure the stack at each model call."""
    depths: list[int] = []

    def measure(_: Any) -> None:
        depths.append(sum(1 for _ in traceback.walk_stack(None)))

    add_hook(agent, measure, BeforeModelCallEvent)
    return lambda: max(depths)


async def watched(agent: Agent, **options: Any) -> dict[str, Any]:
    """Make a call, and note all that callers and hooks can see of it."""
    hooks: list[str] = []
    for kind in EVENTS:
        add_hook(agent, lambda event: hooks.append(type(event).__name__), kind)
    events, result = [], None
    async for event in agent.stream_async("go", **options):
        events.append(sorted(name for name in event if name not in {"agent", "event_loop_cycle_span"}))
        result = event.get("result", result)
    metrics = result.metrics  # type: ignore[union-attr]
    return {
        "hooks": hooks,
        "events": events,
        "stop_reason": result.stop_reason,  # type: ignore[union-attr]
        "message": result.message["content"],  # type: ignore[union-attr]
        "structured": result.structured_output,  # type: ignore[union-attr]
        "messages": [message["content"] for message in agent.messages],
        "cycles": (metrics.cycle_count, len(metrics.cycle_durations), len(metrics.agent_invocations[-1].cycles)),
        "usage": metrics.accumulated_usage,
        "tools": {name: (each.call_count, each.success_count) for name, each in metrics.tool_metrics.items()},
        "traces": [
            [(child.name.split(" ")[0], child.end_time is not None) for child in trace.children]
            for trace in metrics.traces
        ],
    }


CASES: dict[str, Any] = {
    "one stack": (2, (), {}),
    "exactly one stack": (3, (), {}),
    "many stacks": (20, (), {}),
    "limited turns": (20, (), {"limits": {"turns": 10}}),
    "limited tokens": (20, (), {"limits": {"total_tokens": 100}}),
    "structured": (7, ([("Verdict", {"good": True})],), {"structured_output_model": Verdict}),
    "structured, forced": (8, ("I think so.", [("Verdict", {"good": True})]), {"structured_output_model": Verdict}),
}


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("name", CASES)
async def test_nobody_sees_a_difference(name: str) -> None:
    turns, last, options = CASES[name]
    plain = await watched(agent_with(None, CountingModel(turns, *last)), **options)
    assert await watched(agent_with(MemoryStore(), CountingModel(turns, *last)), **options) == plain


@pytest.mark.usefixtures("low")
async def test_a_second_call_of_the_same_agent() -> None:
    agent, plain = (agent_with(store, CountingModel(50)) for store in (MemoryStore(), None))
    for each in (agent, plain):
        each.model.turn = 40  # type: ignore[attr-defined]
        await each.invoke_async("go")
        each.model.turn = 40  # type: ignore[attr-defined]
    assert await watched(agent) == await watched(plain)


@pytest.mark.usefixtures("low")
async def test_questions_on_a_later_stack() -> None:
    agent = agent_with(
        MemoryStore(), CountingModel(8, [("add", {"a": 1}), ("ask", {})], *[[("add", {"a": 2})]] * 5, "done")
    )
    result = await agent.invoke_async("go")
    assert result.stop_reason == "interrupt"
    answers: Any = [
        {"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts or ()
    ]
    result = await agent.invoke_async(answers)
    assert (result.stop_reason, str(result).strip()) == ("end_turn", "done")
    assert len(agent.messages) == 2 * (8 + 1 + 5) + 2


@pytest.mark.usefixtures("low")
async def test_users_middleware_runs_once_for_each_call() -> None:
    agent, entered = agent_with(MemoryStore(), CountingModel(20)), []

    async def around(context: Any, enter: Any) -> Any:
        entered.append(len(context.messages))
        async for event in enter(context):
            yield event

    agent.add_middleware(strands_compat.AGENT_STREAM_STAGE, around)
    await agent.invoke_async("go")
    assert entered == [1]


@pytest.mark.usefixtures("low")
async def test_a_caller_who_leaves_a_later_stack() -> None:
    store = MemoryStore()
    agent = agent_with(store, CountingModel(20), conversation_manager=NullConversationManager())
    stream = agent.stream_async("go")
    async for _ in stream:
        if len(agent.messages) > 20:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    assert_free(store)
    model = CountingModel(20)
    model.turn = agent.model.turn  # type: ignore[attr-defined]
    other = agent_with(store, model, conversation_manager=NullConversationManager())
    await other.invoke_async("go")
    assert len(other.messages) == 2 * 20 + 2


def test_two_thousand_model_calls() -> None:
    """The plain agent dies at the 318th."""
    agent = agent_with(MemoryStore(), CountingModel(1999), conversation_manager=window())
    deepest = measure_stack(agent)
    result = agent("go")
    assert (result.stop_reason, result.metrics.cycle_count) == ("end_turn", 2000)
    assert deepest() < 400


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    turns = 240
    store = open_store(f"sqlite:///{tmp_path / 'runs.db'}?synchronous=normal")
    agent = agent_with(store, CountingModel(turns), conversation_manager=window())
    early: list[int] = []
    late: list[int] = []

    def weigh(_: BeforeModelCallEvent) -> None:
        # Several times each: a compaction that is under way, or just over, weighs more than all the rest, or nothing.
        turn = agent.model.turn  # type: ignore[attr-defined]
        if turn in range(turns // 4, turns // 4 + 12) or turn >= turns - 12:
            gc.collect()
            statistics = tracemalloc.take_snapshot().filter_traces(OURS).statistics("filename")
            (late if turn >= turns - 12 else early).append(sum(each.size for each in statistics))

    add_hook(agent, weigh, BeforeModelCallEvent)
    tracemalloc.start()
    try:
        agent("go")
    finally:
        tracemalloc.stop()
    assert len(early) == 12
    assert median(late) < 1.5 * median(early), (early, late)
