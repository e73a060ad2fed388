"""Swarms: one node at a time, each choosing the next, with a context that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strands.multiagent.base import Status
from strands.multiagent.swarm import SwarmState

from strands_dapr_session import strands_compat
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import Noted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands.multiagent.base import NodeResult
    from strands.multiagent.swarm import Swarm

    from strands_dapr_session.multiagent.run import Run
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import ScopeView

_SHARED: Final = "shared"
"""Kind of the note that holds the context that the agents share."""

_HANDOFF: Final = "handoff"
"""Kind of the note that says which node was chosen in a visit that is not over."""


class SwarmShape:
    """See `Shape`."""

    def __init__(self, swarm: Swarm, scope: str) -> None:
        """Look at a swarm."""
        self.orchestrator: Any = swarm
        self._scope = scope
        self._recorded: dict[str, bytes] = {}
        self._handoff: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        """See `Shape.status`."""
        return str(self.orchestrator.state.completion_status.value)

    def forget_under_way(self) -> None:
        """See `Shape.forget_under_way`. The one node of a swarm that runs is named by its state."""

    def begin_anew(self, recorded: ScopeView) -> None:
        """See `Shape.begin_anew`. The shared context of a swarm outlives its runs."""
        strands_compat.forget_resume(self.orchestrator)
        if recorded.invocation is not None and _SHARED not in recorded.notes:
            self.orchestrator.shared_context.context = {}  # what is there now is of a run that was never recorded
        self.restore_beside(recorded)
        self._handoff = None

    def restore(
        self, state: Mapping[str, Any], batch: list[str], results: dict[str, NodeResult], interrupts: dict[str, Any]
    ) -> None:
        """See `Shape.restore`."""
        swarm = self.orchestrator
        swarm.deserialize_state(
            {
                "status": (Status.INTERRUPTED if interrupts["activated"] else Status.EXECUTING).value,
                "node_history": self._names(state),
                "node_results": {},
                "next_nodes_to_execute": batch,
                "current_task": "",
                "context": {
                    "shared_context": swarm.shared_context.context,
                    "handoff_node": state["handoff"],
                    "handoff_message": state["message"],
                },
                "_internal_state": {"interrupt_state": interrupts},
            }
        )
        swarm.state.shared_context = swarm.shared_context
        swarm.state.results = results
        swarm.state.accumulated_usage = dict(state["usage"])
        swarm.state.accumulated_metrics = dict(state["metrics"])
        swarm.state.execution_time = state["time"]

    def _names(self, state: Mapping[str, Any]) -> list[str]:
        names = [state["names"][index] for index in state["order"]]
        return [name for name in names if name in self.orchestrator.nodes]

    def restore_beside(self, recorded: ScopeView) -> None:
        """See `Shape.restore_beside`."""
        self._recorded = {kind: recorded.notes[kind] for kind in (_SHARED, _HANDOFF) if kind in recorded.notes}
        if _SHARED in self._recorded:
            self.orchestrator.shared_context.context = unpack_value(self._recorded[_SHARED])
        self._handoff = unpack_value(self._recorded[_HANDOFF]) if _HANDOFF in self._recorded else None

    def snapshot(self, run: Run) -> dict[str, Any]:  # noqa: ARG002
        """See `Shape.snapshot`."""
        swarm = self.orchestrator
        names = sorted(swarm.nodes)
        index = {name: number for number, name in enumerate(names)}
        state = swarm.state
        return {
            "names": names,
            "order": [index[node.node_id] for node in state.node_history],
            "usage": dict(state.accumulated_usage),
            "metrics": dict(state.accumulated_metrics),
            "time": state.execution_time,
            "message": state.handoff_message,
            "handoff": state.handoff_node.node_id if state.handoff_node else None,
        }

    def batch(self, node_id: str) -> list[str]:
        """See `Shape.batch`."""
        return [node_id]

    def state_while_waiting(self, run: Run) -> dict[str, Any] | None:
        """See `Shape.state_while_waiting`. Strands adds up the tokens of an interrupted node, and later once more."""
        return self.snapshot(run)

    def beside(self, run: Run) -> list[Record]:
        """See `Shape.beside`.

        A handoff takes effect when the node's agent has finished; without its record, a crash before that would lose
        it, since the tool call has its result and is not repeated.
        """
        swarm = self.orchestrator
        notes = {_SHARED: pack_value(swarm.shared_context.context, path="shared_context")}
        if swarm.state.handoff_node is not None:
            notes[_HANDOFF] = pack_value({"visit": run.token(run.batch[0]), **self._standing()}, path="handoff")
        changed = {kind: value for kind, value in notes.items() if self._recorded.get(kind) != value}
        if not swarm.shared_context.context and _SHARED not in self._recorded:
            changed.pop(_SHARED, None)
        self._recorded.update(changed)
        return [Noted(self._scope, kind, value) for kind, value in changed.items()]

    def _standing(self) -> dict[str, Any]:
        state = self.orchestrator.state
        return {
            "node": state.handoff_node.node_id if state.handoff_node else None,
            "message": state.handoff_message,
        }

    def resume_visit(self, token: str) -> None:
        """Set a handoff again that an unfinished visit had asked for; Strands clears it for the agent's prompt."""
        if self._handoff is not None and self._handoff["visit"] == token:
            self.hand_over(self._handoff)

    def is_finished(self, run: Run, node_id: str) -> bool:
        """See `Shape.is_finished`. A node that was cancelled or failed is not in the history."""
        history = self.orchestrator.state.node_history
        return len(history) > run.history and history[-1].node_id == node_id

    def has_failed(self, node_id: str) -> bool:  # noqa: ARG002
        """See `Shape.has_failed`. A failed node ends the swarm."""
        return False

    def is_reset(self, run: Run, node_id: str) -> bool:  # noqa: ARG002
        """See `Shape.is_reset`."""
        return True

    def without(self, state: dict[str, Any], failed: list[str]) -> dict[str, Any]:  # noqa: ARG002
        """See `Shape.without`."""
        return state

    def limit(self, state: Mapping[str, Any]) -> str | None:
        """See `Shape.limit`."""
        swarm = self.orchestrator
        history = [swarm.nodes[name] for name in self._names(state)]
        reached = SwarmState(current_node=None, task="", node_history=history, execution_time=state["time"])
        may_go_on, reason = reached.should_continue(
            max_handoffs=swarm.max_handoffs,
            max_iterations=swarm.max_iterations,
            execution_timeout=swarm.execution_timeout,
            repetitive_handoff_detection_window=swarm.repetitive_handoff_detection_window,
            repetitive_handoff_min_unique_agents=swarm.repetitive_handoff_min_unique_agents,
        )
        return None if may_go_on else reason

    def handed_over(self, run: Run, node_id: str) -> Any:  # noqa: ARG002
        """See `Shape.handed_over`."""
        return self._standing()

    def hand_over(self, recorded: Any) -> None:
        """See `Shape.hand_over`."""
        swarm = self.orchestrator
        swarm.state.handoff_node = swarm.nodes.get(recorded["node"]) if recorded["node"] else None
        swarm.state.handoff_message = recorded["message"]
