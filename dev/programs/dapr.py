"""The stock Dapr commands: the machine's own daprd when it is of our series, else built from the pinned Go module.

There is no package of daprd on any registry, and its release downloads are out of reach of many networks. The Go module
proxy serves Dapr's source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from dev.programs.cache import cache_lock
from dev.programs.go_module import GoModule
from dev.programs.program import Program, ProgramMissingError, first_executable

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("daprd", "placement", "scheduler")

_MODULE = GoModule(
    "Dapr",
    Path(__file__).parents[1] / "dapr",
    "github.com/dapr/dapr",
    ("-mod=readonly", "-buildvcs=false", "-trimpath", "-tags=stablecomponents"),
)


def dapr_version() -> str:
    """Return the version of Dapr that go.mod pins, such as "1.18.2"."""
    return _MODULE.version


def locate(command: str) -> Program:
    """Find one of `COMMANDS`.

    Raises:
        ProgramMissingError: It is neither installed nor built.
    """
    path = first_executable(_candidates(command))
    if path is None:
        raise ProgramMissingError(f"Dapr's {command} {dapr_version()}")
    return Program(path)


def install() -> None:
    """Build the commands that the machine lacks. A cold build takes some four to ten minutes on two cores."""
    stamp = f"-X github.com/dapr/dapr/pkg/buildinfo.version={dapr_version()}"
    for command in COMMANDS:
        with cache_lock("dapr"):  # Whoever waited here finds the other's build.
            if not first_executable(_candidates(command)):
                _MODULE.build(command, f"{_MODULE.requires}/cmd/{command}", stamp)
        print(f"{command}: {locate(command).path}", flush=True)


def _candidates(command: str) -> Iterator[Path]:
    installed = _installed_directory()
    if installed:
        yield installed / command
    yield _MODULE.built / command


def _installed_directory() -> Path | None:
    """Where the machine keeps a daprd of our series; it alone tells its version, so the others are taken beside it."""
    series = dapr_version().rpartition(".")[0] + "."
    for daprd in (shutil.which("daprd"), Path.home() / ".dapr" / "bin" / "daprd"):
        if daprd and os.access(daprd, os.X_OK):
            answer = subprocess.run([daprd, "--version"], capture_output=True, text=True, check=False)
            if answer.stdout.startswith(series):
                return Path(daprd).parent
    return None
