"""What graphs and swarms have in common for whoever records and resumes their runs, and where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands.multiagent.base import NodeResult

    from strands_dapr_session.multiagent.run import Run
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import ScopeView


class Shape(Protocol):
    """One live orchestrator, seen through its public state."""

    orchestrator: Any

    def begin_anew(self, recorded: ScopeView) -> None:
        """Forget everything that would make the next call go on with an earlier run."""
        ...

    def forget_under_way(self) -> None:
        """Forget which nodes were under way when an earlier run was stopped: Strands does not."""
        ...

    def restore(
        self, state: Mapping[str, Any], batch: list[str], results: dict[str, NodeResult], interrupts: dict[str, Any]
    ) -> None:
        """Set the orchestrator back to a recorded state, so that Strands goes on with a batch of nodes.

        Args:
            state: What `snapshot` made.
            batch: The nodes to go on with.
            results: Results of all nodes.
            interrupts: The human-in-the-loop state.
        """
        ...

    def restore_beside(self, recorded: ScopeView) -> None:
        """Set back what is recorded in notes of its own, after `restore`."""
        ...

    def snapshot(self, run: Run) -> dict[str, Any]:
        """Describe the state without results and task."""
        ...

    def batch(self, node_id: str) -> list[str]:
        """List the nodes that run together with one whose turn it is."""
        ...

    def state_while_waiting(self, run: Run) -> dict[str, Any] | None:
        """Describe the state to go on from with answers, if waiting counted as something that happened."""
        ...

    def beside(self, run: Run) -> list[Record]:
        """List what tools changed in the orchestrator, and what is not recorded yet."""
        ...

    def is_finished(self, run: Run, node_id: str) -> bool:
        """Tell whether a node whose turn ends has done its work."""
        ...

    def has_failed(self, node_id: str) -> bool:
        """Tell whether a node returned a result that says it failed, while its siblings go on."""
        ...

    def is_reset(self, run: Run, node_id: str) -> bool:
        """Tell whether Strands gives a node's agent its first messages back for this visit."""
        ...

    def without(self, state: dict[str, Any], failed: list[str]) -> dict[str, Any]:
        """Take failed attempts, which are to be repeated, out of a state."""
        ...

    def limit(self, state: Mapping[str, Any]) -> str | None:
        """Tell which limit keeps a run in this state from going on; None if it may."""
        ...

    def handed_over(self, run: Run, node_id: str) -> Any:
        """Describe what a finished node left for the next one, besides its result."""
        ...

    def hand_over(self, recorded: Any) -> None:
        """Do again what a finished node did, besides its result."""
        ...

    @property
    def status(self) -> str:
        """How the run stands, in Strands' words."""
        ...
