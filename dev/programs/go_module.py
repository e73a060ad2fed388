"""Commands built from a pinned Go module: `go.sum` verifies every byte that goes into the build."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dev.programs.cache import cache_directory
from dev.programs.go import go_toolchain

if TYPE_CHECKING:
    from pathlib import Path

_PROGRESS_SECONDS = 20


@dataclass(frozen=True)
class GoModule:
    """A directory with a go.mod that requires what is built.

    Attributes:
        name: What to call it.
        directory: Where go.mod and go.sum are.
        requires: The module whose version counts.
        flags: Flags of the build.
    """

    name: str
    directory: Path
    requires: str
    flags: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version that go.mod pins, such as "1.18.2"."""
        return self._from_go_mod(rf"^require {re.escape(self.requires)} v(\S+)$")

    @property
    def built(self) -> Path:
        """Where its commands are once they are built; it need not exist."""
        digest = hashlib.sha256(" ".join(self.flags).encode())
        for name in ("go.mod", "go.sum"):
            digest.update((self.directory / name).read_bytes())
        return cache_directory() / f"{self.name.lower()}-{self.version}-{digest.hexdigest()[:12]}"

    def build(self, command: str, package: str, linker_flags: str = "") -> None:
        """Build a command.

        Args:
            command: The name of the file.
            package: Its import path.
            linker_flags: More than what leaves symbols out.

        Raises:
            RuntimeError: It cannot be built; the message has the end of the output.
        """
        target = self.built / command
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        go = str(go_toolchain(self._from_go_mod(r"^go (\S+)$")))
        linker = f"-ldflags=-s -w {linker_flags}".rstrip()
        # -v names each package when it is compiled: the only sign of life that a long build gives.
        arguments = [go, "build", "-v", *self.flags, linker, "-o", str(partial), package]
        environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
        print(f"{command}: building {self.name} {self.version} with {go}; the first build takes minutes", flush=True)
        with subprocess.Popen(
            arguments,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            tail = _report_progress(process, command)
        if process.returncode != 0:
            raise RuntimeError(f"building {command} failed:\n" + "".join(tail))
        partial.replace(target)

    def _from_go_mod(self, pattern: str) -> str:
        match = re.search(pattern, (self.directory / "go.mod").read_text(), re.MULTILINE)
        if match is None:
            raise RuntimeError(f"{self.directory / 'go.mod'} has no line like {pattern}")
        return match[1]


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
