"""How a root stands: what its journal says about its last invocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.hooks.invocation import FAILED, INTERRUPTED, PARKED, RUNNING, STATUS
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.records.codec import unpack_value

if TYPE_CHECKING:
    from strands_dapr_session.records.records import Acquired
    from strands_dapr_session.records.view import ScopeView, View

State = Literal["new", "running", "failed", "interrupted", "parked", "finished"]
"""``running`` is what was written down: whether anybody still runs it, the owner's heartbeat tells."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a root stands.

    Attributes:
        session_id: Its session.
        root_id: The agent, graph or swarm.
        state: See `State`.
        invocation_id: The last invocation; ours.
        key: The id that its caller gave it.
        attempt: How many processes or calls have worked on it.
        error: Why it failed or is parked, where that is known.
        messages: How many messages an agent has; of a graph or swarm, all its agents together.
        sequence: The last commit.
        owner: Who has acquired the journal and not released it.
    """

    session_id: str
    root_id: str
    state: State
    invocation_id: str | None
    key: str | None
    attempt: int
    error: str | None
    messages: int
    sequence: int
    owner: Acquired | None

    @property
    def is_unfinished(self) -> bool:
        """Whether there is anything to go on with."""
        return self.state not in {"new", "finished"}

    @classmethod
    def read(cls, view: View, session_id: str, root_id: str) -> Standing:
        """Read it from a journal.

        Raises:
            DamagedDataError: The journal does not say what a run of an agent would.
        """
        invocation = view.scope("").invocation
        try:
            state, status = _state(view)
            return cls(
                session_id,
                root_id,
                state,
                None if invocation is None else invocation.id,
                None if invocation is None else invocation.key,
                int(status.get("attempt", 0)),
                str(status["error"]) if status.get("error") else None,
                sum(len(scope.ordinals) for path, scope in view.scopes.items() if not is_stash(path)),
                view.sequence,
                view.owner,
            )
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise DamagedDataError(f"{session_id}/{root_id}", f"no run of an agent is described ({error!r})") from error


def _state(view: View) -> tuple[State, dict[str, Any]]:
    """Read the state of a root and the note that it comes from. What is parked below it parks it."""
    root = view.scope("")
    status = _status(root)
    if root.invocation is None:
        return "new", status
    if root.invocation.finished:
        return "finished", status
    for scope in view.scopes.values():
        if scope.invocation is not None and not scope.invocation.finished and _status(scope).get("state") == PARKED:
            return "parked", _status(scope)
    states: dict[Any, State] = {RUNNING: "running", FAILED: "failed", INTERRUPTED: "interrupted"}
    return states[status.get("state", RUNNING)], status


def _status(scope: ScopeView) -> dict[str, Any]:
    packed = scope.notes.get(STATUS)
    return {} if packed is None else dict(unpack_value(packed, key=STATUS))
