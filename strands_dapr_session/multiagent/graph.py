"""Graphs: batches of nodes that run at the same time, revisits, conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strands.multiagent.base import Status
from strands.multiagent.graph import GraphState

from strands_dapr_session import strands_compat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands.multiagent.base import NodeResult
    from strands.multiagent.graph import Graph

    from strands_dapr_session.multiagent.run import Run
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import ScopeView

_IN_FLIGHT = {"dispatched", "executing"}
"""`DISPATCHED` is there since Strands 1.5x; before, the nodes of a batch are all executing when the first asks us."""


class GraphShape:
    """See `Shape`."""

    def __init__(self, graph: Graph) -> None:
        """Look at a graph."""
        self.orchestrator: Any = graph

    @property
    def status(self) -> str:
        """See `Shape.status`."""
        return str(self.orchestrator.state.status.value)

    def begin_anew(self, recorded: ScopeView) -> None:  # noqa: ARG002
        """See `Shape.begin_anew`."""
        strands_compat.forget_resume(self.orchestrator)
        self._clear_statuses()

    def _clear_statuses(self) -> None:
        """Forget what nodes were doing: Strands leaves cancelled ones executing for ever."""
        for node in self.orchestrator.nodes.values():
            node.execution_status = Status.PENDING

    def forget_under_way(self) -> None:
        """See `Shape.forget_under_way`."""
        for node in self.orchestrator.nodes.values():
            if node.execution_status.value in _IN_FLIGHT:
                node.execution_status = Status.PENDING

    def restore(
        self, state: Mapping[str, Any], batch: list[str], results: dict[str, NodeResult], interrupts: dict[str, Any]
    ) -> None:
        """See `Shape.restore`."""
        graph = self.orchestrator
        names = state["names"]

        def named(key: str) -> list[str]:
            return [names[index] for index in state[key] if names[index] in graph.nodes]

        self._clear_statuses()
        graph.deserialize_state(
            {
                "status": (Status.INTERRUPTED if interrupts["activated"] else Status.EXECUTING).value,
                "completed_nodes": named("completed"),
                # Nothing in Strands takes a node out again: a run that failed once would end FAILED for ever.
                "failed_nodes": [name for name in named("failed") if name not in batch],
                "interrupted_nodes": named("interrupted"),
                "node_results": {},
                "next_nodes_to_execute": batch,
                "current_task": "",
                "execution_order": named("order"),
                "_internal_state": {"interrupt_state": interrupts},
            }
        )
        for node in graph.state.interrupted_nodes:
            node.execution_status = Status.INTERRUPTED  # also where it is among the completed, from an earlier visit
        graph.state.results = results
        graph.state.accumulated_usage = dict(state["usage"])
        graph.state.accumulated_metrics = dict(state["metrics"])
        graph.state.execution_count = state["count"]
        graph.state.execution_time = state["time"]
        # Strands leaves these empty on resume, and callers find them in the result.
        graph.state.total_nodes = len(graph.nodes)
        graph.state.edges = [(edge.from_node, edge.to_node) for edge in graph.edges]
        graph.state.entry_points = list(graph.entry_points)

    def restore_beside(self, recorded: ScopeView) -> None:
        """See `Shape.restore_beside`."""

    def snapshot(self, run: Run) -> dict[str, Any]:
        """See `Shape.snapshot`. The order of execution takes a byte for each node that was executed."""
        graph = self.orchestrator
        state = graph.state
        names = sorted(graph.nodes)
        index = {name: number for number, name in enumerate(names)}
        completed = {node.node_id for node in state.completed_nodes}
        if run.pending:
            # With `reset_on_revisit`, Strands has taken nodes out again that are about to run once more.
            completed |= {name for name in run.batch if run.visits.get(name)}
        return {
            "names": names,
            "completed": sorted(index[name] for name in completed),
            "failed": sorted(index[node.node_id] for node in state.failed_nodes),
            "interrupted": sorted(index[node.node_id] for node in state.interrupted_nodes),
            "order": [index[node.node_id] for node in state.execution_order],
            "usage": dict(state.accumulated_usage),
            "metrics": dict(state.accumulated_metrics),
            "count": state.execution_count,
            "time": state.execution_time,
        }

    def batch(self, node_id: str) -> list[str]:  # noqa: ARG002
        """See `Shape.batch`."""
        nodes = self.orchestrator.nodes.values()
        return sorted(node.node_id for node in nodes if node.execution_status.value in _IN_FLIGHT)

    def state_while_waiting(self, run: Run) -> dict[str, Any] | None:  # noqa: ARG002
        """See `Shape.state_while_waiting`. An interrupted node counts only when it has finished."""
        return None

    def beside(self, run: Run) -> list[Record]:  # noqa: ARG002
        """See `Shape.beside`."""
        return []

    def is_finished(self, run: Run, node_id: str) -> bool:  # noqa: ARG002
        """See `Shape.is_finished`. The event comes for cancelled siblings too, and before a timeout is noticed."""
        return bool(self.orchestrator.nodes[node_id].execution_status == Status.COMPLETED)

    def has_failed(self, node_id: str) -> bool:
        """See `Shape.has_failed`."""
        node, result = self.orchestrator.nodes[node_id], self.orchestrator.state.results.get(node_id)
        if node.execution_status != Status.FAILED or result is None:
            return False
        return result.status == Status.FAILED and not isinstance(result.result, Exception)

    def is_reset(self, run: Run, node_id: str) -> bool:
        """See `Shape.is_reset`."""
        return bool(self.orchestrator.reset_on_revisit and run.visits.get(node_id))

    def without(self, state: dict[str, Any], failed: list[str]) -> dict[str, Any]:
        """See `Shape.without`."""
        indexes = {state["names"].index(name) for name in failed}
        usage, metrics, count, order = (
            dict(state["usage"]),
            dict(state["metrics"]),
            state["count"],
            list(state["order"]),
        )
        for name in failed:
            result = self.orchestrator.state.results[name]
            for total, part in ((usage, result.accumulated_usage), (metrics, result.accumulated_metrics)):
                for key in total:
                    total[key] -= part.get(key, 0)
            count -= result.execution_count
            last = max(place for place, index in enumerate(order) if index == state["names"].index(name))
            del order[last]
        return {
            **state,
            "failed": [index for index in state["failed"] if index not in indexes],
            "usage": usage,
            "metrics": metrics,
            "count": count,
            "order": order,
        }

    def limit(self, state: Mapping[str, Any]) -> str | None:
        """See `Shape.limit`."""
        graph = self.orchestrator
        reached = GraphState(execution_order=list(state["order"]), execution_time=state["time"])
        may_go_on, reason = reached.should_continue(
            max_node_executions=graph.max_node_executions, execution_timeout=graph.execution_timeout
        )
        return None if may_go_on else reason

    def handed_over(self, run: Run, node_id: str) -> Any:  # noqa: ARG002
        """See `Shape.handed_over`."""
        return None

    def hand_over(self, recorded: Any) -> None:
        """See `Shape.hand_over`."""
