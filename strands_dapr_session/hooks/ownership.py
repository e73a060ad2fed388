"""Who owns the journal while an agent runs: the agent itself, or what it is a part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from strands_dapr_session import strands_compat
from strands_dapr_session.hooks.checks import read_status
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.hooks.invocation import STATUS, Progress
from strands_dapr_session.hooks.restore import refresh_agent, restore_agent
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.records.records import InvocationFinished
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strands import Agent

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.records.records import Record


TOTALS: Final = "totals"
"""Our own document: what an agent's metrics had counted when its last invocation finished."""


class Ownership(Protocol):
    """How an agent comes by the right to write, and what becomes of its last records."""

    async def begin(self, recording: Recording, agent: Agent, *, is_call: bool = True) -> View:
        """Make sure that the agent may write and is what the journal says.

        Args:
            recording: What is recorded of the agent.
            agent: The agent.
            is_call: The agent was called, and Strands has accepted the prompt or the answers.

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
        self._view = view if sum(not is_stash(path) for path in view.scopes) > 1 else View()
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

    def has_taken_below(self, scope: str) -> bool:
        """Tell whether anything below a scope was."""
        return any(taken.startswith(f"{scope}/") for taken in self._taken)

    def renew_part(self, scope: str, view: View) -> None:
        """Take a view that was just read for a scope and what is below it, which begin again while the rest goes on."""
        kept = {taken for taken in self._taken if taken != scope and not taken.startswith(f"{scope}/")}
        self.renew(view)
        self._taken = kept


class Owner:
    """Ownership of an agent that was given the session manager: it acquires its journal for each invocation."""

    async def begin(self, recording: Recording, agent: Agent, *, is_call: bool = True) -> View:
        """Acquire the journal. See `Ownership.begin`."""
        acquisition = await recording.journal.acquire()
        recording.moved = acquisition.moved
        if acquisition.moved:
            recording.found.renew(acquisition.view)
        try:
            if acquisition.moved or recording.stale:
                # Called with a prompt, it can't wait for answers to what it did not know of: it asks again.
                may_wait = not is_call or strands_compat.has_answers(agent)
                refresh_agent(recording, agent, acquisition.view, may_wait=may_wait)
        except BaseException:
            await self.end(recording, agent, [])
            raise
        return acquisition.view

    async def end(self, recording: Recording, agent: Agent, last: Sequence[Record]) -> None:
        """Release the journal with the last records in the same commit, or forget it if that fails or is cancelled."""
        try:
            await recording.journal.release(*last)
        except BaseException:
            recording.stale = True
            strands_compat.stop_waiting(agent, recording.status.get("answers", ()))
            recording.journal.abandon()
            raise

    def give_up(self, recording: Recording) -> None:
        """Forget the journal. See `Ownership.give_up`."""
        recording.journal.abandon()


class Borrower:
    """Ownership of an agent that runs inside something which owns the journal.

    Its last records wait for the end of what runs it, a node or a tool call, so that both are recorded or neither is.
    """

    def __init__(self, keep: Callable[[list[Record]], None]) -> None:
        """Hand the last records of a finished invocation to `keep`."""
        self._keep = keep
        self.is_reset = False
        """Strands gave the agent its first messages and state back for this visit."""
        self.answers: Mapping[str, Any] = {}
        """What people answered, by the id of the interrupt, if it may be that the agent has not recorded it yet."""
        self.resume: Callable[[], None] | None = None
        """Called when an unfinished invocation goes on."""

    async def begin(self, recording: Recording, agent: Agent, *, is_call: bool = True) -> View:  # noqa: ARG002
        """Restore the agent if this visit is to go on. See `Ownership.begin`."""
        await recording.check()
        if recording.to_continue is not None:
            return View()
        view = recording.found.take(recording.scope)
        if not is_owed(view, recording.scope, recording.visit, key=recording.name):
            if self.is_reset:
                recording.held = None
            return View()
        restore_borrowed(recording, agent, view, may_wait=strands_compat.has_answers(agent))
        strands_compat.answer(agent, self.answers)
        if self.resume is not None:
            self.resume()
        return view

    async def end(self, recording: Recording, agent: Agent, last: Sequence[Record]) -> None:
        """Keep the last records back, or write down at once why there is more to come. See `Ownership.end`."""
        if any(isinstance(record, InvocationFinished) for record in last):
            totals = recording.documents.difference(TOTALS, strands_compat.totals(agent))
            recording.documents.take(totals)
            self._keep([*last, *totals])
            return
        if recording.to_continue is None:
            recording.journal.mistrust()
        if recording.journal.owned:
            recording.journal.append(*last)

    def give_up(self, recording: Recording) -> None:
        """Leave it to the owner, which cannot record its own end either. See `Ownership.give_up`."""
        recording.journal.mistrust()


def is_owed(view: View, scope: str, visit: str | None, *, key: str) -> bool:
    """Tell whether a scope holds an unfinished invocation of a visit.

    Args:
        view: The journal.
        scope: The scope.
        visit: The visit.
        key: The session and root, for the error.

    Raises:
        DamagedDataError: The note that says so is none.
    """
    found = view.scope(scope)
    if found.invocation is None or found.invocation.finished or STATUS not in found.notes:
        return False
    return bool(read_status(found, key=key).get("visit") == visit)


def restore_borrowed(recording: Recording, agent: Agent, view: View, *, may_wait: bool) -> None:
    """Make an agent below a root what the journal says it was, its metrics included.

    Raises:
        DamagedDataError: What the journal holds is not the state of an agent.
    """
    if view.scope(recording.scope).invocation is not None:
        # What it had when that began was recorded with it, unless it was empty. The rest is of a call that was lost.
        strands_compat.forget(agent)
        agent.messages = []
    restore_agent(recording, agent, view, may_wait=may_wait)
    strands_compat.set_totals(agent, recording.documents.recorded(TOTALS) or {})


def count_unfinished(recording: Recording, agent: Agent) -> None:
    """Add what an unfinished invocation took to the metrics: they had it when it failed, if nobody goes on with it."""
    if recording.owed:
        progress = Progress.read(recording.documents.recorded(PROGRESS))
        strands_compat.add_totals(agent, progress.usage, progress.latency)
