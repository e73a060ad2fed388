from __future__ import annotations

import pytest

from benchmarks import figures
from benchmarks.results import Results, Row
from benchmarks.subjects import OURS
from benchmarks.targets import TARGETS

EMPTY = "# Title\n\n<!-- figures, made by `make figures` -->\nold\n<!-- end of figures -->\nrest\n"


@pytest.fixture
def results() -> Results:
    found = Results()
    setting: dict[str, str | int] = {"messages": 500, "process": "warm", "store": "redis"}
    rows = [
        Row.single(OURS, setting, "load", "ms", 4.0),
        Row.single("SnapshotSessionManager", setting | {"store": "files"}, "load", "ms", 16.0),
    ]
    found.take("load", rows, quick=False, seconds=1)
    return found


def test_figures_go_where_readme_has_a_place_for_them(results: Results) -> None:
    text = figures.readme(EMPTY, results)

    assert text.startswith("# Title\n\n<!-- figures")
    assert text.endswith("<!-- end of figures -->\nrest\n")
    assert "old" not in text
    assert "| **DaprSessionManager** (sidecar, Redis) | 4 ms |" in text
    assert figures.readme(text, results) == text


def test_other_results_give_another_readme(results: Results) -> None:
    before = figures.readme(EMPTY, results)
    results.measures["load"]["rows"][0]["median"] = 5.0

    assert figures.readme(before, results) != before


def test_a_readme_without_a_place_for_figures_is_an_error(results: Results) -> None:
    with pytest.raises(ValueError, match="figures need the lines"):
        figures.readme("nothing", results)


def test_a_target_is_met_or_missed_or_not_measured(results: Results) -> None:
    target = next(each for each in TARGETS if "500 messages, warm process, beside Snapshot" in each.what)

    assert target.value(results) == 0.25
    assert target.is_met(results) is True
    results.measures["load"]["rows"][0]["median"] = 12.0
    assert target.is_met(results) is False
    assert target.is_met(Results()) is None


def test_every_target_copes_with_results_that_lack_it() -> None:
    assert [target.what for target in TARGETS if target.value(Results()) is not None] == []


def test_the_page_names_the_targets_that_are_missed(results: Results) -> None:
    assert "**missed**" not in figures.page(results)
    results.measures["load"]["rows"][0]["median"] = 12.0
    assert "**missed**" in figures.page(results)
