"""What happens inside nodes is as durable as it is for an agent alone, and what comes out of them survives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SummarizingConversationManager
from strands.hooks import AfterNodeCallEvent, BeforeNodeCallEvent
from strands.hooks.registry import HookOrder
from strands.multiagent import GraphBuilder
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status

from strands_dapr_session import DaprSessionManager, StoreError, idempotency_key
from strands_dapr_session.hooks.in_doubt import UNKNOWN_OUTCOME
from strands_dapr_session.hooks.results import RecordedOutput
from strands_dapr_session.multiagent.results import decode_result, encode_result
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, FaultyStore, outage
from strands_dapr_session.testing.model import ScriptedModel


class Offer(BaseModel):
    """A structured answer."""

    price: int
    currency: str = "EUR"


class Failing:
    """Raises once, when it is armed."""

    def __init__(self) -> None:
        self.armed = True

    def __call__(self, _: Any) -> str:
        if self.armed:
            self.armed = False
            raise RuntimeError("down")
        return "done"


def agent(name: str, *turns: Any, **options: Any) -> Agent:
    return Agent(name=name, model=ScriptedModel(list(turns) or [f"done {name}"]), callback_handler=None, **options)


def line(store: Any, nodes: dict[str, Any], *, timeout: float | None = None, **options: Any) -> Any:
    builder = GraphBuilder()
    names = list(nodes)
    for name, executor in nodes.items():
        builder.add_node(executor, name)
    for one, other in zip(names, names[1:]):  # noqa: B905, RUF007 - shortest
        builder.add_edge(one, other)
    if timeout is not None:
        builder.set_node_timeout(timeout)
    manager = DaprSessionManager("s", store=store, **options)
    return builder.set_graph_id("g").set_max_node_executions(20).set_session_manager(manager).build()


def prompt_of(executor: Any) -> str:
    return "".join(block["text"] for block in executor.messages[0]["content"])


def test_structured_output_reaches_the_next_prompt_unchanged() -> None:
    def nodes(failing: Any) -> dict[str, Any]:
        first = agent("a", [("Offer", {"price": 3})], structured_output_model=Offer)
        return {"a": first, "b": agent("b", failing), "c": agent("c")}

    alone = nodes("done")
    line(MemoryStore(), alone)("T")
    store = MemoryStore()
    with pytest.raises(Exception, match="down"):
        line(store, nodes(Failing()))("T")
    resumed = nodes("done")

    result = line(store, resumed)("T")

    assert result.results["a"].result.structured_output == Offer(price=3)
    assert prompt_of(resumed["b"]) == prompt_of(alone["b"])
    assert '{"price":3,"currency":"EUR"}' in prompt_of(resumed["b"])


def test_output_of_a_type_that_has_changed_still_shows() -> None:
    class Other(BaseModel):
        total: int

    source = agent("a", [("Offer", {"price": 3})], structured_output_model=Offer)
    result = NodeResult(result=source("T"), status=Status.COMPLETED)

    for now in (agent("a", structured_output_model=Other), agent("a"), None):
        decoded: Any = decode_result(unpack_value(pack_value(encode_result(result))), now).result
        assert isinstance(decoded.structured_output, RecordedOutput)
        assert str(decoded) == str(result.result)


def test_results_with_bytes_and_metrics_survive() -> None:
    result = agent("a")("T")
    result.message["content"].append({"document": {"name": "d", "format": "pdf", "source": {"bytes": b"\x00\xff"}}})
    inner = MultiAgentResult(Status.COMPLETED, {"x": NodeResult(result=result, status=Status.COMPLETED)})
    outer = NodeResult(result=inner, status=Status.COMPLETED, execution_count=3)

    decoded: Any = decode_result(unpack_value(pack_value(encode_result(outer))), None)

    found = decoded.result.results["x"].result
    assert found.message == result.message
    assert found.metrics.accumulated_usage == result.metrics.accumulated_usage
    assert decoded.execution_count == 3


@pytest.mark.parametrize(("policy", "runs", "said"), [("rerun", 2, "sent"), ("never_twice", 1, UNKNOWN_OUTCOME)])
def test_in_doubt_policies_and_keys_hold_inside_nodes(policy: str, runs: int, said: str) -> None:
    keys: list[str | None] = []

    @tool
    async def send() -> str:
        """Send."""
        keys.append(idempotency_key())
        if len(keys) == 1:
            await asyncio.sleep(5)
        return "sent"

    store = MemoryStore()

    def build(timeout: float | None) -> tuple[Any, Agent]:
        node = agent("a", [("send", {})], "done", tools=[send])
        return line(store, {"a": node}, timeout=timeout, in_doubt={"send": policy}), node

    with pytest.raises(Exception, match="timed out"):
        build(0.2)[0]("T")
    graph, node = build(None)
    result = graph("T")

    assert result.status == Status.COMPLETED
    assert len(keys) == runs
    assert len(set(keys)) == 1
    assert keys[0] is not None
    assert said in str(node.messages[2])


def test_timed_out_node_goes_on_in_the_same_process() -> None:
    runs: list[int] = []

    @tool
    async def slow() -> str:
        """Be slow at first."""
        runs.append(1)
        await asyncio.sleep(5 if len(runs) == 1 else 0)
        return "done"

    first, last = agent("a", [("slow", {})], "done a", tools=[slow]), agent("b")
    graph = line(MemoryStore(), {"a": first, "b": last}, timeout=0.3)
    with pytest.raises(Exception, match="timed out"):
        graph("T")

    result = graph("T")

    assert result.status == Status.COMPLETED
    assert [node.node_id for node in result.execution_order] == ["a", "b"]
    assert len(first.model.calls) == 2  # type: ignore[attr-defined]
    assert result.accumulated_usage["totalTokens"] == 33


def test_cancelled_sibling_goes_on_where_it_was() -> None:
    waited: list[str] = []

    @tool
    async def wait(n: int) -> str:
        """Wait."""
        waited.append(str(n))
        await asyncio.sleep(0 if n == 0 or len(waited) > 2 else 5)
        return "waited"

    class Raising(MultiAgentBase):
        id = "r"
        armed = True

        async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
            if self.armed:
                self.armed = False
                await asyncio.sleep(0.3)
                raise RuntimeError("down")
            return MultiAgentResult(Status.COMPLETED)

    builder = GraphBuilder()
    sibling = agent("a", [("wait", {"n": 0})], [("wait", {"n": 1})], "done", tools=[wait])
    builder.add_node(sibling, "a")
    builder.add_node(Raising(), "r")
    manager = DaprSessionManager("s", store=MemoryStore())
    graph = builder.set_max_node_executions(9).set_session_manager(manager).build()
    with pytest.raises(RuntimeError, match="down"):
        graph("T")

    assert graph("T").status == Status.COMPLETED
    assert waited == ["0", "1", "1"]
    assert len(sibling.model.calls) == 3  # type: ignore[attr-defined]


def test_tools_of_parallel_nodes_get_their_own_agent() -> None:
    @tool(context=True)
    async def whoami(tool_context: ToolContext) -> str:
        """Tell."""
        return str(tool_context.agent.name)

    store = FaultyStore(MemoryStore(), lambda call: Delay(0.01) if call.writes else None)
    builder = GraphBuilder()
    nodes = {name: agent(name, [("whoami", {})], [("whoami", {})], "done", tools=[whoami]) for name in "abcdef"}
    for name, node in nodes.items():
        builder.add_node(node, name)
    manager = DaprSessionManager("s", store=store)
    builder.set_max_node_executions(9).set_session_manager(manager).build()("T")

    for name, node in nodes.items():
        told = [b["toolResult"]["content"] for m in node.messages for b in m["content"] if "toolResult" in b]
        assert told == [[{"text": name}]] * 2


def test_summaries_inside_nodes_survive() -> None:
    @tool
    def step(n: int) -> str:
        """Step."""
        return str(n)

    def nodes(*last: Any) -> dict[str, Any]:
        manager = SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)
        turns = [*([("step", {"n": n})] for n in range(3)), *last]
        return {"a": agent("a", *turns, tools=[step], conversation_manager=manager), "b": agent("b", *last)}

    alone = nodes("done")
    line(MemoryStore(), alone)("T")
    store, failing = MemoryStore(), nodes(Failing())
    with pytest.raises(Exception, match="down"):
        line(store, failing)("T")
    resumed = nodes("done")
    line(store, resumed)("T")

    for name in "ab":
        assert plain(resumed[name].messages) == plain(alone[name].messages)


def plain(messages: Any) -> Any:
    return [(message["role"], message["content"]) for message in messages]


@pytest.mark.parametrize("number", [4, 6, 8])
def test_store_that_fails_stops_the_run_and_it_goes_on_later(number: int) -> None:
    store = FaultyStore(MemoryStore())
    ran: list[str] = []

    @tool
    async def work(name: str) -> str:
        """Work."""
        ran.append(name)
        return name

    def build() -> Any:
        nodes = {name: agent(name, [("work", {"name": name})], f"done {name}", tools=[work]) for name in "abc"}
        return line(store, nodes)

    graph = build()
    store.plan = outage(len(store.calls) + number, 10_000)
    with pytest.raises(StoreError):
        graph("T")
    store.plan = lambda _: None

    result = graph("T")

    assert result.status == Status.COMPLETED
    assert [node.node_id for node in result.execution_order] == ["a", "b", "c"]
    assert len(ran) <= 4
    assert sorted(set(ran)) == ["a", "b", "c"]


def test_hook_that_raises_after_a_node_leaves_it_finished() -> None:
    store = MemoryStore()
    nodes = {"a": agent("a"), "b": agent("b")}
    graph = line(store, nodes)
    armed = [True]

    def fail(event: AfterNodeCallEvent) -> None:
        if event.node_id == "a" and armed.pop():
            armed.append(False)
            raise RuntimeError("hook")
        armed.append(False)

    graph.add_hook(fail, AfterNodeCallEvent, order=1000)
    with pytest.raises(RuntimeError, match="hook"):
        graph("T")

    assert graph("T").status == Status.COMPLETED
    assert len(nodes["a"].model.calls) == 1  # type: ignore[attr-defined]


async def test_a_program_may_run_the_nodes_of_a_batch_one_by_one() -> None:
    builder = GraphBuilder()
    for name in ("a", "b", "c"):
        builder.add_node(agent(name), name)
    builder.set_max_node_executions(3)
    graph = builder.set_session_manager(DaprSessionManager("s", store=MemoryStore())).build()
    one_by_one = asyncio.Semaphore(1)

    async def hold_back(event: BeforeNodeCallEvent) -> None:  # noqa: ARG001
        await one_by_one.acquire()

    def let_go(event: AfterNodeCallEvent) -> None:  # noqa: ARG001
        one_by_one.release()

    graph.hooks.add_callback(BeforeNodeCallEvent, hold_back, order=HookOrder.SDK_FIRST - 1)
    graph.hooks.add_callback(AfterNodeCallEvent, let_go)
    result = await asyncio.wait_for(graph.invoke_async("T"), 20)
    assert result.status is Status.COMPLETED
    assert {node.node_id for node in result.execution_order} == {"a", "b", "c"}


def bytes_of_commits(executions: int) -> int:
    store = FaultyStore(MemoryStore())
    builder = GraphBuilder()
    for name in "ab":
        builder.add_node(agent(name, "x" * 200), name)
    builder.add_edge("a", "b")
    builder.add_edge("b", "a", lambda state: len(state.execution_order) < executions)
    builder.set_entry_point("a").reset_on_revisit().set_max_node_executions(2 * executions)
    builder.set_session_manager(DaprSessionManager("s", store=store)).build()("T")
    slots = (call for call in store.calls if call.verb == "create" and call.keys[0].rpartition(":")[2].isdigit())
    return sum(call.size for call in slots)


def test_bytes_of_commits_do_not_grow_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # Chance decides how many records share a commit, and so how well they would be compressed.
    monkeypatch.setattr("strands_dapr_session.records.frames._COMPRESS_FROM", 2**40)
    # Sixteen times as much, if each batch wrote down the run so far.
    assert bytes_of_commits(80) < 5 * bytes_of_commits(20)
