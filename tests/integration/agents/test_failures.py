"""Runs that end without a result: the journal is free at once, and the run goes on when it is called again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import NullConversationManager
from strands.hooks import (
    AfterInvocationEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    MessageAddedEvent,
)
from strands.hooks.registry import HookOrder
from strands.types.exceptions import ConcurrencyException, EventLoopException, MaxTokensReachedException

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.errors import FencedError
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, Fault, FaultyStore, nothing
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import SESSION, Film, add_hook, assert_free, manager, plain, recording_of

ran: list[str] = []
trouble: list[BaseException] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    trouble.clear()


def make_trouble() -> None:
    if trouble:
        raise trouble.pop()


@tool(context=True)
async def first(tool_context: ToolContext) -> str:
    """Go first."""
    ran.append(tool_context.tool_use["toolUseId"])
    return "one"


@tool(context=True)
async def second(tool_context: ToolContext) -> str:
    """Go second."""
    ran.append(tool_context.tool_use["toolUseId"])
    await asyncio.sleep(0.01)
    return "two"


SCRIPT: Any = {
    "go": [[("first", {}), ("second", {})], [("first", {})], "went"],
    "then": [[("second", {})], "then it was"],
}


def agent_on(store: MemoryStore, **options: Any) -> Agent:
    script = options.pop("script", SCRIPT)
    return Agent(
        model=ScriptedModel(script),
        tools=[first, second],
        session_manager=DaprSessionManager("s", store=store, busy_timeout=0.2),
        callback_handler=None,
        retry_strategy=None,
        **options,
    )


def outcome(agent: Agent) -> Any:
    return [(message["role"], message["content"]) for message in plain(agent.messages)]


@pytest.fixture(scope="module")
def whole() -> Any:
    agent = agent_on(MemoryStore())
    agent("go")
    return outcome(agent)


def broken_hook(event_type: type, number: int = 1) -> Callable[[Agent], None]:
    """Let the hook raise that sees the event for so-manieth time."""

    def add(agent: Agent) -> None:
        seen = 0

        def callback(_: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                raise OSError("no")

        add_hook(agent, callback, event_type)

    return add


FAILURES = {
    "before the first model call": broken_hook(BeforeModelCallEvent),
    "before a later model call": broken_hook(BeforeModelCallEvent, 2),
    "before a tool call": broken_hook(BeforeToolCallEvent, 2),
    "when the prompt was added": broken_hook(MessageAddedEvent),
    "when the model had answered": broken_hook(MessageAddedEvent, 2),
    "when tools had answered": broken_hook(MessageAddedEvent, 3),
    "when the last answer was there": broken_hook(MessageAddedEvent, 6),
}


@pytest.mark.parametrize("prompt", ["go", None])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_a_hook_that_raises(fail: Callable[[Agent], None], prompt: Any, elsewhere: Any, whole: Any) -> None:
    store = MemoryStore()
    agent = agent_on(store)
    fail(agent)
    with pytest.raises((OSError, EventLoopException), match="no"):
        agent("go")
    assert_free(store)

    if elsewhere:
        agent = agent_on(store)
    agent(prompt)

    assert outcome(agent) == whole
    assert outcome(agent_on(store)) == whole
    assert len(set(ran)) == 3


def broken_manager(agent: Agent) -> None:
    class Broken(NullConversationManager):
        def apply_management(self, *_: Any, **__: Any) -> None:
            raise OSError("no")

    agent.conversation_manager = Broken()


@pytest.mark.parametrize("fail", [broken_hook(AfterInvocationEvent), broken_manager], ids=["hook", "manager"])
def test_what_fails_after_the_run_does_not_undo_it(fail: Callable[[Agent], None], whole: Any) -> None:
    store = MemoryStore()
    agent = agent_on(store)
    fail(agent)
    with pytest.raises(OSError, match="no"):
        agent("go", invocation_state={"invocation_id": "1"})
    wait_until_free(store)
    other = agent_on(store)
    assert outcome(other) == whole
    if fail is not broken_manager:  # the result was known
        assert str(other("go", invocation_state={"invocation_id": "1"})).strip() == "went"
        assert outcome(other) == whole
    assert str(other("then")).strip() == "then it was"


def wait_until_free(store: MemoryStore) -> None:
    """Nobody waits for the release when a call ended in a way that no event tells of."""
    for _ in range(100):
        with contextlib.suppress(AssertionError):
            assert_free(store)
            return
        time.sleep(0.01)
    assert_free(store)


def test_a_hook_that_raises_after_a_tool_is_an_error_of_the_tool_as_without_us() -> None:
    answers = []
    for options in ({}, {"session_manager": None}):
        agent = Agent(
            model=ScriptedModel([[("first", {})], "went"]),
            tools=[first],
            callback_handler=None,
            **({"session_manager": DaprSessionManager("s", store=MemoryStore())} | options),  # type: ignore[arg-type]
        )
        broken_hook(AfterToolCallEvent)(agent)
        agent("go")
        answers.append(outcome(agent))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("order", [HookOrder.SDK_FIRST, HookOrder.DEFAULT, HookOrder.SDK_LAST, 1000])
def test_a_hook_that_refuses_the_prompt_by_raising(order: float, whole: Any) -> None:
    store = MemoryStore()
    agent = agent_on(store)
    refusing = [True]

    def refuse(_: Any) -> None:
        if refusing:
            raise PermissionError("not you")

    add_hook(agent, refuse, BeforeInvocationEvent, order=order)
    with pytest.raises(PermissionError):
        agent("go")
    assert_free(store)
    assert agent_on(store).messages == []
    refusing.clear()
    agent("go")
    assert outcome(agent) == whole


def test_a_hook_after_ours_that_raises_holds_the_session_only_until_the_next_call(whole: Any) -> None:
    """Nothing comes after the last place but what was registered there later, too."""
    store = MemoryStore()
    agent = agent_on(store)
    refusing = [True]

    def refuse(_: Any) -> None:
        if refusing:
            raise PermissionError("not you")

    add_hook(agent, refuse, BeforeInvocationEvent, order=float("inf"))
    with pytest.raises(PermissionError):
        agent("go")
    refusing.clear()
    agent("go")
    assert outcome(agent) == whole
    assert_free(store)


def test_a_hook_after_ours_that_raises_lets_others_go_on(whole: Any) -> None:
    store = MemoryStore()
    agent = agent_on(store)

    def refuse(_: Any) -> None:
        raise PermissionError("not you")

    add_hook(agent, refuse, BeforeInvocationEvent, order=float("inf"))
    with pytest.raises(PermissionError):
        agent("go")
    wait_until_free(store)
    other = agent_on(store)
    other("go")
    assert outcome(other) == whole


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("prompt", ["go", None])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
def test_a_model_that_raises(number: int, prompt: Any, elsewhere: Any, whole: Any) -> None:
    store = MemoryStore()
    trouble.append(OSError("no model"))
    script = {"go": list(SCRIPT["go"])}
    answer = script["go"][number]
    script["go"][number] = lambda _: trouble.pop() if trouble else answer
    agent = agent_on(store, script=script)
    with pytest.raises((OSError, EventLoopException), match="no model"):
        agent("go")
    assert_free(store)
    if elsewhere:
        agent = agent_on(store)
    result = agent(prompt)
    assert outcome(agent) == whole
    assert len(ran) == 3
    assert result.metrics.agent_invocations[-1].usage["inputTokens"] == 30


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
def test_another_prompt_after_a_failure_is_a_new_one(elsewhere: Any) -> None:
    """The caller has been told. What was recorded stays, and tools that were not done are answered as interrupted."""
    store = MemoryStore()
    agent = agent_on(store)

    async def stop(event: Any) -> None:
        if event.tool_use["name"] == "second":
            await asyncio.sleep(0.05)
            raise OSError("no")

    add_hook(agent, stop, BeforeToolCallEvent)
    with pytest.raises(EventLoopException):
        agent("go")
    assert_free(store)
    if elsewhere:
        agent = agent_on(store)
    else:
        agent.hooks._registered_callbacks[BeforeToolCallEvent] = [
            entry for entry in agent.hooks._registered_callbacks[BeforeToolCallEvent] if entry.callback is not stop
        ]
    assert str(agent("then")).strip() == "then it was"
    batch, answer, prompt = agent.messages[1:4]
    assert [block["toolUse"]["name"] for block in batch["content"]] == ["first", "second"]
    texts = [block["toolResult"]["content"][0]["text"] for block in answer["content"]]
    assert texts == ["one", "Tool was interrupted."]
    assert prompt["content"] == [{"text": "then"}]
    assert outcome(agent_on(store)) == outcome(agent)


async def test_a_cancelled_task(whole: Any) -> None:
    store = MemoryStore()
    agent = agent_on(store)
    reached = asyncio.Event()

    async def wait(event: Any) -> None:
        if event.tool_use["name"] == "second":
            reached.set()
            await asyncio.sleep(60)

    add_hook(agent, wait, BeforeToolCallEvent)
    task = asyncio.create_task(agent.invoke_async("go"))
    await reached.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_free(store)
    other = agent_on(store)
    await other.invoke_async("go")
    assert outcome(other) == whole
    assert len(ran) == 3


async def test_a_call_that_takes_too_long(whole: Any) -> None:
    store = MemoryStore()
    agent = agent_on(store)

    async def wait(_: Any) -> None:
        await asyncio.sleep(60)

    add_hook(agent, wait, BeforeModelCallEvent)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(agent.invoke_async("go"), 0.05)
    assert_free(store)
    other = agent_on(store)
    await other.invoke_async(None)
    assert outcome(other) == whole


@pytest.mark.parametrize("number", [1, 4, 10, 20, 30])
@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
async def test_a_stream_that_its_caller_leaves(
    number: int, close: Any, elsewhere: Any, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pytest keeps of its complaints would keep the dropped stream alive.
    monkeypatch.setattr(logging.getLogger("opentelemetry.context"), "disabled", True)
    store = MemoryStore()
    agent = agent_on(store)
    stream = agent.stream_async("go")
    for _ in range(number):
        await anext(stream)
    if close:
        await stream.aclose()  # type: ignore[attr-defined]
    del stream
    if not close:
        gc.collect()
        if elsewhere:
            await asyncio.sleep(0.05)  # the loop closes what was dropped
    if elsewhere:
        agent = agent_on(store)
    for _ in range(100):
        with contextlib.suppress(ConcurrencyException):
            await agent.invoke_async("go")
            break
        await asyncio.sleep(0.01)  # Strands says that the agent is busy until the loop has closed the stream
    await asyncio.sleep(0.01)
    assert outcome(agent) == whole
    assert_free(store)
    assert outcome(agent_on(store)) == whole


def test_an_answer_that_is_cut_off() -> None:
    class Terse(ScriptedModel):
        async def stream(self, *args: Any, **kwargs: Any) -> Any:
            async for event in super().stream(*args, **kwargs):
                if "messageStop" in event:
                    yield {"messageStop": {"stopReason": "max_tokens"}}
                else:
                    yield event

    store = MemoryStore()
    agent = agent_on(store)
    whole_model, agent.model = agent.model, Terse({"go": ["cut"]})
    with pytest.raises(MaxTokensReachedException):
        agent("go")
    assert_free(store)
    assert outcome(agent_on(store)) == outcome(agent)
    agent.model = whole_model
    assert str(agent("go")).strip() == "went"
    assert [message["role"] for message in agent.messages[:3]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("when", ["model", "tools"])
def test_a_run_that_is_cancelled_is_over(when: str) -> None:
    store = MemoryStore()
    agent = agent_on(store)

    def cancel(_: Any) -> None:
        agent.cancel()

    add_hook(agent, cancel, BeforeModelCallEvent if when == "model" else BeforeToolCallEvent)
    assert agent("go").stop_reason == "cancelled"
    assert_free(store)
    other = agent_on(store)
    assert outcome(other) == outcome(agent)
    assert str(other("then")).strip() == "then it was"
    assert ran == (["v2c0t0"] if when == "model" else ran)


def test_a_retried_tool_has_one_result() -> None:
    store = MemoryStore()
    agent = agent_on(store)
    tries: list[Any] = []

    def again(event: Any) -> None:
        if event.tool_use["name"] == "second" and len(tries) < 2:
            tries.append(event.result)
            event.retry = True

    add_hook(agent, again, AfterToolCallEvent)
    agent("go")
    assert ran.count("v1c0t1") == 3
    assert outcome(agent_on(store)) == outcome(agent)


def test_rewritten_results_are_what_is_recorded() -> None:
    store = MemoryStore()
    agent = agent_on(store)

    def rewrite(event: Any) -> None:
        event.result = {**event.result, "content": [{"text": f"rewritten {event.tool_use['name']}"}]}

    add_hook(agent, rewrite, AfterToolCallEvent)
    add_hook(agent, rewrite, AfterToolCallEvent, order=HookOrder.SDK_LAST)
    trouble.append(OSError("no model"))
    agent.model = ScriptedModel({"go": [SCRIPT["go"][0], lambda _: trouble.pop()]})
    with pytest.raises((OSError, EventLoopException), match="no model"):
        agent("go")
    other = agent_on(store)
    other("go")
    texts = [block["toolResult"]["content"][0]["text"] for block in other.messages[2]["content"]]
    assert texts == ["rewritten first", "rewritten second"]
    assert len(ran) == 3


class PassThrough(Fault):
    """Another worker owns the journal for a moment, just before a call."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def around(self, call: Call, apply: Callable[[], Awaitable[Any]], store: FaultyStore) -> Any:  # noqa: ARG002
        await self.journal.acquire()
        await self.journal.release()
        return await apply()


def test_a_recorded_result_that_could_not_be_handed_out() -> None:
    """The journal was lost between the look at it and its release, while another run waits for results of tools."""
    film = Film()

    def build(session_manager: DaprSessionManager) -> Agent:
        script: dict[str, Any] = {"one": ["1"], "two": [[("first", {})], "2"]}
        return Agent(model=ScriptedModel(script), tools=[first], session_manager=session_manager, callback_handler=None)

    agent = build(manager(film))
    agent("one", invocation_state={"invocation_id": "i"})
    agent("two")
    frames = [each for each in film.frames if recording_of(build(manager(Film.at(each)))).held is not None]
    film = Film.at(frames[0])
    other = build(manager(film, on_busy="steal"))
    thief = Journal(film.inner, SESSION, "default", settings=JournalSettings(on_busy="steal"))
    writes = 0

    def second_write(call: Call) -> Fault | None:
        nonlocal writes
        writes += call.writes
        return PassThrough(thief) if call.writes and writes == 2 else None

    film.store.plan = second_write
    with pytest.raises(FencedError):
        other("one", invocation_state={"invocation_id": "i"})
    film.store.plan = nothing
    assert str(other("one", invocation_state={"invocation_id": "i"})).strip() == "1"
    assert str(other("two")).strip() == "2"
    assert plain(other.messages) == plain(agent.messages)
