"""What a run came to is the same on the other side of the store."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from strands import Agent, tool
from strands.agent import AgentResult
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.graph import GraphResult

from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.workflow.outcome import Node, pack, unpack


class Answer(BaseModel):
    """What to answer."""

    number: int


class Other(BaseModel):
    """Something else."""

    text: str


@tool
def work(name: str) -> str:
    """Work."""
    if name == "fails":
        raise ValueError(name)
    return name


def agent(script: Any, name: str = "a") -> Agent:
    return Agent(name=name, model=ScriptedModel(script), tools=[work], callback_handler=None)


def stored(result: Any, *arguments: Any) -> Any:
    return unpack(unpack_value(pack_value(pack(result), path="result")), *arguments)


def test_the_metrics_of_an_agent_come_with_its_result() -> None:
    calls = [("work", {"name": "a"}), ("work", {"name": "fails"})]
    result = agent([calls, "done"])("go")

    again = stored(result)

    assert isinstance(again, AgentResult)
    assert (str(again), again.stop_reason, again.message) == (str(result), result.stop_reason, result.message)
    before, after = result.metrics, again.metrics
    assert after.accumulated_usage == before.accumulated_usage
    assert after.accumulated_usage["totalTokens"] == 22
    assert after.accumulated_metrics == before.accumulated_metrics
    assert (after.cycle_count, after.cycle_durations) == (before.cycle_count, before.cycle_durations)
    assert after.tool_metrics == before.tool_metrics
    assert (after.tool_metrics["work"].success_count, after.tool_metrics["work"].error_count) == (1, 1)
    assert after.agent_invocations == before.agent_invocations
    assert len(after.agent_invocations[0].cycles) == 2


def test_structured_output_is_of_the_model_that_is_asked_for() -> None:
    result = agent([[("Answer", {"number": 7})]])("go", structured_output_model=Answer)

    assert stored(result, Answer).structured_output == Answer(number=7)
    with pytest.raises(ValidationError):
        stored(result, Other)
    assert stored(agent(["done"])("go"), Answer).structured_output is None


def test_a_graph_tells_its_nodes_and_how_many_there_are() -> None:
    inner = GraphBuilder()
    inner.add_node(agent(["deep"], "deep"), "deep")
    inner.set_max_node_executions(5)
    outer = GraphBuilder()
    outer.add_node(agent(["first"], "first"), "first")
    outer.add_node(inner.build(), "inner")
    outer.add_node(agent([], "never"), "never")
    outer.add_edge("first", "inner")
    outer.add_edge("first", "never", condition=lambda _: False)
    outer.set_max_node_executions(5)
    result = outer.build()("go")

    again = stored(result)

    assert isinstance(again, GraphResult)
    assert (again.total_nodes, again.completed_nodes, again.status) == (3, 2, result.status)
    assert [str(getattr(node, "node_id", node)) for node in again.execution_order] == ["first", "inner"]
    deep = again.results["inner"].result
    assert isinstance(deep, GraphResult)
    assert str(deep.results["deep"].result).strip() == "deep"
    assert [node.node_id for node in deep.execution_order] == ["deep"]


def test_a_swarm_tells_who_worked_on_it() -> None:
    result = Swarm([agent(["done"], "first")])("go")

    again = stored(result)

    assert [str(node) for node in again.node_history] == ["first"]
    assert again.node_history == [Node("first")]
