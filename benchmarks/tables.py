"""Results as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from benchmarks.subjects import OURS, WORKER

if TYPE_CHECKING:
    from benchmarks.results import Row

_LARGE = 100_000
_MIDDLE = 10
_OURS = (OURS, WORKER)


def table(measure: str, rows: list[Row]) -> Table:
    """Lay the rows of a measure out, each beside ours of the same quantity and setting."""
    made = Table(title=measure, title_justify="left", title_style="bold")
    for heading in ("quantity", "setting", "subject"):
        made.add_column(heading)
    for heading in ("median", "least to most", "p99", "x ours"):
        made.add_column(heading, justify="right")
    section = ""
    for row in rows:
        before, section = section, f"{row.quantity} {[item for item in row.setting.items() if item[0] != 'store']}"
        if before and before != section:
            made.add_section()
        made.add_row(
            row.quantity,
            ", ".join(f"{key} {value}" if key != "store" else str(value) for key, value in row.setting.items()),
            row.subject,
            escape(row.note) if row.median is None else f"{number(row.median)} {row.unit}".rstrip(),
            f"{number(row.minimum)} to {number(row.maximum)}" if row.minimum is not None else "",
            number(row.p99),
            _ratio(row, rows),
        )
    return made


def number(value: float | None) -> str:
    """Write a number with as many digits as one can read."""
    if value is None:
        return ""
    if value == int(value) and abs(value) < _LARGE:
        return str(int(value))
    if abs(value) >= _LARGE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _MIDDLE else f"{value:.2f}"


def _ratio(row: Row, rows: list[Row]) -> str:
    """Compare with ours on the same store, else on the first one that there is."""
    if row.subject in _OURS or row.median is None:
        return ""
    same = [
        other
        for other in rows
        if other.subject in _OURS
        and other.quantity == row.quantity
        and all(other.setting.get(key, value) == value for key, value in row.setting.items() if key != "store")
    ]
    same.sort(key=lambda other: other.setting.get("store") != row.setting.get("store"))
    ours = same[0].median if same else None
    return f"{row.median / ours:.2f}" if ours else ""
