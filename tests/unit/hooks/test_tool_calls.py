"""Calls of tools: which are marked as started, under which key each runs, and what is recorded of how it ended."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, BeforeModelCallEvent, BeforeToolCallEvent
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import DaprSessionManager, idempotency_key, io_thread
from strands_dapr_session.hooks.in_doubt import INTERRUPT_NAME, UNKNOWN_OUTCOME
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.records import InvocationFinished, Record, Spliced, ToolFinished, ToolStarted
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import results


class World:
    """What survives a process, and what its tools saw.

    Attributes:
        ran: What each tool that ran was told, and its idempotency key.
        frames: What the store held when each of them ran.
        agents: For whom tools delegated.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ran: list[tuple[str, str | None]] = []
        self.frames: list[dict[str, Any]] = []
        self.agents: list[Agent] = []

    def agent(self, script: Any, session_id: str = "s", **options: Any) -> Agent:
        @tool
        def work(name: str) -> str:
            """Work."""
            self.note(name)
            return name

        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person, then work."""
            answer = str(tool_context.interrupt("may I"))
            self.note(answer)
            return answer

        @tool(context=True)
        def delegate(tool_context: ToolContext) -> str:
            """Let another tool do it."""
            self.agents.append(tool_context.agent)
            tool_context.agent.tool.work(name="directly", record_direct_tool_call=False)
            return "delegated"

        return Agent(
            model=script if isinstance(script, ScriptedModel) else ScriptedModel(script),
            tools=[work, ask, delegate],
            session_manager=DaprSessionManager(session_id, store=self.store, on_busy="steal", **options),
            callback_handler=None,
            tool_executor=SequentialToolExecutor(),
        )

    def note(self, name: str) -> None:
        self.ran.append((name, idempotency_key()))
        self.frames.append(dict(self.store._entries))

    def die_in(self, number: int) -> None:
        """Make the store what it was while a tool ran, as if the process had died inside of it."""
        self.store._entries.clear()
        self.store._entries.update(self.frames[number])

    @property
    def told(self) -> list[str]:
        return [name for name, _ in self.ran]

    @property
    def keys(self) -> list[str | None]:
        return [key for _, key in self.ran]

    @property
    def records(self) -> list[Record]:
        commits = io_thread.run_sync(read_history(self.store, "s", "default"))
        return [record for _, records in commits for record in records]


@pytest.fixture
def world() -> World:
    return World()


def work(*names: str) -> list[Any]:
    return [("work", {"name": name}) for name in names]


def answers_to(result: Any, answer: str = "yes") -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": answer}} for each in result.interrupts]


# -- keys --------------------------------------------------------------------------------------------------------------


class Repetitive(ScriptedModel):
    """Numbers the calls of each answer from one, as some providers do."""

    async def stream(self, messages: Any, *args: Any, **options: Any) -> Any:
        answers = sum(message["role"] == "assistant" for message in messages)
        turns: Any = self._script
        async for event in ScriptedModel([turns[answers % len(turns)]]).stream(messages[:1], *args, **options):
            yield event


def test_a_call_of_the_same_id_in_another_batch_run_or_session_has_another_key(world: World) -> None:
    model = Repetitive([work("a"), work("a"), "done"])
    agent = world.agent(model)
    agent("go")
    agent("go")
    world.agent(model, "another session")("go")

    assert world.told == ["a"] * 6
    assert len(set(world.keys)) == 6
    assert None not in world.keys


def test_calls_of_one_batch_that_share_an_id_have_keys_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ScriptedModel.stream

    async def with_one_id(*args: Any, **options: Any) -> Any:
        async for event in stream(*args, **options):
            start: Any = event.get("contentBlockStart", {}).get("start", {})
            if "toolUse" in start:
                start["toolUse"]["toolUseId"] = "v1c0t0"
            yield event

    monkeypatch.setattr(ScriptedModel, "stream", with_one_id)
    world.agent([work("a", "b"), "done"])("go")

    assert world.told == ["a", "b"]
    assert len(set(world.keys)) == 2


def test_what_a_tool_calls_directly_has_no_key(world: World) -> None:
    agent = world.agent([[("delegate", {})], "done"])
    agent("go")
    agent.tool.work(name="outside", record_direct_tool_call=False)

    assert world.ran == [("directly", None), ("outside", None)]


def test_a_key_is_gone_when_its_tool_has_ended(world: World) -> None:
    agent = world.agent([work("a"), "done"])
    after: list[str | None] = []
    agent.add_hook(lambda _: after.append(idempotency_key()), BeforeModelCallEvent)
    agent.add_hook(lambda _: after.append(idempotency_key()), AfterInvocationEvent)
    agent("go")

    assert after == [None, None, None]


def test_a_tool_is_told_of_its_own_agent_whatever_others_put_there(world: World) -> None:
    """Nodes of a graph that run at the same time share the dict."""
    agent = world.agent([[("delegate", {})], "done"])

    def put_another(event: BeforeToolCallEvent) -> None:
        event.invocation_state["agent"] = world.agent([], "another session")

    agent.add_hook(put_another, BeforeToolCallEvent)
    agent("go")

    assert world.agents == [agent]
    assert results(agent) == ["delegated"]


# -- marks -------------------------------------------------------------------------------------------------------------


def test_a_call_that_a_hook_cancels_is_not_marked_as_started(world: World) -> None:
    agent = world.agent([work("a"), "done"], in_doubt="never_twice")

    def cancel(event: BeforeToolCallEvent) -> None:
        event.cancel_tool = "not now"

    agent.add_hook(cancel, BeforeToolCallEvent)
    agent("go")

    assert world.ran == []
    assert not any(isinstance(record, ToolStarted) for record in world.records)
    assert any(isinstance(record, ToolFinished) for record in world.records)


def test_a_call_for_which_a_hook_asks_has_not_started(world: World) -> None:
    """Approved in another process, it runs: nobody may take it for one that has run before."""

    def build() -> Agent:
        agent = world.agent([work("a"), "done"], in_doubt="never_twice")
        agent.add_hook(lambda event: event.interrupt("may it", reason="because"), BeforeToolCallEvent)
        return agent

    result = build()("go")
    assert result.stop_reason == "interrupt"
    assert not any(isinstance(record, ToolStarted) for record in world.records)
    agent = build()
    agent(answers_to(result))

    assert results(agent) == world.told == ["a"]


def test_a_call_starts_though_a_question_about_it_was_never_answered(world: World) -> None:
    """The hook that had asked wants to know no more, since another one was answered: the call is marked, with a key."""
    agent = world.agent([work("a"), "done"], in_doubt="never_twice")

    def ask_boss(event: BeforeToolCallEvent) -> None:
        event.agent.state.set("answer", event.interrupt("boss"))

    def ask_owner(event: BeforeToolCallEvent) -> None:
        if not event.agent.state.get("answer"):
            event.interrupt("owner")

    agent.add_hook(ask_boss, BeforeToolCallEvent)
    agent.add_hook(ask_owner, BeforeToolCallEvent)
    result = agent("go")
    assert [each.name for each in result.interrupts] == ["boss", "owner"]  # type: ignore[union-attr]
    agent(answers_to(result)[:1])

    assert world.told == ["a"]
    assert world.keys != [None]
    assert any(isinstance(record, ToolStarted) for record in world.records)


def test_a_tool_that_has_asked_itself_is_in_doubt_once_it_goes_on(world: World) -> None:
    script: Any = [[("ask", {})], "done"]
    result = world.agent(script, in_doubt="never_twice")("go")
    agent = world.agent(script, in_doubt="never_twice")
    agent(answers_to(result))
    assert results(agent) == world.told == ["yes"]
    world.die_in(0)
    agent = world.agent(script, in_doubt="never_twice")
    agent()

    assert results(agent) == [UNKNOWN_OUTCOME]
    assert world.told == ["yes"]


def test_whoever_decided_about_a_call_in_doubt_is_asked_again_when_it_is_in_doubt_again(world: World) -> None:
    script = [work("a"), "done"]
    world.agent(script, in_doubt="ask")("go")
    world.die_in(0)
    result = world.agent(script, in_doubt="ask")()
    assert [each.name for each in result.interrupts or ()] == [INTERRUPT_NAME]
    world.agent(script, in_doubt="ask")(answers_to(result, "rerun"))
    assert world.told == ["a", "a"]
    world.die_in(1)
    result = world.agent(script, in_doubt="ask")()

    assert [each.name for each in result.interrupts or ()] == [INTERRUPT_NAME]
    assert world.told == ["a", "a"]


# -- structured output -------------------------------------------------------------------------------------------------


class Answer(BaseModel):
    """What to answer."""

    number: int


def test_structured_output_that_is_none_is_recorded_and_what_is_some_is_only_in_the_answer(world: World) -> None:
    """The input of the call is recorded, and making something of it again does nothing else."""
    agent = world.agent([[("Answer", {"number": "no"})], [("Answer", {"number": 7})]])
    result = agent("go", structured_output_model=Answer)

    assert result.structured_output == Answer(number=7)
    assert [record.tool_use_id for record in world.records if isinstance(record, ToolFinished)] == ["v1c0t0"]


def test_structured_output_is_recorded_together_with_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._TOGETHER", 0)  # each step is a commit of its own
    world.agent([[("Answer", {"number": 7})]])("go", structured_output_model=Answer)

    *before, last = [records for _, records in io_thread.run_sync(read_history(world.store, "s", "default"))]
    assert [len(record.bodies) for record in last if isinstance(record, Spliced)] == [1]
    assert any(isinstance(record, InvocationFinished) for record in last)
    assert len(before) >= 3
