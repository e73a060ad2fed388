"""What users install: the wheel, not the tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import strands_dapr_session as package
home = pathlib.Path(sys.argv[1])
for found in [package, *(importlib.import_module(each.name) for each in
                         pkgutil.walk_packages(package.__path__, "strands_dapr_session.")
                         if not each.name.endswith("__main__"))]:
    assert home in pathlib.Path(found.__file__).parents, found.__file__
for name in package.__all__:
    getattr(package, name)
"""

_RUN = """
import sys
from strands import Agent, tool
from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

@tool
def add(a: int, b: int) -> int:
    "Add."
    return a + b

model = ScriptedModel([[("add", {"a": 1, "b": 2})], "Three."])
manager = DaprSessionManager("s", store=sys.argv[1])
agent = Agent(model=model, tools=[add], session_manager=manager, callback_handler=None)
if not agent.messages:
    agent("Add")
print(len(agent.messages))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its wheel holds it."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "site")
    return directory / "site"


def run(program: str, installed: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-u", "-c", program, *arguments],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        timeout=100,
    ).stdout


def test_holds_the_package_and_nothing_else(installed: Path) -> None:
    assert {each.name.partition("-")[0] for each in installed.iterdir()} == {"strands_dapr_session"}
    package = installed / "strands_dapr_session"
    assert (package / "py.typed").exists()
    in_tree = {each.relative_to(ROOT) for each in (ROOT / "strands_dapr_session").rglob("*.py")}
    assert {each.relative_to(installed) for each in package.rglob("*.py")} == in_tree


def test_every_module_and_public_name_can_be_imported(installed: Path) -> None:
    run(_IMPORT_ALL, installed, str(installed))


def test_an_agent_runs_and_is_restored(installed: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    assert [run(_RUN, installed, store).strip() for _ in range(2)] == ["4", "4"]
