"""What a run came to, on its way from the worker to whoever asks.

Strands' own `to_dict` keeps an agent's message and stop reason. Here go structured output, metrics and state as well;
not traces, which hold the whole conversation once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from strands.agent import AgentResult
from strands.multiagent.graph import GraphResult
from strands.telemetry.metrics import AgentInvocation, EventLoopCycleMetric, EventLoopMetrics, ToolMetrics

from strands_dapr_session.hooks.results import validate_output
from strands_dapr_session.multiagent.results import decode_value, encode_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel
    from strands.multiagent.base import MultiAgentResult


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph or swarm, as a result names it: what it runs is in the worker.

    Attributes:
        node_id: Its name.
        executor: What it consists of, if it is a graph or swarm itself.
    """

    node_id: str
    executor: Any = None

    def __str__(self) -> str:
        """Show its name, as Strands' nodes of a swarm do."""
        return self.node_id


@dataclass(frozen=True, slots=True)
class _Shape:
    """The names in a graph or swarm: what results refer to."""

    nodes: dict[str, Node]


def pack(result: AgentResult | MultiAgentResult) -> dict[str, Any]:
    """Take a result apart, to be stored.

    Raises:
        UnencodableValueError: Something in it would not survive storage.
    """
    packed: dict[str, Any] = {"value": encode_value(result)}
    if isinstance(result, AgentResult):
        packed["metrics"] = _pack_metrics(result.metrics)
    elif isinstance(result, GraphResult):
        packed["total_nodes"] = result.total_nodes
    return packed


def unpack(packed: dict[str, Any], model: type[BaseModel] | None = None) -> AgentResult | MultiAgentResult:
    """Put a result together again.

    Args:
        packed: What `pack` made.
        model: What an agent's structured output is to be an instance of.

    Raises:
        ValidationError: It is none.
    """
    value = packed["value"]
    result: AgentResult | MultiAgentResult = decode_value(value, _shape(value))
    if isinstance(result, AgentResult):
        result.metrics = _unpack_metrics(packed["metrics"])
        if model is not None and result.structured_output is not None:
            result.structured_output = validate_output(value["output"], model)
    elif isinstance(result, GraphResult):
        result.total_nodes = packed["total_nodes"]
    return result


def _shape(value: dict[str, Any]) -> _Shape | None:
    if value["type"] != "orchestrator":
        return None
    inner = {name: _shape(each["value"]) for name, each in value["results"].items()}
    return _Shape({name: Node(name, inner.get(name)) for name in (*inner, *value.get("order", ()))})


def _pack_metrics(metrics: EventLoopMetrics) -> dict[str, Any]:
    return {
        "usage": dict(metrics.accumulated_usage),
        "metrics": dict(metrics.accumulated_metrics),
        "cycles": metrics.cycle_count,
        "durations": list(metrics.cycle_durations),
        "tools": [
            [dict(each.tool), each.call_count, each.success_count, each.error_count, each.total_time]
            for each in metrics.tool_metrics.values()
        ],
        "invocations": [
            [dict(each.usage), [[cycle.event_loop_cycle_id, dict(cycle.usage)] for cycle in each.cycles]]
            for each in metrics.agent_invocations
        ],
    }


def _unpack_metrics(packed: dict[str, Any]) -> EventLoopMetrics:
    def cycles(of_invocation: Iterable[Any]) -> list[EventLoopCycleMetric]:
        return [EventLoopCycleMetric(name, usage) for name, usage in of_invocation]

    return EventLoopMetrics(
        cycle_count=packed["cycles"],
        tool_metrics={tool["name"]: ToolMetrics(tool, *counts) for tool, *counts in packed["tools"]},
        cycle_durations=packed["durations"],
        agent_invocations=[AgentInvocation(cycles(each), usage) for usage, each in packed["invocations"]],
        accumulated_usage=cast("Any", packed["usage"]),
        accumulated_metrics=cast("Any", packed["metrics"]),
    )
