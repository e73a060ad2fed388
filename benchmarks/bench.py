"""One run of the benchmarks: where it is carried out, and how thoroughly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.places import Places


@dataclass(frozen=True)
class Bench:
    """What a measure gets.

    Attributes:
        places: Servers and directories.
        console: Where to tell what is going on.
        quick: Whether to make do with a tenth of the repetitions and sizes, to see that everything works.
    """

    places: Places
    console: Console
    quick: bool = False

    def repeat(self, often: int) -> int:
        """How often to repeat what would be repeated so often in a whole run."""
        return max(2, often // 10) if self.quick else often

    def sizes(self, sizes: Sequence[int]) -> list[int]:
        """Which sizes to measure: all, or the smallest."""
        return list(sizes[:1]) if self.quick else list(sizes)

    def say(self, what: str) -> None:
        """Tell what is going on."""
        self.console.print(f"[dim]{what}[/dim]")
