"""Values as a ledger can hold them, so that two runs can be compared: exact, short, and without what is random."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

_LONGEST: Final = 512
"""Characters from which on a text is written as its digest."""

_RANDOM: Final = frozenset({"tracking_id", "created_at", "metrics", "latencyMs"})
"""Keys of Strands' messages whose values differ from run to run."""

_LISTED: Final = "  - Agent: "


def plain(value: Any) -> Any:
    """Turn any value into what JSON can hold, without making different values equal.

    Tracking ids and times of messages are left out; long texts and bytes become digests.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"<{len(value)} characters {digest(value)}>"
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items() if name not in _RANDOM}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {f"<{type(value).__name__}>": _rare(value)}


def in_any_order(messages: Any) -> Any:
    """Sort what Strands lists in the order in which it came: the results of a node's own nodes, in a later prompt.

    Which of two nodes that run at the same time ends first differs between two runs that nothing disturbs (1.62,
    `Graph._build_node_input`).

    Args:
        messages: As `plain` gives them.
    """
    sorted_messages = []
    for message in messages:
        content: list[Any] = []
        for is_listed, blocks in groupby(message["content"], _is_listed):
            found = list(blocks)
            content += sorted(found, key=repr) if is_listed else found
        sorted_messages.append({**message, "content": content})
    return sorted_messages


def _is_listed(block: Any) -> bool:
    return str(block.get("text", "")).startswith(_LISTED)


def _rare(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes {hashlib.blake2b(value, digest_size=8).hexdigest()}"
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    return repr(value)


def digest(value: Any) -> str:
    """Name a plain value, briefly; equal ones have equal names."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Say where two plain values first differ; None when they are equal."""
    deeper: list[tuple[str, Any, Any]] = []
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *found]:
            if (name in expected) != (name in found):
                which = "missing" if name in expected else "unexpected"
                return f"{path}[{name!r}] is {which}: {expected.get(name, found.get(name))!r}"
        deeper = [(f"{path}[{name!r}]", expected[name], found[name]) for name in expected]
    elif isinstance(expected, list) and isinstance(found, list):
        pairs = enumerate(zip(expected, found, strict=False))
        deeper = [(f"{path}[{index}]", one, other) for index, (one, other) in pairs]
        if len(expected) != len(found):
            deeper.append((f"{path} length", len(expected), len(found)))
    elif type(expected) is not type(found) or expected != found:
        return f"{path or 'value'}: expected {expected!r}, found {found!r}"
    return next((what for where, one, other in deeper if (what := difference(one, other, where))), None)
