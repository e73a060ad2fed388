"""Agents that code of users calls, in custom nodes and in tools."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.multiagent import GraphBuilder
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import (
    ConfigurationError,
    DaprSessionManager,
    Retries,
    RetryPolicy,
    StoreUnavailableError,
    idempotency_key,
    strands_compat,
)
from strands_dapr_session.journal import committer
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, Fault, FaultyStore, LoseReply, LoseRequest
from strands_dapr_session.testing.model import ScriptedModel

NODES = Retries(node=RetryPolicy(max_attempts=3, first_delay=0.001, retry_on=(RuntimeError,)))


class Asking(MultiAgentBase):
    """Calls an agent once for each prompt, and raises the first time."""

    id = "asking"

    def __init__(self, agent: Agent, prompts: list[str], *, is_down: bool) -> None:
        self._agent = agent
        self._prompts = prompts
        self._is_down = is_down
        self.heard: list[str] = []

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        self.heard = [str(await self._agent.invoke_async(prompt)).strip() for prompt in self._prompts]
        if self._is_down:
            self._is_down = False
            raise RuntimeError("down")
        return MultiAgentResult(Status.COMPLETED, {"n": NodeResult(result=MultiAgentResult(), status=Status.COMPLETED)})


class World:
    """What survives a process."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ran: list[str] = []

    def agent(self) -> Agent:
        @tool
        async def step(name: str) -> str:
            """Step."""
            self.ran.append(name)
            return name

        script = {name: [[("step", {"name": name})], f"done {name}"] for name in "abcx"}
        model = ScriptedModel(script, name="helper")
        return Agent(model=model, tools=[step], state={"kept": 1}, callback_handler=None)

    def graph(self, prompts: list[str], *, is_down: bool = False, retry: Any = None) -> tuple[Any, Asking, Agent]:
        manager = DaprSessionManager("s", store=self.store, retry=retry)
        agent = self.agent()
        manager.attach(agent, "helper")
        node = Asking(agent, prompts, is_down=is_down)
        builder = GraphBuilder()
        builder.add_node(node, "n")
        return builder.set_max_node_executions(9).set_session_manager(manager).build(), node, agent


@pytest.mark.parametrize("same_process", [True, False])
def test_calls_that_had_finished_are_not_made_again(*, same_process: bool) -> None:
    world = World()
    graph, node, agent = world.graph(["a", "b"], is_down=True)
    with pytest.raises(RuntimeError, match="down"):
        graph("T")
    if not same_process:
        graph, node, agent = world.graph(["a", "b"])

    assert graph("T").status == Status.COMPLETED
    assert world.ran == ["a", "b"]
    assert node.heard == ["done a", "done b"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 4


def test_calls_that_had_finished_are_not_made_again_when_the_node_is_tried_again() -> None:
    world = World()
    graph, node, agent = world.graph(["a", "b"], is_down=True, retry=NODES)

    assert graph("T").status == Status.COMPLETED
    assert world.ran == ["a", "b"]
    assert node.heard == ["done a", "done b"]
    assert len(agent.model.calls) == 4  # type: ignore[attr-defined]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 4


def test_calls_that_had_finished_are_not_made_again_when_the_tool_is_tried_again() -> None:
    world, heard = World(), list[str]()
    policy = RetryPolicy(max_attempts=3, first_delay=0.001, retry_on=(RuntimeError,))
    manager = DaprSessionManager("s", store=world.store, retry=Retries(tool=policy))
    helper = world.agent()
    manager.attach(helper, "helper")

    @tool
    async def delegate() -> str:
        """Let somebody else do it."""
        heard.append(str(await helper.invoke_async("a")).strip())
        if len(heard) == 1:
            raise RuntimeError("down")
        heard.append(str(await helper.invoke_async("b")).strip())
        return "delegated"

    model = ScriptedModel([[("delegate", {})], "done"])
    agent = Agent(model=model, agent_id="g", tools=[delegate], session_manager=manager, callback_handler=None)
    agent("T")

    assert world.ran == ["a", "b"]
    assert heard == ["done a", "done a", "done b"]
    assert [path for path in Journal(world.store, "s", "g").load_sync().scopes if path] == []


def test_from_another_prompt_on_they_are_made_anew() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="down"):
        world.graph(["a", "b", "c"], is_down=True)[0]("T")
    graph, node, _ = world.graph(["a", "x", "c"])

    graph("T")

    assert node.heard == ["done a", "done x", "done c"]
    assert world.ran == ["a", "b", "c", "x", "c"]


def test_calls_with_other_prompts_are_not_made_again_either_when_the_node_is_tried_again() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="down"):
        world.graph(["a"], is_down=True)[0]("T")
    graph, node, _ = world.graph(["x", "c"], is_down=True, retry=NODES)

    assert graph("T").status == Status.COMPLETED
    assert world.ran == ["a", "x", "c"]
    assert node.heard == ["done x", "done c"]


def test_every_visit_begins_with_the_first_messages_and_state() -> None:
    world = World()
    graph, _, agent = world.graph(["a"])

    graph("T")
    agent.state.set("kept", 2)
    graph("U")

    assert world.ran == ["a", "a"]
    assert len(agent.messages) == 4
    assert agent.state.get() == {"kept": 1}


@pytest.mark.parametrize("same_process", [True, False])
def test_what_was_called_in_a_run_that_was_given_up_is_called_anew(*, same_process: bool) -> None:
    world = World()
    graph, _, agent = world.graph(["a"], is_down=True)
    with pytest.raises(RuntimeError, match="down"):
        graph("T")
    if not same_process:
        graph, _, agent = world.graph(["a"])
    graph.session_manager.abandon(graph)

    graph("U")

    assert world.ran == ["a", "a"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 2


def test_what_was_called_in_a_run_that_was_given_up_is_not_restored_either() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="down"):
        world.graph(["a", "b"], is_down=True)[0]("T")
    graph, *_ = world.graph(["a", "b"], is_down=True)
    graph.session_manager.abandon(graph)
    with pytest.raises(RuntimeError, match="down"):
        graph("U")
    graph, node, agent = world.graph(["a", "b"])

    graph("U")

    assert world.ran == ["a", "b"] * 2
    assert node.heard == ["done a", "done b"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 4


def test_places_of_calls_end_with_what_made_them() -> None:
    world = World()
    graph, *_ = world.graph(["a", "b"])

    graph("T")

    journal = Journal(world.store, "s", graph.id).load_sync()
    assert {path for path in journal.scopes if path} == set()


def test_a_call_returns_when_its_end_is_recorded() -> None:
    world = World()
    inner, found = world.store, list[bool]()
    world.store = FaultyStore(inner, lambda call: Delay(0.02) if call.writes else None)  # type: ignore[assignment]

    class Looking(Asking):
        async def invoke_async(self, task: Any, invocation_state: Any = None, **options: Any) -> MultiAgentResult:
            result = await super().invoke_async(task, invocation_state, **options)
            view = await Journal(inner, "s", "g").load()
            found.extend(
                bool(each.invocation and each.invocation.finished) for path, each in view.scopes.items() if path
            )
            return result

    manager = DaprSessionManager("s", store=world.store)
    agent = world.agent()
    manager.attach(agent, "helper")
    builder = GraphBuilder()
    builder.add_node(Looking(agent, ["a", "b"], is_down=False), "n")
    builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()("T")

    assert found == [True, True]


def test_called_elsewhere_it_is_not_recorded() -> None:
    world = World()
    manager = DaprSessionManager("s", store=world.store)
    agent = world.agent()
    manager.attach(agent, "helper")

    agent("a")
    agent("a")

    assert world.ran == ["a", "a"]
    assert len(agent.messages) == 8


def test_what_cannot_be_attached_is_refused() -> None:
    world = World()
    manager = DaprSessionManager("s", store=world.store)
    own = Agent(model=ScriptedModel(["x"]), session_manager=DaprSessionManager("t", store=world.store))
    agent = world.agent()
    manager.attach(agent, "helper")
    manager.attach(agent, "helper")

    with pytest.raises(ConfigurationError, match="attached as 'helper'"):
        manager.attach(agent, "other")
    with pytest.raises(ConfigurationError, match="scope ''"):
        manager.attach(world.agent(), "")
    with pytest.raises(ConfigurationError, match="recorded there already"):
        manager.attach(own, "own")
    with pytest.raises(ConfigurationError, match=r"only a strands\.Agent"):
        manager.attach("agent", "text")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["tool", "agent", "durable agent", "tool that a hook cancels"])
def test_calls_after_one_with_a_tool_are_not_made_again_either(kind: str) -> None:
    """Strands may run a tool in the task of its agent, and that runs in the task of the node."""
    world = World()

    def build(*, is_down: bool) -> tuple[Any, Agent]:
        manager = DaprSessionManager("s", store=world.store)
        inner = world.agent()
        manager.attach(inner, "inner")

        @tool
        async def consult(input: str) -> str:  # noqa: A002 - the name of the argument of an agent that is a tool
            """Call an attached agent."""
            return str(await inner.invoke_async(input))

        own = DaprSessionManager("own", store=world.store) if kind == "durable agent" else None
        other = Agent(model=ScriptedModel(["consulted"]), session_manager=own, callback_handler=None)
        script = {name: [[("consult", {"input": "a"})], f"done {name}"] for name in "bc"}
        agent = Agent(
            model=ScriptedModel(script, name="outer"),
            tools=[other.as_tool(name="consult", preserve_context=own is not None) if "agent" in kind else consult],
            tool_executor=SequentialToolExecutor(),
            callback_handler=None,
        )
        if "cancels" in kind:
            agent.add_hook(lambda event: setattr(event, "cancel_tool", "no"), BeforeToolCallEvent)
        manager.attach(agent, "outer")
        builder = GraphBuilder()
        builder.add_node(Asking(agent, ["b", "c"], is_down=is_down), "n")
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build(), agent

    with pytest.raises(RuntimeError, match="down"):
        build(is_down=True)[0]("T")
    ran = list(world.ran)
    graph, agent = build(is_down=False)

    assert graph("T").status == Status.COMPLETED
    assert world.ran == ran == (["a", "a"] if kind == "tool" else [])
    assert agent.model.calls == []  # type: ignore[attr-defined]


class Passing(MultiAgentBase):
    """Passes on what its agent asks a person, and what the person answers."""

    id = "passing"

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        answers = [block for block in task if "interruptResponse" in block]
        result = await self._agent.invoke_async(answers or "Do it.")
        if result.stop_reason != "interrupt" and "Check it" not in str(self._agent.messages):
            result = await self._agent.invoke_async(f"Check it: {result}")
        if result.stop_reason == "interrupt":
            return MultiAgentResult(Status.INTERRUPTED, interrupts=list(result.interrupts or []))
        return MultiAgentResult(Status.COMPLETED, {"n": NodeResult(result=result, status=Status.COMPLETED)})


class Advised(Passing):
    """Asks another agent first."""

    def __init__(self, agent: Agent, adviser: Agent) -> None:
        super().__init__(agent)
        self.adviser = adviser

    async def invoke_async(self, task: Any, invocation_state: Any = None, **options: Any) -> MultiAgentResult:
        await self.adviser.invoke_async("Advise.")
        return await super().invoke_async(task, invocation_state, **options)


class Office:
    """What survives a process: a store that keeps what it held after each write, and what a person was asked."""

    def __init__(self, frame: dict[str, Any] | None = None) -> None:
        inner = MemoryStore()
        inner._entries.update(frame or {})
        self.frames: list[dict[str, Any]] = []
        self.store = FaultyStore(inner, on_applied=lambda _: self.frames.append(dict(inner._entries)))
        self.answers: list[Any] = []
        self.keys: set[str | None] = set()
        self.on_answer: Callable[[], object] = list

    def graph(self, retry: Any = None, *, is_advised: bool = False) -> tuple[Any, Agent]:
        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person."""
            self.answers.append(tool_context.interrupt("may I"))
            tool_context.agent.state.set("asked", (tool_context.agent.state.get("asked") or 0) + 1)
            self.on_answer()
            return str(self.answers[-1])

        @tool
        def note() -> str:
            """Do something beside it."""
            self.keys.add(idempotency_key())
            return "noted"

        manager = DaprSessionManager("s", store=self.store, on_busy="steal", retry=retry)
        model = ScriptedModel([[("note", {}), ("ask", {})], "done"], name="helper")
        agent = Agent(model=model, tools=[ask, note], callback_handler=None)
        adviser = Agent(model=ScriptedModel(["advice"], name="adviser"), callback_handler=None)
        manager.attach(adviser, "adviser")
        manager.attach(agent, "helper")
        builder = GraphBuilder()
        builder.add_node(Advised(agent, adviser) if is_advised else Passing(agent), "n")
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build(), agent


def finish(graph: Any, result: Any) -> Any:
    """Say yes to whatever is asked."""
    while result.status == Status.INTERRUPTED:
        result = graph(
            [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]
        )
    return result


def test_answers_to_an_attached_agent_reach_it_in_any_process() -> None:
    """Wherever the process ended: it goes on inside its batch of tools, with its whole conversation."""
    whole = Office()
    graph, agent = whole.graph()
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        result = finish(graph, graph("T"))
    assert result.status == Status.COMPLETED
    assert [len(messages) for messages in agent.model.calls] == [1, 3, 5, 7]  # type: ignore[attr-defined]
    assert whole.answers == ["yes"] * 2
    for number, frame in enumerate(whole.frames[:-1], 1):
        cut = Office(frame)
        again, helper = cut.graph()
        found = finish(again, again("T" if again.state.status != Status.INTERRUPTED else still_asked(again)))
        assert found.status == Status.COMPLETED, f"cut after write {number}"
        assert set(cut.answers) <= {"yes"}
        if helper.messages:  # otherwise the node had finished
            assert said(helper) == said(agent), f"cut after write {number}"


@pytest.mark.parametrize("same_process", [True, False])
def test_agents_beside_the_one_that_asked_are_not_asked_again(*, same_process: bool) -> None:
    office = Office()
    graph, agent = office.graph(is_advised=True)
    result, asked = graph("T"), 1
    while result.status == Status.INTERRUPTED:
        if not same_process:
            graph, agent = office.graph(is_advised=True)
            asked = 0
        result = graph(still_asked(graph))
        assert len(graph.nodes["n"].executor.adviser.model.calls) == asked
    assert result.status == Status.COMPLETED
    assert office.answers == ["yes"] * 2
    assert len(agent.messages) == 8


@pytest.mark.newest_dependencies  # before 1.5x Strands demands answers before it tells us of the call
@pytest.mark.parametrize("fault", [LoseRequest(), LoseReply()], ids=["request lost", "reply lost"])
def test_an_attached_agent_asks_again_wherever_the_store_went_away(fault: Fault) -> None:
    """In the same process, where it still believes to wait."""
    for number in itertools.count():
        office = Office()
        graph, _ = office.graph()
        start = len(office.store.calls) + number
        office.store.plan = lambda call, start=start: fault if call.number > start else None  # type: ignore[misc]
        try:
            graph("T")
        except StoreUnavailableError:
            office.store.plan = lambda _: None
        else:
            assert number > 6  # it makes no more calls of the store
            return
        notes = Journal(office.store, "s", "g").load_sync().scope("").notes
        waits = "status" in notes and unpack_value(notes["status"])["state"] == "interrupted"
        result = finish(graph, graph(still_asked(graph) if waits else "T"))
        assert result.status == Status.COMPLETED, f"away from call {number} on"
        assert office.answers == ["yes"] * 2
        assert len(office.keys) == 2, f"away from call {number} on"  # what was recorded beside the question stays


@pytest.mark.newest_dependencies  # see above
def test_an_attached_agent_remembers_nothing_that_it_did_with_an_answer_when_that_was_lost() -> None:
    office = Office()
    graph, agent = office.graph()
    graph("T")
    office.on_answer = lambda: setattr(office.store, "plan", lambda _: LoseRequest())
    with pytest.raises(StoreUnavailableError):
        graph(still_asked(graph))
    office.on_answer, office.store.plan = list, lambda _: None
    assert finish(graph, graph(still_asked(graph))).status == Status.COMPLETED
    assert office.answers == ["yes"] * 3
    assert agent.state.get("asked") == 2


def test_an_attached_agent_asks_again_when_its_node_has_failed() -> None:
    office = Office()
    graph, _ = office.graph()
    node = graph.nodes["n"].executor

    async def fails(*given: Any, **options: Any) -> Any:
        await type(node).invoke_async(node, *given, **options)
        raise ValueError("after it asked")

    with mock.patch.object(node, "invoke_async", fails), pytest.raises(ValueError, match="after it asked"):
        graph("T")
    assert finish(graph, graph("T")).status == Status.COMPLETED
    assert office.answers == ["yes"] * 2
    assert len(office.keys) == 2


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_an_attached_agent_asks_and_is_answered_when_its_node_is_tried_again(moment: int) -> None:
    """It raised when its agent had asked, or was answered and had asked again, or was answered for the last time."""
    whole, office = Office(), Office()
    known, agent = whole.graph()
    finish(known, known("T"))
    graph, helper = office.graph(NODES)
    node = graph.nodes["n"].executor
    times = itertools.count(1)

    async def fails(*given: Any, **options: Any) -> Any:
        result = await type(node).invoke_async(node, *given, **options)
        if next(times) == moment:
            raise RuntimeError("after it asked, or was answered")
        return result

    with mock.patch.object(node, "invoke_async", fails):
        assert finish(graph, graph("T")).status == Status.COMPLETED
    assert next(times) == 5
    assert said(helper) == said(agent)
    assert set(office.answers) == {"yes"}


def said(agent: Agent) -> list[Any]:
    """Show a conversation without the ids that Strands writes into it."""
    return [(message["role"], message["content"]) for message in agent.messages]


def still_asked(graph: Any) -> list[Any]:
    """Answer what a restored graph waits for."""
    waiting = strands_compat.orchestrator_interrupts(graph)["interrupts"]
    return [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in waiting]
