"""What this package relies on in Strands that is half private: its shape, and the version in which it was seen.

Another shape in a newer version need not be wrong. Whoever sees one of these fail looks at what reads it: the modules
are named.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder, Swarm

from strands_dapr_session.testing.model import ScriptedModel

BOTH = "strands-agents 1.43 and 1.62.0"
NEWEST = "strands-agents 1.62.0"


@tool(context=True)
def ask(tool_context: ToolContext) -> str:
    """Ask a person."""
    return str(tool_context.interrupt("may I"))


@tool
def work() -> str:
    """Work."""
    return "done"


def asking(name: str) -> Agent:
    model = ScriptedModel([[("work", {}), ("ask", {})], "done"])
    return Agent(name=name, model=model, tools=[work, ask], callback_handler=None)


def interrupt_state(agent: Agent) -> dict[str, Any]:
    state: dict[str, Any] = agent.take_snapshot(include=["interrupt_state"]).data["interrupt_state"]
    return state


def is_as_seen(found: Any, seen: Any, where: str) -> None:
    assert found == seen, f"seen in {where}; this is {version('strands-agents')}"


@pytest.mark.newest_dependencies  # before, the batch was in the context
def test_an_interrupted_batch_in_the_snapshot_of_an_agent() -> None:
    """Read and built by `strands_compat`: `half_finished_batch`, `batch_of`, `without_batch`."""
    agent = asking("a")
    agent("T")

    state = interrupt_state(agent)

    is_as_seen(sorted(state), ["activated", "context", "interrupts", "pending_tool_execution"], NEWEST)
    is_as_seen(sorted(state["pending_tool_execution"]), ["assistant_message", "completed_tool_results"], NEWEST)
    is_as_seen(state["pending_tool_execution"]["assistant_message"]["role"], "assistant", NEWEST)
    completed = [result["toolUseId"] for result in state["pending_tool_execution"]["completed_tool_results"]]
    is_as_seen(completed, ["v1c0t0"], NEWEST)
    is_as_seen([sorted(each) for each in state["interrupts"].values()], [["id", "name", "reason", "response"]], NEWEST)


@pytest.mark.newest_dependencies  # before, agents as tools could not ask
def test_an_interrupted_agent_that_is_a_tool() -> None:
    """Read by `strands_compat.answers_for_tool`."""
    parent = Agent(
        model=ScriptedModel([[("sub", {"input": "go"})], "done"]),
        tools=[asking("sub").as_tool()],
        callback_handler=None,
    )
    parent("T")

    state = interrupt_state(parent)

    is_as_seen(sorted(state["context"]), ["sub_agent_interrupted_turns"], NEWEST)
    prefixes = {id_.rpartition(":")[0] for id_ in state["interrupts"]}
    is_as_seen(prefixes, {"v1:agent_as_tool:v1c0t0:v1:tool_call:v1c0t1"}, NEWEST)


def test_an_interrupted_graph() -> None:
    """Read by `multiagent.waiting`, written by `multiagent.graph`."""
    builder = GraphBuilder()
    builder.add_node(asking("a"), "a")
    graph = builder.set_max_node_executions(3).build()
    graph("T")

    payload = graph.serialize_state()

    state = payload["_internal_state"]["interrupt_state"]
    is_as_seen(sorted(state), ["activated", "context", "interrupts"], BOTH)
    is_as_seen(sorted(state["context"]), ["a", "completed_nodes"], BOTH)
    asked = ["from_hook", "interrupt_ids", "interrupt_state", "messages", "model_state", "state"]
    is_as_seen(sorted(state["context"]["a"]), asked, BOTH)
    read = {"completed_nodes", "current_task", "execution_order", "failed_nodes", "interrupted_nodes"}
    more = {"_internal_state", "next_nodes_to_execute", "node_results", "status"}
    is_as_seen((read | more) - payload.keys(), set(), BOTH)


def test_an_interrupted_swarm() -> None:
    """Read by `multiagent.waiting`, written by `multiagent.swarm`."""
    swarm = Swarm([asking("a")])
    swarm("T")

    payload = swarm.serialize_state()

    state = payload["_internal_state"]["interrupt_state"]
    is_as_seen(sorted(state), ["activated", "context", "interrupts"], BOTH)
    asked = ["activated", "interrupt_state", "messages", "model_state", "state"]
    is_as_seen(sorted(state["context"]["a"]), asked, BOTH)
    is_as_seen(sorted(payload["context"]), ["handoff_message", "handoff_node", "shared_context"], BOTH)
    read = {"context", "current_task", "next_nodes_to_execute", "node_history", "node_results", "status"}
    is_as_seen(read - payload.keys(), set(), BOTH)
