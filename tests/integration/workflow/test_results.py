"""What a run came to is what an agent that nobody disturbed would have given, also when its worker was killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from strands.agent import AgentResult
from strands.multiagent.graph import GraphResult

from strands_dapr_session.testing.ledger import Ledger
from tests.integration.workflow import program
from tests.integration.workflow.conftest import Stage
from tests.integration.workflow.program import Offer, build_agent, build_offering, build_pair

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents of the program run in this process too, where every gate is open."""
    monkeypatch.setattr(program, "PLACE", tmp_path)
    monkeypatch.setattr(program, "LEDGER", Ledger(tmp_path / "ledger"))


@pytest.fixture
def killed(stage: Stage) -> Iterator[Any]:
    """Runs that were killed in the middle of their first batch, and gone on with by another worker."""
    stage.start("agent", "offering", "pair", count=2 - sum(worker.is_running for worker in stage.workers))

    def submit(agent: str, name: str, prompt: str) -> Any:
        run = stage.client().submit(agent, session_id=name, prompt=prompt)
        first = stage.started(name, 3)
        stage.recorded_anywhere(name, 2)
        stage.worker_of(first).kill()
        stage.open(name)
        return run

    yield submit
    stage.start("agent", "offering", "pair")


def open_gate(tmp_path: Path, name: str) -> None:
    (tmp_path / f"open-{name}").touch()


def of_agent(result: AgentResult) -> dict[str, Any]:
    """What can be compared of two runs: everything but times and random ids."""
    metrics, latest = result.metrics, result.metrics.agent_invocations[-1]
    return {
        "stop_reason": result.stop_reason,
        "content": result.message["content"],
        "output": None if result.structured_output is None else result.structured_output.model_dump(),
        "text": str(result),
        "usage": metrics.accumulated_usage,
        "latency": metrics.accumulated_metrics,
        "cycles": metrics.cycle_count,
        "tools": {
            name: (each.call_count, each.success_count, each.error_count) for name, each in metrics.tool_metrics.items()
        },
        "usage of call": latest.usage,
        "cycles of call": len(latest.cycles),
        "context": result.context_size,
        "interrupts": result.interrupts,
    }


def of_graph(result: GraphResult) -> dict[str, Any]:
    return {
        "status": result.status,
        "order": [node.node_id for node in result.execution_order],
        "counts": (result.total_nodes, result.completed_nodes, result.failed_nodes, result.interrupted_nodes),
        "usage": result.accumulated_usage,
        "latency": result.accumulated_metrics,
        "count": result.execution_count,
        "text": str(result),
        "nodes": {
            name: (node.status, node.accumulated_usage, node.execution_count, node.result.stop_reason)  # type: ignore[union-attr]
            for name, node in result.results.items()
        },
    }


def test_an_agent_with_structured_output(killed: Any, tmp_path: Path) -> None:
    run = killed("offering", "offer", "offer")
    open_gate(tmp_path, "offer")
    expected = build_offering("", None)("offer")
    assert expected.structured_output == Offer(inCents=3)

    result = run.result(timeout=60)
    assert len(run.status().attempts) == 2
    assert of_agent(result) == of_agent(expected)
    assert result.structured_output.price == 3
    typed = run.result(structured_output_model=Offer)
    assert typed.structured_output == Offer(inCents=3)

    class Demand(BaseModel):
        amount: int

    with pytest.raises(ValidationError, match="amount"):
        run.result(structured_output_model=Demand)


def test_a_graph(killed: Any, tmp_path: Path) -> None:
    run = killed("pair", "graph", "batch graph")
    open_gate(tmp_path, "graph")
    expected = build_pair("", None)("batch graph")
    assert of_graph(run.result(timeout=60)) == of_graph(expected)


def test_a_run_that_asked_has_the_tokens_of_all_of_it(stage: Stage, killed: Any) -> None:  # noqa: ARG001
    """The tokens are those of all calls, as in an agent that lives through them; those of the last one are its own."""
    agent = build_agent("", None)  # type: ignore[arg-type]
    question = agent("ask tokens").interrupts[0]  # type: ignore[index]
    expected = agent([{"interruptResponse": {"interruptId": question.id, "response": "yes"}}])  # type: ignore[arg-type]

    run = stage.client().submit("agent", session_id="tokens", prompt="ask tokens")
    stage.until(lambda: run.status().phase == "waiting", "the question")
    question = run.status().interrupts[0]
    run.respond([{"interruptResponse": {"interruptId": question["id"], "response": "yes"}}])
    result = run.result(timeout=60)
    assert isinstance(result, AgentResult)
    assert result.metrics.accumulated_usage == expected.metrics.accumulated_usage
    assert result.metrics.agent_invocations[-1].usage == expected.metrics.agent_invocations[-1].usage
    assert result.structured_output is None
