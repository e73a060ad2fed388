"""New tasks while one is unfinished, limits, drift: what may go on, and what is said when it may not."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent, tool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import Status

from strands_dapr_session import (
    ConfigurationError,
    DaprSessionManager,
    DriftError,
    DuplicateAgentError,
    InvocationConflictError,
    LimitReachedError,
    SessionBusyError,
    UnfinishedRunError,
)
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


class Down(Exception):  # noqa: N818
    """The model is down."""


class World:
    """What survives a process: the store, and what really ran."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.asked: list[str] = []
        self.down: set[str] = set()

    def manager(self, **options: Any) -> DaprSessionManager:
        return DaprSessionManager("s", store=self.store, **options)

    def agent(self, name: str, *turns: Any, **options: Any) -> Agent:
        def answer(turn: Any) -> Callable[[Any], Any]:
            def say(_: Any) -> Any:
                self.asked.append(name)
                if name in self.down:
                    raise Down(name)
                return turn

            return say

        model = ScriptedModel([answer(turn) for turn in turns or (f"done {name}",)])
        return Agent(name=name, model=model, callback_handler=None, **options)

    def line(self, manager: DaprSessionManager, *names: str, most: int = 20) -> Any:
        builder = GraphBuilder()
        for name in names:
            executor = self.agent(name)
            builder.add_node(executor, name)
        for one, other in itertools.pairwise(names):
            builder.add_edge(one, other)
        return builder.set_graph_id("g").set_max_node_executions(most).set_session_manager(manager).build()


@pytest.fixture
def world() -> World:
    return World()


def failed(world: World, *names: str) -> None:
    """Leave a run behind that failed at node b."""
    world.down = {"b"}
    with pytest.raises(Exception, match="b"):
        world.line(world.manager(), *(names or "ab"))("first")
    world.down = set()
    world.asked.clear()


def test_new_task_is_refused_and_the_unfinished_one_named(world: World) -> None:
    failed(world)
    graph = world.line(world.manager(), "a", "b")

    with pytest.raises(UnfinishedRunError, match=r"'g' has not finished the task 'first'.*abandon") as caught:
        graph("second")

    assert caught.value.task == "first"
    assert world.asked == []
    assert graph("first").status == Status.COMPLETED
    assert world.asked == ["b"]


def test_same_process_refuses_as_well(world: World) -> None:
    graph = world.line(world.manager(), "a", "b")
    world.down = {"b"}
    with pytest.raises(Exception, match="b"):
        graph("first")
    world.down = set()

    with pytest.raises(UnfinishedRunError):
        graph("second")

    assert graph("first").status == Status.COMPLETED
    assert world.asked == ["a", "b", "b"]


def test_none_goes_on(world: World) -> None:
    failed(world)

    assert world.line(world.manager(), "a", "b")(None).status == Status.COMPLETED


def test_resume_finishes_the_unfinished_task_first(world: World, caplog: pytest.LogCaptureFixture) -> None:
    failed(world)
    graph = world.line(world.manager(unfinished="resume"), "a", "b")

    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        result = graph("second")

    assert result.status == Status.COMPLETED
    assert "the new task is not run" in caplog.text
    assert graph.state.task == "first"


def test_unfinished_mode_is_checked(world: World) -> None:
    with pytest.raises(ConfigurationError, match="unfinished='ignore'"):
        world.manager(unfinished="ignore")


@pytest.mark.parametrize("same_object", [True, False])
def test_abandoned_run_makes_room(world: World, *, same_object: bool) -> None:
    manager = world.manager()
    graph = world.line(manager, "a", "b")
    world.down = {"b"}
    with pytest.raises(Exception, match="b"):
        graph("first")
    world.down = set()
    world.asked.clear()
    if not same_object:
        manager = world.manager()
        graph = world.line(manager, "a", "b")

    manager.abandon(graph)

    result = graph("second")
    assert result.status == Status.COMPLETED
    assert world.asked == ["a", "b"]
    assert result.execution_count == 2


def test_abandon_without_anything_unfinished_is_fine(world: World) -> None:
    manager = world.manager()
    graph = world.line(manager, "a", "b")
    manager.abandon(graph)
    graph("first")
    manager.abandon(graph)

    assert graph("second").status == Status.COMPLETED


def test_abandon_knows_only_its_own(world: World) -> None:
    graph = world.line(world.manager(), "a", "b")

    with pytest.raises(ConfigurationError, match="was not given this session manager"):
        world.manager().abandon(graph)


def test_abandoned_while_it_waits(world: World) -> None:
    @tool(context=True)
    def ask(tool_context: Any) -> str:
        """Ask."""
        return str(tool_context.interrupt("may I"))

    def build() -> tuple[DaprSessionManager, Any]:
        manager = world.manager()
        builder = GraphBuilder()
        builder.add_node(world.agent("a", [("ask", {})], "done a", tools=[ask]), "a")
        return manager, builder.set_max_node_executions(5).set_session_manager(manager).build()

    manager, graph = build()
    assert graph("first").status == Status.INTERRUPTED
    with pytest.raises(TypeError, match="must resume from interrupt"):
        graph("second")

    manager.abandon(graph)

    assert graph("second").status == Status.INTERRUPTED
    _, other = build()
    assert other.state.status == Status.INTERRUPTED
    assert other.state.task == "second"


def test_answers_that_another_process_gave_before_are_no_task(world: World) -> None:
    @tool(context=True)
    def ask(tool_context: Any) -> str:
        """Ask."""
        return str(tool_context.interrupt("may I"))

    def build() -> Any:
        builder = GraphBuilder()
        builder.add_node(world.agent("a", [("ask", {})], "done a", tools=[ask]), "a")
        return builder.set_max_node_executions(5).set_session_manager(world.manager()).build()

    graph = build()
    waiting = graph("first")
    other = build()
    answers = [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in waiting.interrupts]
    assert graph(answers).status == Status.COMPLETED
    world.asked.clear()

    with pytest.raises(InvocationConflictError, match="answered by somebody else"):
        other(answers)

    assert world.asked == []
    assert other("second").status == Status.INTERRUPTED


def test_owed_node_that_is_gone_is_refused_in_every_mode(world: World) -> None:
    failed(world)

    with pytest.raises(DriftError, match=r"goes on at 'b', which no longer exists.*abandon"):
        world.line(world.manager(drift="ignore"), "a", "c")("first")

    assert world.asked == []


def test_drift_is_named_and_refused(world: World) -> None:
    failed(world)

    with pytest.raises(DriftError, match=r"nodes added: x; edges removed: a -> b; edges added: a -> x, x -> b"):
        world.line(world.manager(drift="refuse"), "a", "x", "b")("first")


def test_drift_is_warned_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    failed(world)

    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        result = world.line(world.manager(), "a", "b", "x")("first")

    assert "nodes added: x" in caplog.text
    assert result.status == Status.COMPLETED
    assert world.asked == ["b", "x"]


def test_limit_that_was_reached_is_named(world: World) -> None:
    assert world.line(world.manager(), "a", "b", "c", most=2)("first").status == Status.FAILED
    world.asked.clear()

    with pytest.raises(LimitReachedError, match="Max node executions reached: 2"):
        world.line(world.manager(), "a", "b", "c", most=2)("first")
    result = world.line(world.manager(), "a", "b", "c", most=3)("first")

    assert result.status == Status.COMPLETED
    assert world.asked == ["c"]
    assert [node.node_id for node in result.execution_order] == ["a", "b", "c"]


def test_limit_of_a_swarm_is_named(world: World) -> None:
    def build(most: int) -> Swarm:
        hand = ("handoff_to_agent", {"agent_name": "b", "message": "yours"})
        agents = [world.agent("a", [hand], "done a"), world.agent("b")]
        return Swarm(agents, session_manager=world.manager(), max_iterations=most)

    assert build(1)("first").status == Status.FAILED
    world.asked.clear()

    with pytest.raises(LimitReachedError, match="Max iterations reached: 1"):
        build(1)("first")
    result = build(5)("first")

    assert result.status == Status.COMPLETED
    assert world.asked == ["b"]


def test_two_of_one_id_are_refused(world: World) -> None:
    manager = world.manager()
    world.line(manager, "a")

    with pytest.raises(DuplicateAgentError, match="'g' is taken"):
        world.line(manager, "b")


def test_id_of_an_earlier_run_is_refused(world: World) -> None:
    graph = world.line(world.manager(), "a")
    graph("first", invocation_state={"invocation_id": "1"})
    graph("second", invocation_state={"invocation_id": "2"})

    with pytest.raises(InvocationConflictError, match="'1' is that of an earlier run"):
        graph("first", invocation_state={"invocation_id": "1"})
    with pytest.raises(InvocationConflictError, match="'2' has finished the task 'second'"):
        graph("third", invocation_state={"invocation_id": "2"})
    again = graph("second", invocation_state={"invocation_id": "2"})

    assert world.asked == ["a", "a"]
    assert str(again.results["a"].result).strip() == "done a"
    assert graph("third", invocation_state={"invocation_id": "3"}).status == Status.COMPLETED


async def test_fifty_graphs_at_once(world: World) -> None:
    graphs = []
    for number in range(50):
        manager = DaprSessionManager(f"s{number}", store=world.store)
        graphs.append(world.line(manager, "a", "b"))

    results = await asyncio.gather(*(graph.invoke_async("T") for graph in graphs))

    assert {result.status for result in results} == {Status.COMPLETED}
    assert len(world.asked) == 100


async def test_one_of_two_wins(world: World) -> None:
    begun = asyncio.Event()
    go_on = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        begun.set()
        await go_on.wait()
        return "done"

    def build() -> Any:
        builder = GraphBuilder()
        builder.add_node(world.agent("a", [("wait", {})], "done a", tools=[wait]), "a")
        return builder.set_max_node_executions(5).set_session_manager(world.manager(on_busy="raise")).build()

    first, second = build(), build()
    running = asyncio.create_task(first.invoke_async("T"))
    await begun.wait()

    with pytest.raises(SessionBusyError):
        await second.invoke_async("T")
    with pytest.raises(InvocationConflictError, match="runs already"):
        await first.invoke_async("T")

    go_on.set()
    assert (await running).status == Status.COMPLETED
