"""One orchestrator and its nodes: what is begun, what is put back, and what cannot be recorded."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent import AgentResult
from strands.multiagent import GraphBuilder
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status
from strands.telemetry.metrics import EventLoopMetrics

from strands_dapr_session import (
    ConfigurationError,
    DaprSessionManager,
    FencedError,
    Retries,
    RetryPolicy,
    UnencodableValueError,
)
from strands_dapr_session.errors import NothingUnfinishedError
from strands_dapr_session.hooks.owed import only_what_is_owed
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


class World:
    """What survives a process, and what really ran.

    Attributes:
        down: The agents whose model fails.
        steals: Somebody takes the run over inside of the next tool.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ran: list[str] = []
        self.down: set[str] = set()
        self.steals = False

    def journal(self) -> Journal:
        return Journal(self.store, "s", "g", settings=JournalSettings(on_busy="steal"))

    def view(self) -> Any:
        return self.journal().load_sync()

    def agent(self, name: str, session_id: str = "", **options: Any) -> Agent:
        @tool
        async def work() -> str:
            """Work, and let an agent of another session work."""
            self.ran.append(name)
            if self.steals:
                self.steals = False
                thief = self.journal()
                await thief.acquire()
                await thief.release()
            if session_id:
                return "worked"
            return str(await self.agent(name, f"of {name}").invoke_async("go")).strip()

        def last(_: Any) -> str:
            if name in self.down:
                raise ConnectionError("down")
            return f"done {name}"

        if session_id:
            options["session_manager"] = DaprSessionManager(session_id, store=self.store)
        model = ScriptedModel([[("work", {})], last])
        return Agent(name=name, model=model, tools=[work], callback_handler=None, **options)

    def graph(self, nodes: dict[str, Any] | None = None, **options: Any) -> Any:
        builder = GraphBuilder()
        nodes = nodes or {"a": self.agent("a"), "b": self.agent("b")}
        for name, node in nodes.items():
            builder.add_node(node, name)
        names = list(nodes)
        for one, other in zip(names, names[1:]):  # noqa: B905, RUF007 - shortest
            builder.add_edge(one, other)
        manager = DaprSessionManager("s", store=self.store, **options)
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()

    def fail(self, graph: Any, at: str) -> None:
        self.down = {at}
        with pytest.raises(Exception, match="down"):
            graph("T")
        self.down = set()
        self.ran.clear()


class Saying(MultiAgentBase):
    """A node that says what it is told to say."""

    id = "saying"

    def __init__(self, *results: MultiAgentResult) -> None:
        self.results = list(results)

    async def invoke_async(self, *_: Any, **__: Any) -> MultiAgentResult:
        return self.results.pop(0)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("key", ["", "  ", 7])
def test_what_is_no_id(world: World, key: Any) -> None:
    graph = world.graph()

    with pytest.raises(ConfigurationError, match="must be a non-empty string"):
        graph("T", {"invocation_id": key})

    assert world.view().owner is None
    assert world.ran == []


def test_a_call_that_is_only_to_go_on_begins_nothing(world: World) -> None:
    graph = world.graph()

    with only_what_is_owed(), pytest.raises(NothingUnfinishedError):
        graph("T")

    assert world.view().owner is None
    assert world.ran == []
    assert graph("T").status == Status.COMPLETED


def test_what_goes_on_may_let_others_begin(world: World) -> None:
    world.fail(world.graph(), "a")

    with only_what_is_owed():
        result = world.graph()(None)

    assert result.status == Status.COMPLETED
    assert world.ran == ["b", "b"]


def test_what_is_inside_may_be_called_on_its_own(world: World) -> None:
    builder = GraphBuilder()
    builder.add_node(world.agent("a"), "a")
    inner = builder.set_max_node_executions(9).build()
    world.graph({"n": inner})

    assert inner("T").status == Status.COMPLETED
    assert world.view().scopes == {}


def test_a_nodes_agent_is_recorded_in_its_visits_only(world: World) -> None:
    agent = world.agent("a")
    graph = world.graph({"a": agent})
    graph("T")
    before = world.view().scope("a").messages

    agent("something else")

    assert world.view().scope("a").messages == before
    assert world.view().owner is None


def test_executors_are_put_back_when_a_run_that_went_on_is_over(world: World) -> None:
    world.fail(world.graph(), "b")
    agents = {"a": world.agent("a"), "b": world.agent("b")}
    graph = world.graph(agents)
    world.fail(graph, "b")
    assert {name: node.executor for name, node in graph.nodes.items()} == agents

    graph("T")

    assert {name: node.executor for name, node in graph.nodes.items()} == agents
    assert agents["a"].model.calls == []  # type: ignore[attr-defined]


def test_what_is_handed_out_again_is_no_attempt(world: World) -> None:
    state = {"invocation_id": "one"}
    first = world.graph()("T", dict(state))
    before = world.view().scope("")

    again = world.graph()("T", dict(state))

    assert str(again.results["b"].result) == str(first.results["b"].result)
    after = world.view()
    assert (after.scope("").notes, after.scope("").invocation) == (before.notes, before.invocation)
    assert after.owner is None


def test_a_result_that_cannot_be_recorded_is_an_error_of_the_call(world: World) -> None:
    message: Any = {"role": "assistant", "content": [{"json": object()}]}
    result = NodeResult(AgentResult("end_turn", message, EventLoopMetrics(), {}), status=Status.COMPLETED)
    unfit = MultiAgentResult(Status.COMPLETED, {"inside": result})
    graph = world.graph({"a": Saying(unfit)})

    with pytest.raises(UnencodableValueError):
        graph("T")

    assert world.view().owner is None
    assert world.graph({"a": Saying(MultiAgentResult(Status.COMPLETED))})("T").status == Status.COMPLETED


@pytest.mark.newest_dependencies  # Strands 1.43 takes a node that says that it failed for one that has finished
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_what_a_failed_node_took_is_counted_when_it_has_worked(world: World, where: str) -> None:
    def says(status: Status) -> MultiAgentResult:
        usage: Any = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}
        return MultiAgentResult(
            status, accumulated_usage=usage, accumulated_metrics={"latencyMs": 3}, execution_count=2
        )

    def build(world: World, *statuses: Status) -> Any:
        return world.graph({"a": world.agent("a"), "n": Saying(*map(says, statuses)), "b": world.agent("b")})

    expected = build(World(), Status.COMPLETED)("T")
    graph = build(world, Status.FAILED, Status.COMPLETED)
    with contextlib.suppress(Exception):  # how it ends depends on what Strands makes of it
        assert graph("T").status == Status.FAILED
    graph = graph if where == "here" else build(world, Status.COMPLETED)

    result = graph("T")

    assert (result.status, result.failed_nodes) == (Status.COMPLETED, 0)
    assert result.accumulated_usage == expected.accumulated_usage
    assert result.accumulated_metrics == expected.accumulated_metrics
    assert result.execution_count == expected.execution_count
    assert [node.node_id for node in result.execution_order] == ["a", "n", "b"]


def test_a_run_that_was_taken_over_is_not_tried_again(world: World) -> None:
    graph = world.graph(retry=Retries(node=RetryPolicy(max_attempts=3, first_delay=0.001, retry_on=(Exception,))))
    world.steals = True

    with pytest.raises(FencedError):
        graph("T")

    assert world.ran.count("a") <= 2  # the node's, and the other agent's


def test_only_what_the_policy_names_is_tried_again(world: World) -> None:
    graph = world.graph(retry=Retries(node=RetryPolicy(max_attempts=3, first_delay=0.001, retry_on=(TimeoutError,))))

    world.fail(graph, "a")

    assert len(graph.nodes["a"].executor.model.calls) == 2  # one before its tool, one after it


def test_there_is_a_pause_before_each_further_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[int] = []

    async def watched(tried: Any, _: Any) -> None:
        paused.append(tried.attempt)

    monkeypatch.setattr("strands_dapr_session.multiagent.visits.pause", watched)
    retry = Retries(node=RetryPolicy(max_attempts=3, first_delay=0.001, retry_on=(Exception,)))
    graph = world.graph(retry=retry)
    world.fail(graph, "a")
    assert paused == [1, 2]

    world.graph(retry=retry)("T")

    assert paused == [1, 2, 3]  # what goes on waits for what is left


def test_a_node_that_is_visited_again_runs_again(world: World) -> None:
    builder = GraphBuilder()
    for name in "ab":
        builder.add_node(world.agent(name), name)
    builder.add_edge("a", "b")
    builder.add_edge("b", "a", lambda state: len(state.execution_order) < 4)
    builder.set_entry_point("a").reset_on_revisit().set_max_node_executions(9).set_graph_id("g")
    graph = builder.set_session_manager(DaprSessionManager("s", store=world.store)).build()

    result = graph("T")

    assert [node.node_id for node in result.execution_order] == ["a", "b"] * 2
    assert world.ran == ["a", "a", "b", "b"] * 2  # the node's tool, and that of the other agent
    assert unpack_value(world.view().scope("").notes["batch"])["number"] == 4
