"""What is found in a journal is handed out once to each part, and what a part recorded last waits for its root."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from strands_dapr_session.hooks.invocation import STATUS
from strands_dapr_session.hooks.ownership import Borrower, Found, is_owed
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import (
    Acquired,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
)
from strands_dapr_session.records.view import View

NONE = pack_value(None)


def view_of(*records: Record) -> View:
    view = View()
    for record in (Acquired("a", "w", takeover=False, lease=3.0), *records):
        view.apply(record, key="s/r")
    return view


def started(scope: str) -> InvocationStarted:
    return InvocationStarted(scope, "i", None, NONE, NONE, 1)


def finished(scope: str) -> InvocationFinished:
    return InvocationFinished(scope, "i", "completed", NONE)


def status(scope: str, **fields: Any) -> Noted:
    return Noted(scope, STATUS, pack_value({"state": "running", **fields}))


# -- what is found -----------------------------------------------------------------------------------------------------


def found_of(*scopes: str) -> tuple[Found, View]:
    found, view = Found(), view_of(*map(started, scopes))
    found.renew(view)
    return found, view


def test_before_anything_is_read_there_is_nothing() -> None:
    assert not Found().take("a").scopes


def test_a_part_gets_what_was_read_once() -> None:
    found, view = found_of("", "a", "b")
    assert not found.has_taken("a")
    assert found.take("a") is view
    assert found.has_taken("a")
    assert not found.take("a").scopes
    assert found.take("b") is view
    assert found.view is view
    found.renew(view)  # it is read again
    assert not found.has_taken("a")
    assert found.take("a") is view


@pytest.mark.parametrize("scopes", [[""], ["", "*stash"]], ids=str)
def test_what_has_no_parts_is_not_kept(scopes: list[str]) -> None:
    found, _ = found_of(*scopes)
    assert not found.view.scopes


def test_what_is_below_a_part_is_told_by_its_path() -> None:
    found, _ = found_of("", "a/b", "ab/c")
    found.take("a")
    found.take("ab/c")
    assert not found.has_taken_below("a")
    found.take("a/b")
    assert found.has_taken_below("a")
    assert found.has_taken_below("ab")
    assert not found.has_taken_below("b")


def test_a_part_that_begins_again_gets_what_was_read_anew_and_others_do_not() -> None:
    found, _ = found_of("", "a", "a/b", "ab")
    for scope in ("a", "a/b", "ab"):
        found.take(scope)
    again = view_of(started(""), started("a"))
    found.renew_part("a", again)
    assert [found.has_taken(scope) for scope in ("a", "a/b", "ab")] == [False, False, True]
    assert found.take("a") is again
    assert found.take("a/b") is again
    assert not found.take("ab").scopes


@pytest.mark.parametrize(
    ("records", "is_it"),
    [
        ([], False),
        ([status("a", visit="v")], False),
        ([started("a")], False),
        ([started("a"), status("a", visit="v")], True),
        ([started("a"), status("a", visit="w")], False),
        ([started("a"), status("a")], False),
        ([started("a"), status("a", visit="v"), finished("a")], False),
        ([started(""), status("", visit="v")], False),
    ],
)
def test_a_part_is_owed_the_visit_that_is_unfinished(records: list[Record], *, is_it: bool) -> None:
    assert is_owed(view_of(*records), "a", "v", key="s/r") is is_it


def test_what_says_nothing_of_its_visit_is_not_owed() -> None:
    assert not is_owed(view_of(started("a")), "a", None, key="s/r")


# -- a part of something ----------------------------------------------------------------------------------------------


class Scene:
    """A part of something that owns the journal, and what is done to the journal."""

    def __init__(self, *, owned: bool = True, to_continue: object = None) -> None:
        self.done: list[Any] = []
        self.kept: list[list[Record]] = []
        self.borrower = Borrower(self.kept.append)
        journal = SimpleNamespace(
            owned=owned,
            mistrust=lambda: self.done.append("mistrusted"),
            append=lambda *records: self.done.extend(records),
        )
        documents = SimpleNamespace(
            difference=lambda name, value: [(name, value)], take=lambda totals: self.done.append(("took", totals))
        )
        self.recording: Any = SimpleNamespace(journal=journal, to_continue=to_continue, documents=documents)
        metrics = SimpleNamespace(accumulated_usage={"inputTokens": 7}, accumulated_metrics={"latencyMs": 9})
        self.agent: Any = SimpleNamespace(event_loop_metrics=metrics)

    async def end(self, *last: Record) -> None:
        await self.borrower.end(self.recording, self.agent, list(last))


async def test_the_last_records_of_what_has_finished_wait() -> None:
    scene = Scene()
    last: list[Record] = [status("a"), finished("a")]
    await scene.end(*last)
    totals = ("totals", {"usage": {"inputTokens": 7}, "metrics": {"latencyMs": 9}})
    assert scene.kept == [[*last, totals]]
    assert scene.done == [("took", [totals])]


async def test_why_there_is_more_to_come_is_written_at_once() -> None:
    scene = Scene()
    await scene.end(status("a"))
    assert (scene.kept, scene.done) == ([], ["mistrusted", status("a")])


async def test_what_a_hook_lets_go_on_is_not_mistrusted() -> None:
    scene = Scene(to_continue="more")
    await scene.end(status("a"))
    assert scene.done == [status("a")]


async def test_nothing_is_written_to_a_journal_that_is_lost() -> None:
    scene = Scene(owned=False)
    await scene.end(status("a"))
    assert scene.done == ["mistrusted"]


def test_what_is_given_up_is_read_again() -> None:
    scene = Scene()
    scene.borrower.give_up(scene.recording)
    assert scene.done == ["mistrusted"]
