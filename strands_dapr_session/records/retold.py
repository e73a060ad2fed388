"""A view told anew: records that add up to it, without any of its past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import (
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    ScopeClosed,
    Spliced,
    ToolFinished,
    ToolStarted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands_dapr_session.records.view import FinishedInvocation, InvocationView, ScopeView, View

_TOGETHER: Final = 32 * 1024
"""Bytes of messages that one record holds, so that a commit need not be cut into parts."""


def retold(view: View) -> Iterator[Record]:
    """Make records that give a new journal the same live messages, documents, notes, results and invocations.

    Args:
        view: A view that keeps the bodies of its messages.
    """
    told: set[tuple[str, str]] = set()
    for key, finished in view.finished.items():
        now = view.scope(finished.scope).invocation
        if now is not None and now.finished and now.id == finished.invocation_id:
            told.add((finished.scope, now.id))
            yield from _finished(finished.scope, now)
        else:
            yield from _finished_before(key, finished)
            if finished.scope not in view.scopes:
                yield ScopeClosed(finished.scope)
    for path, scope in view.scopes.items():
        now = scope.invocation
        if now is not None and (path, now.id) not in told:
            yield from _finished(path, now) if now.finished else [_started(path, now)]
        yield from _contents(scope)


def _started(path: str, now: InvocationView) -> InvocationStarted:
    return InvocationStarted(path, now.id, now.key, now.prompt, now.fingerprint, now.attempt)


def _finished(path: str, now: InvocationView) -> Iterator[Record]:
    yield _started(path, now)
    yield InvocationFinished(path, now.id, now.outcome, now.result)


def _finished_before(key: str, finished: FinishedInvocation) -> Iterator[Record]:
    path, identity = finished.scope, finished.invocation_id
    yield InvocationStarted(path, identity, key, finished.prompt, pack_value(None), 1)
    yield InvocationFinished(path, identity, finished.outcome, finished.result)


def _contents(scope: ScopeView) -> Iterator[Record]:
    """Tell what is live in a scope; results come last, for messages would take them for those of an earlier batch."""
    bodies: list[bytes] = []
    at = size = 0
    for body in scope.messages:
        if bodies and size + len(body) > _TOGETHER:
            yield Spliced(scope.path, at, 0, tuple(bodies))
            at, size, bodies = at + len(bodies), 0, []
        bodies.append(body)
        size += len(body)
    yield Spliced(scope.path, at, 0, tuple(bodies))
    yield from (DocumentSet(scope.path, name, value) for name, value in scope.documents.items())
    yield from (Noted(scope.path, kind, value) for kind, value in scope.notes.items())
    yield from (ToolFinished(scope.path, identity, result) for identity, result in scope.results.items())
    yield from scope.tries.values()
    yield from (ToolStarted(scope.path, identity, name) for identity, name in scope.started.items())
