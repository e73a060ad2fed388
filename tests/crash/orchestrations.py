"""The graphs and swarms that get killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.hooks import BeforeNodeCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status
from strands.types.exceptions import ContextWindowOverflowException

from strands_dapr_session.testing import ledger
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.testing.program import Call, Program
from tests.crash.programs import PATIENT, charge, find_out, long_text, picture, remember, run_it_again, wait

TASK = "Get it done"


class Offer(BaseModel):
    """A structured answer."""

    price: int
    currency: str = "EUR"


@tool
async def work(tag: str, n: int) -> str:
    """Work a while."""
    await asyncio.sleep(0.002 * n)
    return f"did {tag}{n}"


@tool(context=True)
async def approve(tag: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    return f"{tag}: {tool_context.interrupt('approval', reason={'what': tag})}"


@tool
def note_down(text: str) -> str:
    """Note something down, as a plain function in a thread."""
    return f"noted {text}"


@tool
async def linger(name: str) -> str:
    """Take very long, once in all processes."""
    if is_first_time(name):
        await asyncio.sleep(30)
    return "lingered"


def is_first_time(name: str) -> bool:
    """Tell whether something never happened in any process, and let it happen."""
    if any(entry["name"] == name for entry in ledger.current().entries("first time")):
        return False
    ledger.current().note("first time", name=name)
    return True


def down_once(name: str, turn: Any) -> Callable[[Any], Any]:
    """Raise the first time, in all processes, that the model is asked for a turn."""

    def answer(_: Any) -> Any:
        return ConnectionError(f"{name} is down") if is_first_time(f"{name} is down") else turn

    return answer


def yes(name: str, reason: Any) -> str:
    return f"yes to {name} {reason}"


def works(tag: str, times: int = 3) -> list[Any]:
    return [("work", {"tag": tag, "n": number}) for number in range(times)]


def hands(to: str) -> tuple[str, Any]:
    return ("handoff_to_agent", {"agent_name": to, "message": f"please {to}", "context": {"k": f"for {to}"}})


def agent(name: str, *turns: Any, tools: Sequence[Any] = (), **options: Any) -> Agent:
    given = [work, approve, note_down, remember, charge, linger, long_text, picture, *tools]
    model = ScriptedModel(list(turns) or [f"done {name}"], name=name)
    return Agent(name=name, model=model, tools=given, callback_handler=None, **options)


class Custom(MultiAgentBase):
    """A node of somebody's own."""

    def __init__(self, name: str, *, is_flaky: bool = False) -> None:
        super().__init__()
        self.id = name
        self._is_flaky = is_flaky

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        ledger.current().note("custom", name=self.id)
        if self._is_flaky and is_first_time(self.id):
            raise ConnectionError(f"{self.id} is down")
        return MultiAgentResult(status=Status.COMPLETED, results={})


def graph(  # noqa: PLR0913
    nodes: dict[str, Any],
    edges: Sequence[tuple[str, str]] = (),
    manager: Any = None,
    *,
    when: dict[tuple[str, str], Any] | None = None,
    entry: Sequence[str] = (),
    reset: bool = False,
    name: str = "g",
    timeout: float | None = None,
) -> Any:
    builder = GraphBuilder()
    for node_id, executor in nodes.items():
        builder.add_node(executor, node_id)
    for one, other in edges:
        builder.add_edge(one, other, (when or {}).get((one, other)))
    for node_id in entry:
        builder.set_entry_point(node_id)
    builder.set_max_node_executions(200).set_graph_id(name).reset_on_revisit(reset)
    if timeout is not None:
        builder.set_node_timeout(timeout)
    if manager is not None:
        builder.set_session_manager(manager)
    return builder.build()


def all_of(*ids: str) -> Callable[[Any], bool]:
    return lambda state: set(ids) <= {node.node_id for node in state.completed_nodes}


def joined(ids: Sequence[str], to: str) -> dict[tuple[str, str], Any]:
    """Let a node begin when all before it are done."""
    return {(one, to): all_of(*ids) for one in ids}


# -- graphs ------------------------------------------------------------------------------------------------------------


def _diamond(manager: Any, **nodes: Any) -> Any:
    found = {name: agent(name, works(name), f"done {name}") for name in "abcd"} | nodes
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    return graph(found, edges, manager, when=joined("bc", "d"))


def diamond_graph(manager: Any) -> Any:
    return _diamond(manager)


def flaky_graph(manager: Any) -> Any:
    """Node c fails while b works."""
    return _diamond(manager, c=agent("c", works("c"), down_once("c", "done c")))


def uneven_graph(manager: Any) -> Any:
    nodes = {name: agent(name, works(name), f"done {name}") for name in "abce"} | {"j": agent("j")}
    edges = [("a", "c"), ("b", "e"), ("c", "j"), ("e", "j")]
    return graph(nodes, edges, manager, when=joined("ce", "j"))


def choosing_graph(manager: Any) -> Any:
    """Goes one way by the text of a result, which has passed through storage."""
    nodes = {name: agent(name, works(name, 2), f"done {name}") for name in "axy"}
    when = {("a", "x"): lambda state: "done a" in str(state.results["a"]), ("a", "y"): lambda state: False}  # noqa: ARG005
    return graph(nodes, [("a", "x"), ("a", "y")], manager, when=when)


def _cycle(manager: Any, *, reset: bool) -> Any:
    def again(state: Any) -> bool:
        return [node.node_id for node in state.execution_order].count("review") < 2

    nodes = {
        "draft": agent("draft", works("d", 2), "draft"),
        "review": agent("review", [*works("r", 1), ("remember", {"key": "seen", "value": 1})], "review"),
        "end": agent("end"),
    }
    edges = [("draft", "review"), ("review", "draft"), ("review", "end")]
    when = {("review", "draft"): again, ("review", "end"): lambda state: not again(state)}
    return graph(nodes, edges, manager, when=when, entry=["draft"], reset=reset)


def cycling_graph(manager: Any) -> Any:
    return _cycle(manager, reset=False)


def resetting_graph(manager: Any) -> Any:
    return _cycle(manager, reset=True)


def lingering_graph(manager: Any) -> Any:
    """Node b runs into its timeout while c has done its work."""
    b = agent("b", [*works("b", 1), ("linger", {"name": "b"})], "done b")
    nodes = {"a": agent("a"), "b": b, "c": agent("c", works("c"), "done c"), "d": agent("d")}
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    return graph(nodes, edges, manager, when=joined("bc", "d"), timeout=1.0)


def nested_graph(manager: Any) -> Any:
    inner = graph({"x": agent("x", works("x"), "done x"), "y": agent("y", works("y"), "done y")}, [("x", "y")])
    nodes = {
        "a": agent("a"),
        "sub": inner,
        "sw": Swarm([agent("p", [hands("q")], "p out"), agent("q", works("q"), "q out")], id="inner-swarm"),
        "fn": Custom("fn"),
        "z": agent("z", works("z"), "done z"),
    }
    return graph(nodes, [("a", "sub"), ("sub", "sw"), ("sw", "fn"), ("fn", "z")], manager)


def custom_graph(manager: Any) -> Any:
    """A custom node fails beside an agent."""
    nodes = {"a": agent("a", works("a"), "done a"), "fn": Custom("fn", is_flaky=True), "z": agent("z")}
    return graph(nodes, [("a", "z"), ("fn", "z")], manager, when=joined(["a", "fn"], "z"))


def softly_failing_graph(manager: Any) -> Any:
    """A nested swarm that fails returns a result that says so: its siblings go on."""
    q = agent("q", works("q"), down_once("q", "q out"))
    nodes = {
        "a": agent("a"),
        "sw": Swarm([agent("p", [hands("q")], "p out"), q], id="inner-swarm"),
        "b": agent("b", works("b"), "done b"),
        "z": agent("z", works("z"), "done z"),
    }
    edges = [("a", "sw"), ("a", "b"), ("b", "z"), ("sw", "z")]
    return graph(nodes, edges, manager, when=joined(["sw", "b"], "z"))


def rich_graph(manager: Any) -> Any:
    """Bytes and structured output go from node to node."""
    nodes = {
        "a": agent("a", [("picture", {"size": 2560}), ("remember", {"key": "b", "value": 2})], "done a"),
        "b": agent("b", [("note_down", {"text": "b"})], [("Offer", {"price": 3})], structured_output_model=Offer),
        "c": agent("c", [("long_text", {"letter": "c", "length": 5000})], "done c"),
        "d": agent("d", works("d"), "done d"),
    }
    edges = [("a", "c"), ("b", "c"), ("c", "d"), ("b", "d")]
    when = joined("ab", "c") | joined("bc", "d")
    return graph(nodes, edges, manager, when=when)


def _conversing(manager: Any, **kept: Any) -> Any:
    """Agents with conversation managers, each visited twice."""
    nodes = {
        name: agent(name, *(works(name * n, 2) for n in (1, 2)), f"done {name}", conversation_manager=each)
        for name, each in kept.items()
    }
    first, last = nodes
    edges = [(first, last), (last, first)]
    when = {(last, first): lambda state: len(state.execution_order) < 4}
    return graph(nodes, edges, manager, when=when, entry=[first])


def windowed_graph(manager: Any) -> Any:
    window = SlidingWindowConversationManager(window_size=4, per_turn=True)
    return _conversing(manager, w=window, s=SlidingWindowConversationManager(window_size=3))


def summarizing_graph(manager: Any) -> Any:
    """Summarises and truncates inside nodes."""

    def overflow(turn: Any, longest: int) -> Any:
        def answer(messages: Any) -> Any:
            return ContextWindowOverflowException("too long") if len(repr(messages)) > longest else turn

        return answer

    def summary(messages: Any) -> Any:
        return "a summary" if "summar" in str(messages[-1]).lower() else works("s", 1)

    summarizing = SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)
    truncating = SlidingWindowConversationManager(window_size=40)
    long = [("long_text", {"letter": "x", "length": 2000})]
    nodes = {
        "s": agent("s", summary, works("ss", 1), overflow("done s", 2500), conversation_manager=summarizing),
        "t": agent("t", long, long, overflow("done t", 3000), conversation_manager=truncating),
    }
    return graph(nodes, [("s", "t")], manager)


def reconciling_graph(manager: Any) -> Any:
    """Two nodes charge at the same time; what is in doubt is found out."""
    nodes = {name: agent(name, [("charge", {"cents": ord(name)}), *works(name, 1)], f"done {name}") for name in "ab"}
    return graph(nodes | {"c": agent("c")}, [("a", "c"), ("b", "c")], manager, when=joined("ab", "c"))


def charging_graph(manager: Any) -> Any:
    """Charges alone: after an interrupt Strands gives results in another order."""
    nodes = {name: agent(name, [("charge", {"cents": ord(name)})], f"done {name}") for name in "ab"}
    return graph(nodes | {"c": agent("c")}, [("a", "c"), ("b", "c")], manager, when=joined("ab", "c"))


# -- swarms ------------------------------------------------------------------------------------------------------------


def handing_swarm(manager: Any) -> Any:
    """Hands over beside other tools."""
    first = [("work", {"tag": "p", "n": 0}), hands("q"), ("work", {"tag": "p", "n": 2})]
    return Swarm([agent("p", first, "p out"), agent("q", works("q"), "q out")], session_manager=manager, id="sw")


def relaying_swarm(manager: Any) -> Any:
    agents = [agent("p", [hands("q")], "p out"), agent("q", [hands("r")], "q out"), agent("r", works("r"), "r out")]
    return Swarm(agents, session_manager=manager, id="sw")


def returning_swarm(manager: Any) -> Any:
    """Comes back to its first agent."""

    def first(messages: Any) -> Any:
        return [*works("p", 1), hands("q")] if "please p" not in str(messages) else works("pp", 2)

    agents = [agent("p", first, "p out"), agent("q", [*works("q", 1), hands("p")], "q out")]
    return Swarm(agents, session_manager=manager, id="sw")


def flaky_swarm(manager: Any) -> Any:
    """Fails after a handoff, and in the node that it led to."""
    p = agent("p", [hands("q"), *works("p", 1)], down_once("p", "p out"))
    return Swarm([p, agent("q", works("q"), down_once("q", "q out"))], session_manager=manager, id="sw")


def swarm_of_graphs(manager: Any) -> Any:
    """A swarm in a graph in a graph, beside others."""
    deep = Swarm([agent("p", [hands("q")], "p out"), agent("q", works("q", 2), "q out")], id="deep")
    x = agent("x", works("x", 2), "done x")
    inner = graph({"x": x, "deep": deep}, [("deep", "x")], name="inner")  # the first is the last in the order of nodes
    nodes = {"inner": inner, "b": agent("b", works("b", 2), "done b"), "z": agent("z")}
    return graph(nodes, [("inner", "z"), ("b", "z")], manager, when=joined(["inner", "b"], "z"))


# -- agents as tools -------------------------------------------------------------------------------------------------


def with_tool(manager: Any) -> Any:
    """An agent that uses another as a tool."""
    sub = agent("sub", works("s"), "sub says")
    turns = [("sub", {"input": "go"}), ("work", {"tag": "m", "n": 0})]
    return agent("par", turns, "par done", tools=[sub.as_tool()], session_manager=manager)


def deep_tools_graph(manager: Any) -> Any:
    """An agent that uses an agent that uses an agent, in a node beside another."""
    deepest = agent("deepest", works("e", 2), "deepest says")
    sub = agent("sub", [("deepest", {"input": "dig"}), *works("s", 1)], "sub says", tools=[deepest.as_tool()])
    parent = agent("par", [("sub", {"input": "go"}), ("work", {"tag": "m", "n": 0})], "par done", tools=[sub.as_tool()])
    nodes = {"par": parent, "b": agent("b", works("b"), "done b"), "z": agent("z")}
    return graph(nodes, [("par", "z"), ("b", "z")], manager, when=joined(["par", "b"], "z"))


def two_tools_graph(manager: Any) -> Any:
    """Two agents as tools at the same time, and one of them again."""
    one, two = agent("s1", works("s"), "s1 says"), agent("s2", works("t"), works("tt"), "s2 says")
    both = [("s1", {"input": "go"}), ("s2", {"input": "go"}), ("work", {"tag": "m", "n": 1})]
    tools = [one.as_tool(), two.as_tool()]
    parent = agent("par", both, [("s1", {"input": "again"})], "par done", tools=tools)
    return graph({"par": parent, "z": agent("z")}, [("par", "z")], manager)


# -- agents that code calls ------------------------------------------------------------------------------------------


class Team(MultiAgentBase):
    """A node of somebody's own, which asks one agent, then another, then the first again."""

    id = "team"

    def __init__(self, manager: Any) -> None:
        self._lead = agent("lead", works("l", 2), "the lead says")
        self._second = agent("second", works("s"), "the second says")
        manager.attach(self._lead, "lead")
        manager.attach(self._second, "second")

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        ledger.current().note("custom", name=self.id)
        plan = await self._lead.invoke_async(task)
        work = await self._second.invoke_async(f"Do this: {plan}")
        result = await self._lead.invoke_async(f"Look at this: {work}")
        return MultiAgentResult(Status.COMPLETED, {"lead": NodeResult(result=result, status=Status.COMPLETED)})


def attached_graph(manager: Any) -> Any:
    """Agents inside a custom node, beside another node; and one that a tool calls."""
    helper = agent("helper", works("h", 2), "the helper says")
    manager.attach(helper, "helper")

    @tool
    async def delegate(what: str) -> str:
        """Let somebody else do it."""
        return f"heard: {await helper.invoke_async(what)}"

    turns = [("delegate", {"what": "this"}), *works("b", 2)], [("delegate", {"what": "that"})]
    b = agent("b", *turns, "done b", tools=[delegate])
    nodes = {"team": Team(manager), "b": b, "z": agent("z", works("z", 1), "done z")}
    return graph(nodes, [("team", "z"), ("b", "z")], manager, when=joined(["team", "b"], "z"))


# -- people ----------------------------------------------------------------------------------------------------------


def asking_graph(manager: Any) -> Any:
    a = agent("a", [("work", {"tag": "a", "n": 0}), ("approve", {"tag": "a"})], "done a")
    nodes = {"a": a, "b": agent("b", works("b"), "done b"), "c": agent("c")}
    return graph(nodes, [("a", "c"), ("b", "c")], manager)


def asking_swarm(manager: Any) -> Any:
    q = agent("q", [("work", {"tag": "q", "n": 0}), ("approve", {"tag": "q"})], "q out")
    return Swarm([agent("p", [hands("q")], "p out"), q], session_manager=manager, id="sw")


def asking_nested_graph(manager: Any) -> Any:
    x = agent("x", [("work", {"tag": "x", "n": 0}), ("approve", {"tag": "x"})], "done x")
    inner = graph({"x": x, "y": agent("y", works("y"), "done y")}, [("x", "y")])
    nodes = {"sub": inner, "b": agent("b", works("b"), "done b"), "z": agent("z")}
    return graph(nodes, [("sub", "z"), ("b", "z")], manager)


def asking_hook_graph(manager: Any) -> Any:
    """A hook asks before node c."""

    def ask(event: BeforeNodeCallEvent) -> None:
        if event.node_id == "c":
            event.interrupt("may c run?", reason="c")

    nodes = {name: agent(name, works(name, 2), f"done {name}") for name in "abcd"}
    built = graph(nodes, [("a", "c"), ("b", "d")], manager)
    built.add_hook(ask, BeforeNodeCallEvent)
    return built


def asking_tool_graph(manager: Any) -> Any:
    """An agent as tool asks, and so does its parent."""
    sub = agent("sub", [("approve", {"tag": "s"})], works("s"), "sub says")
    turns = [("sub", {"input": "go"}), ("approve", {"tag": "m"})]
    parent = agent("par", turns, "par done", tools=[sub.as_tool()])
    return graph({"par": parent, "z": agent("z")}, [("par", "z")], manager)


def asking_both_graph(manager: Any) -> Any:
    """Two nodes wait at the same time, one of them inside a swarm."""
    q = agent("q", [("work", {"tag": "q", "n": 0}), ("approve", {"tag": "q"})], works("qq"), "q out")
    nodes = {
        "a": agent("a", works("a"), "done a"),
        "sw": Swarm([agent("p", [hands("q")], "p out"), q], id="inner-swarm"),
        "b": agent("b", [("approve", {"tag": "b"})], works("b"), "done b"),
        "z": agent("z", works("z"), "done z"),
    }
    edges = [("a", "sw"), ("a", "b"), ("sw", "z"), ("b", "z")]
    return graph(nodes, edges, manager, when=joined(["sw", "b"], "z"))


def _program(build: Callable[[Any], Any], **options: Any) -> Program:
    return Program(build, [TASK], {**PATIENT, **options}, answer=yes)


diamond = _program(diamond_graph)
flaky = _program(flaky_graph)
flaky_again = Program(flaky_graph, [Call(TASK, attempts=3)], PATIENT)
uneven = _program(uneven_graph)
choosing = _program(choosing_graph)
cycling = _program(cycling_graph)
resetting = _program(resetting_graph)
lingering = _program(lingering_graph)
nested = _program(nested_graph)
custom = _program(custom_graph)
softly_failing = _program(softly_failing_graph)
softly_failing_again = Program(softly_failing_graph, [Call(TASK, attempts=3)], PATIENT)
rich = _program(rich_graph)
windowed = _program(windowed_graph)
summarizing = _program(summarizing_graph)
reconciling = _program(reconciling_graph, in_doubt={"charge": find_out})
charging_asked = Program(charging_graph, [TASK], {**PATIENT, "in_doubt": {"charge": "ask"}}, answer=run_it_again)
two_tasks = Program(diamond_graph, [TASK, "And now this"], PATIENT)
handing = _program(handing_swarm)
relaying = _program(relaying_swarm)
returning = _program(returning_swarm)
flaky_swarming = _program(flaky_swarm)
flaky_swarming_again = Program(flaky_swarm, [Call(TASK, attempts=4)], PATIENT)
swarming = _program(swarm_of_graphs)
using = _program(with_tool)
using_deeply = _program(deep_tools_graph)
using_two = _program(two_tools_graph)
attached = _program(attached_graph)
asking = _program(asking_graph)
asking_swarming = _program(asking_swarm)
asking_nested = _program(asking_nested_graph)
asking_hook = _program(asking_hook_graph)
asking_tool = _program(asking_tool_graph)
asking_both = _program(asking_both_graph)


def slow_graph(manager: Any) -> Any:
    """Takes a while, in two nodes at the same time."""
    turns = [("wait", {"milliseconds": 400}), ("wait", {"milliseconds": 1})], [("wait", {"milliseconds": 401})]
    nodes = {name: agent(name, *turns, f"done {name}", tools=[wait]) for name in "ab"} | {"c": agent("c")}
    return graph(nodes, [("a", "c"), ("b", "c")], manager, when=joined("ab", "c"))


slow = Program(slow_graph, [TASK], {"lease": 1.5, "busy_timeout": 30.0})
slow_and_impatient = Program(slow_graph, [TASK], {"lease": 1.5, "on_busy": "raise"})
short_of_lease = Program(diamond_graph, [TASK], {"lease": 0.4, "busy_timeout": 20.0})
