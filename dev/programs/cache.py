"""Where builds and downloads are kept: outside of the tree, so that every checkout shares them."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_directory() -> Path:
    """Return the project's cache directory; it need not exist. `dev/bootstrap` names the same one."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "strands-dapr-session"


@contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """Hold the machine-wide lock of that name, so that of several checkouts one builds and the others wait for it."""
    path = cache_directory() / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
