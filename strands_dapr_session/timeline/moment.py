"""What the agents of a session were at one of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.hooks.checks import check_messages, check_tool_results
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.records.codec import unpack_value, unpack_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands.types.content import Messages
    from strands.types.tools import ToolResult

    from strands_dapr_session.records.view import ScopeView, View


@dataclass(frozen=True, slots=True)
class AgentMoment:
    """What an agent was.

    Attributes:
        path: The agent: empty for the one that was given the session manager, ``"node"`` or ``"node/…"`` below it.
        messages: Its conversation, to the last message.
        tool_results: Recorded results of the tools that the last message asks for, while others are missing.
        state: The agent's state; None if it was not kept, which happens only within an invocation.
        conversation_manager_state: The state of its conversation manager; None if it was not kept.
    """

    path: str
    messages: Messages
    tool_results: list[ToolResult]
    state: dict[str, Any] | None
    conversation_manager_state: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Moment:
    """What a session was when a step had been recorded.

    Attributes:
        session_id: The session.
        root_id: The agent, graph or swarm.
        number: The step.
        agents: Its agents, by their paths.
    """

    session_id: str
    root_id: str
    number: int
    agents: Mapping[str, AgentMoment]

    @property
    def agent(self) -> AgentMoment:
        """The agent that was given the session manager.

        Raises:
            KeyError: That was a graph or swarm, or nothing is recorded of the agent yet.
        """
        return self.agents[""]


def agents_of(view: View, key: str) -> dict[str, AgentMoment]:
    """Read what the agents of a view were. A document that is empty was not kept.

    Args:
        view: The view, bodies and all.
        key: The session and root, for errors.

    Raises:
        DamagedDataError: Something in it is not what an agent records.
    """
    return {path: _agent(scope, key) for path, scope in view.scopes.items() if _is_agent(scope)}


def _is_agent(scope: ScopeView) -> bool:
    """Tell an agent from an orchestrator, of which only notes are recorded."""
    return bool(scope.ordinals or scope.documents) and not is_stash(scope.path)


def _agent(scope: ScopeView, key: str) -> AgentMoment:
    messages = unpack_values(scope.messages, key=key)
    check_messages(messages, key=key)
    results = unpack_values(scope.results.values(), key=key)
    check_tool_results(results, key=key)
    return AgentMoment(
        scope.path,
        messages,
        results,
        _document(scope, "state", key),
        _document(scope, "conversation_manager_state", key),
    )


def _document(scope: ScopeView, name: str, key: str) -> dict[str, Any] | None:
    packed = scope.documents.get(name)
    if packed == b"":
        return None
    value = {} if packed is None else unpack_value(packed, key=key)
    if not isinstance(value, dict):
        raise DamagedDataError(key, f"what is there for {name} is something else")
    return value
