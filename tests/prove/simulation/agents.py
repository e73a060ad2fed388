"""Agents made by chance: prompts, batches of tools, hooks, conversation managers, interrupts and in-doubt policies."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.hooks import AfterToolCallEvent, BeforeInvocationEvent, BeforeToolCallEvent
from strands.models.model import Model
from strands.types.exceptions import ContextWindowOverflowException

from strands_dapr_session import DaprSessionManager, Retries
from strands_dapr_session.hooks.in_doubt import INTERRUPT_NAME
from strands_dapr_session.testing.plain import digest
from tests.prove.simulation.process import SimProcess

EXPECTED: set[str] = set()
"""Kinds of faults that must happen besides those that happen to all programs."""

POLICIES = ("rerun", "never_twice", "ask", "reconcile")
_NAMES = ("work", "work", "put", "boom", "charge", "charge", "ask", "big")
SUMMARY = "SUMMARY of what was said."


@dataclass(frozen=True)
class Program:
    """An agent and what it is asked, made from a seed.

    Attributes:
        script: For each prompt its turns: a list of (tool, arguments), the last one a text.
        ids: The invocation id of each prompt; None for a call without one.
        policy: What `charge` does when it is in doubt.
        manager: The conversation manager.
        hooks: Which hooks rewrite, retry, greet and cancel.
        compact_slots: After how many commits the journal is packed.
        lease: Seconds.
        on_busy: What a rival does.
        root: The id of its journal.
        retries: What is tried again when it fails.
        is_cut_off_asking: Processes may lose their connection while they ask a person.
    """

    script: tuple[tuple[Any, ...], ...]
    ids: tuple[str | None, ...]
    policy: str = "rerun"
    answer: str = "rerun"
    manager: str = "none"
    hooks: frozenset[str] = frozenset()
    compact_slots: int = 32
    lease: float = 3.0
    on_busy: Any = "wait"
    root: str = "default"
    retries: Retries | None = None
    is_cut_off_asking: bool = False

    @property
    def prompts(self) -> list[str]:
        """What it is asked."""
        return [f"P{number}: please do it" for number in range(len(self.script))]

    @property
    def is_faithful(self) -> bool:
        """Whether a run that was killed must equal one that was not: nothing is left undone or asked because of it."""
        return self.policy in ("rerun", "reconcile")


def make(seed: str) -> Program:
    """Make a program."""
    chance = random.Random(f"program {seed}")
    manager = chance.choice(["none", "none", "window", "window per turn", "summarizing"])
    script = tuple(_turns(chance, number, manager) for number in range(chance.choice([1, 1, 2, 3])))
    hooks = frozenset(name for name in ("rewrite", "retry", "greet", "cancel") if chance.random() < 0.25)
    named = chance.random() < 0.75
    return Program(
        script,
        tuple(f"call-{number}" if named else None for number in range(len(script))),
        policy=chance.choice(POLICIES),
        answer=chance.choice(["rerun", "skip"]),
        manager=manager,
        hooks=hooks,
        compact_slots=chance.choice([1, 2, 3, 5, 32]),
        lease=chance.choice([1.0, 2.0, 3.0]),
        on_busy=chance.choice(["wait", "wait", "raise", "steal"]),
    )


def _turns(chance: random.Random, number: int, manager: str) -> tuple[Any, ...]:
    turns: list[Any] = []
    for _ in range(chance.choice([0, 1, 1, 2, 2, 3])):
        names = [chance.choice(_NAMES) for _ in range(chance.choice([1, 1, 2, 3, 4]))]
        turns.append([(name, _arguments(chance, name)) for name in names])
    if manager == "summarizing" and len(turns) > 1:
        turns.insert(chance.randint(2, len(turns)), "overflow")
    return (*turns, f"done {number}")


def _arguments(chance: random.Random, name: str) -> dict[str, Any]:
    n = chance.randrange(1000)
    if name == "big":
        return {"n": n, "size": chance.choice([500, 500, 5_000, 120_000])}
    return {"n": n, "ms": chance.choice([0, 0, 1, 10, 100, 1500])}


# -- what it is made of ------------------------------------------------------------------------------------------------


class SimulatedModel(Model):
    """What models of a simulation have in common: nothing to configure."""

    stateful = False

    def __init__(self, process: SimProcess) -> None:
        self._process = process

    def update_config(self, **_: Any) -> None:
        """Nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "simulated"}

    async def structured_output(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        yield {}


class SimModel(SimulatedModel):
    """Answers by the script; where it is, it reads from the messages alone."""

    def __init__(self, process: SimProcess, program: Program) -> None:
        super().__init__(process)
        self._program = program

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        prompt, number = self._position(messages)
        if prompt is not None:  # summaries are made in a thread of Strands' own, which no schedule knows
            await asyncio.sleep(self._process.world.chance.expovariate(1 / 0.05))
        turn = SUMMARY if prompt is None else self._program.script[prompt][number]
        if turn == "overflow":
            if len(messages) > 4:
                raise ContextWindowOverflowException("too long")
            turn = [("work", {"n": 7, "ms": 0})]
        for event in stream_of(turn, f"p{prompt}t{number}"):
            yield event

    def _position(self, messages: Any) -> tuple[int | None, int]:
        for block in messages[-1]["content"]:
            if "toolResult" in block:
                prompt, _, rest = block["toolResult"]["toolUseId"].removeprefix("p").partition("t")
                return int(prompt), int(rest.partition("i")[0]) + 1
        texts = [b["text"] for m in messages if m["role"] == "user" for b in m["content"] if "text" in b]
        named = [text for text in texts if text.startswith("P") and text[1:2].isdigit()]
        if not named or (texts[-1] not in named and "ummar" in texts[-1] and texts[-1] != SUMMARY):
            return None, 0
        return int(named[-1][1 : named[-1].index(":")]), 0


def stream_of(turn: Any, prefix: str) -> list[Any]:
    """Make the events of a turn."""
    events: list[Any] = [{"messageStart": {"role": "assistant"}}]
    if isinstance(turn, str):
        events += [
            {"contentBlockStart": {"start": {}}},
            {"contentBlockDelta": {"delta": {"text": turn}}},
            {"contentBlockStop": {}},
            {"messageStop": {"stopReason": "end_turn"}},
        ]
    else:
        for index, (name, arguments) in enumerate(turn):
            use = {"toolUseId": f"{prefix}i{index}", "name": name}
            events += [
                {"contentBlockStart": {"start": {"toolUse": use}}},
                {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}},
                {"contentBlockStop": {}},
            ]
        events.append({"messageStop": {"stopReason": "tool_use"}})
    usage = {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11}
    return [*events, {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}]


@tool
async def work(n: int, ms: int) -> str:
    """Work a while."""
    await asyncio.sleep(ms / 1000)
    return f"worked {n}"


@tool
async def charge(n: int, ms: int) -> str:
    """Charge a card."""
    await asyncio.sleep(ms / 1000)
    return f"charged {n}"


@tool
async def boom(n: int, ms: int) -> str:
    """Raise."""
    await asyncio.sleep(ms / 1000)
    raise ValueError(f"boom {n}")


@tool
async def big(n: int, size: int) -> str:
    """Return a long text that cannot be compressed well."""
    return random.Random(n).randbytes(size // 2).hex()


@tool(context=True)
async def put(n: int, ms: int, tool_context: ToolContext) -> str:
    """Keep something in the state."""
    state = tool_context.agent.state
    state.set(f"k{n % 5}", "nearly")
    await asyncio.sleep(ms / 1000)
    state.set(f"k{n % 5}", {"n": n})
    return f"put {n}"


@tool(context=True)
async def ask(n: int, ms: int, tool_context: ToolContext) -> str:  # noqa: ARG001
    """Ask a person."""
    return f"they say {tool_context.interrupt(f'ask-{n}', reason={'n': n})}"


TOOLS = (work, charge, boom, big, put, ask)


@dataclass
class Hooks:
    """Hooks of a user, as a program says."""

    names: frozenset[str]
    retried: set[str] = field(default_factory=set)

    def add_to(self, agent: Agent) -> None:
        agent.add_hook(self._after, AfterToolCallEvent)
        agent.add_hook(self._before, BeforeToolCallEvent)
        agent.add_hook(self._greet, BeforeInvocationEvent)

    def _after(self, event: AfterToolCallEvent) -> None:
        name, id_ = event.tool_use["name"], event.tool_use["toolUseId"]
        if "rewrite" in self.names and name == "work":
            event.result["content"] = [{"text": f"rewritten {event.result['content'][0].get('text')}"}]
        if "retry" in self.names and name == "boom" and id_ not in self.retried:
            self.retried.add(id_)
            event.retry = True

    def _before(self, event: BeforeToolCallEvent) -> None:
        if "cancel" in self.names and event.tool_use["name"] == "put":
            event.cancel_tool = "not today"

    def _greet(self, event: BeforeInvocationEvent) -> None:
        if "greet" in self.names and event.messages and event.messages[-1]["role"] == "user":
            content: Any = [*event.messages[-1]["content"], {"text": "Hello."}]
            event.messages = [*event.messages[:-1], {"role": "user", "content": content}]


def build(process: SimProcess, program: Program, session_id: str) -> Agent:
    """Build the agent in a process."""
    manager = manager_of(process, program, session_id, probe=process.pid % 5 == 0)
    conversation: Any = {
        "none": None,
        "window": SlidingWindowConversationManager(window_size=6),
        "window per turn": SlidingWindowConversationManager(window_size=6, per_turn=True),
        "summarizing": SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2),
    }[program.manager]
    agent = Agent(
        model=SimModel(process, program),
        tools=[copy.copy(each) for each in TOOLS],
        session_manager=manager,
        conversation_manager=conversation,
        callback_handler=None,
        agent_id=program.root,
    )
    Hooks(program.hooks).add_to(agent)
    return agent


def manager_of(process: SimProcess, program: Any, session_id: str, *, probe: bool) -> DaprSessionManager:
    """Make the session manager of a program in a process."""
    manager = DaprSessionManager(
        session_id,
        store=process.store,
        in_doubt={"charge": _reconciler(process) if program.policy == "reconcile" else program.policy},
        lease=program.lease,
        on_busy=program.on_busy,
        retry=program.retries,
    )
    settings = manager._journal_settings
    manager._journal_settings = replace(settings, compact_slots=program.compact_slots, probe=probe)
    return manager


def _reconciler(process: SimProcess) -> Any:
    """Make what finds out whether a tool that is in doubt has run."""

    def find_out(tool_use: Any) -> str | None:
        """Ask the one who would know: the ledger."""
        id_ = tool_use["toolUseId"]
        ended = any(e.kind == "tool-end" and e["id"] == id_ for e in process.world.ledger)
        process.note("reconciled", id=id_, ended=ended)
        return f"charged {tool_use['input']['n']}" if ended else None

    return find_out


def answer(program: Program, name: str, reason: Any) -> Any:
    """Answer an interrupt."""
    return program.answer if name == INTERRUPT_NAME else f"yes to {digest(json.dumps(reason, sort_keys=True))}"


def turns_of(program: Program) -> Sequence[tuple[str, str]]:
    """List every tool call of a program: its id and name."""
    return [
        (f"p{prompt}t{number}i{index}", name)
        for prompt, turns in enumerate(program.script)
        for number, turn in enumerate(turns)
        if isinstance(turn, list)
        for index, (name, _) in enumerate(turn)
    ]
