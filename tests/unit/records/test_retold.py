"""A view that is told anew says the same."""

from __future__ import annotations

from typing import Any

from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import (
    Acquired,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    ScopeClosed,
    Spliced,
    ToolFinished,
    ToolStarted,
    Tried,
)
from strands_dapr_session.records.retold import retold
from strands_dapr_session.records.view import View

ACQUIRED = Acquired("a1", "w", takeover=False, lease=3.0)


def view_of(*records: Record) -> View:
    view = View()
    for record in (ACQUIRED, *records):
        view.apply(record)
    return view


def started(scope: str, identity: str, key: str | None = None, attempt: int = 1) -> InvocationStarted:
    return InvocationStarted(scope, identity, key, f"prompt {identity}".encode(), b"print", attempt)


def finished(scope: str, identity: str, outcome: str = "completed") -> InvocationFinished:
    return InvocationFinished(scope, identity, outcome, f"result {identity}".encode())


def message(role: str, text: str) -> bytes:
    return pack_value({"role": role, "content": [{"text": text}]})


def contents(view: View) -> Any:
    scopes = {
        path: (s.messages, s.documents, s.results, s.started, s.tries, s.invocation, s.notes)
        for path, s in view.scopes.items()
    }
    return scopes, list(view.finished.items())


EVERYTHING: tuple[Record, ...] = (
    started("", "i1", "req-1"),
    Spliced("", 0, 0, (message("user", "a"), message("assistant", "b"), message("user", "c" * 50_000))),
    Spliced("", 1, 1, ()),
    DocumentSet("", "state", b"1"),
    finished("", "i1"),
    started("", "i2", "req-2"),
    finished("", "i2", "cancelled"),
    started("gone", "g1", "req-g"),
    Spliced("gone", 0, 0, (message("user", "gone"),)),
    finished("gone", "g1"),
    ScopeClosed("gone"),
    started("", "i3"),
    Spliced("", 2, 0, (message("assistant", "asks"),)),
    started("n", "n1"),
    finished("n", "n1"),
    started("n", "n2", attempt=3),
    Noted("n", "status", b"n"),
    DocumentSet("n", "state", None),
    ToolFinished("", "t1", b"one"),
    ToolFinished("", "t2", b"two"),
    Tried("", "t3", 2, b"error", 1.5, None),
    ToolStarted("", "t3", "again"),
    ToolStarted("", "t4", "pay"),
    Noted("", "status", b"s"),
)


def test_it_says_the_same_at_every_moment() -> None:
    for end in range(len(EVERYTHING) + 1):
        view = view_of(*EVERYTHING[:end])
        records = list(retold(view))
        assert contents(view_of(*records)) == contents(view), f"after {end} records"


def test_long_conversations_are_told_in_several_records() -> None:
    view = view_of(Spliced("", 0, 0, tuple(message("user", f"{n}" * 20_000) for n in range(10))))
    sizes = [sum(map(len, record.bodies)) for record in retold(view) if isinstance(record, Spliced)]  # type: ignore[arg-type]
    assert max(sizes) < 50_000
    assert contents(view_of(*retold(view))) == contents(view)


def test_of_a_view_of_nothing_nothing_is_told() -> None:
    assert list(retold(View())) == []
