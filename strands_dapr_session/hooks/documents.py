"""What is recorded of an agent besides its messages, and what of it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from strands_dapr_session import strands_compat
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import DocumentSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from strands import Agent

SNAPSHOT_FIELDS: Final = ("conversation_manager_state", "interrupt_state", "model_state")
"""Parts of Strands' snapshot that are small, and are looked at whenever something is recorded."""

PROGRESS: Final = "progress"
"""Our own document: how far the invocation has come (see `recording.Progress`)."""

StateVersion: TypeAlias = tuple[object, int]
"""See `strands_compat.state_version`."""


class Documents:
    """Shadow of the small mutable parts of an agent: the packed form of each as it is recorded."""

    def __init__(self, scope: str) -> None:
        """Begin with nothing recorded for the agent at the path `scope`."""
        self._scope = scope
        self._packed: dict[str, bytes] = {}
        self._state_version: StateVersion | None = None

    def reset(self, agent: Agent, recorded: Mapping[str, bytes]) -> None:
        """Take `recorded` as what the journal holds of `agent`."""
        self._packed = dict(recorded)
        self._state_version = strands_compat.state_version(agent) if "state" in recorded else None

    def changed(self, agent: Agent) -> tuple[list[DocumentSet], StateVersion]:
        """List what differs from what is recorded, and tell which version of the state was looked at, for `take`.

        Raises:
            UnencodableValueError: A value would not survive storage.
        """
        values: dict[str, Any] = strands_compat.snapshot(agent, *SNAPSHOT_FIELDS)
        # Read before the state is: a tool in another thread may change it at any time.
        version = strands_compat.state_version(agent)
        if version != self._state_version:
            values["state"] = agent.state.get()
        return [record for name, value in values.items() for record in self.difference(name, value)], version

    def difference(self, name: str, value: Any) -> list[DocumentSet]:
        """List one document if it differs; an empty one that was never recorded is left out."""
        packed = pack_value(value, path=name)
        recorded = self._packed.get(name)
        if packed == recorded or (recorded is None and _is_blank(value)):
            return []
        return [DocumentSet(self._scope, name, packed)]

    def take(self, records: Iterable[DocumentSet], version: StateVersion | None = None) -> None:
        """Take differences as recorded, and with them the version of the state that they were found in."""
        self._packed.update((record.name, record.value) for record in records if record.value is not None)
        if version is not None:
            self._state_version = version

    def recorded(self, name: str) -> Any:
        """Read a document as it is recorded; None when there is none."""
        packed = self._packed.get(name)
        return None if packed is None else unpack_value(packed)


def _is_blank(value: Any) -> bool:
    """Tell whether a document says nothing that a new agent would not have anyway."""
    return not value or value == {"interrupts": {}, "context": {}, "activated": False}
