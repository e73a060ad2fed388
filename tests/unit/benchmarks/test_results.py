from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.results import Results, Row, percentile
from benchmarks.tables import number, table

if TYPE_CHECKING:
    from pathlib import Path


def row(subject: str, median: float, **setting: str | int) -> Row:
    return Row.single(subject, setting, "load", "ms", median)


def test_a_row_sums_repetitions_up() -> None:
    summed = Row.of("ours", {}, "load", "ms", [3.0, 1.0, 2.0])

    assert (summed.median, summed.minimum, summed.maximum, summed.count) == (2.0, 1.0, 3.0, 3)
    assert summed.p99 is None  # of three values there is none


def test_percentiles() -> None:
    values = [float(value) for value in range(1000)]

    assert percentile(values, 99) == 990
    assert percentile(values, 25) == 250
    assert percentile([5.0], 99) == 5


def test_a_measure_replaces_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "results" / "r.json"
    results = Results.load(path)
    results.take("load", [row("ours", 1.0)], quick=False, seconds=1)
    results.take("step", [row("ours", 2.0)], quick=False, seconds=1)
    results.save(path)

    later = Results.load(path)
    later.take("load", [row("ours", 3.0)], quick=True, seconds=1)
    later.save(path)

    found = Results.load(path)
    assert [each.median for each in found.rows("load")] == [3.0]
    assert [each.median for each in found.rows("step")] == [2.0]
    assert found.measures["load"]["machine"]["cores"] >= 1
    assert "strands-agents" in found.measures["load"]["versions"]


def test_rows_are_found_by_their_setting() -> None:
    results = Results()
    results.take("load", [row("ours", 1.0, messages=500), row("ours", 2.0, messages=1000)], quick=False, seconds=1)

    found = results.find("load", "ours", "load", messages=1000)

    assert found is not None
    assert found.median == 2.0
    assert results.find("load", "ours", "load", messages=7) is None
    assert results.find("nothing", "ours", "load") is None


def test_tables_compare_with_ours_on_the_same_store() -> None:
    rows = [
        row("DaprSessionManager", 2.0, store="redis", messages=5),
        row("DaprSessionManager", 4.0, store="postgres", messages=5),
        row("peer", 8.0, store="postgres", messages=5),
        row("peer", 8.0, store="files", messages=5),
        Row.missing("absent", {"store": "redis"}, "load", "ms", "not installed: [/red] is no markup"),
    ]

    made = table("load", rows)
    Console(quiet=True).print(made)
    ratios = list(made.columns[-1].cells)

    assert ratios == ["", "", "2.00", "4.00", ""]


def test_workers_are_compared_with_ours() -> None:
    rows = [row("AgentWorker", 2.0, store="redis"), row("peer", 5.0, store="redis")]

    assert list(table("workers", rows).columns[-1].cells) == ["", "2.50"]


def test_numbers_have_the_digits_that_one_can_read() -> None:
    assert [number(value) for value in (None, 5.0, 0.1234, 12.34, 1234567.0)] == ["", "5", "0.12", "12.3", "1,234,567"]
