"""One executable and how to run it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class ProgramMissingError(Exception):
    """A program is not on this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not on this machine; `make servers` finds, builds or installs all that is needed")


@dataclass(frozen=True)
class Program:
    """One executable and how to run it.

    Attributes:
        path: The executable.
        environment: Variables that it needs on top of the caller's; none unless it runs from an unpacked package.
    """

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def sibling(self, name: str) -> Program:
        """Return the program of that name beside this one, or beside what this one is a link to.

        Raises:
            ProgramMissingError: There is none.
        """
        path = first_executable([self.path.with_name(name), self.path.resolve().with_name(name)])
        if path is None:
            raise ProgramMissingError(name)
        return Program(path, self.environment)


def first_executable(paths: Iterable[Path]) -> Path | None:
    """Return the first of the paths that can be executed."""
    return next((path for path in paths if path.is_file() and os.access(path, os.X_OK)), None)
