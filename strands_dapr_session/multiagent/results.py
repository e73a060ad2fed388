"""Results of nodes as plain values and back, with all that downstream prompts and callers look at.

Strands' own `to_dict` loses structured output, metrics and state of an agent's result, and what a nested graph or swarm
reports beyond any orchestrator's.
"""

from __future__ import annotations

from typing import Any

from strands.agent import AgentResult
from strands.interrupt import Interrupt
from strands.multiagent.base import MultiAgentResult, NodeResult, Status
from strands.multiagent.graph import GraphResult
from strands.multiagent.swarm import SwarmResult
from strands.telemetry.metrics import EventLoopMetrics

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import UnencodableValueError
from strands_dapr_session.hooks.results import decode_output, encode_output
from strands_dapr_session.records.codec import pack_value


def encode_result(result: NodeResult) -> dict[str, Any]:
    """Take the result of a node apart.

    Raises:
        UnencodableValueError: It is of a type that nobody could put together again.
    """
    return {
        "value": encode_value(result.result),
        "status": result.status.value,
        "usage": dict(result.accumulated_usage),
        "metrics": dict(result.accumulated_metrics),
        "count": result.execution_count,
        "time": result.execution_time,
        "interrupts": [interrupt.to_dict() for interrupt in result.interrupts],
    }


def decode_result(recorded: dict[str, Any], executor: Any) -> NodeResult:
    """Put the result of a node together again.

    Args:
        recorded: What `encode_result` made.
        executor: What runs the node now; it knows the types and nodes that the result refers to.
    """
    return NodeResult(
        result=decode_value(recorded["value"], executor),
        status=Status(recorded["status"]),
        accumulated_usage=recorded["usage"],
        accumulated_metrics=recorded["metrics"],
        execution_count=recorded["count"],
        execution_time=recorded["time"],
        interrupts=[Interrupt(**interrupt) for interrupt in recorded["interrupts"]],
    )


def encode_value(value: Any) -> dict[str, Any]:
    """Take apart what an agent, a graph or a swarm gave, or an exception.

    Raises:
        UnencodableValueError: It is of a type that nobody could put together again.
    """
    if isinstance(value, AgentResult):
        return _encode_agent(value)
    if isinstance(value, MultiAgentResult):
        return _encode_orchestrator(value)
    if isinstance(value, Exception):
        return {"type": "exception", "text": str(value)}
    raise UnencodableValueError("result", f"{type(value).__name__} is not a result that Strands knows")


def decode_value(recorded: dict[str, Any], executor: Any) -> Any:
    """Put together again what `encode_value` took apart; see `decode_result`."""
    if recorded["type"] == "agent":
        return _decode_agent(recorded, executor)
    if recorded["type"] == "orchestrator":
        return _decode_orchestrator(recorded, executor)
    return Exception(recorded["text"])


def _encode_agent(result: AgentResult) -> dict[str, Any]:
    return {
        "type": "agent",
        "stop_reason": result.stop_reason,
        "message": result.message,
        # A node of the user's own may put anything into a result, and Strands would not mind.
        "usage": dict(getattr(result.metrics, "accumulated_usage", {})),
        "metrics": dict(getattr(result.metrics, "accumulated_metrics", {})),
        "state": _plain_state(result.state),
        "output": encode_output(result.structured_output),
    }


def _plain_state(state: Any) -> Any:
    """Keep the request state where it can be kept; Strands' own session managers keep none."""
    try:
        pack_value(state)
    except UnencodableValueError:
        return {}
    return state


def _decode_agent(recorded: dict[str, Any], executor: Any) -> AgentResult:
    metrics = EventLoopMetrics(accumulated_usage=recorded["usage"], accumulated_metrics=recorded["metrics"])
    return AgentResult(
        stop_reason=recorded["stop_reason"],
        message=recorded["message"],
        metrics=metrics,
        state=recorded["state"],
        structured_output=decode_output(recorded["output"], strands_compat.structured_output_model(executor)),
    )


def _encode_orchestrator(result: MultiAgentResult) -> dict[str, Any]:
    recorded: dict[str, Any] = {
        "type": "orchestrator",
        "status": result.status.value,
        "results": {name: encode_result(each) for name, each in result.results.items()},
        "usage": dict(result.accumulated_usage),
        "metrics": dict(result.accumulated_metrics),
        "count": result.execution_count,
        "time": result.execution_time,
        "interrupts": [interrupt.to_dict() for interrupt in result.interrupts],
    }
    if isinstance(result, GraphResult):
        recorded["order"] = [node.node_id for node in result.execution_order]
        recorded["counts"] = [result.completed_nodes, result.failed_nodes, result.interrupted_nodes]
    elif isinstance(result, SwarmResult):
        recorded["order"] = [node.node_id for node in result.node_history]
    return recorded


def _decode_orchestrator(recorded: dict[str, Any], executor: Any) -> MultiAgentResult:
    nodes = getattr(executor, "nodes", {})
    common: dict[str, Any] = {
        "status": Status(recorded["status"]),
        "results": {
            name: decode_result(each, nodes[name].executor if name in nodes else None)
            for name, each in recorded["results"].items()
        },
        "accumulated_usage": recorded["usage"],
        "accumulated_metrics": recorded["metrics"],
        "execution_count": recorded["count"],
        "execution_time": recorded["time"],
        "interrupts": [Interrupt(**interrupt) for interrupt in recorded["interrupts"]],
    }
    order = [nodes[name] for name in recorded.get("order", []) if name in nodes]
    if "counts" in recorded:
        completed, failed, interrupted = recorded["counts"]
        return GraphResult(
            **common,
            total_nodes=len(nodes),
            completed_nodes=completed,
            failed_nodes=failed,
            interrupted_nodes=interrupted,
            execution_order=order,
            edges=[(edge.from_node, edge.to_node) for edge in getattr(executor, "edges", ())],
            entry_points=list(getattr(executor, "entry_points", ())),
        )
    if "order" in recorded:
        return SwarmResult(**common, node_history=order)
    return MultiAgentResult(**common)
