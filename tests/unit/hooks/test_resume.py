"""How an unfinished invocation goes on: what Strands is given, what is asked about tools, and what comes after it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, AfterToolCallEvent, BeforeToolCallEvent
from strands.tools import PythonAgentTool
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import ConfigurationError, DamagedDataError, DaprSessionManager, in_doubt, io_thread
from strands_dapr_session.hooks.in_doubt import UNKNOWN_OUTCOME, reconcile
from strands_dapr_session.hooks.resume import ResumeHook
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import ToolFinished
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import results, said


class World:
    """What survives a process, and what really ran.

    Attributes:
        left: What the store held when a tool said that it stops.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ran: list[str] = []
        self.left: dict[str, Any] = {}

    def agent(
        self, script: Any, *, name: str = "", tools: list[Any] | None = None, has_session: bool = True, **options: Any
    ) -> Agent:
        @tool(context=True)
        def work(name: str, tool_context: ToolContext) -> str:
            """Work."""
            self.ran.append(name)
            if name == "stop" and not self.left:
                self.left = dict(self.store._entries)
            if name == "calls":
                tool_context.agent.tool.work(name="called", record_direct_tool_call=False)
            return name

        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person."""
            return str(tool_context.interrupt("may I"))

        return Agent(
            name=name or "Strands Agents",
            model=ScriptedModel(script),
            tools=[work, ask, *(tools or [])],
            session_manager=DaprSessionManager("s", store=self.store, on_busy="steal", **options)
            if has_session
            else None,
            callback_handler=None,
            tool_executor=SequentialToolExecutor(),
        )

    def killed(self, script: Any, prompt: str = "go", **options: Any) -> None:
        """Run it to where a tool says that it stops, and forget what came after that."""
        self.agent(script, **options)(prompt)
        self.go_back()

    def go_back(self) -> None:
        """Make the store what it was when a tool said that it stops."""
        assert self.left
        self.store._entries.clear()
        self.store._entries.update(self.left)
        self.ran.clear()


@pytest.fixture
def world() -> World:
    return World()


def work(*names: str) -> list[Any]:
    return [("work", {"name": name}) for name in names]


def test_only_agents_are_recorded_step_by_step() -> None:
    hook = ResumeHook(None)  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError, match="object is not supported"):
        hook.restore(object())


def test_a_tool_that_runs_again_may_call_tools_itself(world: World) -> None:
    """To Strands, an agent that goes on in the midst of a batch waits for a person, until the batch runs."""
    script = [work("first", "stop", "calls"), "went"]
    world.killed(script)
    agent = world.agent(script)

    assert str(agent("go")).strip() == "went"

    assert world.ran == ["stop", "calls", "called"]
    assert results(agent) == ["first", "stop", "calls"]


def test_an_agent_that_is_a_tool_goes_on_where_it_was(world: World) -> None:
    def parent() -> Agent:
        helper = world.agent([work("first"), work("stop"), "helped"], name="helper", has_session=False)
        return world.agent([[("helper", {"input": "help"})], "went"], tools=[helper.as_tool()])

    parent()("go")
    world.go_back()
    agent = parent()

    assert str(agent("go")).strip() == "went"

    assert world.ran == ["stop"]
    assert "helped" in results(agent)[0]


def test_a_recorded_result_that_is_none_of_a_tool_is_named(world: World) -> None:
    world.killed([work("first", "stop"), "went"])
    journal = Journal(world.store, "s", "default", settings=JournalSettings(on_busy="steal"))

    async def forge() -> None:
        await journal.acquire()
        await journal.release(ToolFinished("", "v1c0t0", pack_value(["forged"])))

    io_thread.run_sync(forge())

    with pytest.raises(DamagedDataError, match="a recorded result is none of a tool"):
        world.agent([work("first", "stop"), "went"])("go")
    assert world.ran == []


class Counting(ScriptedModel):
    """Knows its turn by how often it has answered."""

    @staticmethod
    def _position(messages: Any) -> tuple[str, int, int]:
        return "", 1, sum(message["role"] == "assistant" for message in messages)


@pytest.mark.parametrize("wrong", [{}, {"toolUseId": "fixed"}], ids=["no id", "another id"])
def test_a_result_that_a_tool_gives_another_id_is_no_result_of_its_call(world: World, wrong: Any) -> None:
    """To Strands, which passes it on as it is, nor to whoever goes on."""

    def old(tool: Any, **_: Any) -> Any:  # noqa: ARG001
        world.ran.append("old")
        return {**wrong, "status": "success", "content": [{"text": "as of old"}]}

    spec: Any = {"name": "old", "description": "Work.", "inputSchema": {"json": {"type": "object", "properties": {}}}}

    def made() -> Agent:
        agent = world.agent([], tools=[PythonAgentTool("old", spec, old)])
        agent.model = Counting([[("old", {}), *work("first", "stop")], "went"])
        return agent

    made()("go")
    world.go_back()
    agent = made()
    assert str(agent("go")).strip() == "went"
    assert world.ran == ["old", "stop"]
    assert sorted(results(agent)) == ["as of old", "first", "stop"]


# -- tools in doubt ----------------------------------------------------------------------------------------------------


def test_whoever_found_out_is_not_asked_again_when_the_call_is_tried_again(world: World) -> None:
    script = [work("stop"), "went"]
    world.killed(script, in_doubt="never_twice")
    asked: list[str] = []

    def find_out(tool_use: Any) -> None:
        asked.append(tool_use["toolUseId"])

    agent = world.agent(script, in_doubt=reconcile(find_out))
    retries = [True]

    def try_again(event: AfterToolCallEvent) -> None:
        event.retry = bool(retries) and retries.pop()

    agent.add_hook(try_again, AfterToolCallEvent)
    agent("go")

    assert asked == ["v1c0t0"]
    assert world.ran == ["stop", "stop"]


def _with_one_id(stream: Any) -> Any:
    async def with_one_id(*args: Any, **options: Any) -> Any:
        async for event in stream(*args, **options):
            start = event.get("contentBlockStart", {}).get("start", {})
            if "toolUse" in start:
                start["toolUse"]["toolUseId"] = "v1c0t0"
            yield event

    return with_one_id


def select(event: BeforeToolCallEvent, tool: Any) -> None:
    event.selected_tool = tool


def rename(event: BeforeToolCallEvent, tool: Any) -> None:
    event.tool_use = {**event.tool_use, "name": tool.tool_name}


@pytest.mark.parametrize(("choose", "by_name"), [
    (select, False),
    pytest.param(rename, False, marks=pytest.mark.newest_dependencies),
    pytest.param(rename, True, marks=pytest.mark.newest_dependencies),
], ids=["selected", "named", "named, policy by name"])  # fmt: skip
def test_the_policy_is_that_of_the_tool_which_a_hook_chooses(world: World, choose: Any, *, by_name: bool) -> None:
    @tool(name="paid")
    def pay(name: str) -> str:
        """Pay."""
        world.ran.append(f"paid {name}")
        world.left = world.left or dict(world.store._entries)
        return "paid"

    paid: Any = pay if by_name else in_doubt("never_twice")(pay)
    options: dict[str, Any] = {"in_doubt": {"paid": "never_twice"}} if by_name else {}

    def made() -> Agent:
        agent = world.agent([work("it"), "went"], tools=[paid], **options)
        agent.add_hook(lambda event: choose(event, paid), BeforeToolCallEvent)
        return agent

    made()("go")
    assert world.ran == ["paid it"]
    world.go_back()
    agent = made()
    agent("go")
    assert world.ran == []
    assert results(agent) == [UNKNOWN_OUTCOME]


def test_who_finds_out_about_a_call_is_told_what_hooks_made_of_it(world: World) -> None:
    asked: list[Any] = []

    def find_out(tool_use: Any) -> str:
        asked.append(tool_use["input"])
        return "found"

    def made() -> Agent:
        agent = world.agent([work("stop"), "went"], in_doubt={"work": find_out})

        def put_in(event: BeforeToolCallEvent) -> None:
            event.tool_use = {**event.tool_use, "input": {**event.tool_use["input"], "order": 7}}

        agent.add_hook(put_in, BeforeToolCallEvent)
        return agent

    made()("go")
    world.go_back()
    made()("go")
    assert asked == [{"name": "stop", "order": 7}]
    assert world.ran == []


def test_calls_that_share_an_id_are_each_found_out_about(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [work("first", "stop"), "went"]
    monkeypatch.setattr(ScriptedModel, "stream", _with_one_id(ScriptedModel.stream))
    world.killed(script, in_doubt="never_twice")
    asked: list[str] = []

    def find_out(tool_use: Any) -> None:
        asked.append(tool_use["input"]["name"])

    world.agent(script, in_doubt=reconcile(find_out))("go")

    assert asked == world.ran == ["first", "stop"]


# -- another prompt ----------------------------------------------------------------------------------------------------


def test_another_prompt_comes_after_what_is_owed(world: World) -> None:
    script = {"go": [work("stop"), "went"], "then": ["then it was"]}
    world.killed(script)
    agent = world.agent(script)

    assert str(agent("then")).strip() == "then it was"

    assert said(agent) == ["go", "then"]
    assert said(world.agent(script)) == ["go", "then"]


def test_another_prompt_that_fails_after_what_was_owed_is_what_is_owed_then(world: World) -> None:
    down = [True]

    def then(_: Any) -> str:
        if down:
            raise ConnectionError("down")
        return "then it was"

    script = {"go": [work("stop"), "went"], "then": [then]}
    world.killed(script)
    agent = world.agent(script)
    with pytest.raises(Exception, match="down"):
        agent("then")
    down.clear()
    other = world.agent(script)

    assert str(other("then")).strip() == "then it was"

    assert said(other) == ["go", "then"]


def test_another_prompt_is_not_run_where_what_is_owed_asks_a_person(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    script = {"go": [work("stop"), [("ask", {})], "went"], "then": ["then it was"]}
    agent = world.agent(script)
    assert agent("go").stop_reason == "interrupt"
    world.go_back()
    agent = world.agent(script)

    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        result = agent("then")

    assert result.stop_reason == "interrupt"
    assert "the new prompt was not run" in caplog.text
    answers: Any = [
        {"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts or []
    ]
    assert str(agent(answers)).strip() == "went"
    assert said(agent) == ["go"]


def test_another_prompt_waits_for_the_further_ones_of_what_is_owed(world: World) -> None:
    script = {"go": [work("stop"), "went"], "further": ["further it was"], "then": ["then it was"]}
    world.killed(script)
    agent = world.agent(script)

    def resume(event: AfterInvocationEvent) -> None:
        if event.result is not None and said(agent) == ["go"]:
            event.resume = "further"

    agent.add_hook(resume, AfterInvocationEvent)

    assert str(agent("then")).strip() == "then it was"

    assert said(agent) == ["go", "further", "then"]


def test_another_prompt_is_not_run_after_what_is_owed_has_failed_again(world: World) -> None:
    script = {"go": [work("stop"), "went"], "then": ["then it was"]}
    world.killed(script)
    agent = world.agent(script)
    down = [True]

    def stop(event: BeforeToolCallEvent) -> None:
        if down:
            raise ConnectionError("down", event.tool_use["name"])

    agent.add_hook(stop, BeforeToolCallEvent)
    with pytest.raises(Exception, match="down"):
        agent("then")
    assert said(agent) == ["go"]
    down.clear()

    assert str(agent("go")).strip() == "went"
