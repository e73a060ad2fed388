"""The fold: what a journal says when its records are applied one after the other."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.derived import content_hole, fill, is_from_assistant
from strands_dapr_session.records.records import (
    INTERRUPTED,
    Acquired,
    Derived,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    Released,
    ScopeClosed,
    SegmentsPlanned,
    Spliced,
    ToolFinished,
    ToolStarted,
    Tried,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT_FINISHED = 256
"""Finished invocations with an id of the user's that are remembered, so that asking again gives the same result."""

KEPT_FINISHED_BYTES = 128 * 1024
"""Bytes of their prompts and results together: they are written again with every checkpoint. The newest is always
kept."""

KEPT_PROMPT_BYTES = 1024
"""Bytes from which on the prompt of a finished invocation is left out, as one with a picture in it would take the place
of many results. Whoever writes the result puts into it what it takes to compare prompts."""


@dataclass(frozen=True, slots=True)
class InvocationView:
    """The newest invocation of a scope."""

    id: str
    key: str | None
    prompt: bytes
    fingerprint: bytes
    attempt: int
    finished: bool = False
    outcome: str = ""
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class FinishedInvocation:
    """An invocation with an id of the user's that came to its end. Without its prompt, if that is long."""

    scope: str
    invocation_id: str
    prompt: bytes
    outcome: str
    result: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.prompt) + len(self.result)


class ScopeView:
    """What is live in one scope.

    Attributes:
        path: The scope.
        ordinals: Which messages are live: each message of a journal has a number, counted over all scopes.
        documents: The newest value of each document, packed.
        results: Recorded tool results, packed, by tool use id, that no message has taken up yet. They go when a derived
            message uses them, when a message of the assistant is appended (it opens the next batch), when another
            invocation starts, and when one finishes, unless an interrupt ended it.
        started: Names of tools, by tool use id, that started and have no result; they go like results.
        tries: The last failure of each thing that is tried again; they go like results.
        invocation: The newest invocation; None before the first.
        notes: The newest note of each kind, packed.
    """

    def __init__(self, path: str, bodies: dict[int, bytes] | None) -> None:
        self.path = path
        self.ordinals = array("Q")
        self.documents: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.started: dict[str, str] = {}
        self.tries: dict[str, Tried] = {}
        self.invocation: InvocationView | None = None
        self.notes: dict[str, bytes] = {}
        self._bodies = bodies

    @property
    def messages(self) -> list[bytes]:
        """The live messages, packed. Derived ones are complete.

        Raises:
            RuntimeError: This view keeps no messages, see `View`.
        """
        if self._bodies is None:
            raise RuntimeError("this view keeps no messages: they were handed out before, and are unchanged since")
        bodies = self._bodies
        return [bodies[ordinal] for ordinal in self.ordinals]

    def close_batch(self) -> None:
        """Forget the tools of the batch that is over."""
        self.results.clear()
        self.started.clear()
        self.tries.clear()

    def copy(self, bodies: dict[int, bytes] | None) -> ScopeView:
        """Copy it, with another table of messages."""
        other = ScopeView(self.path, bodies)
        other.ordinals = self.ordinals[:]
        other.documents = dict(self.documents)
        other.results = dict(self.results)
        other.started = dict(self.started)
        other.tries = dict(self.tries)
        other.invocation = self.invocation
        other.notes = dict(self.notes)
        return other


class View:
    """What the records up to one slot add up to.

    A view may keep the bodies of its live messages, which is what a reader wants, or only their ordinals, which is all
    that an owner needs to check and to summarise what it writes.

    Attributes:
        sequence: The last slot that was applied.
        owner: The acquisition that is not released.
        scopes: Every scope that has anything live.
        finished: Finished invocations by the ids that the user gave, oldest first, bounded.
        planned: What compactions announced and may have left behind.
        next_ordinal: The number of the next message.
        bodies: The messages by ordinal; None if they are not kept.
    """

    def __init__(self, *, keep_bodies: bool = True, keep_dropped: bool = False) -> None:
        """Begin with nothing.

        Args:
            keep_bodies: Keep the messages themselves.
            keep_dropped: Keep also those that are live no more.
        """
        self.sequence = 0
        self.owner: Acquired | None = None
        self.scopes: dict[str, ScopeView] = {}
        self.finished: dict[str, FinishedInvocation] = {}
        self.planned: list[str] = []
        self.next_ordinal = 0
        self.bodies: dict[int, bytes] | None = {} if keep_bodies else None
        self._keep_dropped = keep_dropped
        self._key = "journal"

    def scope(self, path: str) -> ScopeView:
        """Get a scope; an empty one if nothing is known of it."""
        found = self.scopes.get(path)
        return ScopeView(path, self.bodies) if found is None else found

    def without_bodies(self) -> View:
        """Copy everything but the messages themselves."""
        other = View(keep_bodies=False)
        other.sequence = self.sequence
        other.owner = self.owner
        other.scopes = {path: scope.copy(None) for path, scope in self.scopes.items()}
        other.finished = dict(self.finished)
        other.planned = list(self.planned)
        other.next_ordinal = self.next_ordinal
        return other

    def apply(self, record: Record, *, key: str = "journal") -> None:
        """Apply the next record.

        Args:
            record: The record.
            key: Where it was found, for the error.

        Raises:
            DamagedDataError: It cannot follow the records before it. The view is of no use then.
        """
        self._key = key
        if self.owner is None and type(record) is not Acquired:
            self._refuse(f"{type(record).__name__} though nobody owns the journal")
        match record:
            case Acquired():
                self._acquire(record)
            case Released():
                if self.owner is None or self.owner.acquisition != record.acquisition:
                    self._refuse("the journal is released by somebody who does not own it")
                self.owner = None
            case SegmentsPlanned():
                self.planned.extend(record.keys)
            case ScopeClosed():
                self._close(record.scope)
            case _:
                self._apply_in(self._known(record.scope), record)

    def _apply_in(
        self,
        scope: ScopeView,
        record: InvocationStarted
        | Spliced
        | ToolStarted
        | ToolFinished
        | Tried
        | DocumentSet
        | InvocationFinished
        | Noted,
    ) -> None:
        match record:
            case Spliced():
                self._splice(scope, record)
            case ToolStarted():
                scope.started[record.tool_use_id] = record.name
            case ToolFinished():
                scope.started.pop(record.tool_use_id, None)
                scope.tries.pop(record.tool_use_id, None)
                scope.results[record.tool_use_id] = record.result
            case Tried():
                scope.started.pop(record.what, None)  # how it ended is known
                scope.tries[record.what] = record
            case DocumentSet(value=None):
                scope.documents.pop(record.name, None)
            case DocumentSet(value=value):
                scope.documents[record.name] = value or b""
            case Noted():
                scope.notes[record.kind] = record.value
            case InvocationStarted():
                self._start(scope, record)
            case InvocationFinished():
                self._finish(scope, record)

    def _known(self, path: str) -> ScopeView:
        found = self.scopes.get(path)
        if found is None:
            found = self.scopes[path] = ScopeView(path, self.bodies)
        return found

    def _acquire(self, record: Acquired) -> None:
        if self.owner is not None and not record.takeover:
            self._refuse("the journal is acquired as if it had been released, but it was not")
        self.owner = record

    def _close(self, path: str) -> None:
        for name in [name for name in self.scopes if name == path or not path or name.startswith(f"{path}/")]:
            self._drop(self.scopes.pop(name).ordinals)

    def _splice(self, scope: ScopeView, record: Spliced) -> None:
        length, end = len(scope.ordinals), record.at + record.drop
        if end > length:
            self._refuse(f"messages {record.at} to {end} of scope {scope.path!r} are replaced, which has {length}")
        ordinals = array("Q", [self._add(scope, body) for body in record.bodies])
        self._drop(scope.ordinals[record.at : end])
        scope.ordinals[record.at : end] = ordinals
        appended = record.bodies[record.drop :] if end == length else ()
        if any(type(body) is bytes and is_from_assistant(body) for body in appended):
            scope.close_batch()

    def _add(self, scope: ScopeView, body: bytes | Derived) -> int:
        if type(body) is Derived:
            try:
                results = [scope.results.pop(used) for used in body.results]
            except KeyError as missing:
                self._refuse(f"a message of scope {scope.path!r} is made of tool result {missing}, which is missing")
            try:
                packed = self._fill(body.template, results)
            except ValueError as error:
                self._refuse(str(error))
        else:
            packed = body  # type: ignore[assignment] # mypy does not narrow by `type() is`
        ordinal = self.next_ordinal
        self.next_ordinal += 1
        if self.bodies is not None:
            self.bodies[ordinal] = packed
        return ordinal

    def _fill(self, template: bytes, results: list[bytes]) -> bytes:
        if self.bodies is None:
            content_hole(template)
            return b""
        return fill(template, results)

    def _drop(self, ordinals: Iterable[int]) -> None:
        if self.bodies is not None and not self._keep_dropped:
            for ordinal in ordinals:
                self.bodies.pop(ordinal, None)

    def _start(self, scope: ScopeView, record: InvocationStarted) -> None:
        before = scope.invocation
        if before is not None and before.id != record.invocation_id and before.outcome != INTERRUPTED:
            scope.close_batch()
        scope.invocation = InvocationView(
            record.invocation_id, record.key, record.prompt, record.fingerprint, record.attempt
        )

    def _finish(self, scope: ScopeView, record: InvocationFinished) -> None:
        now = scope.invocation
        if now is None or now.id != record.invocation_id or now.finished:
            self._refuse(f"invocation {record.invocation_id!r} of scope {scope.path!r} finishes, but does not run")
        scope.invocation = replace(now, finished=True, outcome=record.outcome, result=record.result)
        if record.outcome != INTERRUPTED:
            scope.close_batch()
        if now.key is not None:
            prompt = now.prompt if len(now.prompt) < KEPT_PROMPT_BYTES else b""
            finished = FinishedInvocation(scope.path, record.invocation_id, prompt, record.outcome, record.result)
            self._remember(now.key, finished)

    def _remember(self, key: str, finished: FinishedInvocation) -> None:
        self.finished.pop(key, None)
        self.finished[key] = finished
        size = sum(each.size for each in self.finished.values())
        while len(self.finished) > KEPT_FINISHED or (size > KEPT_FINISHED_BYTES and len(self.finished) > 1):
            size -= self.finished.pop(next(iter(self.finished))).size

    def _refuse(self, reason: str) -> NoReturn:
        raise DamagedDataError(self._key, reason)
