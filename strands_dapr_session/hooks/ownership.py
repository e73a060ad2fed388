"""Who owns the journal while an agent runs: the agent itself, or what it is a part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from strands_dapr_session.hooks.restore import refresh_agent
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands import Agent

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.records.records import Record


class Ownership(Protocol):
    """How an agent comes by the right to write, and what becomes of its last records."""

    async def begin(self, recording: Recording, agent: Agent) -> View:
        """Make sure that the agent may write and is what the journal says.

        Returns:
            What the journal holds for it.

        Raises:
            DurableSessionError: It may not, or the journal cannot be read.
        """
        ...

    async def end(self, recording: Recording, agent: Agent, last: Sequence[Record]) -> None:
        """Write down the last records, and give the right back.

        Raises:
            DurableSessionError: They could not be recorded.
        """
        ...

    def give_up(self, recording: Recording) -> None:
        """Stop writing, after a failure."""
        ...


class Found:
    """What a root found in its journal, for everything that runs below it.

    Each scope is handed out once: from then on, the process knows better what is in it.
    """

    def __init__(self) -> None:
        self._view = View()
        self._taken: set[str] = set()

    def renew(self, view: View) -> None:
        """Take a view that was just read, bodies and all; only where there is anything below the root."""
        self._view = view if len(view.scopes) > 1 else View()
        self._taken = set()

    @property
    def view(self) -> View:
        """All of it, as it was when it was read."""
        return self._view

    def take(self, scope: str) -> View:
        """Get the view for a scope that has not asked since it was read; an empty one otherwise."""
        if scope in self._taken:
            return View()
        self._taken.add(scope)
        return self._view

    def has_taken(self, scope: str) -> bool:
        """Tell whether a scope was used since the view was read."""
        return scope in self._taken


class Owner:
    """Ownership of an agent that was given the session manager: it acquires its journal for each invocation."""

    async def begin(self, recording: Recording, agent: Agent) -> View:
        """Acquire the journal. See `Ownership.begin`."""
        acquisition = await recording.journal.acquire()
        if acquisition.moved:
            recording.found.renew(acquisition.view)
        try:
            if acquisition.moved or recording.stale:
                refresh_agent(recording, agent, acquisition.view)
        except BaseException:
            await self.end(recording, agent, [])
            raise
        return acquisition.view

    async def end(self, recording: Recording, agent: Agent, last: Sequence[Record]) -> None:  # noqa: ARG002
        """Release the journal with the last records in the same commit, or forget it if that fails or is cancelled."""
        try:
            await recording.journal.release(*last)
        except BaseException:
            recording.stale = True
            recording.journal.abandon()
            raise

    def give_up(self, recording: Recording) -> None:
        """Forget the journal. See `Ownership.give_up`."""
        recording.journal.abandon()
