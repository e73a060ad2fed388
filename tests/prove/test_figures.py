"""What the pages say of the campaigns is what was recorded of them."""

from __future__ import annotations

from pathlib import Path

from tests.prove import figures

ROOT = Path(__file__).parents[2]


def test_the_pages_quote_what_was_recorded() -> None:
    assert list(figures.results()) == list(figures.CAMPAIGNS)
    assert figures.table() in (ROOT / "docs" / "proof.md").read_text()


def test_what_is_recorded_holds() -> None:
    for name, result in figures.results().items():
        assert result["holds"], name
        assert result["violations"] == []
        assert result["never_fired"] == []
