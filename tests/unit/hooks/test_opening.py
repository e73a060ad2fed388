"""What a call means, given what is recorded: its id, its prompt and the agent's state make it go on or begin."""

from __future__ import annotations

from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, AfterToolCallEvent, BeforeInvocationEvent, BeforeToolCallEvent
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import ConfigurationError, DaprSessionManager, DriftError, InvocationConflictError
from strands_dapr_session.errors import NothingUnfinishedError
from strands_dapr_session.hooks.owed import only_what_is_owed
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.strands_compat import LAST
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import results, said

INTERRUPTED = "Tool was interrupted."


class World:
    """What survives a process, and what really ran.

    Attributes:
        down: What fails: the model, or a hook before a tool.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.down: set[str] = set()
        self.ran: list[str] = []

    def agent(self, session_id: str = "s", **options: Any) -> Agent:
        @tool
        def look(name: str) -> str:
            """Look."""
            self.ran.append(name)
            return name

        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person."""
            return str(tool_context.interrupt("may I"))

        @tool
        def delegate() -> str:
            """Let another durable agent do it."""
            return str(self.agent("other session")("look")).strip()

        def answer(turn: Any) -> Any:
            def say(_: Any) -> Any:
                if "model" in self.down:
                    raise ConnectionError("down")
                return turn

            return say

        script = {
            "go": [answer("went")],
            "then": [answer("then it was")],
            "edited": [answer("as edited")],
            "ask": [[("ask", {})], answer("asked")],
            "look": [[("look", {"name": "a"}), ("look", {"name": "b"})], answer("looked")],
            "delegate": [[("delegate", {})], answer("delegated")],
        }
        agent = Agent(
            model=ScriptedModel(script),
            tools=[look, ask, delegate],
            session_manager=DaprSessionManager(session_id, store=self.store, on_busy="steal", **options),
            callback_handler=None,
            tool_executor=SequentialToolExecutor(),
        )

        def stop(event: BeforeToolCallEvent) -> None:
            if event.tool_use["input"].get("name") in self.down:
                raise ConnectionError("down")

        agent.add_hook(stop, BeforeToolCallEvent)
        return agent

    def fail(self, prompt: str, what: str = "model", agent: Agent | None = None, **state: Any) -> Agent:
        """Leave an unfinished invocation behind, whose caller knows that it failed."""
        agent = agent or self.agent()
        self.down.add(what)
        with pytest.raises(Exception, match="down"):
            agent(prompt, invocation_state=dict(state))
        self.down.clear()
        return agent

    @property
    def is_free(self) -> bool:
        return Journal(self.store, "s", "default").load_sync().owner is None


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize(
    ("first", "then", "goes_on"),
    [
        ({}, {}, True),
        ({"invocation_id": "one"}, {"invocation_id": "one"}, True),
        ({"invocation_id": "one"}, {}, True),
        ({}, {"invocation_id": "one"}, True),
        ({"invocation_id": "one"}, {"invocation_id": "two"}, False),
    ],
    ids=["no ids", "the same", "the first", "the second", "another"],
)
def test_the_same_prompt_goes_on_unless_another_id_says_that_it_is_another(
    world: World, first: dict[str, Any], then: dict[str, Any], *, where: str, goes_on: bool
) -> None:
    agent = world.fail("go", **first)
    agent = agent if where == "here" else world.agent()

    assert str(agent("go", invocation_state=dict(then))).strip() == "went"

    assert said(agent) == (["go"] if goes_on else ["go", "go"])


@pytest.mark.parametrize("prompt", ["go", None])
def test_no_prompt_goes_on_whatever_the_id(world: World, prompt: str | None) -> None:
    world.fail("go", invocation_id="one")
    agent = world.agent()

    assert str(agent(prompt, invocation_state={"invocation_id": "one"})).strip() == "went"

    assert said(agent) == ["go"]


def test_an_id_that_is_unfinished_with_another_prompt_is_refused(world: World) -> None:
    agent = world.fail("go", invocation_id="one")

    with pytest.raises(InvocationConflictError, match="'one' is unfinished with another prompt"):
        agent("then", invocation_state={"invocation_id": "one"})

    assert world.is_free
    assert str(agent("then", invocation_state={"invocation_id": "two"})).strip() == "then it was"
    assert said(agent) == ["go", "then"]


@pytest.mark.parametrize("key", ["", "  ", 7])
def test_what_is_no_id(world: World, key: Any) -> None:
    agent = world.agent()

    with pytest.raises(ConfigurationError, match="must be a non-empty string"):
        agent("go", invocation_state={"invocation_id": key})

    assert world.is_free
    assert world.agent().messages == []
    assert str(agent("go")).strip() == "went"


def test_after_a_refusal_the_agent_is_recorded_as_before(world: World) -> None:
    agent = world.agent()
    agent("go", invocation_state={"invocation_id": "one"})
    with pytest.raises(InvocationConflictError, match="has finished with another prompt"):
        agent("then", invocation_state={"invocation_id": "one"})

    agent.tool.look(name="directly")

    assert [message["role"] for message in world.agent().messages] == [each["role"] for each in agent.messages]
    assert "directly" in str(world.agent().messages)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_what_was_said_behind_a_batch_of_tools_makes_the_call_a_new_one(world: World, where: str) -> None:
    """Nobody can put results in front of it, so the batch is closed, also where the same prompt would go on."""
    agent = world.fail("look", "b")
    agent = agent if where == "here" else world.agent()
    agent.messages.append({"role": "user", "content": [{"text": "By the way."}]})

    agent("look")

    assert said(agent) == ["look", "By the way.", "look"]
    assert results(agent)[:2] == ["a", INTERRUPTED]
    assert world.ran == ["a", "a", "b"]
    assert [message["content"] for message in world.agent().messages] == [each["content"] for each in agent.messages]


def test_what_is_owed_is_only_gone_on_with_by_the_agent_that_began(world: World) -> None:
    world.fail("go")
    agent = world.agent(drift="refuse")
    agent.system_prompt = "Be another."

    with pytest.raises(DriftError):
        agent("go")

    assert world.is_free


def test_a_question_that_the_caller_has_not_heard_is_asked_again(world: World) -> None:
    agent = world.agent()
    assert world.agent()("ask").stop_reason == "interrupt"

    assert agent("ask").stop_reason == "interrupt"

    assert said(agent) == ["ask"]


# -- calls that are only to go on --------------------------------------------------------------------------------------


def test_a_call_that_is_only_to_go_on_begins_nothing(world: World) -> None:
    agent = world.agent()

    with only_what_is_owed(), pytest.raises(NothingUnfinishedError):
        agent()
    with only_what_is_owed(), pytest.raises(NothingUnfinishedError):
        agent("go")

    assert world.is_free
    assert world.agent().messages == []


def test_a_call_that_is_only_to_go_on_gives_nothing_up(world: World) -> None:
    agent = world.fail("look", "b")

    with only_what_is_owed(), pytest.raises(NothingUnfinishedError):
        agent("then")

    assert INTERRUPTED not in results(agent)
    assert str(agent("look")).strip() == "looked"
    assert world.ran == ["a", "b"]
    assert results(agent) == ["a", "b"]


def test_what_goes_on_may_let_others_begin(world: World) -> None:
    world.fail("delegate", "model")
    world.ran.clear()

    with only_what_is_owed():
        answer = str(world.agent()()).strip()

    assert answer == "delegated"


def test_tools_of_what_goes_on_may_let_others_begin(world: World) -> None:
    agent = world.agent()

    def stop(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] in world.down:
            raise ConnectionError("down")

    agent.add_hook(stop, BeforeToolCallEvent)
    world.fail("delegate", "delegate", agent)

    with only_what_is_owed():
        answer = str(world.agent()()).strip()

    assert answer == "delegated"
    assert world.ran == ["a", "b"]


# -- further prompts ---------------------------------------------------------------------------------------------------


def test_a_further_prompt_is_what_hooks_have_made_of_it_for_others_too(world: World) -> None:
    agent = world.agent()

    def resume(event: AfterInvocationEvent) -> None:
        if event.result is not None and said(agent) == ["go"]:
            event.resume = "then"

    def edit(event: BeforeInvocationEvent) -> None:
        if event.messages and "then" in str(event.messages):
            event.messages = [{"role": "user", "content": [{"text": "edited"}]}]

    def stop(event: BeforeInvocationEvent) -> None:
        if "edited" in str(event.messages) and world.down:
            raise ConnectionError("down")

    agent.add_hook(resume, AfterInvocationEvent)
    agent.add_hook(edit, BeforeInvocationEvent)
    agent.add_hook(stop, BeforeInvocationEvent, order=LAST + 1)
    world.fail("go", "before the model is asked", agent)
    other = world.agent()

    assert str(other("go")).strip() == "as edited"

    assert said(other) == ["go", "edited"]


def test_a_further_prompt_is_no_other_attempt(world: World) -> None:
    agent = world.agent(max_attempts=1)

    def resume(event: AfterInvocationEvent) -> None:
        if event.result is not None and said(agent) == ["go"]:
            event.resume = "then"

    agent.add_hook(resume, AfterInvocationEvent)

    assert str(agent("go")).strip() == "then it was"

    invocation = Journal(world.store, "s", "default").load_sync().scope("").invocation
    assert invocation is not None
    assert (invocation.finished, invocation.attempt) == (True, 1)


def test_a_further_prompt_is_not_said_again_when_somebody_else_has_finished_the_call_meanwhile(world: World) -> None:
    agent = world.agent()

    def resume(event: AfterInvocationEvent) -> None:
        if event.result is not None and said(agent) == ["go"]:
            event.resume = "then"

    def overtake(event: BeforeInvocationEvent) -> None:
        if event.messages and "then" in str(event.messages):
            assert str(world.agent()("go")).strip() == "then it was"

    agent.add_hook(resume, AfterInvocationEvent)
    agent.add_hook(overtake, BeforeInvocationEvent)

    assert str(agent("go")).strip() == "then it was"

    assert said(agent) == said(world.agent()) == ["go", "then"]


def test_a_further_prompt_goes_on_where_somebody_else_has_left_it_meanwhile(world: World) -> None:
    agent = world.agent()

    def resume(event: AfterInvocationEvent) -> None:
        if event.result is not None and said(event.agent) == ["go"]:
            event.resume = "look"

    def overtake(event: BeforeInvocationEvent) -> None:
        if event.messages and "look" in str(event.messages):
            other = world.agent()
            other.add_hook(lambda _: world.down.add("model"), AfterToolCallEvent)
            with pytest.raises(Exception, match="down"):
                other("go")
            world.down.clear()

    agent.add_hook(resume, AfterInvocationEvent)
    agent.add_hook(overtake, BeforeInvocationEvent)
    agent("go")

    assert world.ran == ["a", "b"]
    assert said(agent) == said(world.agent()) == ["go", "look"]
