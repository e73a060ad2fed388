"""Graphs and swarms made by chance: joins, parallel nodes, nested ones, handoffs, agents as tools, questions."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.multiagent import GraphBuilder, Swarm

from tests.prove.simulation.agents import SimulatedModel, ask, boom, charge, manager_of, put, stream_of, work
from tests.prove.simulation.process import SimProcess

TASK = "the task"


@dataclass(frozen=True)
class Node:
    """Something that a graph runs, or that runs inside something else.

    Attributes:
        name: Its name, which nothing else has.
        kind: "agent", "graph" or "swarm".
        turns: What an agent's model says: lists of (tool, arguments), the last one a text.
        nodes: What a graph or swarm consists of.
        edges: Of a graph: from and to. A node with several waits for all of them.
        helper: An agent that this one has as a tool.
        window: How many messages an agent keeps; all if not given.
    """

    name: str
    kind: str = "agent"
    turns: tuple[Any, ...] = ()
    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    helper: Node | None = None
    window: int | None = None


@dataclass(frozen=True)
class Program:
    """A graph, swarm or agent with an agent as a tool, and the one task that it is given. See `agents.Program`."""

    root_node: Node
    lease: float = 3.0
    on_busy: Any = "wait"
    compact_slots: int = 32
    policy: str = "rerun"
    answer: str = "rerun"
    ids: tuple[str | None, ...] = ("run-1",)
    is_faithful: bool = True

    @property
    def prompts(self) -> list[str]:
        """What it is asked."""
        return [TASK]

    @property
    def root(self) -> str:
        """The id of its journal."""
        return self.root_node.name


def make(seed: str) -> Program:
    """Make a program."""
    chance = random.Random(f"program {seed}")
    names = iter(f"n{number}" for number in range(100))
    shape = chance.choice(["graph", "graph", "graph", "swarm", "nested", "tool"])
    if shape == "swarm":
        root = _swarm(chance, names)
    elif shape == "tool":
        root = _agent(chance, names, helper=True)
    else:
        root = _graph(chance, names, depth=1 if shape == "nested" else 0)
    # Drawn apart, so that what older seeds made stays what it was but for this.
    more = random.Random(f"more {seed}")
    return Program(
        _varied(more, root),
        policy=more.choice(["rerun", "rerun", "reconcile"]),
        lease=chance.choice([1.0, 2.0, 3.0]),
        on_busy=chance.choice(["wait", "wait", "raise", "steal"]),
        compact_slots=chance.choice([2, 4, 32]),
    )


def _agent(chance: random.Random, names: Any, *, helper: bool = False, last: str | None = None) -> Node:
    name = next(names)
    turns: list[Any] = []
    for _ in range(chance.choice([0, 1, 1, 2])):
        tools = [chance.choice(["work", "work", "charge", "boom", "ask"]) for _ in range(chance.choice([1, 1, 2, 3]))]
        turns.append([(tool, {"n": chance.randrange(1000), "ms": chance.choice([0, 0, 1, 10, 300])}) for tool in tools])
    helping = _agent(chance, names) if helper else None
    if helping is not None:
        turns.insert(0, [(helping.name, {"input": "help"}), ("work", {"n": 1, "ms": 5})])
    return Node(name, turns=(*turns, last or f"{name} is done"), helper=helping)


def _varied(chance: random.Random, node: Node) -> Node:
    """Let some agents keep something in their state, and some forget what is long ago."""
    turns = tuple(
        [("put" if name == "work" and chance.random() < 0.25 else name, given) for name, given in turn]
        if isinstance(turn, list)
        else turn
        for turn in node.turns
    )
    return replace(
        node,
        turns=turns,
        nodes=tuple(_varied(chance, each) for each in node.nodes),
        helper=None if node.helper is None else _varied(chance, node.helper),
        window=4 if chance.random() < 0.2 else None,
    )


def _graph(chance: random.Random, names: Any, depth: int) -> Node:
    name = next(names)
    nodes = [_agent(chance, names, helper=chance.random() < 0.15) for _ in range(chance.randint(1, 4))]
    if depth:
        inner = _graph(chance, names, 0) if chance.random() < 0.5 else _swarm(chance, names)
        nodes.insert(chance.randrange(len(nodes) + 1), inner)
    ids = [node.name for node in nodes]
    edges = [(ids[a], ids[b]) for b in range(len(ids)) for a in range(b) if chance.random() < 0.6]
    return Node(name, "graph", nodes=tuple(nodes), edges=tuple(edges))


def _swarm(chance: random.Random, names: Any) -> Node:
    name = next(names)
    members = [_agent(chance, names) for _ in range(chance.randint(1, 3))]
    handing = []
    for member, following in itertools.pairwise(members):
        arguments = {"agent_name": following.name, "message": "go on", "context": {"from": member.name}}
        handoff = ("handoff_to_agent", arguments)
        handing.append(replace(member, turns=(*member.turns[:-1], [handoff], member.turns[-1])))
    return Node(name, "swarm", nodes=(*handing, members[-1]))


class NodeModel(SimulatedModel):
    """Answers by the turns of a node; where it is, it reads from the messages alone."""

    def __init__(self, process: SimProcess, node: Node) -> None:
        super().__init__(process)
        self._node = node

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        await asyncio.sleep(self._process.world.chance.expovariate(1 / 0.03))
        results = [b["toolResult"]["toolUseId"] for b in messages[-1]["content"] if "toolResult" in b]
        number = int(results[0].rpartition("t")[2].partition("i")[0]) + 1 if results else 0
        for event in stream_of(self._node.turns[number], f"{self._node.name}t{number}"):
            yield event


def build(process: SimProcess, program: Program, session_id: str) -> Any:
    """Build it in a process."""
    manager = manager_of(process, program, session_id, probe=False)
    return _build(process, program.root_node, manager)


def _build(process: SimProcess, node: Node, manager: Any = None) -> Any:
    if node.kind == "agent":
        tools: list[Any] = [copy.copy(each) for each in (work, charge, boom, ask, put)]
        if node.helper is not None:
            tools.append(_build(process, node.helper).as_tool())
        return Agent(
            name=node.name,
            agent_id=node.name,
            model=NodeModel(process, node),
            tools=tools,
            session_manager=manager,
            conversation_manager=None if node.window is None else SlidingWindowConversationManager(node.window),
            callback_handler=None,
        )
    parts = {each.name: _build(process, each) for each in node.nodes}
    if node.kind == "swarm":
        return Swarm(list(parts.values()), session_manager=manager, id=node.name)
    builder = GraphBuilder().set_graph_id(node.name)
    for name, part in parts.items():
        builder.add_node(part, name)
    for start, end in node.edges:
        builder.add_edge(parts_node(builder, start), parts_node(builder, end), _all_before(node, end))
    for each in node.nodes:
        if not any(end == each.name for _, end in node.edges):
            builder.set_entry_point(each.name)
    if manager is not None:
        builder.set_session_manager(manager)
    return builder.build()


def parts_node(builder: GraphBuilder, name: str) -> Any:
    """Get a node of a graph that is being built."""
    return builder.nodes[name]


def _all_before(node: Node, end: str) -> Callable[[Any], bool]:
    """Make the condition of an edge: everything that leads to its end is done."""
    wanted = {start for start, other in node.edges if other == end}
    return lambda state: wanted <= {each.node_id for each in state.completed_nodes}


def summary(result: Any) -> dict[str, Any]:
    """Describe a result by what must not depend on crashes."""
    nodes: Any = getattr(result, "execution_order", None) or getattr(result, "node_history", ())
    return {
        "status": result.status.value,
        # What ran at the same time inside of a node is told in the order in which it ended.
        "results": {name: sorted(str(each.result).splitlines()) for name, each in sorted(result.results.items())},
        "order": sorted(each.node_id for each in nodes),
    }
