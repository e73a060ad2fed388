"""What users could take instead, in environments of their own: a durable step, and a turn and a crash of an agent.

Each environment is made when it is first measured, below `~/.cache/strands-dapr-session`, and so is what a peer runs
on. Peers promise other things than this package does; see the notes. What could not be measured is listed with the
reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import peer_steps, peer_workers

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.results import Row


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    return side_by_side([*peer_steps.measure(bench), *peer_workers.measure(bench)])


def side_by_side(rows: list[Row]) -> list[Row]:
    """Put what is of the same quantity and setting together, ours first where it was measured first."""
    kinds = list(dict.fromkeys(map(_kind, rows)))
    return sorted(rows, key=lambda row: kinds.index(_kind(row)))


def _kind(row: Row) -> tuple[str, str]:
    return row.quantity, str([item for item in row.setting.items() if item[0] != "store"])
