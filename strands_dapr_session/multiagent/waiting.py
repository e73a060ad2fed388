"""The human-in-the-loop state of an orchestrator, without what is recorded of its agents anyway.

While it waits, Strands keeps a copy of the conversation of each interrupted agent in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import strands_compat
from strands_dapr_session.records.codec import unpack_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands_dapr_session.multiagent.orchestration import Orchestration

_OF_AGENTS: Final = ("messages", "state", "interrupt_state", "model_state")
"""What Strands keeps of an agent that a person interrupted (`Graph` and `Swarm`, 1.43 to 1.62)."""


def strip(orchestration: Orchestration) -> dict[str, Any]:
    """Take out of an orchestrator's state what is recorded in the scopes of its agents."""
    interrupts = strands_compat.orchestrator_interrupts(orchestration.shape.orchestrator)
    context = {
        name: {key: part for key, part in value.items() if key not in _OF_AGENTS}
        if name in orchestration.visits.agents and isinstance(value, dict)
        else value
        for name, value in interrupts["context"].items()
    }
    return {"interrupts": interrupts["interrupts"], "context": context, "activated": interrupts["activated"]}


def refill(orchestration: Orchestration, interrupts: Mapping[str, Any]) -> dict[str, Any]:
    """Put back what `strip` took out, from the scopes of the agents; and answers that have come already.

    Before Strands 1.5x an orchestrator took answers before it told us about the call.
    """
    nodes = orchestration.shape.orchestrator.nodes
    context = {
        name: {**value, **_of_agent(orchestration, name, nodes[name].executor)}
        if name in orchestration.visits.agents and isinstance(value, dict)
        else value
        for name, value in interrupts["context"].items()
    }
    given = strands_compat.orchestrator_interrupts(orchestration.shape.orchestrator)["context"].get("responses", [])
    answers = {each["interruptResponse"]["interruptId"]: each["interruptResponse"]["response"] for each in given}
    raised = {
        id_: {**each, "response": answers.get(id_, each.get("response"))}
        for id_, each in interrupts["interrupts"].items()
    }
    if given:
        context["responses"] = given
    return {"interrupts": raised, "context": context, "activated": interrupts["activated"]}


def answers_of(interrupts: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """List what nodes that asked have been answered, by node, as Strands calls them with it.

    Args:
        interrupts: The human-in-the-loop state of their orchestrator, as it was recorded.
        answers: What people answered, by id, if it may be that the orchestrator has not recorded it yet.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, value in interrupts["context"].items():
        if not isinstance(value, dict) or value.get("from_hook", True):
            continue  # it is the orchestrator's own, or was asked by a hook, which remembers the answer by itself
        for id_ in value["interrupt_ids"]:
            response = interrupts["interrupts"][id_].get("response")
            response = answers.get(id_) if response is None else response
            if response is not None:
                given = {"interruptResponse": {"interruptId": id_, "response": response}}
                found.setdefault(name, []).append(given)
    return found


def asked_before(interrupts: Mapping[str, Any]) -> set[str]:
    """List the nodes of a batch before which a hook asked a person."""
    return {
        name
        for name, context in interrupts["context"].items()
        if isinstance(context, dict) and context.get("from_hook")
    }


def _of_agent(orchestration: Orchestration, node_id: str, agent: Any) -> dict[str, Any]:
    scope = orchestration.root.found.view.scope(orchestration.visits.agents[node_id].scope)
    documents = {name: unpack_value(packed) for name, packed in scope.documents.items()}
    live = strands_compat.snapshot(agent, "interrupt_state", "model_state")
    has_run = scope.invocation is not None
    return {
        "messages": [unpack_value(body) for body in scope.messages] if has_run else agent.messages,
        "state": documents.get("state", {}) if has_run else agent.state.get(),
        "interrupt_state": documents.get("interrupt_state", live["interrupt_state"]),
        "model_state": documents.get("model_state", live["model_state"]),
    }
