"""A session's past: read once, asked for steps and moments, and the beginning of other sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    ConfigurationError,
    NotForkableError,
    SessionNotFoundError,
    StepNotFoundError,
)
from strands_dapr_session.hooks.checks import read_status
from strands_dapr_session.hooks.invocation import INTERRUPTED
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.journal.context import Context, in_another_thread
from strands_dapr_session.journal.fork import FORK, fork
from strands_dapr_session.journal.history import identity_of
from strands_dapr_session.journal.layout import check_id
from strands_dapr_session.journal.past import Past, read_past, with_results
from strands_dapr_session.journal.sessions import list_roots
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.records import DocumentSet, Noted
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.timeline.lifetimes import lifetimes_of
from strands_dapr_session.timeline.moment import Moment, agents_of
from strands_dapr_session.timeline.steps import Step, events_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.journal.history import Identity
    from strands_dapr_session.records.view import InvocationView
    from strands_dapr_session.stores.base import StateStore
    from strands_dapr_session.timeline.lifetimes import Lifetime


def read_timeline(session_id: str, root_id: str | None = None, *, store: str | StateStore | None = None) -> Timeline:
    """Read everything that is recorded of an agent, graph or swarm, without disturbing whoever runs it.

    All of it is read, however long it is: this is for people and tests, not for every request.

    Args:
        session_id: The session.
        root_id: The id of the agent, graph or swarm; may be left out where the session has one.
        store: Where the session is, as for `DaprSessionManager`.

    Raises:
        SessionNotFoundError: There is no such session, or nothing of that id in it.
        ConfigurationError: The session has several agents, graphs or swarms, and none is named.
        StoredDataError: What is stored is damaged, incomplete, or newer than this package.
        StoreError: The store cannot be read.
    """
    opened = open_store(store)
    if root_id is None:
        roots = io_thread.run_sync(list_roots(opened, session_id))
        if len(roots) > 1:
            raise ConfigurationError(f"session {session_id!r} has several: name one of {', '.join(roots)}")
        root_id = roots[0] if roots else ""
    past = io_thread.run_sync(read_past(opened, session_id, root_id)) if root_id else None
    if past is None or not past.commits:
        of = f" of {root_id!r}" if root_id else ""
        raise SessionNotFoundError(f"nothing{of} is recorded in session {session_id!r} in {opened.name}")
    return Timeline(opened, session_id, root_id, past)


class Timeline:
    """The past of an agent, graph or swarm, as it was when it was read. Made by `read_timeline`.

    Attributes:
        session_id: The session.
        root_id: The agent, graph or swarm.
        steps: What happened, from the first step to the last.
    """

    def __init__(self, store: StateStore, session_id: str, root_id: str, past: Past) -> None:
        """Understand what was read.

        Raises:
            DamagedDataError: It is not what an agent, graph or swarm records.
        """
        self.session_id = session_id
        self.root_id = root_id
        self._store = store
        self._key = f"{session_id}/{root_id}"
        self._commits = with_results(past.commits, self._key)
        self._silent = _Silent(past)
        self._first = _first_step(past)
        self.steps: tuple[Step, ...] = tuple(self._read_steps())

    def at(self, number: int) -> Moment:
        """Tell what the agents were when a step had been recorded. Reads nothing and changes nothing.

        Raises:
            StepNotFoundError: There is no such step.
            DamagedDataError: It is not what an agent records.
        """
        return Moment(self.session_id, self.root_id, number, agents_of(self._view_at(number), self._key))

    def lifetimes(self) -> list[Lifetime]:
        """Tell all that the agents had, each thing once, with the steps between which it was there.

        What `at` tells of a step is what was there then, in the same order. Reads nothing and changes nothing.

        Raises:
            DamagedDataError: It is not what agents record.
        """
        every = lifetimes_of(self._commits, self._silent.unknown_at, self._key)
        return [
            replace(each, first=max(each.first, self._first))
            for each in every
            if each.last is None or each.last >= self._first
        ]

    def fork(self, session_id: str, at: int | None = None) -> Step:
        """Begin a new session with what this one was at a step. This one is not changed, and may be running.

        The new one has nothing of this one's past, and shares nothing with it: either can be deleted. Only this agent,
        graph or swarm is in it, under the same id.

        Args:
            session_id: The new session.
            at: The step; without it the last one at which a session can begin.

        Returns:
            The step.

        Raises:
            SessionExistsError: There is a session of that name. Of several that make it at once, one succeeds.
            StepNotFoundError: There is no such step.
            NotForkableError: An invocation was under way at that step; the error names the nearest that will do.
            InvalidIdentifierError: The session id cannot be used.
            SessionDeletedError: Somebody deleted the new session while it was made.
            StoreError: The store does not answer. The new session is there, whole, or is not; try again.
        """
        check_id("session_id", session_id)
        step = self._forkable(at)
        view = self._view_at(step.number)
        view.scope("").notes.pop(FORK, None)
        context = Context(self._store, this_process, offload=in_another_thread)
        io_thread.run_sync(fork(context, view, (self.session_id, self.root_id, step.number), session_id))
        return step

    def _forkable(self, at: int | None) -> Step:
        """Find a step at which a session can begin."""
        if at is not None:
            self._check(at)
        good = [step for step in self.steps if step.can_fork]
        before = [step for step in good if at is None or step.number <= at]
        nearest = next(iter(before[-1:] or good[:1]), None)
        if nearest is not None and at in (None, nearest.number):
            return nearest
        where = f"step {at} of {self._key}" if at is not None else self._key
        hint = f"The nearest step at which one can is {nearest.number}." if nearest is not None else "None will do."
        raise NotForkableError(
            f"no session can begin at {where}: an invocation must have ended there, or wait for a person. {hint}",
            None if nearest is None else nearest.number,
        )

    def _check(self, number: int) -> None:
        if number < self._first or number > self._commits[-1][0]:
            raise StepNotFoundError(
                f"{self._key} has no step {number!r}: the first is {self._first}, the last {self._commits[-1][0]}"
            )

    def _view_at(self, number: int) -> View:
        self._check(number)
        view = View()
        for commit, records in self._commits:
            if commit > number:
                break
            for record in records:
                view.apply(record, key=self._key)
            view.sequence = commit
        self._silent.mark(view, number)
        return view

    # -- steps ---------------------------------------------------------------------------------------------------

    def _read_steps(self) -> Iterator[Step]:
        view = View(keep_bodies=False)
        count, last = 0, None
        for number, records in self._commits:
            before = view.scope("").invocation
            events = tuple(events_of(records, view, self._key))
            now = view.scope("").invocation
            if any(event.kind == "forked" for event in events):
                events = tuple(event for event in events if event.kind == "forked")
                before = now
                last = None if now is None or _runs(now) else now.id  # what had ended is of another session
            if number < self._first:
                continue
            if now is not None and now.id != last:
                count, last = count + 1, now.id
            is_in = _runs(before) or now is not before
            if events:
                yield Step(
                    number,
                    count if is_in else 0,
                    now.key if is_in and now is not None else None,
                    events,
                    sum(len(scope.ordinals) for path, scope in view.scopes.items() if not is_stash(path)),
                    self._can_fork(view, number),
                )

    def _can_fork(self, view: View, number: int) -> bool:
        """Tell whether a session can begin with a view: nothing runs in it, and all of it is known."""
        if view.owner is not None or any(path in view.scopes for _, path, _ in self._silent.unknown_at(number)):
            return False
        if any(b"" in values for s in view.scopes.values() for values in (s.documents.values(), s.notes.values())):
            return False
        root = view.scope("")
        return not _runs(root.invocation) or read_status(root, key=self._key).get("state") == INTERRUPTED


def _runs(invocation: InvocationView | None) -> bool:
    return invocation is not None and not invocation.finished


def _first_step(past: Past) -> int:
    """Find the first commit that is not a part of what a fork begins with."""
    for number, records in past.commits:
        if any(isinstance(record, Noted) and record.kind == FORK and not record.scope for record in records):
            return number
    return past.commits[0][0]


class _Silent:
    """Knows what older packings left out without a trace: values that others followed, in a slot of the same packing.

    Which slots were packed together is not known, so that all values but the last are in doubt between two that stayed.
    """

    def __init__(self, past: Past) -> None:
        self._set_at: dict[int, set[Identity]] = {
            number: {identity_of(record) for record in records if isinstance(record, (DocumentSet, Noted))}
            for number, records in past.commits
            if number in past.silent
        }
        self._last = {identity: number for number, identities in self._set_at.items() for identity in identities}

    def unknown_at(self, number: int) -> set[Identity]:
        """List what may have had another value at a slot than the one that stayed."""
        here = self._set_at.get(number)
        if here is None:
            return set()
        return {identity for identity, last in self._last.items() if last > number and identity not in here}

    def mark(self, view: View, number: int) -> None:
        """Empty these values in the view of that slot."""
        for kind, path, name in self.unknown_at(number):
            if path in view.scopes:
                scope = view.scopes[path]
                (scope.documents if kind is DocumentSet else scope.notes)[name] = b""
