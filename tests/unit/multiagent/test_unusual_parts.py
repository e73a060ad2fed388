"""What Strands takes as a part of a graph or swarm, however unusual, we take as well."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest.mock import Mock

import pytest
from strands import Agent, tool
from strands.agent import AgentResult
from strands.agent.state import AgentState
from strands.interrupt import Interrupt
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import Status
from strands.telemetry.metrics import EventLoopMetrics
from strands.telemetry.tracer import Tracer
from strands.types.exceptions import EventLoopException

from strands_dapr_session import DaprSessionManager, UnfinishedRunError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

STANDING = {"interrupts": {}, "context": {}, "activated": False}


def mock_agent(name: str, *results: AgentResult) -> Any:
    """What tests of users put into graphs: it claims to be an `Agent` and has next to nothing of it."""
    agent = Mock(spec=Agent)
    agent.name = agent.id = name
    agent._session_manager = agent.description = None
    agent.hooks = Mock()
    agent._interrupt_state = Mock(activated=False, to_dict=dict(STANDING).copy)
    agent.messages, agent.state, agent._model_state = [], AgentState(), {}
    agent.tool_registry = Mock(registry={})
    del agent.tool_registry.get_all_tools_config
    left = list(results or [result(f"done {name}")])

    async def stream_async(*_: Any, **__: Any) -> Any:
        yield {"result": left.pop(0)}

    agent.stream_async = Mock(side_effect=stream_async)
    return agent


def result(text: str, **changes: Any) -> AgentResult:
    message: Any = {"role": "assistant", "content": [{"text": text}]}
    return AgentResult(**{"stop_reason": "end_turn", "message": message, "metrics": {}, "state": {}, **changes})


def graph(store: MemoryStore, *executors: Any) -> Any:
    builder = GraphBuilder()
    for number, executor in enumerate(executors):
        builder.add_node(executor, f"n{number}")
        if number:
            builder.add_edge(f"n{number - 1}", f"n{number}")
    builder.set_max_node_executions(9).set_session_manager(DaprSessionManager("s", store=store))
    return builder.build()


def failing(name: str) -> Any:
    agent = mock_agent(name)
    agent.stream_async = Mock(side_effect=RuntimeError("down"))
    return agent


def test_a_mock_is_a_node_of_its_own_kind_and_its_result_is_recorded() -> None:
    store = MemoryStore()
    first = mock_agent("a")
    with pytest.raises(RuntimeError, match="down"):
        graph(store, first, failing("b"))("T")
    replayed, second = mock_agent("a"), mock_agent("b")

    again = graph(store, replayed, second)("T")

    assert again.status == Status.COMPLETED
    replayed.stream_async.assert_not_called()
    assert "done a" in str(second.stream_async.call_args)
    assert isinstance(again.results["n0"].result.metrics, EventLoopMetrics)


def test_a_mock_that_asks_a_person_gets_the_answer_in_another_process() -> None:
    store = MemoryStore()
    asked = Interrupt(id="i", name="really", reason="because")
    asking = mock_agent("a", result("", stop_reason="interrupt", interrupts=[asked]))
    waiting = graph(store, asking)("T")
    assert waiting.status == Status.INTERRUPTED
    answers: Any = [{"interruptResponse": {"interruptId": "i", "response": "yes"}}]
    node = mock_agent("a")

    assert graph(store, node)(answers).status == Status.COMPLETED

    assert node.stream_async.call_args.args[0] == answers


def test_mocks_hand_over_in_a_swarm() -> None:
    store, first, second = MemoryStore(), mock_agent("a"), mock_agent("b")
    swarm = Swarm([first, second], session_manager=DaprSessionManager("s", store=store))

    async def hand_over(*_: Any, **__: Any) -> Any:
        swarm._handle_handoff(swarm.nodes["b"], "go on", {"found": 1})
        yield {"result": result("done a")}

    first.stream_async = Mock(side_effect=hand_over)

    assert [node.node_id for node in swarm("T").node_history] == ["a", "b"]


def agent(name: str, turn: Any = None) -> Agent:
    return Agent(name=name, model=ScriptedModel([turn or f"done {name}"]), callback_handler=None)


def down(_: Any) -> str:
    raise RuntimeError("down")


def test_a_state_that_the_user_gives_is_where_the_run_begins_and_is_kept() -> None:
    without = GraphBuilder()
    for name in ("n0", "n1", "n2"):
        without.add_node(agent(name, down if name == "n1" else None), name)
    without.add_edge("n0", "n1")
    without.add_edge("n1", "n2")
    stopped = without.set_max_node_executions(9).build()
    with pytest.raises(RuntimeError, match="down"):
        stopped("T")
    payload = {**stopped.serialize_state(), "status": "executing", "failed_nodes": [], "next_nodes_to_execute": ["n1"]}
    store = MemoryStore()
    first = [agent("n0"), agent("n1"), agent("n2", down)]
    given = graph(store, *first)
    given.deserialize_state(payload)
    with pytest.raises(RuntimeError, match="down"):
        given("T")
    assert [len(each.messages) for each in first] == [0, 2, 1]
    last = [agent("n0"), agent("n1"), agent("n2")]

    finished = graph(store, *last)("T")

    assert finished.status == Status.COMPLETED
    assert [each.model.calls != [] for each in last] == [False, False, True]  # type: ignore[attr-defined]
    assert str(finished.results["n0"].result).strip() == "done n0"
    assert [node.node_id for node in finished.execution_order] == ["n0", "n1", "n2"]


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_a_state_that_the_user_gives_may_wait_for_answers(kind: str) -> None:
    """As when a session manager is given to what ran without one before."""
    answered = []

    @tool(context=True)
    def ask(tool_context: Any) -> str:
        """Ask."""
        answered.append(tool_context.interrupt("may I"))
        return "asked"

    def build(store: MemoryStore | None, *turns: Any) -> Any:
        manager = None if store is None else DaprSessionManager("s", store=store)
        node = Agent(name="n0", model=ScriptedModel(turns), tools=[ask], callback_handler=None)
        if kind == "swarm":
            return Swarm([node], session_manager=manager)
        builder = GraphBuilder().set_max_node_executions(9)
        builder.add_node(node, "n0")
        return (builder if manager is None else builder.set_session_manager(manager)).build()

    without = build(None, [("ask", {})])
    waiting = without("T")
    answers: Any = [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in waiting.interrupts]
    store = MemoryStore()
    dying = build(store, [("ask", {})], down)
    dying.deserialize_state(without.serialize_state())
    with contextlib.suppress(EventLoopException):  # a swarm ends FAILED instead
        assert dying(answers).status == Status.FAILED
    assert answered == ["yes"]

    finished = build(store, [("ask", {})], "done")("T")

    assert finished.status == Status.COMPLETED
    assert str(finished.results["n0"].result).strip() == "done"
    assert answered == ["yes"]


def test_the_tracer_is_still_one() -> None:
    one = graph(MemoryStore(), agent("a"))

    assert isinstance(one.tracer, Tracer)
    assert one.tracer == agent("b").tracer
    assert {one.tracer} == {agent("b").tracer}


def test_answers_that_are_given_again_finish_the_run_that_they_were_given_to() -> None:
    store = MemoryStore()
    asked = Interrupt(id="i", name="really", reason="because")
    waiting = graph(store, mock_agent("a", result("", stop_reason="interrupt", interrupts=[asked])))
    waiting("T")
    answers: Any = [{"interruptResponse": {"interruptId": "i", "response": "yes"}}]
    with pytest.raises(RuntimeError, match="down"):
        graph(store, failing("a"))(answers)
    others: Any = [{"interruptResponse": {"interruptId": "j", "response": "yes"}}]
    with pytest.raises(UnfinishedRunError):
        graph(store, mock_agent("a"))(others)

    assert graph(store, mock_agent("a"))(answers).status == Status.COMPLETED
