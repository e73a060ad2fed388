"""Nodes that raise are tried again, inside of the one call of their graph or swarm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import BeforeModelCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, Status

from strands_dapr_session import DaprSessionManager, Retries, RetryPolicy
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.records import Tried
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, FaultyStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import Film

NODES = Retries(node=RetryPolicy(max_attempts=3, first_delay=0.001, retry_on=(Exception,)))

ran: list[str] = []
trouble: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    trouble.clear()


@tool
async def step(name: str) -> str:
    """Make a step."""
    ran.append(name)
    return f"{name} made"


def stumble(name: str) -> Any:
    def say(_: Any) -> Any:
        ran.append(f"{name} thinks")
        if name in trouble:
            trouble.remove(name)
            raise ValueError(f"{name} is not well")
        return f"{name} is done"

    return say


def node(name: str) -> Agent:
    script = [[("step", {"name": f"{name}1"})], stumble(name)]
    return Agent(model=ScriptedModel(script), tools=[step], name=name, callback_handler=None)


class Custom(MultiAgentBase):
    """A node of somebody's own."""

    id = "custom"

    async def invoke_async(self, *_: Any, **__: Any) -> Any:
        stumble("custom")(None)
        return MultiAgentResult(status=Status.COMPLETED, results={})


def graph_on(store: StateStore, retry: Any, *nodes: Any) -> Any:
    builder = GraphBuilder()
    for each in nodes:
        builder.add_node(each, getattr(each, "name", None) or each.id)
    builder.set_graph_id("g")
    builder.set_execution_timeout(60)
    return builder.set_session_manager(DaprSessionManager("s", store=store, retry=retry)).build()


def attempts(store: StateStore, root: str = "g") -> list[tuple[int, bool]]:
    commits = asyncio.run(read_history(store, "s", root))
    found = [record for _, records in commits for record in records if isinstance(record, Tried)]
    return [(each.attempt, each.delay is not None) for each in found]


def test_a_node_goes_on_where_it_raised() -> None:
    store = MemoryStore()
    trouble.extend(["a", "a"])
    result = graph_on(store, NODES, node("a"), node("b"))("go")
    assert (result.status.value, result.failed_nodes, result.completed_nodes) == ("completed", 0, 2)
    assert ran.count("a1") == 1
    assert ran.count("a thinks") == 3
    assert ran.count("b thinks") == 1
    assert attempts(store) == [(1, True), (2, True)]


def test_what_a_node_did_is_known_to_its_next_attempt_though_the_store_is_slow() -> None:
    store = FaultyStore(MemoryStore(), lambda call: Delay(0.02) if call.writes else None)
    trouble.append("a")
    assert graph_on(store, NODES, node("a"))("go").status.value == "completed"
    assert ran.count("a1") == 1


def test_the_result_is_that_of_a_run_without_trouble() -> None:
    plain = graph_on(MemoryStore(), None, node("a"))("go")
    trouble.append("a")
    tried = graph_on(MemoryStore(), NODES, node("a"))("go")
    assert str(tried.results["a"].result) == str(plain.results["a"].result)
    assert tried.accumulated_usage == plain.accumulated_usage
    assert tried.execution_count == plain.execution_count


def test_a_node_is_tried_so_often_and_no_more() -> None:
    store = MemoryStore()
    trouble.extend(["a"] * 9)
    graph = graph_on(store, NODES, node("a"))
    with pytest.raises(Exception, match="a is not well"):
        graph("go")
    assert ran.count("a thinks") == 3
    assert attempts(store) == [(1, True), (2, True), (3, False)]
    trouble.clear()
    assert graph("go").status.value == "completed"
    assert ran.count("a1") == 1


def test_without_a_policy_for_nodes_there_is_one_attempt() -> None:
    trouble.append("a")
    with pytest.raises(Exception, match="a is not well"):
        graph_on(MemoryStore(), Retries(model=RetryPolicy()), node("a"))("go")
    assert ran.count("a thinks") == 1


def test_a_node_of_ones_own_runs_again_as_a_whole() -> None:
    trouble.append("custom")
    assert graph_on(MemoryStore(), NODES, Custom())("go").status.value == "completed"
    assert ran == ["custom thinks"] * 2


def test_a_graph_inside_a_graph() -> None:
    inner = GraphBuilder()
    inner.add_node(node("a"), "a")
    inner.set_graph_id("inner")
    inner.set_execution_timeout(60)
    store = MemoryStore()
    trouble.extend(["a", "a"])
    assert graph_on(store, NODES, inner.build())("go").status.value == "completed"
    assert ran.count("a1") == 1


def test_in_a_swarm() -> None:
    store = MemoryStore()
    trouble.append("a")
    swarm = Swarm([node("a")], id="g", session_manager=DaprSessionManager("s", store=store, retry=NODES))
    assert swarm("go").status.value == "completed"
    assert ran.count("a1") == 1
    assert attempts(store) == [(1, True)]


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_a_node_that_was_answered_and_then_raised_goes_on(kind: str) -> None:
    @tool(context=True)
    async def ask(tool_context: ToolContext) -> str:
        """Ask a person."""
        ran.append(tool_context.interrupt("may I"))
        return "asked"

    model = ScriptedModel([[("ask", {})], [("step", {"name": "a1"})], stumble("a")])
    agent = Agent(model=model, tools=[ask, step], name="a", callback_handler=None)
    trouble.append("a")
    if kind == "swarm":
        manager = DaprSessionManager("s", store=MemoryStore(), retry=NODES)
        built: Any = Swarm([agent], id="g", session_manager=manager)
    else:
        built = graph_on(MemoryStore(), NODES, agent)
    asked = built("go").interrupts
    result = built([{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in asked])
    assert result.status.value == "completed"
    assert ran == ["yes", "a1", "a thinks", "a thinks"]


def test_a_node_that_is_tried_again_changes_nothing_for_what_runs_beside_it() -> None:
    """A swarm that is visited once more still knows what its agents shared."""
    has_begun, is_tried_again = asyncio.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait until the other node is tried again."""
        has_begun.set()
        await is_tried_again.wait()
        return "waited"

    def think(messages: Any) -> Any:
        if "a" not in trouble:
            is_tried_again.set()
        return stumble("a")(messages)

    trouble.append("a")
    give: Any = ("handoff_to_agent", {"agent_name": "y", "message": "go on", "context": {"key": "marmalade"}})
    model = ScriptedModel([[("wait", {})], [give], "x is done"], name="x")
    x = Agent(model=model, tools=[wait], name="x", callback_handler=None)
    y = Agent(model=ScriptedModel(["y is done"]), name="y", callback_handler=None)
    builder = GraphBuilder()
    builder.add_node(Swarm([x, y], id="s"), "s")
    a = Agent(model=ScriptedModel([think]), name="a", callback_handler=None)

    async def let_begin(event: BeforeModelCallEvent) -> None:  # noqa: ARG001
        await has_begun.wait()

    a.add_hook(let_begin, BeforeModelCallEvent)
    builder.add_node(a, "a")
    builder.add_edge("a", "s", lambda state: [each.node_id for each in state.execution_order].count("s") < 2)
    builder.set_entry_point("a").set_entry_point("s").set_graph_id("g").set_max_node_executions(9)
    graph = builder.set_session_manager(DaprSessionManager("s", store=MemoryStore(), retry=NODES)).build()

    assert graph("go").status.value == "completed"
    prompts = [str(messages) for messages in model.calls if len(messages) == 1]
    assert ["marmalade" in prompt for prompt in prompts] == [False, True]


def test_executors_are_left_as_they_were() -> None:
    agent = node("a")
    trouble.append("a")
    graph_on(MemoryStore(), NODES, agent)("go")
    assert "stream_async" not in vars(agent)


def test_what_users_made_of_an_executor_stays() -> None:
    agent, seen = node("a"), list[Any]()
    run = agent.stream_async

    async def watched(*args: Any, **options: Any) -> AsyncIterator[Any]:
        seen.append(args)
        async for event in run(*args, **options):
            yield event

    vars(agent)["stream_async"] = watched
    trouble.append("a")
    graph = graph_on(MemoryStore(), NODES, agent)
    graph("go")
    assert len(seen) == 2
    graph("go")
    assert len(seen) == 3
    assert vars(agent)["stream_async"] is watched


def test_who_goes_on_counts_on() -> None:
    """Killed after every write: three attempts in all, and no recorded step twice."""
    film = Film()
    trouble.extend(["a", "a"])
    graph_on(film.store, NODES, node("a"), node("b"))("go")
    for frame in film.frames[3:]:
        store = Film.at(frame).inner
        trouble[:] = ["a"] * (2 - len(attempts(store)))
        before = attempts(store)
        ran.clear()
        assert graph_on(store, NODES, node("a"), node("b"))("go").status.value == "completed"
        after = attempts(store)
        assert after[: len(before)] == before
        assert [number for number, _ in after[:2]] == [1, 2]
        assert ran.count("a1") <= 1
