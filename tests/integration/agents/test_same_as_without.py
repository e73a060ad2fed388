"""A caller cannot tell an agent with our session manager from one without: what it sees is the same, thing by thing.

Each case runs without a session manager, then with one. Compared are the events of every stream, results, exceptions,
metrics, spans, what the model was sent, the hooks that ran, and what the agent is afterwards.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import pytest
import strands.hooks
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.agent import AgentResult
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    MessageAddedEvent,
)
from strands.telemetry.tracer import get_tracer
from strands.tools.executors import SequentialToolExecutor
from strands.types.exceptions import ContextWindowOverflowException, MaxTokensReachedException, ModelThrottledException

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.strands_compat import INTERRUPTED_TEXT
from strands_dapr_session.testing.model import ScriptedModel

EVENTS: list[type] = [
    BeforeInvocationEvent,
    AfterInvocationEvent,
    BeforeModelCallEvent,
    AfterModelCallEvent,
    BeforeToolCallEvent,
    AfterToolCallEvent,
    MessageAddedEvent,
    *(
        getattr(strands.hooks, name)
        for name in ("BeforeToolsEvent", "AfterToolsEvent", "MessageUpdatedEvent")
        if hasattr(strands.hooks, name)
    ),
]

_MEASURED = {"average_cycle_time", "average_time", "cycle_durations", "duration", "end_time", "start_time"}
_MEASURED |= {"timeToFirstByteMs", "total_duration", "total_time"}
_RANDOM = {"event_loop_cycle_id", "event_loop_parent_cycle_id", "id", "parent_id", "tracking_id"}
_RANDOM |= {"event_loop_cycle_span", "event_loop_cycle_trace", "event_loop_parent_span"}
_VARYING = _MEASURED | _RANDOM | {"children"}
"""What differs between any two runs."""


# -- what a caller sees ------------------------------------------------------------------------------------------------


def plain(value: Any, around: tuple[int, ...] = ()) -> Any:  # noqa: PLR0911 - one for each kind
    """Whatever Strands hands out, as something that can be compared."""
    if id(value) in around:
        return "…"
    around = (*around, id(value))
    if isinstance(value, dict):
        return {name: plain(item, around) for name, item in value.items() if name not in _VARYING}
    if isinstance(value, (list, tuple)):
        return [plain(item, around) for item in value]
    if isinstance(value, AgentResult):
        return result_of(value)
    if isinstance(value, BaseModel):
        return [type(value).__name__, value.model_dump()]
    if isinstance(value, BaseException):
        return [type(value).__name__, str(value), plain(value.__cause__, around)]
    if isinstance(value, str):
        return re.sub(r"tooluse_(\w+)_\d+", r"tooluse_\1", value)  # of direct calls
    if value is None or isinstance(value, (int, float, bytes)):
        return value
    return type(value).__name__


def result_of(result: AgentResult) -> dict[str, Any]:
    return {
        "stop_reason": result.stop_reason,
        "message": plain(result.message),
        "state": plain(result.state),
        "interrupts": [[each.name, plain(each.reason)] for each in result.interrupts or ()],
        "structured_output": plain(result.structured_output),
        "text": str(result),
        "metrics": metrics_of(result.metrics),
    }


def metrics_of(metrics: Any) -> Any:
    summary = plain(metrics.get_summary())
    summary["traces"] = [shape_of(trace) for trace in metrics.traces]
    return summary


def shape_of(trace: Any) -> Any:
    name = "Cycle" if trace.name.startswith("Cycle") else trace.name
    return [name, sorted(trace.metadata), plain(trace.message), [shape_of(child) for child in trace.children]]


def span_of(span: ReadableSpan, names: dict[int, str]) -> Any:
    attributes = {
        name: value
        for name, value in (span.attributes or {}).items()
        if not name.endswith((".id", "_time", "_id", "duration", "time_to_first_token"))
    }
    parent = None if span.parent is None else names.get(span.parent.span_id)
    events = [[event.name, sorted(event.attributes or ())] for event in span.events]
    return [span.name, parent, repr(sorted(attributes.items())), events, span.status.status_code.name]


class Seen:
    """Everything that one run of a case showed."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.hooks: list[Any] = []

    def note(self, *what: Any) -> None:
        self.log.append(plain(what))

    def listen(self, agent: Agent) -> None:
        def heard(event: Any) -> None:
            self.hooks.append([type(event).__name__, plain(getattr(event, "message", None)), plain_result(event)])

        for event_type in EVENTS:
            agent.add_hook(heard, event_type)

    async def stream(self, agent: Agent, prompt: Any = None, *, leave_after: int | None = None, **options: Any) -> Any:
        """Call an agent, and note every event, or why there are no more."""
        result = None
        events = agent.stream_async(prompt, **options)
        count = 0
        try:
            async for event in events:
                self.note("event", {name: item for name, item in event.items() if name != "agent"})
                result = event.get("result", result)
                count += 1
                if count == leave_after:
                    break
        except Exception as error:  # noqa: BLE001 - whatever a caller would get
            self.note("raised", error)
        finally:
            await events.aclose()  # type: ignore[attr-defined]
        return result


def plain_result(event: Any) -> Any:
    result = getattr(event, "result", None)
    return result.stop_reason if isinstance(result, AgentResult) else plain(result)


Drive = Callable[[Agent, Seen], Awaitable[None]]


def seen_with(build: Callable[..., Agent], drive: Drive, manager: DaprSessionManager | None) -> dict[str, Any]:
    exporter, seen = InMemorySpanExporter(), Seen()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with mock.patch.object(get_tracer(), "tracer", provider.get_tracer("test")):
        agent = build(session_manager=manager)
        seen.listen(agent)
        asyncio.run(_drive(agent, drive, seen))
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    return {
        "log": seen.log,
        "hooks": seen.hooks,
        "calls": [plain(call) for call in agent.model.calls],  # type: ignore[attr-defined]
        "messages": plain(agent.messages),
        "state": agent.state.get(),
        "metrics": metrics_of(agent.event_loop_metrics),
        "manager": plain(agent.conversation_manager.get_state()),
        "interrupts": agent.take_snapshot(include=["interrupt_state"]).data["interrupt_state"]["activated"],
        "spans": sorted((span_of(span, names) for span in spans), key=repr),
    }


async def _drive(agent: Agent, drive: Drive, seen: Seen) -> None:
    await drive(agent, seen)
    await asyncio.sleep(0)


# -- the cases ---------------------------------------------------------------------------------------------------------


@tool
async def add(number: int) -> str:
    """Add a number."""
    await asyncio.sleep(0.001 * number)
    return f"added {number}"


@tool
def fail(number: int) -> str:
    """Fail."""
    raise ValueError(f"no {number}")


@tool(context=True)
def remember(tool_context: ToolContext, name: str) -> dict[str, Any]:
    """Remember a name, and answer with things of every kind."""
    tool_context.agent.state.set("name", name)
    tool_context.invocation_state.setdefault("request_state", {})["seen"] = name
    image: Any = {"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}
    return {"status": "success", "content": [{"text": name}, {"json": {"n": [1, 2.5, None, True]}}, image]}


@tool
async def progress(steps: int) -> Any:
    """Tell how far it is."""
    for step in range(steps):
        yield f"step {step}"
    yield "all steps"


@tool(context=True)
def stop(tool_context: ToolContext) -> str:
    """Stop the run."""
    tool_context.agent.cancel()
    return "stopping"


@tool(context=True)
def end(tool_context: ToolContext) -> str:
    """End the run with this batch."""
    tool_context.invocation_state.setdefault("request_state", {})["stop_event_loop"] = True
    return "that is all"


@tool(context=True)
def ask(tool_context: ToolContext) -> str:
    """Ask a person."""
    return f"they said {tool_context.interrupt('really', reason={'a': 1})}"


class Answer(BaseModel):
    """What to answer."""

    number: int


def case(*script: Any, **options: Any) -> Callable[..., Agent]:
    def build(**more: Any) -> Agent:
        tools = [add, fail, remember, progress, stop, end, ask]
        turns = [turn.fresh() if isinstance(turn, Once) else turn for turn in script]
        own = {name: copy.deepcopy(item) for name, item in options.items() if name in {"messages", "state"}}
        if "conversation_manager" in options:
            own["conversation_manager"] = options["conversation_manager"]()
        usual = {"tools": tools, "tool_executor": SequentialToolExecutor(), "callback_handler": None}
        return Agent(**{**usual, "model": ScriptedModel(turns), **options, **own, **more})

    return build


def calls(*prompts: Any, **options: Any) -> Drive:
    async def drive(agent: Agent, seen: Seen) -> None:
        for prompt in prompts:
            seen.note("result", await seen.stream(agent, prompt, **options))

    return drive


class Once:
    """A turn that fails the first time that an agent comes to it."""

    def __init__(self, error: BaseException, then: Any) -> None:
        self.error, self.then = error, then

    def fresh(self) -> Callable[[Any], Any]:
        left = [self.error]
        return lambda _: left.pop() if left else self.then


BATCH = [("add", {"number": 2}), ("fail", {"number": 1}), ("remember", {"name": "Ada"}), ("nothing", {})]
ODD: Any = [
    {"role": "user", "content": [{"text": "see"}, {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}]},
    {"role": "assistant", "content": [{"text": "seen"}, {"reasoningContent": {"reasoningText": {"text": "hm"}}}]},
    {"role": "user", "content": [{"document": {"format": "pdf", "name": "d", "source": {"bytes": b"%"}}},
                                 {"cachePoint": {"type": "default"}}, {"text": "go"}]},
]  # fmt: skip


async def leave(agent: Agent, seen: Seen) -> None:
    """Drop a stream after each number of events, and call again."""
    for count in (1, 5, 9, 13):
        await seen.stream(agent, f"p{count}", leave_after=count)
        seen.note("left", agent.messages)
    seen.note("result", await seen.stream(agent, "last"))


async def answer(agent: Agent, seen: Seen) -> None:
    result = await seen.stream(agent, "go")
    seen.note(await seen.stream(agent, "not an answer"))
    given = [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]
    seen.note("result", await seen.stream(agent, given))
    seen.note("result", await seen.stream(agent, given))


async def directly(agent: Agent, seen: Seen) -> None:
    seen.note(await asyncio.to_thread(agent.tool.add, number=1))
    seen.note(await asyncio.to_thread(agent.tool.fail, number=1, user_message_override="look"))
    seen.note(await asyncio.to_thread(agent.tool.remember, name="Bob", record_direct_tool_call=False))
    await seen.stream(agent, "go")


async def at_once(agent: Agent, seen: Seen) -> None:
    results = await asyncio.gather(*(agent.invoke_async(f"p{n}") for n in range(2)), return_exceptions=True)
    seen.note(sorted(type(each).__name__ for each in results))


async def cancelled_task(agent: Agent, seen: Seen) -> None:
    task = asyncio.ensure_future(agent.invoke_async("go"))
    await asyncio.sleep(0.02)
    task.cancel()
    seen.note(await asyncio.gather(task, return_exceptions=True))
    seen.note("result", await seen.stream(agent, "on"))


async def edited(agent: Agent, seen: Seen) -> None:
    await seen.stream(agent, "one")
    agent.messages.pop(0)
    agent.state.set("count", 1)
    await seen.stream(agent, "two")
    agent.messages.clear()
    agent.messages = [
        {"role": "user", "content": [{"text": "zero"}]},
        {"role": "assistant", "content": [{"text": "0"}]},
    ]
    seen.note("result", await seen.stream(agent, "three"))


async def synchronous(agent: Agent, seen: Seen) -> None:
    prompts: Any = ("one", [{"text": "two"}], None)
    for prompt in prompts:
        seen.note(await asyncio.to_thread(agent, prompt))


async def told(agent: Agent, seen: Seen) -> None:
    heard: list[Any] = []
    agent.callback_handler = lambda **what: heard.append(plain({k: v for k, v in what.items() if k != "agent"}))
    seen.note(await agent.invoke_async("go", invocation_state={"mine": 1}))
    seen.note(heard)


async def with_state(agent: Agent, seen: Seen) -> None:
    mine: dict[str, Any] = {"a": object()}
    await seen.stream(agent, "go", invocation_state=mine)
    seen.note(mine)


def raising_handler(**_: Any) -> None:
    raise RuntimeError("handler")


SLOW = [("add", {"number": 100})]

CASES: dict[str, tuple[Callable[..., Agent], Drive]] = {
    "text": (case("done"), calls("one", "two")),
    "tools": (case(BATCH, [("progress", {"steps": 3})], "done"), calls("go", "on")),
    "prompts of other kinds": (case("done"), calls(ODD, [{"text": "b"}], None)),
    "messages and state": (case("done", messages=ODD[:2], state={"a": 1}), calls("go")),
    "system prompt": (case("done", system_prompt=[{"text": "be"}, {"cachePoint": {"type": "default"}}]), calls("go")),
    "structured output": (case([("Answer", {"number": 7})], structured_output_model=Answer), calls("go", "on")),
    "structured output, corrected": (
        case([("Answer", {"number": "no"})], [("Answer", {"number": 7})]),
        calls("go", structured_output_model=Answer),
    ),
    "structured output, refused": (case("no", "no", "no"), calls("go", "on", structured_output_model=Answer)),
    "stream left": (case(BATCH, "done"), leave),
    "cancelled by a tool": (case([("stop", {}), ("add", {"number": 1})], "done"), calls("go", "on")),
    "ended by a tool": (case([("end", {}), ("add", {"number": 1})], "done"), calls("go", "on")),
    "task cancelled": (case(SLOW, "done"), cancelled_task),
    "interrupt": (case([("ask", {}), ("add", {"number": 1})], "done"), answer),
    "direct calls": (case("done"), directly),
    "two at once": (case(SLOW, "done"), at_once),
    "edited between calls": (case("done"), edited),
    "synchronous": (case(BATCH, "done"), synchronous),
    "callback handler": (case(BATCH, "done"), told),
    "callback handler that raises": (case("done", callback_handler=raising_handler), calls("go", "on")),
    "model fails": (case(Once(ValueError("bad"), BATCH), "done"), calls("go", "on")),
    "model is throttled": (case(Once(ModelThrottledException("slow"), "done")), calls("go")),
    "too many tokens": (case(BATCH, Once(MaxTokensReachedException("cut"), "done")), calls("go", "on")),
    "context overflows": (
        case(Once(ContextWindowOverflowException("full"), "done"), messages=ODD[:2] * 9),
        calls("go"),
    ),
    "sliding window": (
        case("done", conversation_manager=lambda: SlidingWindowConversationManager(window_size=4)),
        calls(*"abcdef"),
    ),
    "summaries": (
        case(Once(ContextWindowOverflowException("full"), "done"), messages=ODD[:2] * 9,
             conversation_manager=lambda: SummarizingConversationManager(preserve_recent_messages=3)),
        calls("go", "on"),
    ),
    "long": (case(*([("add", {"number": 0})] for _ in range(30)), "done"), calls("go")),
    "invocation state": (case([("remember", {"name": "x"})], "done"), with_state),
}  # fmt: skip


def check(build: Callable[..., Agent], drive: Drive) -> None:
    without = seen_with(build, drive, None)
    ours = seen_with(build, drive, DaprSessionManager("s", store=MemoryStore()))
    for name, expected in without.items():
        assert ours[name] == with_results_kept(expected, ours[name]), name


def with_results_kept(expected: Any, ours: Any) -> Any:
    """The one thing that is to differ: a tool that had ended when its batch was broken off keeps its result."""
    if isinstance(expected, dict) and isinstance(ours, dict):
        if expected.get("content") == [{"text": INTERRUPTED_TEXT}] and expected["toolUseId"] == ours.get("toolUseId"):
            return ours
        return {name: with_results_kept(item, ours.get(name)) for name, item in expected.items()}
    if isinstance(expected, list) and isinstance(ours, list) and len(expected) == len(ours):
        return [with_results_kept(item, other) for item, other in zip(expected, ours, strict=True)]
    return expected


# Before 1.6x the end of a stream that was left is told to hooks when the garbage is collected.
LATE = {"stream left"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.newest_dependencies if name in LATE else ()) for name in CASES]
)
def test_a_caller_sees_the_same(name: str) -> None:
    check(*CASES[name])


@pytest.mark.parametrize("order", [-100, 0, 100])
@pytest.mark.parametrize("event_type", EVENTS, ids=lambda event_type: event_type.__name__)
def test_a_caller_sees_the_same_when_a_hook_raises(event_type: type, order: float) -> None:
    """Each time, at the second event of its kind, and not again."""

    def build(**options: Any) -> Agent:
        agent = case(BATCH, [("add", {"number": 1})], "done")(**options)
        heard: list[Any] = []

        def raising(event: Any) -> None:
            heard.append(event)
            if len(heard) == 2:
                raise RuntimeError("hook")

        agent.add_hook(raising, event_type, order=order)
        return agent

    check(build, calls("one", "two", "three"))


@pytest.mark.parametrize("change", ["cancel tool", "cancel all", "retry tool", "other result", "retry model", "go on"])
def test_a_caller_sees_the_same_when_hooks_change_things(change: str) -> None:
    def build(**options: Any) -> Agent:
        agent = case(BATCH, [("add", {"number": 1})], "done")(**options)
        heard: list[Any] = []

        def first(event: Any) -> bool:
            heard.append(event)
            return len(heard) == 1

        def hook(event: Any) -> None:
            if change == "cancel tool" and first(event):
                event.cancel_tool = "not this one"
            elif change == "cancel all" and first(event):
                event.cancel = "not now"
            elif change in {"retry tool", "retry model"} and first(event):
                event.retry = True
            elif change == "other result":
                event.result = {**event.result, "content": [{"text": "changed"}]}
            elif change == "go on" and first(event):
                event.resume = "and on"

        types: dict[str, type] = {
            "cancel tool": BeforeToolCallEvent,
            "cancel all": BeforeInvocationEvent,
            "retry tool": AfterToolCallEvent,
            "other result": AfterToolCallEvent,
            "retry model": AfterModelCallEvent,
            "go on": AfterInvocationEvent,
        }
        agent.add_hook(hook, types[change])
        return agent

    check(build, calls("one", "two"))


def test_a_caller_sees_the_same_of_an_agent_that_uses_agents() -> None:
    def build(**options: Any) -> Agent:
        helper = case(BATCH, "helped", name="helper")()
        script = [[("helper", {"input": "help"}), ("add", {"number": 1})], [("helper", {"input": "more"})], "done"]
        return case(*script, tools=[helper, add])(**options)

    check(build, calls("go"))
