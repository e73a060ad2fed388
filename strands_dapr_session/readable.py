"""Whatever is stored, as text that people and other programs can read."""

from __future__ import annotations

import json
from typing import Any


def as_json(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Write a value as JSON, also one that JSON does not know: what it lacks is written as Python shows it.

    Args:
        value: Anything that a session holds.
        indent: Spaces for each level; on one line without.
        ascii_only: Escape all other characters.
    """
    return json.dumps(_keyed(value), default=repr, indent=indent, ensure_ascii=ascii_only)


def _keyed(value: Any) -> Any:
    """Make the keys of dictionaries text, which JSON wants, wherever they are."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _keyed(item) for key, item in value.items()}
    return [_keyed(item) for item in value] if isinstance(value, (list, tuple)) else value
