"""Graphs and swarms whose store is wound back to each of its writes, and started again there: nothing tells the cut."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, BeforeNodeCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status

from strands_dapr_session import DaprSessionManager, strands_compat
from strands_dapr_session.journal import committer
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, FaultyStore
from strands_dapr_session.testing.model import ScriptedModel

Build = Callable[[StateStore, list[str]], Any]
"""Makes an orchestrator whose tools note what they do."""


class Offer(BaseModel):
    """A structured answer."""

    price: int


class Opaque(MultiAgentBase):
    """A node that tells nothing of what it does."""

    id = "opaque"

    def __init__(self, ran: list[str]) -> None:
        self.ran = ran

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        """Do it."""
        self.ran.append("opaque")
        return MultiAgentResult(Status.COMPLETED)


def agent(name: str, ran: list[str], turns: list[Any], **options: Any) -> Agent:
    @tool(context=True)
    async def work(number: int, tool_context: ToolContext) -> str:
        """Work."""
        ran.append(f"{name} {tool_context.tool_use['toolUseId']}")
        tool_context.agent.state.set(tool_context.tool_use["toolUseId"], number)
        return f"{name} worked on {number}"

    tools = [work, *options.pop("tools", [])]
    return Agent(name=name, model=ScriptedModel(turns), tools=tools, callback_handler=None, **options)


def graph(store: StateStore, ran: list[str]) -> Any:
    """Two nodes at the same time, one after them that uses an agent as a tool, and one that is opaque."""
    builder = GraphBuilder()
    helper = agent("helper", ran, [[("work", {"number": 7})], "helped"], description="Helps.")
    nodes: dict[str, Any] = {
        "a": agent("a", ran, [[("work", {"number": 1})], [("Offer", {"price": 3})]], structured_output_model=Offer),
        "b": agent("b", ran, [[("work", {"number": 2}), ("work", {"number": 3})], "done b"]),
        "c": agent("c", ran, [[("helper", {"input": "help"})], "done c"], tools=[helper.as_tool()]),
        "d": Opaque(ran),
    }
    for name, node in nodes.items():
        builder.add_node(node, name)
    for one, other in (("a", "c"), ("b", "c"), ("c", "d")):
        builder.add_edge(one, other, lambda state: {"a", "b"} <= state.results.keys())
    builder.set_entry_point("a")
    builder.set_entry_point("b")
    manager = DaprSessionManager("s", store=store, on_busy="steal")
    return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()


def revisiting(store: StateStore, ran: list[str]) -> Any:
    """A graph that goes round: each node is visited again."""
    builder = GraphBuilder()
    for name in "ab":
        builder.add_node(agent(name, ran, [[("work", {"number": 1})], f"done {name}"]), name)
    builder.add_edge("a", "b")
    builder.add_edge("b", "a", lambda state: len(state.execution_order) < 4)
    builder.set_entry_point("a").reset_on_revisit().set_max_node_executions(9)
    manager = DaprSessionManager("s", store=store, on_busy="steal")
    return builder.set_graph_id("g").set_session_manager(manager).build()


def swarm(store: StateStore, ran: list[str]) -> Any:
    """Three agents, each of which hands over to the next, with a word and something to share."""

    def handoff(to: str) -> list[Any]:
        return [("handoff_to_agent", {"agent_name": to, "message": f"over to {to}", "context": {"next": to}})]

    nodes = [
        agent("a", ran, [[("work", {"number": 1})], handoff("b"), "a is done"]),
        agent("b", ran, [handoff("c"), "b is done"]),
        agent("c", ran, [[("work", {"number": 2})], "c is done"]),
    ]
    return Swarm(nodes, id="g", session_manager=DaprSessionManager("s", store=store, on_busy="steal"))


class Coach(MultiAgentBase):
    """A node of the user's that asks an attached agent."""

    id = "coach"

    def __init__(self, player: Agent) -> None:
        self._player = player

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        """Ask it twice."""
        first = await self._player.invoke_async("Play.")
        second = await self._player.invoke_async(f"Again: {first}")
        return MultiAgentResult(Status.COMPLETED, {"player": NodeResult(second, status=Status.COMPLETED)})


def going_on(store: StateStore, ran: list[str]) -> Any:
    """A node, an agent that it uses as a tool, and an attached one, each with a hook that lets its call go on."""

    def again(event: AfterInvocationEvent) -> None:
        asked = sum("toolUse" in block for message in event.agent.messages for block in message["content"])
        if event.result is not None and asked < 2:
            event.resume = f"once more, after {asked}"

    manager = DaprSessionManager("s", store=store, on_busy="steal")
    helper = agent("helper", ran, [[("work", {"number": 7})], "helped"], description="Helps.")
    player = agent("player", ran, [[("work", {"number": 8})], "played"])
    manager.attach(player, "player")
    turns = [[("work", {"number": 1}), ("helper", {"input": "help"})], "done b"]
    nodes: dict[str, Any] = {
        "a": agent("a", ran, [[("work", {"number": 2})], "done a"]),
        "b": agent("b", ran, turns, tools=[helper.as_tool()]),
        "d": Coach(player),
        "e": agent("e", ran, ["done e"]),
    }
    builder = GraphBuilder()
    for name, node in nodes.items():
        builder.add_node(node, name)
    for one, other in itertools.pairwise("abde"):
        builder.add_edge(one, other)
    for each in (nodes["a"], helper, player):
        each.add_hook(again, AfterInvocationEvent)
    return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()


class Listening(MultiAgentBase):
    """A node that notes what it is told."""

    id = "b"

    def __init__(self, ran: list[str]) -> None:
        self.ran = ran

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        """Listen."""
        self.ran.append("".join(block["text"] for block in task))
        return MultiAgentResult(Status.COMPLETED)


def leading_sideways(store: StateStore, ran: list[str]) -> Any:
    """Two nodes begin at the same time, and one leads to the other, which then runs once more."""
    builder = GraphBuilder()
    builder.add_node(Agent(name="x", model=ScriptedModel(["x is done"]), callback_handler=None), "x")
    builder.add_node(Agent(name="a", model=ScriptedModel(["a is done"]), callback_handler=None), "a")
    builder.add_node(Listening(ran), "b")
    for edge in (("x", "a"), ("x", "b"), ("a", "b")):
        builder.add_edge(*edge)
    manager = DaprSessionManager("s", store=store, on_busy="steal")
    return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()


def film(build: Build) -> tuple[list[dict[str, Any]], Any, list[str]]:
    """Run from beginning to end; get what the store held after each write, the outcome, and what tools did."""
    frames: list[dict[str, Any]] = []
    inner = MemoryStore()
    store = FaultyStore(inner, on_applied=lambda call: frames.append(dict(inner._entries)) if call.writes else None)
    ran: list[str] = []
    orchestrator = build(store, ran)
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        result = orchestrator("T")
    return frames, outcome(orchestrator, result), ran


def outcome(orchestrator: Any, result: Any) -> Any:
    """All that must not depend on whether the run was cut."""
    order = [node.node_id for node in getattr(result, "execution_order", None) or result.node_history]
    return {
        "status": result.status,
        "order": sorted(order[:2]) + order[2:] if "d" in orchestrator.nodes else order,  # a and b run at the same time
        "results": {
            name: (each.status, str(each.result).strip()) for name, each in result.results.items() if name != "d"
        },
        "output": {name: getattr(each.result, "structured_output", None) for name, each in result.results.items()},
        "usage": result.accumulated_usage["totalTokens"],
        "count": result.execution_count,
        "failed": getattr(result, "failed_nodes", 0),
        "shared": getattr(getattr(orchestrator, "shared_context", None), "context", None),
        "messages": {
            name: [(message["role"], message["content"]) for message in node.executor.messages]
            for name, node in orchestrator.nodes.items()
            if isinstance(node.executor, Agent)
        },
        "state": {n: e.executor.state.get() for n, e in orchestrator.nodes.items() if isinstance(e.executor, Agent)},
    }


def recorded(store: StateStore) -> set[str]:
    """The tool calls whose results are recorded, by the agent's place and the id."""
    found = set()
    for path, scope in Journal(store, "s", "g").load_sync().scopes.items():
        blocks = [block for body in scope.messages for block in unpack_value(body)["content"]]
        ids = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
        found |= {f"{path.rpartition('/')[2]} {id_}" for id_ in [*ids, *scope.results]}
    return found


@pytest.mark.parametrize("build", [graph, swarm, going_on], ids=["graph", "swarm", "going on"])
def test_a_cut_makes_no_difference(build: Build) -> None:
    frames, expected, _ = film(build)
    assert expected["status"] == Status.COMPLETED
    for number, frame in enumerate(frames, 1):
        inner = MemoryStore()
        inner._entries.update(frame)
        done, ran = recorded(inner), list[str]()
        orchestrator = build(inner, ran)
        if number == len(frames):
            break  # it was over: the same task would be another run
        found = outcome(orchestrator, orchestrator("T"))
        assert found == expected, f"cut after write {number}"
        assert not done & set(ran), f"cut after write {number}: a recorded result was computed again"


def test_a_cut_makes_no_difference_to_nodes_that_are_visited_again() -> None:
    frames, expected, ran_once = film(revisiting)
    assert expected["order"] == ["a", "b", "a", "b"]
    for number, frame in enumerate(frames[:-1], 1):
        inner = MemoryStore()
        inner._entries.update(frame)
        ran: list[str] = []
        orchestrator = revisiting(inner, ran)
        assert outcome(orchestrator, orchestrator("T")) == expected, f"cut after write {number}"
        assert len(ran) <= len(ran_once)


def test_nodes_of_a_batch_are_told_nothing_of_each_other_wherever_it_was_cut() -> None:
    frames, _, whole = film(leading_sideways)
    assert ["From a" in told for told in whole] == [False, True]
    told_again = set()
    for number, frame in enumerate(frames, 1):
        inner, again = MemoryStore(), list[str]()
        inner._entries.update(frame)
        leading_sideways(inner, again)("T" if number < len(frames) else "U")
        assert number == len(frames) or again == whole[len(whole) - len(again) :], f"cut after write {number}"
        told_again.add(len(again))
    assert told_again == {0, 1, 2}


def test_nodes_of_a_batch_are_told_nothing_of_each_other_however_slow_the_store_is() -> None:
    told: list[str] = []
    leading_sideways(FaultyStore(MemoryStore(), lambda call: Delay(0.02) if call.writes else None), told)("T")
    assert ["From a" in each for each in told] == [False, True]


def test_nodes_of_a_batch_are_told_nothing_of_each_other_though_one_never_waits() -> None:
    """Neither for the store nor for a model."""
    told: list[str] = []
    builder = GraphBuilder()
    for name in "ab":
        node = Listening(told)
        node.id = name
        builder.add_node(node, name)
        builder.set_entry_point(name)
    builder.add_edge("a", "b", lambda state: len(state.execution_order) < 2)
    builder.add_edge("b", "a", lambda state: len(state.execution_order) < 2)
    manager = DaprSessionManager("s", store=MemoryStore())
    assert builder.set_max_node_executions(9).set_session_manager(manager).build()("T").status == Status.COMPLETED
    assert told == ["T", "T"]


def test_a_node_that_a_hook_asked_about_is_told_of_its_siblings_wherever_it_was_cut() -> None:
    """They had ended when the answer came."""

    def build(store: StateStore, ran: list[str]) -> Any:
        graph = leading_sideways(store, ran)
        graph.add_hook(lambda event: event.node_id == "b" and event.interrupt("may it"), BeforeNodeCallEvent)
        return graph

    def finish(graph: Any, given: Any) -> None:
        while graph(given).status == Status.INTERRUPTED:
            given = said_yes(graph)

    inner, whole, frames = MemoryStore(), list[str](), list[dict[str, Any]]()
    store = FaultyStore(inner, on_applied=lambda call: frames.append(dict(inner._entries)) if call.writes else None)
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        finish(build(store, whole), "T")
    assert "From a" in whole[0]
    for number, frame in enumerate(frames[:-1], 1):
        inner, again = MemoryStore(), list[str]()
        inner._entries.update(frame)
        graph = build(inner, again)
        finish(graph, said_yes(graph) or "T")
        assert again == whole[len(whole) - len(again) :], f"cut after write {number}"


def said_yes(graph: Any) -> Any:
    """Answer what a graph waits for, if it does."""
    waits = strands_compat.orchestrator_interrupts(graph)
    ids = waits["interrupts"] if waits["activated"] else []
    return [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in ids]


def test_an_opaque_node_starts_when_all_before_it_is_recorded() -> None:
    store = FaultyStore(MemoryStore(), lambda call: Delay(0.01) if call.writes else None)
    seen: list[list[str]] = []

    class Looking(Opaque):
        async def invoke_async(self, *args: Any, **options: Any) -> MultiAgentResult:
            view = await Journal(store.inner, "s", "g").load()
            seen.append([kind for kind in view.scope("").notes if kind.startswith("result:")])
            return await super().invoke_async(*args, **options)

    builder = GraphBuilder()
    builder.add_node(agent("a", [], ["done a"]), "a")
    builder.add_node(Looking([]), "d")
    builder.add_edge("a", "d")
    manager = DaprSessionManager("s", store=store)
    builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()("T")
    assert seen == [["result:1:a"]]


def test_nodes_that_run_at_the_same_time_share_commits() -> None:
    """Whatever becomes ready while a commit travels goes with the next one."""

    def commits(*, at_once: bool) -> int:
        store = FaultyStore(MemoryStore(), lambda call: Delay(0.02) if call.writes else None)
        builder, names = GraphBuilder(), "abcdefgh"
        for name in names:
            builder.add_node(agent(name, [], [[("work", {"number": 1})], f"done {name}"]), name)
        for one, other in itertools.pairwise(names) if not at_once else ():
            builder.add_edge(one, other)
        builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(DaprSessionManager("s", store=store))
        assert builder.build()("T").status == Status.COMPLETED
        return Journal(store.inner, "s", "g").load_sync().sequence

    assert commits(at_once=True) * 2 < commits(at_once=False)


def test_the_scope_of_an_agent_that_was_a_tool_ends_with_the_call() -> None:
    frames, _, _ = film(graph)
    inner = MemoryStore()
    inner._entries.update(frames[-1])
    assert set(Journal(inner, "s", "g").load_sync().scopes) == {"", "a", "b", "c"}


def test_a_node_that_failed_once_does_not_fail_the_run_for_ever() -> None:
    class Flaky(Opaque):
        async def invoke_async(self, *args: Any, **options: Any) -> MultiAgentResult:
            result = await super().invoke_async(*args, **options)
            return MultiAgentResult(Status.FAILED) if len(self.ran) == 1 else result

    def build(store: StateStore, ran: list[str]) -> Any:
        builder = GraphBuilder()
        builder.add_node(Flaky(ran), "a")
        builder.add_node(agent("b", [], ["done b"]), "b")
        builder.add_node(agent("c", [], ["done c"]), "c")
        builder.add_edge("a", "c", lambda state: {"a", "b"} <= {node.node_id for node in state.completed_nodes})
        builder.add_edge("b", "c", lambda state: {"a", "b"} <= {node.node_id for node in state.completed_nodes})
        builder.set_entry_point("a")
        builder.set_entry_point("b")
        manager = DaprSessionManager("s", store=store)
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()

    store, ran = MemoryStore(), list[str]()
    with contextlib.suppress(Exception):  # how it ends depends on the version of Strands
        assert build(store, ran)("T").status == Status.FAILED
    result = build(store, ran)("T")
    assert ran == ["opaque", "opaque"]
    assert (result.status, result.failed_nodes, result.completed_nodes) == (Status.COMPLETED, 0, 3)
