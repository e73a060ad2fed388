"""Noticing that an unfinished invocation is resumed by an agent that is no longer the same."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from strands_dapr_session.errors import DriftError
from strands_dapr_session.records.codec import pack_value, unpack_value

if TYPE_CHECKING:
    from strands import Agent

    from strands_dapr_session.hooks.settings import DriftMode

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 8


def fingerprint(agent: Agent) -> bytes:
    """Describe what a run depends on: the tools with their schemas, the system prompt, the model.

    Dictionary order does not count; the code behind a tool cannot be compared and is left out.
    """
    tools = {name: _digest(config) for name, config in agent.tool_registry.get_all_tools_config().items()}
    model_id = _model_id(agent.model)
    return pack_value(
        {
            "tools": tools,
            "system_prompt": _digest(agent.system_prompt),
            "model": f"{type(agent.model).__module__}.{type(agent.model).__qualname__}:{model_id}",
        },
        path="fingerprint",
    )


def _model_id(model: Any) -> Any:
    """Ask a model for its name. Models that users write need not have one, nor answer at all: Strands never asks."""
    try:
        config = model.get_config()
    except Exception:  # noqa: BLE001 - whatever it raises
        return None
    return config.get("model_id") if isinstance(config, dict) else None


def check_drift(agent: Agent, recorded: bytes, mode: DriftMode) -> None:
    """Compare an agent with the one that began the invocation.

    Args:
        agent: The agent that is to resume.
        recorded: The fingerprint of the one that began.
        mode: What to do about a difference.

    Raises:
        DriftError: They differ and `mode` is ``"refuse"``.
    """
    if mode == "ignore" or recorded == (current := fingerprint(agent)):
        return
    differences = _differences(unpack_value(recorded), unpack_value(current))
    if not differences:
        return
    text = "; ".join(differences)
    if mode == "refuse":
        raise DriftError(
            f"the unfinished invocation of agent {agent.agent_id!r} was begun by another version of it: {text}. "
            'Resume it with that version, or pass drift="warn" to resume it with this one.'
        )
    logger.warning("agent_id=<%s>, drift=<%s> | resuming an invocation begun by another version", agent.agent_id, text)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found: list[str] = []
    old, new = before["tools"], after["tools"]
    for title, names in (
        ("tools removed", old.keys() - new.keys()),
        ("tools added", new.keys() - old.keys()),
        ("tools changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
    ):
        if names:
            found.append(f"{title}: {', '.join(sorted(names))}")
    if before["system_prompt"] != after["system_prompt"]:
        found.append("system prompt changed")
    if before["model"] != after["model"]:
        found.append(f"model changed from {before['model']} to {after['model']}")
    return found


def _digest(value: Any) -> str:
    return hashlib.blake2b(
        repr(_ordered(value)).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES
    ).hexdigest()


def _ordered(value: Any) -> Any:
    """Give dictionaries one order, so that equal ones have one description."""
    if isinstance(value, dict):
        return sorted((str(key), _ordered(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value
