"""What the agents of workers are asked to do, ours and others: prompts, and the turns that answer them.

It needs nothing but the standard library, so that it runs in the environments of peers as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

AGENT = "bench"

NAP = 0.2
"""Seconds that a tool of a batch takes."""

BATCH = 3
"""How many tools a batch has."""


class Script(dict[str, Any]):
    """Turns for prompts such as ``"turns 20 <run>"``, ``"batch <run>"`` and ``"hang <run>"``."""

    def __missing__(self, prompt: str) -> Any:
        """Make the turns: each a text, or a list of (tool name, input)."""
        kind, _, rest = prompt.partition(" ")
        if kind == "turns":
            count, _, _ = rest.partition(" ")
            return [*([("tick", {"n": n})] for n in range(int(count))), "done"]
        if kind == "batch":
            return [[("nap", {"n": n}) for n in range(BATCH)], "done"]
        if kind == "hang":
            return [[("hang", {"run": rest})], "done"]
        return ["done"]


def is_first(directory: Path, run: str) -> bool:
    """Whether nobody has asked before, in any process."""
    try:
        (directory / f"hung-{run}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
