"""What a program builds, an agent or an orchestrator, as a crash test looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from strands import Agent
from strands.multiagent.base import MultiAgentResult
from strands.multiagent.graph import GraphResult
from strands.multiagent.swarm import SwarmResult

from strands_dapr_session import strands_compat
from strands_dapr_session.hooks.invocation import tool_use_ids
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.journal.layout import below
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.testing.plain import digest, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strands.types.content import Message

    from strands_dapr_session.records.view import View


def root_id(built: Any) -> str:
    """Name what owns the journal."""
    return str(built.agent_id if strands_compat.is_a(built, Agent) else built.id)


def orchestrators_of(built: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """List an orchestrator, under the empty path, and those that its nodes are."""
    if strands_compat.is_a(built, Agent) or not hasattr(built, "nodes"):
        return
    yield path, built
    for node_id, node in built.nodes.items():
        yield from orchestrators_of(node.executor, below(path, node_id))


def main_agents(built: Any) -> dict[str, Agent]:
    """List an agent, or the agents of an orchestrator's nodes, each by its path in the journal."""
    if strands_compat.is_a(built, Agent):
        return {built.agent_id: built}
    return {
        below(path, node_id): node.executor
        for path, orchestrator in orchestrators_of(built)
        for node_id, node in orchestrator.nodes.items()
        if strands_compat.is_a(node.executor, Agent)
    }


def with_tools(name: str, agent: Agent) -> Iterator[tuple[str, Agent]]:
    """List an agent, and the agents that are its tools."""
    yield name, agent
    for tool in agent.tool_registry.registry.values():
        used = getattr(tool, "agent", None)
        if strands_compat.is_a(used, Agent):
            yield from with_tools(f"{name}/{tool.tool_name}", used)


def observe(built: Any) -> dict[str, Any]:
    """Describe everything about an agent, or the agents and swarms of an orchestrator, that a crash must not change."""
    if strands_compat.is_a(built, Agent):
        return _observe_agent(built)
    found: dict[str, Any] = {name: _observe_agent(agent) for name, agent in main_agents(built).items()}
    for path, orchestrator in orchestrators_of(built):
        if hasattr(orchestrator, "shared_context"):
            found[f"{path}/shared context"] = plain(orchestrator.shared_context.context)
    return found


def _observe_agent(agent: Agent) -> dict[str, Any]:
    parts = strands_compat.snapshot(agent, "conversation_manager_state", "interrupt_state", "model_state")
    return {"messages": plain(agent.messages), "state": plain(agent.state.get()), **plain(parts)}


def describe(result: Any) -> dict[str, Any]:
    """Describe what a call returned."""
    if isinstance(result, MultiAgentResult):
        return {"result": _describe_many(result)}
    if hasattr(result, "stop_reason"):
        return _describe_one(result)
    return {"result": plain(result)}


def _describe_one(result: Any) -> dict[str, Any]:
    structured = getattr(result, "structured_output", None)
    return {
        "stop_reason": result.stop_reason,
        "message": plain(result.message),
        "structured_output": None if structured is None else repr(structured),
    }


def _describe_many(result: MultiAgentResult) -> dict[str, Any]:
    """Describe the result of an orchestrator, without times."""
    found: dict[str, Any] = {
        "status": result.status.value,
        "usage": dict(result.accumulated_usage),
        "count": result.execution_count,
        "interrupts": [interrupt.name for interrupt in result.interrupts],
        "nodes": {name: _describe_node(each) for name, each in sorted(result.results.items())},
    }
    if isinstance(result, GraphResult):
        # Sorted: those of a batch end in any order. What each of them was told, and so what came before, is compared.
        found["order"] = sorted(node.node_id for node in result.execution_order)
        found["counts"] = [result.total_nodes, result.completed_nodes, result.failed_nodes, result.interrupted_nodes]
        found["edges"] = sorted([one.node_id, other.node_id] for one, other in result.edges)
        found["entry points"] = sorted(node.node_id for node in result.entry_points)
    elif isinstance(result, SwarmResult):
        found["order"] = [node.node_id for node in result.node_history]
    return found


def _describe_node(node: Any) -> dict[str, Any]:
    value = node.result
    inner = {"exception": str(value)} if isinstance(value, Exception) else describe(value)
    return {**inner, "status": node.status.value, "usage": dict(node.accumulated_usage), "count": node.execution_count}


def waiting(built: Any) -> list[dict[str, Any]]:
    """List the interrupts that it waits for, or has to be given the answers to once more."""
    if strands_compat.is_a(built, Agent):
        state: Mapping[str, Any] = strands_compat.interrupt_state(built)
    else:
        state = strands_compat.orchestrator_interrupts(built)
    if not state["activated"]:
        return []
    interrupts: list[dict[str, Any]] = list(state["interrupts"].values())
    # Where all are answered, the call that answered them has failed: it must be made again.
    return [interrupt for interrupt in interrupts if interrupt.get("response") is None] or interrupts


def interrupts_of(result: Any) -> list[dict[str, Any]]:
    """List the interrupts for which a call ended."""
    is_waiting = getattr(result, "stop_reason", "") == "interrupt" or (
        isinstance(result, MultiAgentResult) and result.status.value == "interrupted"
    )
    return [interrupt.to_dict() for interrupt in result.interrupts] if is_waiting else []


def has_failed(result: Any) -> bool:
    """Tell whether an orchestrator reports a failure where an agent would have raised."""
    return isinstance(result, MultiAgentResult) and result.status.value == "failed"


def usage_of(built: Any) -> dict[str, int] | None:
    """Get the tokens of an agent's last call; those of an orchestrator are part of its result."""
    if not strands_compat.is_a(built, Agent) or built.event_loop_metrics.latest_agent_invocation is None:
        return None
    usage = built.event_loop_metrics.latest_agent_invocation.usage
    return {name: int(cast("int", count)) for name, count in usage.items()}


def answer_of(message: Message) -> str:
    """Name what a message of the assistant says, as its ``model-end`` is named in the ledger."""
    text = "".join(block.get("text", "") for block in message["content"])
    return digest([text, [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]])


def found_in(view: View, root: str) -> dict[str, Any]:
    """Describe what a journal holds: what the models said, and which tools were asked for and have results."""
    answers: dict[str, list[str]] = {}
    asked: dict[str, str] = {}
    results: list[str] = []
    unfinished = []
    names: dict[str, str] = {}
    for path in sorted((path for path in view.scopes if not is_stash(path)), key=lambda path: path.count("/")):
        scope = view.scopes[path]
        above, _, last = path.rpartition("/")
        tool = asked.get(last)
        names[path] = f"{names.get(above, root)}/{tool}" if tool else path or root
        messages = [unpack_value(body) for body in scope.messages]
        # Whoever says it: a summary becomes a message of the user.
        answers.setdefault(names[path], []).extend(answer_of(message) for message in messages)
        for block in (block for message in messages for block in message["content"]):
            if "toolUse" in block:
                asked[block["toolUse"]["toolUseId"]] = block["toolUse"]["name"]
            elif "toolResult" in block:
                results.append(block["toolResult"]["toolUseId"])
        if messages and tool_use_ids(messages[-1]):  # otherwise a message has taken them up
            results += scope.results
        if scope.invocation is not None and not scope.invocation.finished:
            unfinished.append(scope.invocation.key)
    return {
        "answers": answers,
        "asked": list(asked),
        "results": sorted(results),
        "unfinished": unfinished,
        "finished": list(view.finished),
        "is_new": view.sequence == 0,
    }
