"""What was thought of later: cycles, custom nodes, agents that are made in tools, hooks that let agents go on, retries.

Drawn apart from everything else, so that seeds that were recorded before stay what they were but for this.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from strands_dapr_session import Retries, RetryPolicy
from tests.prove.simulation.nodes import Node

_POLICY = RetryPolicy(max_attempts=3, first_delay=0.3, jitter=0.0)
_OF_NODES = replace(_POLICY, max_attempts=9)
RETRIES = {
    "nothing": Retries(),
    "everything": Retries(_POLICY, _POLICY, {}, _OF_NODES),
    "nodes": Retries(node=_OF_NODES),
    "tools and models": Retries(_POLICY, _POLICY),
}


@dataclass(frozen=True)
class Maker:
    """Makes something less usual out of what was drawn before.

    Attributes:
        chance: What decides.
        retries: What is tried again when it fails.
    """

    chance: random.Random
    retries: Retries

    def _happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def changed(self, node: Node) -> Node:
        """Change an orchestrator, or an agent that is called alone."""
        if node.kind == "graph":
            return self._graph(node)
        if node.kind == "swarm":
            return replace(node, nodes=tuple(self._node(each) for each in node.nodes))
        return self._agent(node)

    def _node(self, node: Node) -> Node:
        if node.kind != "agent":
            return self.changed(node)
        return self._agent(node, may_raise=self.retries.node is not None)

    def _graph(self, node: Node) -> Node:
        nodes = [
            self._desk(each) if each.kind == "agent" and self._happens(0.3) else self._node(each) for each in node.nodes
        ]
        names = [each.name for each in nodes]
        back: list[tuple[str, str]] = []
        if self._happens(0.5):
            later = self.chance.randrange(len(names))
            edge = (names[later], names[self.chance.randint(0, later)])
            back = [edge] if edge not in node.edges else []
        if back:
            nodes = [_forgetful(each) for each in nodes]
        return replace(
            node,
            nodes=tuple(nodes),
            back=tuple(back),
            is_reset=self._happens(0.5),
            asked_before=self.chance.choice(names) if self._happens(0.15) else None,
        )

    def _agent(self, node: Node, *, may_raise: bool = False, may_fork: bool = True) -> Node:
        """Change an agent.

        Args:
            node: The agent.
            may_fork: It may have a tool that makes agents.
            may_raise: What runs it is tried again when it raises.
        """
        helper, forked = node.helper, None
        if helper is not None:
            helper = replace(self._agent(helper), is_preserved=self._happens(0.4))
        turns = [self._batch(turn) if isinstance(turn, list) else turn for turn in node.turns]
        if helper is None and may_fork and self._happens(0.2):
            forked = Node(f"{node.name}f", turns=([("work", {"n": 2, "ms": 3})], f"{node.name}f is done"))
            fails = self.retries.tool is not None and self._happens(0.3)
            forked = replace(self._agent(forked, may_fork=False), is_lost_once=fails)
            calls = [("fork", {"n": number}) for number in range(self.chance.choice([1, 2, 3]))]
            turns.insert(0, [*calls, ("work", {"n": 3, "ms": 4})])
        goes_on = node.window is None and self._happens(0.2)
        if helper is not None and goes_on:
            helper = _forgetful(helper)
        # A call that fails makes the conversation shorter when it ends: a process that dies before that does not.
        may_stumble = self.retries.model is not None or (may_raise and node.window is None)
        return replace(
            node,
            turns=tuple(turns),
            helper=helper,
            forked=forked,
            is_marked=True,
            goes_on=goes_on,
            stumbles=self.chance.randrange(len(turns)) if may_stumble and self._happens(0.3) else None,
        )

    def _batch(self, turn: list[Any]) -> list[Any]:
        found = []
        for name, given in turn:
            changed = name
            if name == "work" and self._happens(0.2):
                changed = "ask"
            elif name == "work" and self.retries.tool is not None and self._happens(0.4):
                changed = "flaky"
            found.append((changed, given))
        return found

    def _desk(self, node: Node) -> Node:
        """Put an agent into a custom node, perhaps with another one that asks nobody."""
        may_raise = self.retries.node is not None
        first = self._agent(replace(node, name=f"{node.name}a", window=None), may_raise=may_raise)
        agents = [first]
        if self._happens(0.5):
            turns = ([("work", {"n": 5, "ms": 10}), ("charge", {"n": 6, "ms": 0})], f"{node.name}b is done")
            agents.append(Node(f"{node.name}b", turns=turns, is_marked=True, goes_on=self._happens(0.2)))
        stumbles = 0 if may_raise and self._happens(0.3) else None
        calls = self.chance.choice([1, 2])
        agents = [_forgetful(each) for each in agents]
        return Node(node.name, "desk", nodes=tuple(agents), stumbles=stumbles, calls=calls)


def _forgetful(node: Node) -> Node:
    """Let no agent that is a tool keep its conversation: from one call to the next it does so in the process only."""
    return replace(
        node,
        is_preserved=False,
        nodes=tuple(_forgetful(each) for each in node.nodes),
        helper=None if node.helper is None else _forgetful(node.helper),
    )
