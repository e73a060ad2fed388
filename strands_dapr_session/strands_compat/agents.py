"""An agent's parts: what its snapshot holds, and what it was made with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from strands.agent.state import AgentState
from strands.hooks import AfterInvocationEvent, AgentInitializedEvent, BeforeInvocationEvent
from strands.tools import PythonAgentTool
from strands.tools.decorator import DecoratedFunctionTool
from strands.types._snapshot import SNAPSHOT_SCHEMA_VERSION, Snapshot
from strands.types.exceptions import SessionException

from strands_dapr_session.errors import DurableSessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeGuard

    from strands import Agent
    from strands.types.tools import AgentTool

_AT_THE_ENDS: Final = frozenset({AgentInitializedEvent, BeforeInvocationEvent, AfterInvocationEvent})
_OUR_NAME: Final = __name__.partition(".")[0]

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


class Remembered:
    """What an agent remembers at one moment: its messages, its state, and what its model keeps of the conversation."""

    def __init__(self, agent: Agent) -> None:
        """Read it from an agent."""
        self._messages = copy.deepcopy(agent.messages)
        self._state = agent.state.get()
        self._model_state = snapshot(agent, "model_state")

    def give_back(self, agent: Agent) -> None:
        """Let the agent remember that and nothing else; as often as it is called."""
        agent.messages = copy.deepcopy(self._messages)
        agent.state = AgentState(self._state)
        if snapshot(agent, "model_state") != self._model_state:
            load(agent, self._model_state)


def state_version(agent: Agent) -> tuple[object, int]:
    """Tell whether the agent's state may have changed, without copying it.

    `_get_version` is what Strands' own session managers use (1.43 to 1.62); the object covers `agent.state = ...`. Not
    its id: another state may get that when this one is gone.
    """
    state = agent.state
    version = getattr(state, "_get_version", None)
    return (state, version() if version is not None else -1)


def edits_history_midway(agent: Agent) -> bool:
    """Tell whether anything may rewrite older messages in the middle of an invocation.

    The built-in conversation managers do so only where Strands calls `sync_agent` afterwards, but for those that look
    before each model call. Nothing is known of other managers, of context managers, of hooks, and of tools that are
    given the agent.
    """
    manager = agent.conversation_manager
    if getattr(agent, "context_manager", None) is not None or not _is_of_strands(type(manager)):
        return True
    if getattr(manager, "per_turn", False) or getattr(manager, "_compression_threshold", None) is not None:
        return True
    return _has_other_hooks(agent) or any(map(_is_given_agent, agent.tool_registry.registry.values()))


def _has_other_hooks(agent: Agent) -> bool:
    """Tell whether hooks of others than Strands and us hear of anything between the beginning and the end of a call.

    The registry has no public list of its callbacks (1.43 to 1.62).
    """
    if getattr(getattr(agent, "_intervention_registry", None), "_handlers", None):
        return True
    return any(
        not _is_of_strands(entry.callback)
        for event_type, entries in agent.hooks._registered_callbacks.items()  # noqa: SLF001
        if event_type not in _AT_THE_ENDS
        for entry in entries
    )


def _is_given_agent(tool: AgentTool) -> bool:
    """Tell whether a tool is handed the agent that uses it. The attribute is not public (1.43 to 1.62)."""
    if isinstance(tool, DecoratedFunctionTool):
        metadata = tool._metadata  # noqa: SLF001
        return metadata._context_param is not None or "agent" in metadata.signature.parameters  # noqa: SLF001
    return isinstance(tool, PythonAgentTool) or not _is_of_strands(type(tool))


def _is_of_strands(thing: object) -> bool:
    """Tell whether a class or function is Strands', or ours."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in {"strands", _OUR_NAME}


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
