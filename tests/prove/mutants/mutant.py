"""A mutant: the real code with one rule of the protocol broken, and the tests that must notice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
PACKAGE: Final = "strands_dapr_session"


class StalePatchError(Exception):
    """The code that a mutant breaks is not there any more: rewrite the mutant, so that it keeps guarding its rule."""


@dataclass(frozen=True)
class Edit:
    """A replacement in one module, of text that is there exactly once.

    Attributes:
        module: The file, below the package.
        old: The text, whole lines.
        new: What takes its place.
    """

    module: str
    old: str
    new: str

    def apply(self, package: Path) -> None:
        """Edit a copy of the package.

        Raises:
            StalePatchError: The text is not there, or not only once.
        """
        path = package / self.module
        source = path.read_text()
        if (found := source.count(self.old)) != 1:
            raise StalePatchError(f"{self.module}: found {found} times instead of once:\n{self.old}")
        broken = source.replace(self.old, self.new)
        compile(broken, str(path), "exec", dont_inherit=True)
        path.write_text(broken)


@dataclass(frozen=True)
class Mutant:
    """One rule broken.

    Attributes:
        name: What is broken.
        promise: What would not hold any more.
        edits: How.
        caught_by: The tests that must fail, as pytest names them. Each one does.
    """

    name: str
    promise: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]

    def write(self, directory: Path) -> None:
        """Put a broken copy of the package into a directory.

        Raises:
            StalePatchError: The code has changed since the mutant was written.
        """
        package = copy_package(directory)
        for edit in self.edits:
            edit.apply(package)


def copy_package(directory: Path) -> Path:
    """Copy the package, as it is in the tree, into a directory from which it can be imported."""
    package = directory / PACKAGE
    shutil.copytree(ROOT / PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package
