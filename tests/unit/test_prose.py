"""What README and the pages in `docs/` show can be typed as it stands: examples, links, commands."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import strands_dapr_session

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def ids(page: Path) -> str:
    return page.name


def examples(page: Path) -> Iterator[ast.Module]:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield ast.parse(block, filename=str(page))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_examples_import_what_there_is(page: Path) -> None:
    for example in examples(page):
        for node in ast.walk(example):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "strands_dapr_session":
                module = __import__(node.module, fromlist=[alias.name for alias in node.names])
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_examples_pass_arguments_that_there_are(page: Path) -> None:
    for example in examples(page):
        for node in ast.walk(example):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in strands_dapr_session.__all__:
                continue
            known = inspect.signature(getattr(strands_dapr_session, node.func.id)).parameters
            assert [each.arg for each in node.keywords if each.arg and each.arg not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_and_files_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", text, re.MULTILINE)) <= targets
    files = re.findall(r"`((?:examples|tests|benchmarks|docs)/[\w/.-]+)`", text)
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_every_public_error_is_in_the_readme() -> None:
    """A user who sees one looks it up there."""
    names = [name for name in strands_dapr_session.__all__ if name.endswith("Error")]
    bases = {"DurableSessionError", "StoreError", "StoredDataError", "OwnershipError"}
    text = PAGES[0].read_text()
    assert [name for name in names if name not in bases and f"`{name}`" not in text] == []
