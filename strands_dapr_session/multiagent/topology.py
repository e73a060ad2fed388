"""What a graph or swarm is made of, to notice that an unfinished run is resumed by another one."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.multiagent.graph import Graph
from strands.multiagent.swarm import Swarm

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DriftError
from strands_dapr_session.hooks.drift import fingerprint
from strands_dapr_session.records.codec import pack_value, unpack_value

if TYPE_CHECKING:
    from strands_dapr_session.hooks.settings import DriftMode

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 8


def describe(orchestrator: Any) -> bytes:
    """Describe nodes, edges and entry points. Conditions are known by their names: code cannot be compared."""
    return pack_value(_describe(orchestrator), path="topology")


def check_topology(orchestrator: Any, recorded: bytes, owed: list[str], mode: DriftMode) -> None:
    """Compare an orchestrator with the one that began the run.

    Args:
        orchestrator: The one that is to resume.
        recorded: The description of the one that began.
        owed: The nodes that are to run again or to go on.
        mode: What to do about a difference.

    Raises:
        DriftError: A node that is owed is missing, whatever the mode; or they differ and `mode` is ``"refuse"``.
    """
    missing = [name for name in owed if name not in orchestrator.nodes]
    if missing:
        raise DriftError(
            f"the unfinished run of {orchestrator.id!r} goes on at {', '.join(map(repr, missing))}, which no longer "
            "exists. Resume it with a version that has it, or give the run up with abandon()."
        )
    if mode == "ignore" or recorded == (current := describe(orchestrator)):
        return
    text = "; ".join(_differences(unpack_value(recorded), unpack_value(current)))
    if mode == "refuse":
        raise DriftError(
            f"the unfinished run of {orchestrator.id!r} was begun by another version of it: {text}. Resume it with "
            'that version, pass drift="warn" to resume it with this one, or give the run up with abandon().'
        )
    logger.warning("orchestrator_id=<%s>, drift=<%s> | resuming a run begun by another version", orchestrator.id, text)


def _describe(orchestrator: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": type(orchestrator).__name__,
        "nodes": {name: _digest(_describe_executor(orchestrator.nodes[name].executor)) for name in orchestrator.nodes},
    }
    described["nodes"] = dict(sorted(described["nodes"].items()))
    if isinstance(orchestrator, Graph):
        described["edges"] = sorted(_describe_edge(edge) for edge in orchestrator.edges)
        described["entry points"] = sorted(node.node_id for node in orchestrator.entry_points)
        described["reset_on_revisit"] = orchestrator.reset_on_revisit
    elif isinstance(orchestrator, Swarm):
        entry = orchestrator.entry_point
        described["entry points"] = [str(entry.name) if entry is not None else next(iter(orchestrator.nodes), "")]
    return described


def _describe_edge(edge: Any) -> str:
    condition = edge.condition
    text = f"{edge.from_node.node_id} -> {edge.to_node.node_id}"
    if condition is None:
        return text
    named = condition if hasattr(condition, "__qualname__") else type(condition)
    return f"{text} if {named.__module__}.{named.__qualname__}"


def _describe_executor(executor: Any) -> Any:
    if strands_compat.is_a(executor, Agent):
        return ["agent", executor.name, fingerprint(executor)]
    if strands_compat.is_a(executor, Graph, Swarm):
        return _describe(executor)
    return f"{type(executor).__module__}.{type(executor).__qualname__}"


def _digest(value: Any) -> str:
    return hashlib.blake2b(pack_value(value), digest_size=_DIGEST_BYTES).hexdigest()


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    if before["type"] != after["type"]:
        found.append(f"{before['type']} became {after['type']}")
    old, new = before["nodes"], after["nodes"]
    old_edges, new_edges = set(before.get("edges", [])), set(after.get("edges", []))
    for title, names in (
        ("nodes removed", old.keys() - new.keys()),
        ("nodes added", new.keys() - old.keys()),
        ("nodes changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
        ("edges removed", old_edges - new_edges),
        ("edges added", new_edges - old_edges),
    ):
        if names:
            found.append(f"{title}: {', '.join(sorted(names))}")
    found.extend(
        f"{name} changed from {before.get(name)} to {after.get(name)}"
        for name in ("entry points", "reset_on_revisit")
        if before.get(name) != after.get(name)
    )
    return found
