"""What graphs and swarms of a simulation consist of: how it is described, and how it is built in a process."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import AfterInvocationEvent, BeforeNodeCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status

from strands_dapr_session.testing.plain import digest
from tests.prove.simulation.agents import SimulatedModel, ask, boom, charge, put, stream_of, work
from tests.prove.simulation.process import SimProcess, current_process

_AGAIN = "again: "
_ALWAYS = 3


@dataclass(frozen=True)
class Node:
    """Something that a graph runs, or that runs inside something else.

    Attributes:
        name: Its name, which nothing else has.
        kind: "agent", "graph", "swarm", or "desk": a custom node that calls agents.
        turns: What an agent's model says: lists of (tool, arguments), the last one a text.
        nodes: What a graph or swarm consists of; the agents of a desk, of which only the first asks a person.
        edges: Of a graph: from and to. A node with several waits for all of them.
        helper: An agent that this one has as a tool.
        window: How many messages an agent keeps; all if not given.
        back: Of a graph: edges that are taken until the node at their end has run twice.
        is_reset: Of a graph: nodes that run once more begin anew.
        asked_before: Of a graph: the node before which a hook asks a person.
        is_marked: What the agent's model says, ids of tool calls too, has a mark of its prompt: it may be asked more
            than once.
        goes_on: A hook lets each call of the agent go on once with another prompt.
        is_preserved: As a tool, the agent keeps its conversation.
        forked: What an agent is that a tool of this one makes, once in each call.
        is_lost_once: The tool that makes the agent fails the first time behind each call of it.
        stumbles: The turn at which an agent's model fails the first time. A desk fails then when it is done.
        calls: How often a desk calls each of its agents.
    """

    name: str
    kind: str = "agent"
    turns: tuple[Any, ...] = ()
    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    helper: Node | None = None
    window: int | None = None
    back: tuple[tuple[str, str], ...] = ()
    is_reset: bool = False
    asked_before: str | None = None
    is_marked: bool = False
    goes_on: bool = False
    is_preserved: bool = False
    forked: Node | None = None
    is_lost_once: bool = False
    stumbles: int | None = None
    calls: int = 1


Visits = Callable[[], str]
"""Tells how often the nodes have run before in which an agent is: ids of tool calls must differ between visits."""


def build_node(
    process: SimProcess, node: Node, manager: Any, *, is_root: bool = False, visits: Visits = lambda: ""
) -> Any:
    """Build an agent, graph, swarm or desk in a process.

    Args:
        process: The process.
        node: What to build.
        manager: The session manager.
        is_root: It gets the session manager.
        visits: See `Visits`.
    """
    if node.kind == "agent":
        return _agent(process, node, manager, is_root=is_root, visits=visits)
    if node.kind == "desk":
        return Desk(process, node, manager, visits)
    graphs: list[Any] = []
    parts = {
        each.name: build_node(process, each, manager, visits=partial(_visits_of, each.name, graphs, visits))
        for each in node.nodes
    }
    own = manager if is_root else None
    if node.kind == "swarm":
        return Swarm(list(parts.values()), session_manager=own, id=node.name)
    graphs.append(_graph(node, parts, own))
    return graphs[0]


def _graph(node: Node, parts: dict[str, Any], manager: Any) -> Any:
    builder = GraphBuilder().set_graph_id(node.name).reset_on_revisit(node.is_reset)
    for name, part in parts.items():
        builder.add_node(part, name)
    for start, end in node.edges:
        builder.add_edge(builder.nodes[start], builder.nodes[end], _all_before(node, end))
    for start, end in node.back:
        builder.add_edge(builder.nodes[start], builder.nodes[end], _once_more(end))
    for each in node.nodes:
        if not any(end == each.name for _, end in node.edges):
            builder.set_entry_point(each.name)
    if manager is not None:
        builder.set_session_manager(manager)
    graph: Any = builder.build()
    if node.asked_before is not None:
        graph.add_hook(_asking_before(node.asked_before), BeforeNodeCallEvent)
    return graph


def _visits_of(name: str, graphs: list[Any], above: Visits) -> str:
    """Count the visits of a node that have ended, and of those that it is in."""
    counts = [[each.node_id for each in graph.state.execution_order].count(name) for graph in graphs]
    return above() + "".join(map(str, counts))


def _agent(
    process: SimProcess, node: Node, manager: Any, *, is_root: bool = False, visits: Visits = lambda: ""
) -> Agent:
    tools: list[Any] = [copy.copy(each) for each in (work, charge, boom, ask, put, flaky)]
    if node.helper is not None:
        helper = _agent(process, node.helper, manager)
        tools.append(helper.as_tool(preserve_context=node.helper.is_preserved))
    if node.forked is not None:
        tools.append(_forking(process, node.forked, manager))
    agent = Agent(
        name=node.name,
        agent_id=node.name,
        model=NodeModel(process, node, visits),
        tools=tools,
        session_manager=manager if is_root else None,
        conversation_manager=None if node.window is None else SlidingWindowConversationManager(node.window),
        callback_handler=None,
    )
    if node.goes_on:
        agent.add_hook(_go_on, AfterInvocationEvent)
    return agent


def _all_before(node: Node, end: str) -> Callable[[Any], bool]:
    """Make the condition of an edge: everything that leads to its end is done."""
    wanted = {start for start, other in node.edges if other == end}
    return lambda state: wanted <= {each.node_id for each in state.completed_nodes}


def _once_more(end: str) -> Callable[[Any], bool]:
    """Make the condition of an edge that leads back: its end has not run twice."""
    return lambda state: [each.node_id for each in state.execution_order].count(end) < 2


def _asking_before(name: str) -> Callable[[BeforeNodeCallEvent], None]:
    def ask_first(event: BeforeNodeCallEvent) -> None:
        if event.node_id == name:
            event.interrupt(f"may {name} run?", reason=name)

    return ask_first


def _go_on(event: AfterInvocationEvent) -> None:
    """Let the call go on with another prompt, once."""
    if event.result is None or event.result.stop_reason != "end_turn" or not event.agent.messages:
        return
    prompts = [text for message in event.agent.messages if message["role"] == "user" for text in texts_of(message)]
    if not prompts[-1].startswith(_AGAIN):
        event.resume = _AGAIN + str(event.result).strip()


def texts_of(message: Any) -> list[str]:
    """List the texts of a message."""
    return [block["text"] for block in message["content"] if "text" in block]


def mark_of(texts: list[str]) -> str:
    """Name what was said, in a few letters, whatever the order of its lines."""
    return digest(sorted(line for text in texts for line in text.splitlines()))[:5]


class NodeModel(SimulatedModel):
    """Answers by the turns of a node; where it is, it reads from the messages alone."""

    def __init__(self, process: SimProcess, node: Node, visits: Visits) -> None:
        super().__init__(process)
        self._node = node
        self._visits = visits

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        node = self._node
        await asyncio.sleep(self._process.world.chance.expovariate(1 / 0.03))
        results = [b["toolResult"]["toolUseId"] for b in messages[-1]["content"] if "toolResult" in b]
        place, _t, turn = results[0].rpartition("t") if results else (node.name, "", "")
        number = int(turn.partition("i")[0]) + 1 if results else 0
        if node.is_marked and not results:
            place = f"{node.name}.{mark_of(texts_of(messages[-1]))}{self._visits()}"
        if node.stumbles == number and tries(self._process, f"{place}t{number}") == 1:
            raise ConnectionError(f"{node.name} stumbles")
        for event in stream_of(_marked(node, node.turns[number], place), f"{place}t{number}"):
            yield event


def _marked(node: Node, turn: Any, place: str) -> Any:
    """Put the mark of the prompt into a turn, where another agent hears of it."""
    if not node.is_marked:
        return turn
    if isinstance(turn, str):
        return f"{turn} with {place}"
    return [(name, {**given, "input": f"help {place}"} if "input" in given else given) for name, given in turn]


def tries(process: SimProcess, what: str) -> int:
    """Count how often something was tried in this world, this time included."""
    process.note("tried", what=what)
    return sum(entry.kind == "tried" and entry["what"] == what for entry in process.world.ledger)


@tool(context=True)
async def flaky(n: int, ms: int, tool_context: ToolContext) -> str:
    """Fail a few times, or always."""
    await asyncio.sleep(ms / 1000)
    times = tries(current_process(), tool_context.tool_use["toolUseId"])
    if times <= n % (_ALWAYS + 1) or n % (_ALWAYS + 1) == _ALWAYS:
        raise ConnectionError(f"flaky {n}")
    return f"worked {n}"


def _forking(process: SimProcess, node: Node, manager: Any) -> Any:
    """Make a tool that makes an agent of its own in each call."""

    @tool(context=True)
    async def fork(n: int, tool_context: ToolContext) -> str:
        """Let an agent do it that nobody else has."""
        id_ = tool_context.tool_use["toolUseId"]
        agent = _agent(process, node, manager)
        manager.attach(agent, "fork")
        process.watch(f"{node.name}/{id_}", agent)
        said = str(await agent.invoke_async(f"{n} for {id_}")).strip()
        if node.is_lost_once and tries(process, f"fork {id_}") == 1:
            raise ConnectionError(f"{node.name} is lost")
        return said

    return fork


class Desk(MultiAgentBase):
    """A custom node: calls agents one after the other, and passes on what the first of them asks a person."""

    def __init__(self, process: SimProcess, node: Node, manager: Any, visits: Visits) -> None:
        """Make its agents, and attach them."""
        super().__init__()
        self.id = node.name
        self._process = process
        self._node = node
        self._visits = visits
        self._agents = {each.name: _agent(process, each, manager) for each in node.nodes}
        for name, agent in self._agents.items():
            manager.attach(agent, name)
            process.watch(name, agent)

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        """Do the task, or go on with answers."""
        blocks: list[Any] = [{"text": task}] if isinstance(task, str) else task
        answers = [block for block in blocks if "interruptResponse" in block]
        mark = mark_of([block["text"] for block in blocks if "text" in block]) + self._visits()
        results: dict[str, NodeResult] = {}
        for name, agent in self._agents.items():
            if answers:
                said = [text for message in agent.messages if message["role"] == "user" for text in texts_of(message)]
                mark = said[0].partition(" ")[2]
                todo = [prompt for prompt in self._prompts(mark) if prompt not in said]
                result = await agent.invoke_async(answers)
                answers = []
            else:
                first, *todo = self._prompts(mark)
                result = await agent.invoke_async(first)
            while todo and result.stop_reason != "interrupt":
                result = await agent.invoke_async(todo.pop(0))
            if result.stop_reason == "interrupt":
                return MultiAgentResult(Status.INTERRUPTED, interrupts=list(result.interrupts or ()))
            results[name] = NodeResult(result=result, status=Status.COMPLETED)
        if self._node.stumbles is not None and tries(self._process, f"{self.id} {mark}") == 1:
            raise ConnectionError(f"{self.id} stumbles")
        return MultiAgentResult(Status.COMPLETED, results)

    def _prompts(self, mark: str) -> list[str]:
        return [f"#{number} {mark}" for number in range(self._node.calls)]
