"""Environments of peers, with packages that this one never has: each is made when it is first needed, and kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dev.programs.cache import cache_directory, cache_lock

_SILENT = {
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "1",
    "DIAGRID_NO_ANALYTICS": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
}
"""What keeps peers from telling their makers of each start, from tracing, and from asking for news."""

_LONGEST_REASON = 200


def reason(error: Exception) -> str:
    """Say in one line why a peer cannot be measured."""
    printed = getattr(error, "stderr", None)  # of a program that failed
    text = printed if isinstance(printed, str) and printed.strip() else str(error) or repr(error)
    line = text.strip().splitlines()[-1].strip()[:_LONGEST_REASON]
    return f"not measured: {line.replace('|', '/')}"  # it stands in tables of Markdown


@dataclass(frozen=True)
class PeerEnvironment:
    """An environment of its own.

    Attributes:
        name: Its directory.
        packages: What is installed, within ranges that are known to work.
    """

    name: str
    packages: tuple[str, ...]

    def python(self) -> Path:
        """Get its interpreter, made and filled as far as it is not.

        Raises:
            CalledProcessError: It cannot be made.
        """
        python = self._place / "bin" / "python"
        uv = str(Path(sys.executable).with_name("uv"))
        with cache_lock(f"peers-{self.name}"):
            if not python.exists():
                _run([uv, "venv", "--quiet", "--python", sys.executable, str(self._place)])
            _run([uv, "pip", "install", "--quiet", "--python", str(python), *self.packages])
        return python

    def note(self, text: str) -> str:
        """Put the versions that were measured before what is said of them; none of what is not installed."""
        directories = [str(path) for path in self._place.glob("lib/python*/site-packages")]
        found = {each.metadata["Name"].lower(): each.version for each in metadata.distributions(path=directories)}
        names = [re.split(r"[^\w-]", package)[0] for package in self.packages]
        return "; ".join(
            [", ".join(f"{name} {found[name]}" for name in names if name in found) or "not installed", text]
        )

    @property
    def _place(self) -> Path:
        return cache_directory() / "peers" / self.name


def variables() -> dict[str, str]:
    """Get what is set where peers run."""
    return os.environ | _SILENT


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
