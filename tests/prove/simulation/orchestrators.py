"""Graphs and swarms made by chance: joins, parallel nodes, nested ones, handoffs, agents as tools, questions."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import Any

from strands_dapr_session import Retries
from tests.prove.simulation.agents import manager_of
from tests.prove.simulation.nodes import Node, build_node
from tests.prove.simulation.novelties import RETRIES, Maker
from tests.prove.simulation.process import SimProcess

TASK = "the task"

EXPECTED = {"cut at ask"}
"""Kinds of faults that must happen besides those that happen to all programs."""


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
    retries: Retries | None = None
    is_cut_off_asking: bool = False

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
    program = Program(
        _varied(more, root),
        policy=more.choice(["rerun", "rerun", "reconcile"]),
        lease=chance.choice([1.0, 2.0, 3.0]),
        on_busy=chance.choice(["wait", "wait", "raise", "steal"]),
        compact_slots=chance.choice([2, 4, 32]),
    )
    return _newer(random.Random(f"newer {seed}"), program)


def _newer(chance: random.Random, program: Program) -> Program:
    """Change most programs by what was thought of later."""
    if chance.random() < 0.3:
        return program
    retries = RETRIES[chance.choice(list(RETRIES))]
    root = Maker(chance, retries).changed(program.root_node)
    return replace(program, root_node=root, retries=retries, is_cut_off_asking=chance.random() < 0.5)


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


def build(process: SimProcess, program: Program, session_id: str) -> Any:
    """Build it in a process."""
    manager = manager_of(process, program, session_id, probe=False)
    return build_node(process, program.root_node, manager, is_root=True)


def summary(result: Any) -> dict[str, Any]:
    """Describe a result by what must not depend on crashes."""
    nodes: Any = getattr(result, "execution_order", None) or getattr(result, "node_history", ())
    return {
        "status": result.status.value,
        # What ran at the same time inside of a node is told in the order in which it ended.
        "results": {name: sorted(str(each.result).splitlines()) for name, each in sorted(result.results.items())},
        "order": sorted(each.node_id for each in nodes),
    }
