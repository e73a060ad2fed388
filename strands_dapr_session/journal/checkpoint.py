"""A view as bytes: what a compaction leaves in place of the commits that it packs.

A checkpoint holds the ordinals of the live messages, and as many of the messages themselves as its writer likes: all
of them while they are few. A load finds the others in segments.
"""

from __future__ import annotations

from itertools import chain, islice
from operator import sub
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import Acquired, Tried
from strands_dapr_session.records.view import FinishedInvocation, InvocationView, ScopeView, View

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

_MOST_LIVE: Final = 10_000_000
"""Messages that may be live; a limit against ranges that claim to be endless."""


def write_checkpoint(view: View, inline: Collection[int]) -> bytes:
    """Write a view, not yet sealed.

    Args:
        view: The view.
        inline: The numbers of the messages to put in.
    """
    owner = view.owner
    bodies = view.bodies or {}
    return pack_value(
        [
            view.sequence,
            None if owner is None else [owner.acquisition, owner.worker, owner.takeover, owner.lease],
            view.next_ordinal,
            [[key, f.scope, f.invocation_id, f.prompt, f.outcome, f.result] for key, f in view.finished.items()],
            [_plain_scope(scope) for scope in view.scopes.values()],
            {ordinal: bodies[ordinal] for ordinal in inline},
        ],
        path="checkpoint",
    )


def read_checkpoint(key: str, payload: bytes, *, keep_dropped: bool = False) -> View:
    """Read a view, with the messages that were put in.

    Args:
        key: Where it was found.
        payload: Its bytes.
        keep_dropped: See `View`.

    Raises:
        DamagedDataError: It is no checkpoint.
    """
    view = View(keep_dropped=keep_dropped)
    items = unpack_value(payload, key=key)
    try:
        sequence, owner, next_ordinal, finished, scopes, bodies = items
        view.sequence = _expect(int, sequence)
        view.owner = Acquired(*owner) if owner else None
        view.next_ordinal = _expect(int, next_ordinal)
        view.finished = {_expect(str, name): FinishedInvocation(*fields) for name, *fields in finished}
        found = {_expect(int, ordinal): _expect(bytes, body) for ordinal, body in bodies.items()}
        view.bodies = found
        for plain in scopes:
            scope = _read_scope(plain, found)
            view.scopes[scope.path] = scope
        _check_numbers(view)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedDataError(key, f"not a checkpoint ({error})") from error
    return view


def live_ordinals(view: View) -> list[int]:
    """List the numbers of all live messages, sorted."""
    return sorted(chain.from_iterable(scope.ordinals for scope in view.scopes.values()))


def missing_ordinals(view: View) -> set[int]:
    """Get the numbers of the live messages that a view does not have."""
    bodies = view.bodies if view.bodies is not None else {}
    return {ordinal for ordinal in live_ordinals(view) if ordinal not in bodies}


def write_segment(first: int, bodies: Iterable[bytes], history: bytes) -> bytes:
    """Write a segment, not yet sealed.

    Args:
        first: The ordinal of the first message.
        bodies: The messages.
        history: The other records of the time, encoded, for those who look back; a load does not read them.
    """
    return pack_value([first, list(bodies), history], path="segment")


def read_segment(key: str, payload: bytes) -> tuple[int, list[bytes], bytes]:
    """Read a segment: the ordinal of its first message, its messages, and its history.

    Raises:
        DamagedDataError: It is none.
    """
    items = unpack_value(payload, key=key)
    try:
        first, bodies, history = items
        return _expect(int, first), [_expect(bytes, body) for body in _expect(list, bodies)], _expect(bytes, history)
    except (TypeError, ValueError) as error:
        raise DamagedDataError(key, f"not a segment ({error})") from error


def _check_numbers(view: View) -> None:
    live = live_ordinals(view)
    if live and not 0 <= live[0] <= live[-1] < view.next_ordinal:
        raise ValueError("a live message has no number of this journal")


def _plain_scope(scope: ScopeView) -> list[Any]:
    now = scope.invocation
    return [
        scope.path,
        [list(each) for each in _ranges(scope.ordinals)],
        scope.documents,
        scope.results,
        scope.started,
        None
        if now is None
        else [now.id, now.key, now.prompt, now.fingerprint, now.attempt, now.finished, now.outcome, now.result],
        scope.notes,
        # Only if there are any: what was written before there were such records reads the same.
        *([[[t.what, t.attempt, t.error, t.at, t.delay] for t in scope.tries.values()]] if scope.tries else []),
    ]


def _read_scope(plain: Any, bodies: dict[int, bytes] | None) -> ScopeView:
    path, ranges, documents, results, started, invocation, notes, *rest = plain
    scope = ScopeView(_expect(str, path), bodies)
    if sum(_expect(int, count) for _, count in ranges) > _MOST_LIVE:
        raise ValueError("too many live messages")
    for first, count in ranges:
        scope.ordinals.extend(range(_expect(int, first), first + count))
    scope.documents = _expect(dict, documents)
    scope.results = _expect(dict, results)
    scope.started = _expect(dict, started)
    scope.invocation = InvocationView(*invocation) if invocation else None
    scope.notes = _expect(dict, notes)
    tries = [Tried(scope.path, *fields) for fields in (rest[0] if rest else ())]
    scope.tries = {_expect(str, tried.what): tried for tried in tries}
    return scope


def _ranges(ordinals: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sum up a list of numbers as (first, count) of those that follow each other."""
    steps = map(sub, islice(ordinals, 1, None), ordinals)
    starts = [0, *(index for index, step in enumerate(steps, 1) if step != 1)]
    ends = [*starts[1:], len(ordinals)]
    for start, end in zip(starts, ends, strict=True):
        if start < end:
            yield ordinals[start], end - start


def _expect(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value
