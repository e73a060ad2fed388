"""Graphs and swarms made by chance: the same ones for a seed, in every process."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager
from strands.hooks import BeforeNodeCallEvent
from strands.multiagent import Swarm

from strands_dapr_session.testing.kills import Kill
from strands_dapr_session.testing.program import Call, Program
from tests.crash.orchestrations import TASK, Custom, Offer, agent, all_of, down_once, graph, hands, yes
from tests.crash.programs import PATIENT, find_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands import Agent

_DEEPEST = 2
_LONGEST_NODE = 2.0
"""Seconds after which a node that lingers is given up, where one does."""


@dataclass(frozen=True)
class Chance:
    """Builds what a seed stands for.

    Attributes:
        seed: The seed.
        is_calm: Nothing fails and nobody is asked.
    """

    seed: int
    is_calm: bool = False

    def __call__(self, manager: Any) -> Any:
        """Build it, for a program."""
        made = _Maker(random.Random(self.seed), is_calm=self.is_calm)
        return made.swarm(manager) if made.chance.random() < 0.2 else made.graph(manager)


def program(seed: int, *, is_calm: bool = False) -> Program:
    """Make the program of a seed."""
    chance = random.Random(f"program {seed}")
    calls = [Call(TASK, attempts=chance.choice([1, 1, 6]))]
    options = {**PATIENT, "in_doubt": {"charge": find_out}}
    return Program(Chance(seed, is_calm), calls, options, answer=yes)


def kills(lives: list[list[Kill]], seed: int) -> tuple[Kill, ...]:
    """Choose when up to four processes die, one after the other.

    Args:
        lives: The moments of each process of the uninterrupted run.
        seed: The seed.
    """
    chance = random.Random(f"kills {seed}")
    chosen = [chance.choice(lives[0])]
    while len(chosen) < 4 and chance.random() < 0.5:
        kill = chance.choice(chance.choice(lives))
        chosen.append(Kill(kill.what, chance.randint(1, kill.number), kill.moment))  # less is left to do
    return tuple(chosen)


@dataclass
class _Maker:
    chance: random.Random
    is_calm: bool
    names: int = 0
    lingers: list[str] = field(default_factory=list)

    def _name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def _happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def _upset(self, probability: float) -> bool:
        happens = self._happens(probability)
        return happens and not self.is_calm

    # -- agents ------------------------------------------------------------------------------------------------------

    def agent(
        self, depth: int, *, hand_to: str = "", is_tool: bool = False, may_fail: bool = True, kind: str = "n"
    ) -> Agent:
        name = self._name(kind)
        tools = [self.agent(depth + 1, is_tool=True, kind="t")] if depth < _DEEPEST and self._happens(0.2) else []
        turns: list[Any] = [self._batch(name) for _ in range(self.chance.choice([0, 1, 1, 2]))]
        if tools:
            beside = self._batch(name) if self._happens(0.4) else []
            turns.insert(0, [(tools[0].name, {"input": f"for {name}"}), *beside])
        if hand_to:
            turns = turns or [[]]
            turns[-1] = [*turns[-1], hands(hand_to)]
        options: dict[str, Any] = {}
        last: Any = f"done {name}"
        if self._happens(0.1) and not is_tool:
            last, options["structured_output_model"] = [("Offer", {"price": len(name)})], Offer
        turns.append(last)
        # What fails once, and is killed before that is recorded, does not fail again. So only such failures are
        # compared that change nothing but who is asked once more.
        if self._upset(0.15) and may_fail and not is_tool:
            which = self.chance.randrange(len(turns))
            turns[which] = down_once(f"{name}-{which}", turns[which])
        if self._happens(0.2):
            options["conversation_manager"] = self._conversation_manager()
        return agent(name, *turns, tools=[tool.as_tool() for tool in tools], **options)

    def _batch(self, name: str) -> list[Any]:
        calls: list[Any] = []
        for number in range(self.chance.choice([1, 1, 2, 3])):
            kind = self.chance.choice(["work", "work", "work", "remember", "note_down", "charge"])
            arguments: Any = {
                "work": {"tag": f"{name}-{number}", "n": self.chance.randrange(4)},
                "remember": {"key": f"k{number}", "value": number},
                "note_down": {"text": f"{name}-{number}"},
                "charge": {"cents": number},
            }[kind]
            calls.append((kind, arguments))
        if self._upset(0.12):
            calls.insert(self.chance.randrange(len(calls) + 1), ("approve", {"tag": name}))
        return calls

    def _conversation_manager(self) -> Any:
        size = self.chance.choice([3, 4, 6])
        return self.chance.choice(
            [
                NullConversationManager(),
                SlidingWindowConversationManager(window_size=size),
                SlidingWindowConversationManager(window_size=size, per_turn=True),
            ]
        )

    # -- orchestrators -----------------------------------------------------------------------------------------------

    def swarm(self, manager: Any = None, depth: int = 0) -> Swarm:
        name = self._name("sw")
        members: list[Agent] = []
        for _ in range(self.chance.choice([1, 2, 2, 3])):
            hand_to = members[0].name if members else ""
            members.insert(0, self.agent(depth + 1, hand_to=hand_to, may_fail=manager is not None))
        return Swarm(members, session_manager=manager, id=name)

    def graph(self, manager: Any = None, depth: int = 0) -> Any:
        """Make a graph. Nested ones run one node after the other: the order of their results shows in prompts."""
        name = self._name("g")
        count = self.chance.choice([2, 3, 3, 4, 5] if depth == 0 else [1, 2, 3])
        nodes = {self._name("x"): self._node(depth) for _ in range(count)}
        ids = list(nodes)
        edges: list[tuple[str, str]] = []
        when: dict[tuple[str, str], Any] = {}
        for index in range(1, count):
            many = min(index, self.chance.choice([1, 1, 2]))
            before = self.chance.sample(ids[:index], many) if depth == 0 else [ids[index - 1]]
            if depth == 0 and index < count - 1 and self._happens(0.3):
                continue  # one more to begin with
            edges += [(one, ids[index]) for one in before]
            if self._happens(0.5):
                when |= {(one, ids[index]): all_of(*before) for one in before}
        entry = [ids[0], *(one for one in ids[1:] if one not in {to for _, to in edges})]
        if count > 1 and self._happens(0.3):
            later = self.chance.randrange(1, count)
            earlier = self.chance.randrange(later)
            if (ids[later], ids[earlier]) not in edges:
                edges.append((ids[later], ids[earlier]))
                when[ids[later], ids[earlier]] = _less_often(ids[earlier], 2)
        lingers = _LONGEST_NODE if self._upset(0.03) else None
        if lingers:
            nodes[ids[-1]] = agent(self._name("n"), [("linger", {"name": name})], "lingered")
        built = graph(
            nodes, edges, manager, when=when, entry=entry, reset=self._happens(0.4), name=name, timeout=lingers
        )
        if self._upset(0.1):
            built.add_hook(_asking_before(self.chance.choice(ids)), BeforeNodeCallEvent)
        return built

    def _node(self, depth: int) -> Any:
        kind = self.chance.random()
        if depth < _DEEPEST and kind < 0.15:
            return self.graph(depth=depth + 1)
        if depth < _DEEPEST and kind < 0.3:
            return self.swarm(depth=depth + 1)
        if kind < 0.36:
            return Custom(self._name("c"), is_flaky=self._upset(0.3))
        return self.agent(depth + 1)


def _less_often(node_id: str, times: int) -> Callable[[Any], bool]:
    return lambda state: [node.node_id for node in state.execution_order].count(node_id) < times


def _asking_before(node_id: str) -> Callable[[BeforeNodeCallEvent], None]:
    def ask(event: BeforeNodeCallEvent) -> None:
        if event.node_id == node_id:
            event.interrupt(f"may {node_id} run?", reason=node_id)

    return ask
