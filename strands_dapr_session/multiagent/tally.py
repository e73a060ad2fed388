"""What became of each node of an orchestrator in this process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class NodeTally:
    """What became of a node in this process.

    Attributes:
        run: Visits that began here, or, of what runs as a whole, began anew.
        resumed: Visits that an earlier process or call had begun, and that went on here.
        replayed: Visits that had finished before; their recorded results were used.
        failed: Visits that did not finish: they raised, timed out, or were cancelled.
        nodes: The same for the nodes of a nested orchestrator.
    """

    run: int = 0
    resumed: int = 0
    replayed: int = 0
    failed: int = 0
    nodes: Mapping[str, NodeTally] = field(default_factory=dict)


class Tallies:
    """Counts for the nodes of one orchestrator."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def count(self, node_id: str, what: str, times: int = 1) -> None:
        """Count one more visit."""
        self._counts.setdefault(node_id, Counter())[what] += times

    def has_seen(self, node_id: str) -> bool:
        """Tell whether anything was counted for a node."""
        return node_id in self._counts

    def of(self, node_id: str, nodes: Mapping[str, NodeTally]) -> NodeTally:
        """Get the counts of a node, given those of the nodes in it."""
        counts = self._counts.get(node_id, Counter())
        return NodeTally(counts["run"], counts["resumed"], counts["replayed"], counts["failed"], nodes)
