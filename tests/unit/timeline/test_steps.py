"""What each record is told as, beside what is recorded already."""

from __future__ import annotations

from typing import Any

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal.fork import FORK
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    Released,
    ScopeClosed,
    Spliced,
    ToolFinished,
    ToolStarted,
    Tried,
)
from strands_dapr_session.records.view import View
from strands_dapr_session.timeline.steps import StepEvent, events_of

OWNED = Acquired("a", "somebody", takeover=False, lease=3.0)
USER, ASSISTANT = (pack_value({"role": role, "content": [{"text": "hi"}]}) for role in ("user", "assistant"))
RESULT = pack_value({"toolUseId": "t", "status": "success", "content": []})
RESULTS = Derived(pack_value({"role": "user", "content": None}), ("t",))


def status(scope: str = "", **fields: Any) -> Noted:
    return Noted(scope, "status", pack_value(fields))


def started(scope: str = "", id_: str = "i", prompt: Any = "go") -> InvocationStarted:
    return InvocationStarted(scope, id_, None, pack_value(prompt), pack_value(None), 1)


def finished(scope: str = "", id_: str = "i") -> InvocationFinished:
    return InvocationFinished(scope, id_, "completed", pack_value(None))


def told(*records: Record, after: tuple[Record, ...] = ()) -> list[StepEvent]:
    """Tell what a commit did after another one."""
    view = View()
    for record in (OWNED, *after):
        view.apply(record, key="s/r")
    return list(events_of(records, view, "s/r"))


SAID = (Spliced("", 0, 0, (USER, ASSISTANT)),)


@pytest.mark.parametrize(
    ("record", "after", "event"),
    [
        (Acquired("a", "somebody", takeover=True, lease=3.0), (), ("taken_over", "worker 'somebody'")),
        (OWNED, (Released("a"),), None),
        (started(), (), ("started", "go")),
        (started(prompt={"a": 1}), (), ("started", '{"a": 1}')),
        (started(prompt=["a", "b"]), (), ("started", '["a", "b"]')),
        (started(prompt={"a": 1, "b": 2}), (), ("started", '{"a": 1, "b": 2}')),
        (started(prompt=[[["user", "hi", {}]], 1, 2]), (), ("started", '[[["user", "hi", {}]], 1, 2]')),
        (started(prompt=[[7], None]), (), ("started", "[[7], null]")),
        (started(prompt=[7, None]), (), ("started", "[7, null]")),
        (started(prompt=[[], None]), (), ("started", "")),
        (started(prompt=[[["user", "hi", {}], ["user", ["a", {"text": "b"}], {}]], None]), (), ("started", "hi\na\nb")),
        (started(prompt=[[["user", [{"json": {"a": 1}}], {}]], None]), (), ("started", '{"json": {"a": 1}}')),
        (started(), (started(),), ("continued", "go")),
        (started(), (started(), finished()), ("started", "go")),
        (started(id_="j"), (started(),), ("started", "go")),
        (finished(), (started(),), ("finished", "completed")),
        (Spliced("", 0, 0, (USER,)), (), ("messages", "user")),
        (Spliced("", 2, 0, (ASSISTANT, USER)), SAID, ("messages", "assistant, user")),
        (Spliced("", 2, 0, (RESULTS,)), (*SAID, ToolFinished("", "t", RESULT)), ("messages", "user")),
        (Spliced("", 1, 0, (USER,)), SAID, ("edited", "0 of them became 1")),
        (Spliced("", 1, 1, ()), SAID, ("edited", "1 of them became 0")),
        (Spliced("", 0, 2, (USER,)), SAID, ("edited", "2 of them became 1")),
        (Spliced("", 2, 0, ()), SAID, None),
        (ToolStarted("", "t", "work"), SAID, None),
        (ToolFinished("", "t", RESULT), SAID, ("tool_result", "t")),
        (DocumentSet("", "state", b"1"), (), ("state", "state")),
        (DocumentSet("", "conversation_manager_state", None), (), ("state", "conversation_manager_state")),
        (DocumentSet("", "totals", b"1"), (), None),
        (Noted("", FORK, pack_value(["s", "r", 7])), (), ("forked", "s, r, 7")),
        (Noted("", "result:1:a:b", b"1"), (), ("node_finished", "a:b")),
        (Noted("", "another", b"1"), (), None),
        (Noted("", "status", b""), (), None),
        (status(state="running"), (), None),
        (status(state="running", attempt=1), (), None),
        (status(state="running", attempt=2), (), ("resumed", "attempt 2")),
        (status(state="interrupted"), (), ("interrupted", "")),
        (status(state="failed", error="no"), (), ("failed", "no")),
        (status(state="failed", error=["no", 1]), (), ("failed", '["no", 1]')),
        (status(state="parked", error=None), (), ("parked", "")),
        (ScopeClosed("a"), (started("a"),), None),
    ],
)
def test_what_a_record_is_told_as(record: Record, after: tuple[Record, ...], event: tuple[Any, str] | None) -> None:
    assert told(record, after=after) == ([] if event is None else [StepEvent(event[0], "", event[1])])


def test_what_a_failed_attempt_is_told_as() -> None:
    error = pack_value(["Throttled", "slow down"])
    assert told(Tried("a", "model", 2, error, 17.5, None)) == [
        StepEvent("attempt_failed", "a", "model, attempt 2: Throttled: slow down", 17.5)
    ]
    assert told(Tried("a", "model", 2, pack_value(None), 17.5, None))[0].text == "model, attempt 2: null"


@pytest.mark.parametrize(
    "record",
    [
        started(prompt=[[["user", [7], {}]], None]),
        started(prompt=[[[1, 2, 3]], None]),
        InvocationStarted("", "i", None, b"\xc1", pack_value(None), 1),
        Tried("", "model", 2, b"\xc1", 17.5, None),
        status(state="dancing"),
        Spliced("", 5, 1, ()),
    ],
)
def test_what_nobody_records_is_damage(record: Record) -> None:
    with pytest.raises(DamagedDataError) as damaged:
        told(record)
    assert damaged.value.key == "s/r"


def test_who_it_happened_to_is_said() -> None:
    records: list[Record] = [
        started("a"),
        Spliced("a", 0, 0, (USER,)),
        Spliced("a", 0, 1, (ASSISTANT,)),
        ToolFinished("a", "t", RESULT),
        DocumentSet("a", "state", b"1"),
        Noted("a", "result:0:n", b"1"),
        status("a", state="running", attempt=3),
        status("a", state="failed"),
        finished("a"),
    ]
    assert [(event.kind, event.path) for event in told(*records)] == [
        (kind, "a")
        for kind in (
            "started",
            "messages",
            "edited",
            "tool_result",
            "state",
            "node_finished",
            "resumed",
            "failed",
            "finished",
        )
    ]


def test_a_fork_of_something_below_is_none() -> None:
    assert told(Noted("a", FORK, pack_value(["s", "r", 7]))) == []


def test_an_invocation_began_when_the_note_beside_it_says() -> None:
    records: list[Record] = [
        started(),
        started("a"),
        started("b"),
        status(state="running", began=1.5),
        status("a", state="running", began=2.5),
        status("b", state="running"),
    ]
    assert [(event.path, event.when) for event in told(*records)] == [("", 1.5), ("a", 2.5), ("b", None)]
    assert told(started(), Noted("", "status", b""), Noted("", "another", pack_value({"began": 1})))[0].when is None
    assert told(started(), started(), status(state="running", began=1.5))[1] == StepEvent("continued", "", "go")


def test_what_a_context_manager_put_aside_is_not_told_but_counts() -> None:
    put, more = Spliced("a/*stash", 0, 0, (USER,)), Spliced("a/*stash", 1, 0, (USER,))
    view = View()
    view.apply(OWNED, key="s/r")
    assert [event.path for event in events_of([put, Spliced("a", 0, 0, (USER,)), more], view, "s/r")] == ["a"]
    assert len(view.scope("a/*stash").ordinals) == 2


@pytest.mark.parametrize(("scope", "path"), [("", "a"), ("x", "x/a")])
def test_a_node_of_which_more_is_recorded_is_told_once(scope: str, path: str) -> None:
    ends = (Noted(scope, "result:0:a", b"1"), Noted(scope, "result:0:b", b"1"), finished(path), finished("c"))
    found = told(*ends, after=(started(path), started("c")))
    assert [(event.kind, event.path, event.text) for event in found] == [
        ("node_finished", scope, "b"),
        ("finished", path, "completed"),
        ("finished", "c", "completed"),
    ]


def test_nodes_are_not_taken_for_what_is_told_in_the_same_words() -> None:
    found = told(Spliced("", 0, 0, (USER,)), finished("user"), after=(started("user"),))
    assert [event.kind for event in found] == ["messages", "finished"]
