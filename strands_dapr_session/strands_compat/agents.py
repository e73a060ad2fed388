"""An agent's parts: what its snapshot holds, and what it was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from strands.types._snapshot import SNAPSHOT_SCHEMA_VERSION, Snapshot
from strands.types.exceptions import SessionException

from strands_dapr_session.errors import DurableSessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeGuard

    from strands import Agent

T = TypeVar("T")


class DuplicateAgentError(DurableSessionError, SessionException):
    """Two agents of one session manager have the same agent id. Is a Strands `SessionException`."""


def is_a(thing: object, *kinds: type[T]) -> TypeGuard[T]:
    """Tell whether something really is of one of some types. A mock may claim any class and has nothing of it."""
    return issubclass(type(thing), kinds)


def snapshot(agent: Agent, *fields: str) -> dict[str, Any]:
    """Read parts of an agent through its public snapshot.

    The result shares the nested values of the interrupt state with the agent (Strands copies the rest): encode it
    before anything else runs.
    """
    return agent.take_snapshot(include=cast("Any", list(fields))).data


def load(agent: Agent, data: Mapping[str, Any]) -> None:
    """Set parts of an agent through its public snapshot. `Snapshot` is documented but lives in a private module."""
    agent.load_snapshot(Snapshot(scope="agent", schema_version=SNAPSHOT_SCHEMA_VERSION, data=dict(data), app_data={}))


def keep(agent: Agent) -> Callable[[], None]:
    """Remember what `reset_executor_state` of a node sets back (1.43 to 1.62); the result undoes that."""
    messages, state, model_state = agent.messages, agent.state, snapshot(agent, "model_state")

    def put_back() -> None:
        agent.messages, agent.state = messages, state
        load(agent, model_state)

    return put_back


def state_version(agent: Agent) -> tuple[int, int]:
    """Tell whether the agent's state may have changed, without copying it.

    `_get_version` is what Strands' own session managers use (1.43 to 1.62); the identity covers `agent.state = ...`.
    """
    state = agent.state
    version = getattr(state, "_get_version", None)
    return (id(state), version() if version is not None else -1)


def edits_history_midway(agent: Agent) -> bool:
    """Tell whether the conversation manager may rewrite messages between two model calls of one invocation.

    The built-in ones do so only where Strands calls `sync_agent` afterwards, except a sliding window with
    ``per_turn``. Nothing is known of other managers and of context managers.
    """
    manager = agent.conversation_manager
    if getattr(agent, "context_manager", None) is not None or type(manager).__module__.partition(".")[0] != "strands":
        return True
    return bool(getattr(manager, "per_turn", False))


def stash_in_memory(agent: Agent) -> Any | None:
    """Get the `Stash` of the agent's context manager, if it keeps one that dies with the process (public, 1.62)."""
    manager = getattr(agent, "context_manager", None)
    return None if manager is None or manager.stash_is_durable else manager.stash


def has_own_session(agent: Agent) -> bool:
    """Tell whether an agent was given a session manager. Strands has no public name for it (1.43 to 1.62)."""
    return getattr(agent, "_session_manager", None) is not None


def session_manager_of(root: Any) -> Any:
    """Get the session manager of an agent, a graph or a swarm; None without one. Agents hide theirs (1.43 to 1.62)."""
    return getattr(root, "session_manager", None) or getattr(root, "_session_manager", None)


def structured_output_model(agent: Any) -> Any:
    """Read the type of an agent's structured output; None without one.

    `Agent(structured_output_model=...)` is public and has no public accessor (1.43 to 1.62).
    """
    return getattr(agent, "_default_structured_output_model", None)
