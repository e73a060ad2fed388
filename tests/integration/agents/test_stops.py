"""Runs that end with a batch of tools, because a tool or a hook says so, and hooks that change messages in place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    MessageAddedEvent,
)
from strands.types.exceptions import EventLoopException

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.strands_compat import AFTER_TOOLS
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import Film, check_everywhere, live, manager, recorded_scope

ran: list[str] = []
BATCH = [("work", {"number": 1}), ("enough", {}), ("work", {"number": 2})]


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool(context=True)
async def work(number: int, tool_context: ToolContext) -> str:
    """Work."""
    ran.append(tool_context.tool_use["toolUseId"])
    return f"worked {number}"


@tool(context=True)
async def enough(tool_context: ToolContext) -> str:
    """Ask the agent to stop."""
    ran.append(tool_context.tool_use["toolUseId"])
    tool_context.invocation_state.setdefault("request_state", {})["stop_event_loop"] = True
    return "enough"


@tool(name="enough", context=True)
async def cancel(tool_context: ToolContext) -> str:
    """Ask the agent to stop, as one does since 1.6x."""
    ran.append(tool_context.tool_use["toolUseId"])
    tool_context.agent.cancel(message="That is all.", after_current_tools=True)
    return "enough"


@tool(name="enough", context=True)
async def cancel_at_once(tool_context: ToolContext) -> str:
    """Cancel the agent."""
    ran.append(tool_context.tool_use["toolUseId"])
    tool_context.agent.cancel()
    return "enough"


def agent(session_manager: DaprSessionManager, script: Any, *tools: Any) -> Agent:
    made = Agent(model=ScriptedModel(script), tools=[*tools], session_manager=session_manager, callback_handler=None)
    made.add_hook(_linger, AfterInvocationEvent)
    return made


async def _linger(event: AfterInvocationEvent) -> None:  # noqa: ARG001
    await asyncio.sleep(0.02)  # so that what waits for nothing else gets into the journal


@pytest.mark.filterwarnings("ignore:request_state.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(enough, id="flag"),
        pytest.param(cancel, id="cancel", marks=pytest.mark.newest_dependencies),
        pytest.param(cancel_at_once, id="cancel at once", marks=pytest.mark.newest_dependencies),
    ],
)
def test_an_agent_that_was_asked_to_stop_stops_wherever_it_was_cut(stop: Any) -> None:
    script = {"first": [[("work", {"number": 0})], BATCH, "never said"], "second": [[("work", {"number": 3})], "said"]}
    cuts = check_everywhere(lambda manager: agent(manager, script, work, stop), ["first", "second"], ran=ran)
    assert cuts


@pytest.mark.newest_dependencies  # the event came with 1.5x
def test_a_hook_that_ends_the_turn_ends_it_wherever_it_was_cut() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        made = agent(session_manager, [[("work", {"number": 0})], BATCH[::2], "never said"], work)

        def end(event: Any) -> None:
            event.end_turn = "worked 2" in str(event.message) and "That was it."

        made.add_hook(end, AFTER_TOOLS)
        return made

    cuts = check_everywhere(build, ["go"], ran=ran)
    assert cuts[0].expected["messages"][-1]["content"] == [{"text": "That was it."}]


def test_what_hooks_make_of_messages_survives_wherever_it_was_cut() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        script = [[("work", {"number": 1}), ("work", {"number": 2})], [("work", {"number": 3})], "done"]
        made = agent(session_manager, script, work)

        def take_note(event: BeforeModelCallEvent) -> None:
            content = event.agent.messages[-1]["content"]
            if {"text": "a note"} not in content:
                content.append({"text": "a note"})

        def double(event: BeforeToolCallEvent) -> None:
            if event.tool_use["input"]["number"] < 10:
                event.tool_use["input"]["number"] *= 10

        made.add_hook(take_note, BeforeModelCallEvent)
        made.add_hook(double, BeforeToolCallEvent)
        return made

    cuts = check_everywhere(build, ["go"], ran=ran)
    blocks = [block for message in cuts[0].expected["messages"] for block in message["content"]]
    asked = [block["toolUse"]["input"] for block in blocks if "toolUse" in block]
    assert asked == [{"number": 10}, {"number": 20}, {"number": 30}]


@pytest.mark.newest_dependencies  # delegation came with 1.6x
def test_an_agent_that_delegates_ends_with_what_the_other_said_wherever_it_was_cut() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        other = Agent(name="other", model=ScriptedModel(["from the other"]), callback_handler=None)
        script = [[("work", {"number": 0})], [("other", {"input": "go on"})], "never said"]
        return agent(session_manager, script, work, other.as_tool(delegate=True))

    cuts = check_everywhere(build, ["go"], ran=ran)
    assert cuts[0].expected["answer"] == ["from the other"]


@pytest.mark.newest_dependencies
@pytest.mark.parametrize(
    "event_type", [AfterModelCallEvent, BeforeToolCallEvent, AfterToolCallEvent, MessageAddedEvent]
)
def test_an_agent_that_a_hook_cancelled_is_cancelled_wherever_it_was_cut(event_type: type) -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        script = {"first": [[("work", {"number": 0})], BATCH[::2], "never said"], "second": ["said"]}
        made = agent(session_manager, script, work)

        def cancel(event: Any) -> None:
            if len(event.agent.messages) == 4 or (event_type is AfterModelCallEvent and len(event.agent.messages) == 3):
                event.agent.cancel(message="No more.")

        made.add_hook(cancel, event_type)
        return made

    cuts = check_everywhere(build, ["first", "second"], ran=ran)
    assert "No more." in str(cuts[0].expected["messages"])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
def test_a_run_that_is_cancelled_as_it_goes_on_is_over(*, elsewhere: bool) -> None:
    """In the midst of a batch, Strands has been told to wait for an answer, and would for ever."""
    script = {"first": [[("work", {"number": 0}), ("work", {"number": 1})], "never said"], "second": ["said"]}
    film = Film()
    live(film, lambda manager: agent(manager, script, work), ["first"])
    tried = 0
    for frame in film.frames:
        cut = Film.at(frame)
        made = agent(manager(cut), script, work)
        if not recorded_scope(cut).results:
            continue
        tried += 1
        made.cancel()
        assert made("first").stop_reason == "cancelled"
        other = agent(manager(cut), script, work) if elsewhere else made
        assert str(other("second")).strip() == "said"
    assert tried


class OneId(ScriptedModel):
    """Gives all calls of an answer one id."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        async for event in super().stream(messages, *args, **kwargs):
            start: Any = event.get("contentBlockStart", {}).get("start", {})
            if "toolUse" in start:
                start["toolUse"]["toolUseId"] = start["toolUse"]["toolUseId"].partition("t")[0] + "t0"
            yield event


@pytest.mark.filterwarnings("ignore:request_state.*is deprecated:DeprecationWarning")
def test_a_tool_that_shares_its_id_stops_the_agent_wherever_it_was_cut() -> None:
    """Its result is not recorded before the message of its batch, which must not be recorded before the end either."""

    def build(session_manager: DaprSessionManager) -> Agent:
        made = agent(session_manager, [], work, enough)
        made.model = OneId([[("work", {"number": 0})], BATCH, "never said"])
        return made

    cuts = check_everywhere(build, ["go"])
    assert "never said" not in str(cuts[0].expected)


class Filtered(ScriptedModel):
    """A model whose second answer is stopped by a filter, tool calls and all."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        is_stopped = len(messages) == 3
        async for event in super().stream(messages, *args, **kwargs):
            if "messageStop" in event and is_stopped:
                event["messageStop"]["stopReason"] = "content_filtered"
            yield event


def filtered(session_manager: DaprSessionManager) -> Agent:
    script: Any = [[("work", {"number": 0})], [("work", {"number": 1})], "never said"]
    made = Agent(model=Filtered(script), tools=[work], session_manager=session_manager, callback_handler=None)
    made.add_hook(_linger, AfterInvocationEvent)
    return made


def test_tools_of_an_answer_that_a_filter_stopped_never_run() -> None:
    cuts = check_everywhere(filtered, ["first"], ran=ran)
    assert cuts[0].expected["stop"] == ["content_filtered"]
    assert all("v1c1t0" not in cut.again for cut in cuts)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
def test_nor_do_they_where_the_call_failed_after_it(*, elsewhere: bool) -> None:
    film = Film()
    agent = filtered(manager(film))

    failures = ["hook"]

    def fail(event: MessageAddedEvent) -> None:
        if failures and event.message["role"] == "assistant" and "v1c1t0" in str(event.message):
            raise RuntimeError(failures.pop())

    agent.add_hook(fail, MessageAddedEvent)
    with pytest.raises(EventLoopException, match="hook"):
        agent("first")
    other = filtered(manager(film)) if elsewhere else agent
    assert other("first").stop_reason == "content_filtered"
    assert ran == ["v1c0t0"]
