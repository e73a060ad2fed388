"""The stock Dapr commands: the machine's own daprd when it is of our series, else built from the pinned Go module.

There is no package of daprd on any registry, and its release downloads are out of reach of many networks. The Go module
proxy serves Dapr's source, and `dev/dapr/go.sum` verifies every byte that goes into the build.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from dev.programs.cache import cache_directory, cache_lock
from dev.programs.go import go_toolchain
from dev.programs.program import Program, ProgramMissingError, first_executable

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("daprd", "placement", "scheduler")

_MODULE = Path(__file__).parents[1] / "dapr"
_FLAGS = ("-mod=readonly", "-buildvcs=false", "-trimpath", "-tags=stablecomponents")
_PROGRESS_SECONDS = 20


def dapr_version() -> str:
    """Return the version of Dapr that go.mod pins, such as "1.18.2"."""
    return _from_go_mod(r"^require github\.com/dapr/dapr v(\S+)$")


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
    for command in COMMANDS:
        with cache_lock("dapr"):  # Whoever waited here finds the other's build.
            if not first_executable(_candidates(command)):
                _build(command)
        print(f"{command}: {locate(command).path}", flush=True)


def _candidates(command: str) -> Iterator[Path]:
    installed = _installed_directory()
    if installed:
        yield installed / command
    yield _built_directory() / command


def _installed_directory() -> Path | None:
    """Where the machine keeps a daprd of our series; it alone tells its version, so the others are taken beside it."""
    series = dapr_version().rpartition(".")[0] + "."
    for daprd in (shutil.which("daprd"), Path.home() / ".dapr" / "bin" / "daprd"):
        if daprd and os.access(daprd, os.X_OK):
            answer = subprocess.run([daprd, "--version"], capture_output=True, text=True, check=False)
            if answer.stdout.startswith(series):
                return Path(daprd).parent
    return None


def _built_directory() -> Path:
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((_MODULE / name).read_bytes())
    return cache_directory() / f"dapr-{dapr_version()}-{digest.hexdigest()[:12]}"


def _build(command: str) -> None:
    target = _built_directory() / command
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    go = str(go_toolchain(_from_go_mod(r"^go (\S+)$")))
    version_flag = f"-X github.com/dapr/dapr/pkg/buildinfo.version={dapr_version()}"
    package = f"github.com/dapr/dapr/cmd/{command}"
    # -v names each package when it is compiled: the only sign of life that a long build gives.
    arguments = [go, "build", "-v", *_FLAGS, f"-ldflags=-s -w {version_flag}", "-o", str(partial), package]
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    print(f"{command}: building Dapr {dapr_version()} with {go}; the first build takes minutes", flush=True)
    with subprocess.Popen(
        arguments, cwd=_MODULE, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        tail = _report_progress(process, command)
    if process.returncode != 0:
        raise RuntimeError(f"building {command} failed:\n" + "".join(tail))
    partial.replace(target)


def _report_progress(process: subprocess.Popen[str], command: str) -> deque[str]:
    """Print how far the build is, now and then, and return the end of its output."""
    assert process.stderr is not None  # noqa: S101  (it was asked to be a pipe)
    started = reported = time.monotonic()
    tail: deque[str] = deque(maxlen=30)
    downloaded = compiled = 0
    for line in process.stderr:
        tail.append(line)
        if line.startswith("go: downloading"):
            downloaded += 1
        else:
            compiled += 1
        now = time.monotonic()
        if now - reported > _PROGRESS_SECONDS:
            reported = now
            counts = f"{downloaded} modules downloaded, {compiled} packages compiled"
            print(f"{command}: {counts}, {now - started:.0f} s", flush=True)
    return tail


def _from_go_mod(pattern: str) -> str:
    match = re.search(pattern, (_MODULE / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"{_MODULE / 'go.mod'} has no line like {pattern}")
    return match[1]
