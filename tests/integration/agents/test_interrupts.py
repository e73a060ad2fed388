"""A person is asked once: from tools and from hooks, answered before and after a crash, here and elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.tools.executors import ConcurrentToolExecutor, SequentialToolExecutor
from strands.types.exceptions import EventLoopException

from strands_dapr_session import DaprSessionManager, in_doubt
from strands_dapr_session.hooks.in_doubt import UNKNOWN_OUTCOME
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import (
    DONE,
    Build,
    Film,
    add_hook,
    check_everywhere,
    cut_everywhere,
    everything,
    live,
    manager,
)

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool(context=True)
async def delete(tool_context: ToolContext, name: str) -> str:
    """Delete a file, if somebody says that it may go."""
    answer = tool_context.interrupt("really", reason={"delete": name})
    ran.append(tool_context.tool_use["toolUseId"])
    return f"{name}: {answer}"


@tool(context=True)
async def look(tool_context: ToolContext, name: str) -> str:
    """Look at a file."""
    await asyncio.sleep(0)
    ran.append(tool_context.tool_use["toolUseId"])
    return f"saw {name}"


@tool(context=True)
async def ponder(tool_context: ToolContext, name: str) -> str:
    """Look at a file for a while."""
    await asyncio.sleep(0.01)
    ran.append(tool_context.tool_use["toolUseId"])
    return f"pondered {name}"


@tool(context=True)
async def remove(tool_context: ToolContext, name: str) -> str:
    """Remove a file that somebody else has said may go."""
    ran.append(tool_context.tool_use["toolUseId"])
    return f"{name}: {tool_context.invocation_state[tool_context.tool_use['toolUseId']]}"


@tool(context=True)
async def twice(tool_context: ToolContext) -> str:
    """Ask two things, one after the other."""
    first = tool_context.interrupt("first")
    second = tool_context.interrupt("second", reason=first)
    ran.append(tool_context.tool_use["toolUseId"])
    return f"{first} and {second}"


MIXED: Any = [
    [("look", {"name": "a"}), ("delete", {"name": "b"}), ("look", {"name": "c"}), ("delete", {"name": "d"})],
    [("look", {"name": "e"})],
    "tidied up",
]


def answers(result: Any) -> Any:
    """Answer everything that is asked."""
    if not result.interrupts:
        return DONE
    return [
        {"interruptResponse": {"interruptId": each.id, "response": f"yes to {each.name}"}} for each in result.interrupts
    ]


def from_tools(script: Any = MIXED, executor: type = ConcurrentToolExecutor) -> Build:
    def build(session_manager: DaprSessionManager) -> Agent:
        return Agent(
            model=ScriptedModel(script),
            tools=[delete, look, twice],
            session_manager=session_manager,
            callback_handler=None,
            tool_executor=executor(),
        )

    return build


UNASKED: Any = [
    [("look", {"name": "a"}), ("remove", {"name": "b"}), ("look", {"name": "c"}), ("remove", {"name": "d"})],
    *MIXED[1:],
]


def from_hooks(script: Any = UNASKED, executor: type = ConcurrentToolExecutor) -> Build:
    def build(session_manager: DaprSessionManager) -> Agent:
        agent = Agent(
            model=ScriptedModel(script),
            tools=[look, remove],
            session_manager=session_manager,
            callback_handler=None,
            tool_executor=executor(),
        )

        def approve(event: Any) -> None:
            if event.tool_use["name"] == "remove":
                event.invocation_state[event.tool_use["toolUseId"]] = event.interrupt("approve")

        add_hook(agent, approve, BeforeToolCallEvent)
        return agent

    return build


EXECUTORS = pytest.mark.parametrize("executor", [SequentialToolExecutor, ConcurrentToolExecutor])
ORIGINS = pytest.mark.parametrize("origin", [from_tools, from_hooks], ids=["from tools", "from hooks"])


def until_done(executor: type) -> list[Any]:
    """Answers for a sequential executor come one by one."""
    return ["go", answers, answers] if executor is SequentialToolExecutor else ["go", answers]


@EXECUTORS
@ORIGINS
def test_answered_before_and_after_a_crash(origin: Any, executor: type) -> None:
    check_everywhere(origin(executor=executor), until_done(executor), ran=ran)


@EXECUTORS
@ORIGINS
def test_a_call_that_answers_is_repeated_without_the_answers(origin: Any, executor: type) -> None:
    cuts = cut_everywhere(
        origin(executor=executor), until_done(executor), ran=ran, again=lambda p: None if callable(p) else p
    )
    assert any(cut.found["stop"] == ["end_turn"] for cut in cuts)
    for cut in cuts:
        cut.check()


@EXECUTORS
def test_hooks_edit_the_conversation_also_where_another_process_had_asked(executor: type) -> None:
    """What Strands keeps while it waits is the message in the conversation, until it was stored and restored."""

    def build(session_manager: DaprSessionManager) -> Agent:
        agent = from_tools(executor=executor)(session_manager)

        def sign(event: BeforeToolCallEvent) -> None:
            given = event.tool_use["input"]
            given["name"] = f"{given['name'].removesuffix('.')}."

        add_hook(agent, sign, BeforeToolCallEvent)
        return agent

    cuts = check_everywhere(build, until_done(executor), ran=ran)
    calls = [block["toolUse"]["input"] for block in cuts[0].expected["messages"][1]["content"]]
    assert [call["name"] for call in calls] == ["a.", "b.", "c.", "d."]


def test_two_questions_of_one_tool() -> None:
    build = from_tools([[("twice", {}), ("look", {"name": "a"})], "done"])
    cuts = check_everywhere(build, ["go", answers, answers], ran=ran)
    assert "yes to first and yes to second" in str(cuts[0].expected["messages"])


def test_a_restored_agent_knows_what_it_asked() -> None:
    film = Film()
    life = live(film, from_tools(), ["go"])
    other = from_tools()(manager(film))
    assert everything(other) == everything(life.agent)
    assert other.messages[-1]["role"] == "assistant"
    with pytest.raises(TypeError, match="interruptResponse"):
        other("something else")
    assert everything(other) == everything(life.agent)


def test_a_question_that_nobody_waits_for_any_more() -> None:
    film = Film()
    agent = live(film, from_tools(), ["go"]).agent
    agent._interrupt_state.deactivate()
    assert str(agent("never mind")).strip() == "tidied up" or agent.messages[-1]
    assert everything(from_tools()(manager(film))) == everything(agent)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same agent", "another process"])
@pytest.mark.parametrize("again", ["answers", "nothing", "something else"])
def test_a_failure_after_the_answers(again: str, elsewhere: Any) -> None:
    film = Film()
    build = from_tools([[("delete", {"name": "a"})], "done"])
    agent = build(manager(film))
    given = answers(agent("go"))

    def fail(_: Any) -> None:
        raise OSError("no")

    add_hook(agent, fail, BeforeToolCallEvent)
    with pytest.raises((OSError, EventLoopException), match="no"):
        agent(given)
    agent.hooks._registered_callbacks[BeforeToolCallEvent] = [
        entry for entry in agent.hooks._registered_callbacks[BeforeToolCallEvent] if entry.callback is not fail
    ]
    if elsewhere:
        agent = build(manager(film))
    prompt: Any = {"answers": given, "nothing": None, "something else": "what now?"}[again]
    result = agent(prompt)
    if again == "something else":
        assert result.stop_reason == "interrupt"  # its own run comes to ask for itself
        assert [message["content"] for message in agent.messages[3:4]] == [[{"text": "what now?"}]]
        return
    assert str(result).strip() == "done"
    assert len(ran) == 1
    assert everything(build(manager(film))) == everything(agent)


# -- questions and policies -----------------------------------------------------------------------------------------


@in_doubt("never_twice")
@tool(context=True)
async def wire(tool_context: ToolContext, cents: int) -> str:
    """Wire money."""
    ran.append(tool_context.tool_use["toolUseId"])
    return f"wired {cents}"


@in_doubt("never_twice")
@tool(context=True)
async def wire_if_allowed(tool_context: ToolContext, cents: int) -> str:
    """Wire money, if somebody allows it."""
    answer = tool_context.interrupt("allow")
    ran.append(tool_context.tool_use["toolUseId"])
    return f"{answer}: wired {cents}"


def approved(session_manager: DaprSessionManager) -> Agent:
    agent = Agent(
        model=ScriptedModel([[("wire", {"cents": 5})], "paid"]),
        tools=[wire],
        session_manager=session_manager,
        callback_handler=None,
    )

    def approve(event: Any) -> None:
        event.interrupt("approve")

    add_hook(agent, approve, BeforeToolCallEvent)
    return agent


def asking(session_manager: DaprSessionManager) -> Agent:
    return Agent(
        model=ScriptedModel([[("wire_if_allowed", {"cents": 5})], "paid"]),
        tools=[wire_if_allowed],
        session_manager=session_manager,
        callback_handler=None,
    )


@pytest.mark.parametrize("build", [approved, asking], ids=["approved by a hook", "asks itself"])
def test_a_tool_that_waited_for_an_answer_is_not_in_doubt(build: Build) -> None:
    """It had not started, or stopped in order to ask: it is run with the answer although it must never run twice."""
    whole = live(Film(), build, ["go", answers])
    assert "wired 5" in str(whole.agent.messages)
    for cut in cut_everywhere(build, ["go", answers], ran=ran):
        text = str(cut.found["messages"])
        assert ("wired 5" in text) != (UNKNOWN_OUTCOME in text), cut.frame
        assert len(cut.again) <= 1
        if UNKNOWN_OUTCOME in text:
            # It had got its answer, and had begun again.
            assert cut.again == ()


# -- elsewhere in the loop -------------------------------------------------------------------------------------------


def gate_tools(agent: Agent) -> None:
    from strands.hooks import BeforeToolsEvent  # noqa: PLC0415

    def approve(event: Any) -> None:
        event.agent.state.set("said", event.interrupt("go on?"))

    add_hook(agent, approve, BeforeToolsEvent)


def gate_execution(agent: Agent) -> None:
    from strands.middleware import ExecuteToolStage  # noqa: PLC0415

    async def gate(context: Any, following: Any) -> Any:
        context.agent.state.set("said", context.interrupt("go on?").response)
        async for event in following(context):
            yield event

    agent.add_middleware(ExecuteToolStage, gate)


@pytest.mark.newest_dependencies  # these came with 1.5x and 1.6x
@pytest.mark.parametrize("gate", [gate_tools, gate_execution])
def test_questions_elsewhere_in_the_loop(gate: Any) -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        agent = Agent(
            model=ScriptedModel([[("look", {"name": "a"})], "done"]),
            tools=[look],
            session_manager=session_manager,
            callback_handler=None,
        )
        gate(agent)
        return agent

    cuts = check_everywhere(build, ["go", answers], ran=ran)
    assert cuts[0].expected["state"] == {"said": "yes to go on?"}


def test_answers_that_come_again_after_the_run_has_ended() -> None:
    """Whoever delivers them may deliver them twice, because the first time nobody said that they had arrived."""
    film = Film()
    build = from_tools([[("delete", {"name": "a"})], "done"])
    given = answers(live(film, build, ["go"]).results[0])
    life = live(film, build, [given])
    other = build(manager(film))
    again = other(given)
    assert (str(again).strip(), again.stop_reason) == ("done", "end_turn")
    assert everything(other) == everything(life.agent)
    assert len(ran) == 1
    other("go")
    third = build(manager(film))
    with pytest.raises((ValueError, KeyError)):
        third(given)  # these are of a run that nobody waits for any more


def test_answers_that_come_again_when_the_next_question_is_open() -> None:
    film = Film()
    build = from_tools([[("twice", {})], "done"])
    given = answers(live(film, build, ["go"]).results[0])
    life = live(film, build, [given])
    other = build(manager(film))
    again: Any = other(given)
    assert [each.name for each in again.interrupts] == [each.name for each in life.results[0].interrupts] == ["second"]
    assert str(other(answers(again))).strip() == "done"
    assert len(ran) == 1


def test_two_processes_that_answer_the_same_question() -> None:
    """Both have restored the agent while it waits; the slower one gets what came of the answers of the other."""
    film = Film()
    build = from_tools([[("delete", {"name": "a"})], "done"])
    first = live(film, build, ["go"])
    other = build(manager(film))
    given = answers(first.results[0])
    first.agent(given)
    again = other(given)
    assert (str(again).strip(), again.stop_reason) == ("done", "end_turn")
    assert everything(other) == everything(first.agent)
    assert len(ran) == 1


@pytest.mark.parametrize("next_one", [[("delete", {"name": "b"})], [("twice", {})]], ids=["alike", "another"])
def test_two_processes_that_answer_while_the_next_question_is_open(next_one: Any) -> None:
    film = Film()
    build = from_tools([[("delete", {"name": "a"}), ("look", {"name": "c"})], next_one, "done"])
    first = live(film, build, ["go"])
    other = build(manager(film))
    given = answers(first.results[0])
    second: Any = first.agent(given)
    again: Any = other(given)
    assert [each.id for each in again.interrupts] == [each.id for each in second.interrupts]
    assert len(ran) == 2
    result = again
    while result.interrupts:
        result = other(answers(result))
    assert str(result).strip() == "done"
    assert len(ran) == 3
    assert everything(build(manager(film))) == everything(other)


def test_results_beside_a_question_keep_their_order_through_a_crash() -> None:
    """Also when the slower of two was lost and ran again, before the question that both stand beside was asked."""
    batch = [("ponder", {"name": "a"}), ("look", {"name": "b"}), ("delete", {"name": "c"})]

    def build(session_manager: DaprSessionManager) -> Agent:
        return Agent(
            model=ScriptedModel([batch, "done"]),
            tools=[ponder, look, delete],
            session_manager=session_manager,
            callback_handler=None,
        )

    check_everywhere(build, ["go", answers], ran=ran)


def helper(session_manager: DaprSessionManager) -> Agent:
    assistant = Agent(
        name="assistant",
        model=ScriptedModel([[("delete", {"name": "x"})], "removed x"]),
        tools=[delete],
        callback_handler=None,
    )
    return Agent(
        model=ScriptedModel([[("assistant", {"input": "remove x"}), ("look", {"name": "y"})], "done"]),
        tools=[assistant.as_tool(), look],
        session_manager=session_manager,
        callback_handler=None,
    )


@pytest.mark.newest_dependencies  # before 1.5x Strands does not bring answers to agents that run as tools
def test_a_question_of_an_agent_that_runs_as_a_tool() -> None:
    check_everywhere(helper, ["go", answers], ran=ran)
