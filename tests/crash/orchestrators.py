"""Graphs and swarms that get killed, and the harness that compares them with runs that were left alone.

Every process is a real one, forked from a warm server. What ran is read from a ledger file that no store knows of.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from strands import Agent, ToolContext, tool
from strands.hooks import AfterNodeCallEvent
from strands.models.model import Model
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, Status

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.faults import Call, Fault, FaultyStore

T = TypeVar("T")
TASK = "T"
ANSWERS = "<answers>"
"""Stands for "yes" to every interrupt of the call before."""
TASK_OR_ANSWERS = "<task or answers>"
"""Stands for answers if the orchestrator waits for any, else for the task."""


@dataclass(frozen=True)
class Life:
    """What one process does.

    Attributes:
        calls: The tasks that it gives, one after the other; it goes on after an exception.
        kill: The tool run ("a2"), node end ("after:d") or custom node ("fn:x") at which it dies. With "#2": the second.
        fail: The model call that raises, as agent and number ("c:1"); once.
        kill_at: The write of the store around which it dies, counted from 1, and "before" or "after".
        options: Of the session manager.
        variant: Another version of the orchestrator.
        first: The number of its first call, which names it; processes that repeat a call give the same.
        again: All its calls are one, made again because it failed.
    """

    calls: tuple[Any, ...] = (TASK,)
    kill: str = ""
    fail: str = ""
    kill_at: tuple[int, str] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    variant: str = ""
    first: int = 0
    again: bool = False


class World:
    """What the functions of a process share."""

    ledger: Path
    life = Life()
    seen: ClassVar[Counter[str]] = Counter()
    failed = False
    writes = 0


def note(*words: object) -> None:
    """Write a line past every buffer."""
    line = " ".join(map(str, words)) + "\n"
    descriptor = os.open(World.ledger, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def point(name: str) -> None:
    """Pass a point at which the process may die."""
    World.seen[name] += 1
    if World.life.kill in {name, f"{name}#{World.seen[name]}"} and ("#" in World.life.kill or World.seen[name] == 1):
        note("-- killed at", World.life.kill)
        os.kill(os.getpid(), signal.SIGKILL)


# -- agents ------------------------------------------------------------------------------------------------------------


class Script(Model):
    """Answers by a list of turns; the turn is read from the messages alone."""

    stateful = False

    def __init__(self, name: str, turns: Sequence[Any]) -> None:
        self.name, self.turns = name, turns

    def update_config(self, **_: Any) -> None:
        """Nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        return {}

    async def structured_output(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        yield {}

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        answered = [block["toolResult"]["toolUseId"] for block in messages[-1]["content"] if "toolResult" in block]
        if answered:
            visit, _, rest = answered[0].rsplit("-v", 1)[1].partition("c")
            number = int(rest.partition("t")[0]) + 1
        else:
            visit, number = str(sum("text" in m["content"][0] for m in messages if m["role"] == "user")), 0
        note("model", self.name, f"v{visit}c{number}", _digest(messages))
        if World.life.fail == f"{self.name}:{number}" and not World.failed:
            World.failed = True
            note("-- failed")
            raise RuntimeError("model down")
        turn = self.turns[number]
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(turn, str):
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": turn}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}
        else:
            for index, (name, arguments) in enumerate(turn):
                use = {"toolUseId": f"{self.name}-v{visit}c{number}t{index}", "name": name}
                yield {"contentBlockStart": {"start": {"toolUse": use}}}
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}}
                yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use"}}
        yield {
            "metadata": {
                "usage": {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11},
                "metrics": {"latencyMs": 1},
            }
        }


def _digest(messages: Any) -> str:
    """Name what a model was asked. The parts of a join are sorted: Strands orders edges at random in each process."""

    def block(content: Any) -> str:
        return "".join(sorted(json.dumps(content, sort_keys=True, default=repr).split("\\n")))

    plain = [[message["role"], sorted(map(block, message["content"]))] for message in messages]
    return hashlib.md5(json.dumps(plain).encode(), usedforsecurity=False).hexdigest()[:8]


@tool
async def work(tag: str, n: int) -> str:
    """Work a while."""
    await asyncio.sleep(0.03 * n)
    point(f"{tag}{n}")
    note("tool", f"{tag}{n}")
    return f"r{tag}{n}"


@tool(context=True)
async def approve(tag: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    answer = tool_context.interrupt("ok", reason=tag)
    await asyncio.sleep(0.02)
    point(f"approve:{tag}")
    note("tool", f"approve-{tag}={answer}")
    return f"approved {answer}"


def works(tag: str, times: int = 3) -> list[Any]:
    return [("work", {"tag": tag, "n": number}) for number in range(times)]


def hands(to: str) -> tuple[str, Any]:
    return ("handoff_to_agent", {"agent_name": to, "message": f"please {to}", "context": {"k": f"v-{to}"}})


def agent(name: str, *turns: Any, tools: Sequence[Any] = (work, approve), **options: Any) -> Agent:
    return Agent(name=name, model=Script(name, turns), tools=list(tools), callback_handler=None, **options)


class Custom(MultiAgentBase):
    """A node of somebody's own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.id = name

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        note("custom", self.id)
        point(f"fn:{self.id}")
        if World.life.fail == f"fn:{self.id}" and not World.failed:
            World.failed = True
            note("-- failed")
            raise RuntimeError("custom node down")
        return MultiAgentResult(status=Status.COMPLETED, results={})


# -- orchestrators -----------------------------------------------------------------------------------------------------


def graph(  # noqa: PLR0913
    nodes: dict[str, Any],
    edges: Sequence[tuple[str, str]] = (),
    manager: Any = None,
    *,
    when: dict[tuple[str, str], Any] | None = None,
    entry: Sequence[str] = (),
    reset: bool = False,
    name: str = "g",
    most: int = 20,
    timeout: float | None = None,
) -> Any:
    builder = GraphBuilder()
    for node_id, executor in nodes.items():
        builder.add_node(executor, node_id)
    for one, other in edges:
        builder.add_edge(one, other, (when or {}).get((one, other)))
    for node_id in entry:
        builder.set_entry_point(node_id)
    builder.set_max_node_executions(most).set_graph_id(name).reset_on_revisit(reset)
    if timeout is not None:
        builder.set_node_timeout(timeout)
    if manager is not None:
        builder.set_session_manager(manager)
    return builder.build()


def all_of(*ids: str) -> Callable[[Any], bool]:
    return lambda state: set(ids) <= {node.node_id for node in state.completed_nodes}


def diamond(manager: Any) -> Any:
    joined = all_of("b", "c")
    nodes = {name: agent(name, works(name), f"done {name}") for name in "abcd"}
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    return graph(nodes, edges, manager, when={("b", "d"): joined, ("c", "d"): joined})


def uneven(manager: Any) -> Any:
    joined = all_of("c", "e")
    nodes = {name: agent(name, works(name), f"done {name}") for name in "abce"} | {"j": agent("j", "done j")}
    edges = [("a", "c"), ("b", "e"), ("c", "j"), ("e", "j")]
    return graph(nodes, edges, manager, when={("c", "j"): joined, ("e", "j"): joined})


def line(manager: Any) -> Any:
    return graph({name: agent(name, works(name, 1), f"done {name}") for name in "ab"}, [("a", "b")], manager)


def choice(manager: Any) -> Any:
    """Goes one way by the text of a result."""
    nodes = {name: agent(name, works(name, 2), f"done {name}") for name in "axy"}
    when = {("a", "x"): lambda state: "done a" in str(state.results["a"]), ("a", "y"): lambda state: False}  # noqa: ARG005
    return graph(nodes, [("a", "x"), ("a", "y")], manager, when=when)


def _cycle(manager: Any, *, reset: bool) -> Any:
    def again(state: Any) -> bool:
        return [node.node_id for node in state.execution_order].count("review") < 2

    nodes = {
        "draft": agent("draft", works("d"), "draft"),
        "review": agent("review", works("r"), "review"),
        "end": agent("end", "done end"),
    }
    edges = [("draft", "review"), ("review", "draft"), ("review", "end")]
    when = {("review", "draft"): again, ("review", "end"): lambda state: not again(state)}
    return graph(nodes, edges, manager, when=when, entry=["draft"], reset=reset)


def cycle(manager: Any) -> Any:
    return _cycle(manager, reset=False)


def cycle_reset(manager: Any) -> Any:
    return _cycle(manager, reset=True)


def swarm(manager: Any) -> Any:
    first = [("work", {"tag": "p", "n": 0}), hands("q"), ("work", {"tag": "p", "n": 2})]
    return Swarm([agent("p", first, "p out"), agent("q", works("q"), "q out")], session_manager=manager, id="sw")


def relay(manager: Any) -> Any:
    """A swarm that comes back to its first agent, whose second turn is told by the handoff."""
    agents = [agent("p", [hands("q")], "p out"), agent("q", [hands("r")], "q out"), agent("r", works("r"), "r out")]
    return Swarm(agents, session_manager=manager, id="sw")


def nested(manager: Any) -> Any:
    inner = graph({"x": agent("x", works("x"), "done x"), "y": agent("y", works("y"), "done y")}, [("x", "y")])
    nodes = {
        "a": agent("a", "done a"),
        "sub": inner,
        "sw": Swarm([agent("p", [hands("q")], "p out"), agent("q", works("q"), "q out")], id="inner-swarm"),
        "fn": Custom("fn"),
        "z": agent("z", works("z"), "done z"),
    }
    return graph(nodes, [("a", "sub"), ("sub", "sw"), ("sw", "fn"), ("fn", "z")], manager)


def softly(manager: Any) -> Any:
    """A nested swarm that fails returns a result that says so: its siblings go on."""
    joined = all_of("sw", "b")
    nodes = {
        "a": agent("a", "done a"),
        "sw": Swarm([agent("p", [hands("q")], "p out"), agent("q", works("q"), "q out")], id="inner-swarm"),
        "b": agent("b", works("b"), "done b"),
        "z": agent("z", works("z"), "done z"),
    }
    edges = [("a", "sw"), ("a", "b"), ("b", "z"), ("sw", "z")]
    return graph(nodes, edges, manager, when={("b", "z"): joined, ("sw", "z"): joined})


def asking(manager: Any) -> Any:
    a = agent("a", [("work", {"tag": "a", "n": 0}), ("approve", {"tag": "a"})], "done a")
    nodes = {"a": a, "b": agent("b", works("b"), "done b"), "c": agent("c", "done c")}
    return graph(nodes, [("a", "c"), ("b", "c")], manager)


def asking_swarm(manager: Any) -> Any:
    q = agent("q", [("work", {"tag": "q", "n": 0}), ("approve", {"tag": "q"})], "q out")
    return Swarm([agent("p", [hands("q")], "p out"), q], session_manager=manager, id="sw")


def asking_nested(manager: Any) -> Any:
    x = agent("x", [("work", {"tag": "x", "n": 0}), ("approve", {"tag": "x"})], "done x")
    inner = graph({"x": x, "y": agent("y", works("y"), "done y")}, [("x", "y")])
    nodes = {"sub": inner, "b": agent("b", works("b"), "done b"), "z": agent("z", "done z")}
    return graph(nodes, [("sub", "z"), ("b", "z")], manager)


def asking_hook(manager: Any) -> Any:
    from strands.hooks import BeforeNodeCallEvent  # noqa: PLC0415

    def ask(event: Any) -> None:
        if event.node_id == "c":
            note("hook", event.interrupt("may c run?"))

    nodes = {
        "a": agent("a", works("a"), "done a"),
        "b": agent("b", "done b"),
        "c": agent("c", works("c"), "done c"),
        "d": agent("d", works("d"), "done d"),
    }
    built = graph(nodes, [("a", "c"), ("b", "d")], manager)
    built.add_hook(ask, BeforeNodeCallEvent)
    return built


def asking_tool(manager: Any) -> Any:
    sub = agent("sub", [("approve", {"tag": "s"})], works("s"), "sub says")
    turns = [("sub", {"input": "go"}), ("approve", {"tag": "m"})]
    parent = agent("par", turns, "par done", tools=(sub.as_tool(), work, approve))
    return graph({"par": parent, "z": agent("z", "done z")}, [("par", "z")], manager)


def with_tool(manager: Any) -> Any:
    """An agent that uses another as a tool."""
    sub = agent("sub", works("s"), "sub says")
    turns = [("sub", {"input": "go"}), ("work", {"tag": "m", "n": 0})]
    return agent("par", turns, "par done", tools=(sub.as_tool(), work), session_manager=manager)


def graph_with_tool(manager: Any) -> Any:
    sub = agent("sub", works("s"), "sub says")
    parent = agent(
        "par", [("sub", {"input": "go"}), ("work", {"tag": "m", "n": 0})], "par done", tools=(sub.as_tool(), work)
    )
    return graph({"par": parent, "z": agent("z", "done z")}, [("par", "z")], manager)


def asking_both(manager: Any) -> Any:
    """Two nodes wait at the same time, one of them inside a swarm."""
    q = agent("q", [("work", {"tag": "q", "n": 0}), ("approve", {"tag": "q"})], works("qq"), "q out")
    joined = all_of("sw", "b")
    nodes = {
        "a": agent("a", works("a"), "done a"),
        "sw": Swarm([agent("p", [hands("q")], "p out"), q], id="inner-swarm"),
        "b": agent("b", [("approve", {"tag": "b"})], works("b"), "done b"),
        "z": agent("z", works("z"), "done z"),
    }
    edges = [("a", "sw"), ("a", "b"), ("sw", "z"), ("b", "z")]
    return graph(nodes, edges, manager, when={("b", "z"): joined, ("sw", "z"): joined})


def two_tools(manager: Any) -> Any:
    """Two agents as tools at the same time, and one of them again."""
    one, two = agent("s1", works("s"), "s1 says"), agent("s2", works("t"), works("tt"), "s2 says")
    both = [("s1", {"input": "go"}), ("s2", {"input": "go"}), ("work", {"tag": "m", "n": 1})]
    tools = (one.as_tool(), two.as_tool(), work)
    parent = agent("par", both, [("s1", {"input": "again"})], "par done", tools=tools)
    return graph({"par": parent, "z": agent("z", "done z")}, [("par", "z")], manager)


def windowed(manager: Any) -> Any:
    from strands.agent.conversation_manager import SlidingWindowConversationManager  # noqa: PLC0415

    window = SlidingWindowConversationManager(window_size=4, per_turn=True)
    a = agent("a", works("a"), works("aa"), works("aaa"), "done a", conversation_manager=window)
    return graph({"a": a, "b": agent("b", "done b")}, [("a", "b")], manager)


def variants(build: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """Another version of an orchestrator, as a deployment brings it."""

    def other(manager: Any) -> Any:
        if name == "renamed":
            nodes = {node: agent(node, works(node), f"done {node}") for node in ("a", "b", "c", "other")}
            return graph(nodes, [("a", "b"), ("a", "c"), ("b", "other"), ("c", "other")], manager)
        if name == "more":
            nodes = {node: agent(node, works(node), f"done {node}") for node in "abcdx"}
            joined = all_of("b", "c")
            edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "x")]
            return graph(nodes, edges, manager, when={("b", "d"): joined, ("c", "d"): joined})
        built = build(manager)
        if name == "limited":
            built.max_node_executions = 2
        if name == "iterations":
            built.max_iterations = 1
        return built

    return other if name else build


# -- running -----------------------------------------------------------------------------------------------------------


class _Kill(Fault):
    def __init__(self, moment: str) -> None:
        self._moment = moment

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        if self._moment == "after":
            await apply()
        note("-- killed", self._moment, call.verb)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def _store(url: str, life: Life) -> StateStore:
    writes = 0

    def plan(call: Call) -> Fault | None:
        nonlocal writes
        if not call.writes:
            return None
        writes += 1
        World.writes = writes
        return _Kill(life.kill_at[1]) if life.kill_at and life.kill_at[0] == writes else None

    return FaultyStore(open_store(url), plan)


def live(build: Callable[[Any], Any], life: Life, directory: Path) -> None:
    """Be one process."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    World.ledger, World.life, World.failed = directory / "ledger", life, False
    World.seen.clear()
    url = f"sqlite:///{directory / 'runs.db'}"
    options = {"lease": 60.0, "busy_timeout": 20.0, **life.options}
    manager = DaprSessionManager("s", store=_store(url, life), **options)
    built = variants(build, life.variant)(manager)
    if not isinstance(built, Agent):
        built.add_hook(lambda event: point(f"after:{event.node_id}"), AfterNodeCallEvent, order=1000)
    for number, task in enumerate(life.calls):
        # Answers belong to the call that waits for them.
        place = 0 if life.again else number - life.calls[: number + 1].count(ANSWERS)
        state = {"invocation_id": f"call {life.first + place}"}
        given = _answers(directory) if task == ANSWERS else _task_or_answers(built) if task == TASK_OR_ANSWERS else task
        if task == "<abandon>":
            manager.abandon(built)
            continue
        try:
            result = built(given, invocation_state=state)
        except Exception as error:  # noqa: BLE001
            note("-- raised", type(error).__name__)
            (directory / "error").write_text(f"{type(error).__name__}: {error}")
            continue
        interrupts = [each.id for each in getattr(result, "interrupts", None) or []]
        (directory / "interrupts").write_text(json.dumps(interrupts))
        (directory / "result").write_text(json.dumps(_result(result)))
    agents = {} if isinstance(built, Agent) else _conversations(built)
    (directory / "writes").write_text(str(World.writes))
    (directory / "agents").write_text(json.dumps(agents))


def _conversations(built: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node_id, node in built.nodes.items():
        if isinstance(node.executor, Agent):
            found[path + node_id] = _digest(node.executor.messages)
        elif hasattr(node.executor, "nodes"):
            found |= _conversations(node.executor, f"{path}{node_id}/")
    return found


def _answers(directory: Path) -> list[Any]:
    ids = json.loads((directory / "interrupts").read_text())
    return [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in ids]


def _task_or_answers(built: Any) -> Any:
    if isinstance(built, Agent):
        return TASK
    waiting = built.serialize_state()["_internal_state"]["interrupt_state"]
    if not waiting["activated"]:
        return TASK
    ids = [id_ for id_, each in waiting["interrupts"].items() if each["response"] is None]
    return [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in ids]


def _result(result: Any) -> dict[str, Any]:
    if not hasattr(result, "results"):
        return {"status": result.stop_reason, "text": str(result)}
    nodes = getattr(result, "execution_order", None) or getattr(result, "node_history", [])
    found = {
        "status": result.status.value,
        "results": {
            name: [each.status.value, *sorted(str(one) for one in each.get_agent_results())]
            for name, each in sorted(result.results.items())
        },
        "usage": result.accumulated_usage["totalTokens"],
        "latency": result.accumulated_metrics["latencyMs"],
        "count": result.execution_count,
        "per node": {name: each.accumulated_usage["totalTokens"] for name, each in sorted(result.results.items())},
        "order": sorted(node.node_id for node in nodes),
    }
    if hasattr(result, "total_nodes"):
        found["nodes"] = [
            result.total_nodes,
            result.completed_nodes,
            result.failed_nodes,
            len(result.edges),
            len(result.entry_points),
        ]
    return found


@dataclass(frozen=True)
class Run:
    """What became of a program."""

    statuses: list[int]
    ledger: list[str]
    result: dict[str, Any]
    agents: dict[str, Any]
    error: str
    writes: int

    @property
    def lost(self) -> int:
        """How often something died or failed."""
        return sum(line.startswith(("-- killed", "-- failed")) for line in self.ledger)

    @property
    def ran(self) -> Counter[str]:
        """What ran, and how often."""
        return Counter(line for line in self.ledger if not line.startswith("--"))


_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.crash.orchestrators"])


def run(build: Callable[[Any], Any], directory: Path, *lives: Life) -> Run:
    """Run a program: one process after the other."""
    directory.mkdir(parents=True, exist_ok=True)
    statuses = []
    for life in lives:
        process = _server.Process(target=live, args=(build, life, directory))
        process.start()
        process.join(60)
        statuses.append(process.exitcode if process.exitcode is not None else 1000)
        process.kill()

    def read(name: str, otherwise: str = "") -> str:
        path = directory / name
        return path.read_text() if path.exists() else otherwise

    return Run(
        statuses,
        read("ledger").splitlines(),
        json.loads(read("result", "{}")),
        json.loads(read("agents", "{}")),
        read("error"),
        int(read("writes", "0")),
    )


def differences(reference: Run, other: Run) -> list[str]:
    """List how a run that was killed differs from one that was left alone.

    A process that dies may leave a tool or a model call in doubt, which runs again: once, and with the same input.
    """
    again, missing = other.ran - reference.ran, reference.ran - other.ran
    found = [f"{what} ran {other.ran[what]} times" for what, more in again.items() if more > other.lost]
    found += [f"{what} ran, and did not otherwise" for what in again if what not in reference.ran]
    found += [f"{what} did not run" for what in missing]
    found += [f"process {number} ended with {status}" for number, status in enumerate(other.statuses, 1) if status > 0]
    for name, one, two in (("result", reference.result, other.result), ("messages", reference.agents, other.agents)):
        found += [f"{name}: {key} is {two.get(key)}, expected {one[key]}" for key in one if one[key] != two.get(key)]
    return found


def everywhere(build: Callable[[Any], Any], directory: Path, *, step: int = 1) -> list[str]:
    """Kill a program around every write of the store, in a run of its own each, and list what went wrong."""
    asks = build.__name__.startswith("asking")
    reference = run(build, directory / "alone", Life((TASK, ANSWERS)) if asks else Life())
    last = Life((TASK_OR_ANSWERS,))
    found = []
    for number in range(1, reference.writes + 1, step):
        for moment in ("before", "after"):
            kill_at = (number, moment)
            programs = [(Life(kill_at=kill_at), last, last)]
            if asks:
                programs.append((Life(), Life((ANSWERS,), kill_at=kill_at), last))
            for which, lives in enumerate(programs):
                other = run(build, directory / f"{number}-{moment}-{which}", *lives)
                wrong = differences(reference, other)
                found += [f"killed {moment} write {number} ({which}): {problem}" for problem in wrong]
    return found


def anywhere(build: Callable[[Any], Any], directory: Path, *, seed: int, times: int) -> list[str]:
    """Kill three processes in a row, each around a write chosen by chance, and list what went wrong."""
    chance = random.Random(seed)
    asks = build.__name__.startswith("asking")
    reference = run(build, directory / "alone", Life((TASK, ANSWERS)) if asks else Life())
    found = []
    for number in range(times):
        kills = [(chance.randint(1, reference.writes), chance.choice(["before", "after"])) for _ in range(3)]
        lives = [Life((TASK_OR_ANSWERS,), kill_at=kill_at) for kill_at in kills]
        other = run(build, directory / str(number), *lives, *[Life((TASK_OR_ANSWERS,))] * 3)
        found += [f"killed at {kills}: {problem}" for problem in differences(reference, other)]
    return found
