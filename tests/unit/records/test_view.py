"""The fold of records: what is live, and which records cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.derived import fill, is_from_assistant
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
from strands_dapr_session.records.view import (
    KEPT_FINISHED,
    KEPT_FINISHED_BYTES,
    KEPT_PROMPT_BYTES,
    FinishedInvocation,
    View,
)

ACQUIRED = Acquired("a1", "w", takeover=False, lease=3.0)


def view_of(*records: Record, keep_bodies: bool = True) -> View:
    view = View(keep_bodies=keep_bodies)
    for record in (ACQUIRED, *records):
        view.apply(record)
    return view


def message(role: str, *content: object) -> bytes:
    return pack_value({"role": role, "content": list(content)})


def started(invocation: str, key: str | None = None, attempt: int = 1) -> InvocationStarted:
    return InvocationStarted("", invocation, key, b"prompt", b"print", attempt)


HELLO, ASKS = message("user", {"text": "hello"}), message("assistant", {"toolUse": {"toolUseId": "t1"}})
RESULT = {"toolUseId": "t1", "status": "success", "content": [{"text": "äöü"}]}
TEMPLATE = {"role": "user", "content": None, "tracking_id": "x"}


def test_nothing_is_known_of_a_scope_at_first() -> None:
    scope = View().scope("g/x")
    assert (scope.messages, scope.documents, scope.results, scope.started, scope.invocation, scope.notes) == (
        [], {}, {}, {}, None, {},
    )  # fmt: skip


@given(st.data())
def test_splices_do_what_slices_do(data: st.DataObject) -> None:
    view, lean, live = view_of(), view_of(keep_bodies=False), list[bytes]()
    for number in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(live)))
        drop = data.draw(st.integers(0, len(live) - at))
        bodies = tuple(b"%d-%d" % (number, n) for n in range(data.draw(st.integers(0, 3))))
        live[at : at + drop] = bodies
        for each in (view, lean):
            each.apply(Spliced("", at, drop, bodies))
    assert view.scope("").messages == live
    assert view.bodies is not None
    assert len(view.bodies) == len(live)  # nothing is kept of what is live no more
    assert lean.scope("").ordinals == view.scope("").ordinals


def test_scopes_are_apart() -> None:
    view = view_of(Spliced("", 0, 0, (b"a",)), Spliced("g/x", 0, 0, (b"b",)), DocumentSet("g/x", "d", b"1"))
    assert view.scope("").messages == [b"a"]
    assert view.scope("g/x").messages == [b"b"]
    assert view.scope("g").messages == []
    assert set(view.scopes) == {"", "g/x"}


def test_a_closed_scope_goes_with_all_below_it() -> None:
    view = view_of(*(Spliced(scope, 0, 0, (b"x",)) for scope in ("", "g", "g/x", "gg")), ScopeClosed("g"))
    assert set(view.scopes) == {"", "gg"}
    assert view.bodies is not None
    assert len(view.bodies) == 2


def test_documents_and_notes_keep_the_newest_value() -> None:
    view = view_of(
        DocumentSet("", "a", b"1"), DocumentSet("", "a", b"2"), DocumentSet("", "b", b""), DocumentSet("", "c", b"3"),
        DocumentSet("", "c", None), Noted("", "k", b"1"), Noted("", "k", b"2"),
    )  # fmt: skip
    assert view.scope("").documents == {"a": b"2", "b": b""}
    assert view.scope("").notes == {"k": b"2"}


def test_a_derived_message_has_the_bytes_that_packing_it_would_give() -> None:
    view = view_of(
        Spliced("", 0, 0, (HELLO, ASKS)),
        ToolStarted("", "t1", "search"),
        ToolFinished("", "t1", pack_value(RESULT)),
        Spliced("", 2, 0, (Derived(pack_value(TEMPLATE), ("t1",)),)),
    )
    whole = {"role": "user", "content": [{"toolResult": RESULT}], "tracking_id": "x"}
    assert view.scope("").messages[2] == pack_value(whole)
    assert view.scope("").results == {}


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70000])
def test_a_derived_message_may_have_any_number_of_results(count: int) -> None:
    packed = fill(pack_value(TEMPLATE), [pack_value(n) for n in range(count)])
    assert packed == pack_value({**TEMPLATE, "content": [{"toolResult": n} for n in range(count)]})


@pytest.mark.parametrize(
    "template",
    [b"", b"\xc0", pack_value([1]), pack_value({}), pack_value({"content": []}), pack_value(TEMPLATE)[:-1],
     pack_value(TEMPLATE) + b"\xc0", pack_value({"inner": {"content": None}}), b"\xdf\xff\xff\xff\xff"],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("keep_bodies", [True, False])
def test_a_template_without_a_place_for_the_content_is_damage(template: bytes, keep_bodies: bool) -> None:  # noqa: FBT001
    with pytest.raises(DamagedDataError):
        view_of(Spliced("", 0, 0, (Derived(template, ()),)), keep_bodies=keep_bodies)


def test_who_wrote_a_message_is_seen_wherever_it_says_so() -> None:
    assert is_from_assistant(pack_value({"role": "assistant", "content": []}))
    assert is_from_assistant(pack_value({1: 2, "content": [{"a": 1}], "role": "assistant"}))
    assert not is_from_assistant(HELLO)
    assert not is_from_assistant(pack_value({"role": "user", "content": [{"role": "assistant"}]}))
    assert not is_from_assistant(b"\xa4role\xa9assistant")
    assert not is_from_assistant(b"\x81\xa4role")
    assert not is_from_assistant(b"")


class TestResults:
    BATCH = (Spliced("", 0, 0, (HELLO, ASKS)), ToolStarted("", "t2", "b"), ToolFinished("", "t1", b"r1"))

    def check(self, *then: Record, stay: bool) -> None:
        scope = view_of(started("i1"), *self.BATCH, *then).scope("")
        assert scope.results == ({"t1": b"r1"} if stay else {})
        assert scope.started == ({"t2": "b"} if stay else {})

    def test_they_stay_while_the_batch_is_open(self) -> None:
        self.check(stay=True)
        self.check(Spliced("", 2, 0, (HELLO,)), stay=True)
        self.check(Spliced("", 1, 1, (ASKS,)), stay=True)  # changed in place
        self.check(Spliced("g", 0, 0, (ASKS,)), stay=True)  # somebody else's
        self.check(started("i1", attempt=2), stay=True)
        self.check(InvocationFinished("", "i1", INTERRUPTED, b""), stay=True)
        self.check(InvocationFinished("", "i1", INTERRUPTED, b""), started("i2"), stay=True)

    def test_they_go_when_the_next_batch_opens(self) -> None:
        self.check(Spliced("", 2, 0, (HELLO, ASKS)), stay=False)
        self.check(Spliced("", 0, 2, (HELLO, HELLO, ASKS)), stay=False)

    def test_they_go_with_the_invocation(self) -> None:
        self.check(started("i2"), stay=False)
        self.check(InvocationFinished("", "i1", "completed", b""), stay=False)

    def test_a_result_ends_doubt(self) -> None:
        assert view_of(ToolStarted("", "t", "a"), ToolFinished("", "t", b"r")).scope("").started == {}


def test_an_invocation_is_followed_to_its_end() -> None:
    view = view_of(started("i1", "order-7"), started("i1", "order-7", attempt=2))
    now = view.scope("").invocation
    assert now is not None
    assert (now.id, now.attempt, now.finished) == ("i1", 2, False)
    view.apply(InvocationFinished("", "i1", "completed", b"result"))
    now = view.scope("").invocation
    assert now is not None
    assert (now.finished, now.outcome, now.result) == (True, "completed", b"result")
    assert view.finished == {"order-7": FinishedInvocation("", "i1", b"prompt", "completed", b"result")}


def test_finished_invocations_are_remembered_within_bounds() -> None:
    view = view_of()
    for number in range(KEPT_FINISHED + 10):
        view.apply(started(f"i{number}", f"k{number}"))
        view.apply(InvocationFinished("", f"i{number}", "completed", b""))
    assert list(view.finished) == [f"k{number}" for number in range(10, KEPT_FINISHED + 10)]
    view.apply(started("big", "big"))
    view.apply(InvocationFinished("", "big", "completed", bytes(KEPT_FINISHED_BYTES)))
    assert list(view.finished) == ["big"]
    view.apply(started("free"))
    view.apply(InvocationFinished("", "free", "completed", b""))
    assert list(view.finished) == ["big"]


def test_ownership_is_followed() -> None:
    view = view_of()
    assert view.owner == ACQUIRED
    takeover = Acquired("a2", "v", takeover=True, lease=1.0)
    view.apply(takeover)
    assert view.owner == takeover
    view.apply(Released("a2"))
    assert view.owner is None


@pytest.mark.parametrize(
    "records",
    [
        [Spliced("", 1, 0, (b"x",))],
        [Spliced("", 0, 1, ())],
        [Spliced("", 0, 0, (b"x",)), Spliced("", 0, 2, ())],
        [Spliced("", 0, 0, (Derived(pack_value(TEMPLATE), ("t1",)),))],
        [ToolFinished("", "t1", b"r"), Spliced("", 0, 0, (Derived(pack_value(TEMPLATE), ("t1", "t1")),))],
        [ToolFinished("g", "t1", b"r"), Spliced("", 0, 0, (Derived(pack_value(TEMPLATE), ("t1",)),))],
        [InvocationFinished("", "i1", "completed", b"")],
        [started("i1"), InvocationFinished("", "i2", "completed", b"")],
        [started("i1"), *[InvocationFinished("", "i1", "completed", b"")] * 2],
        [Released("a2")],
        [Acquired("a2", "w", takeover=False, lease=1.0)],
        [Released("a1"), Noted("", "k", b"")],
        [Released("a1"), Released("a1")],
        [Released("a1"), SegmentsPlanned(("p",))],
    ],
    ids=lambda records: "-".join(type(record).__name__ for record in records) + str(len(repr(records))),
)
@pytest.mark.parametrize("keep_bodies", [True, False])
def test_an_impossible_record_is_damage(records: list[Record], keep_bodies: bool) -> None:  # noqa: FBT001
    view = view_of(*records[:-1], keep_bodies=keep_bodies)
    with pytest.raises(DamagedDataError, match="slot-7"):
        view.apply(records[-1], key="slot-7")


def test_nothing_can_be_recorded_before_the_journal_is_owned() -> None:
    with pytest.raises(DamagedDataError, match="nobody owns"):
        View().apply(Noted("", "k", b""))


def test_a_view_without_bodies_says_so() -> None:
    lean = view_of(Spliced("", 0, 0, (b"x",)), DocumentSet("", "d", b"1")).without_bodies()
    assert list(lean.scope("").ordinals) == [0]
    assert lean.scope("").documents == {"d": b"1"}
    with pytest.raises(RuntimeError, match="keeps no messages"):
        _ = lean.scope("").messages
    lean.apply(Spliced("", 1, 0, (b"y",)))
    assert lean.next_ordinal == 2


def busy_view(**options: bool) -> View:
    """A view with something of everything."""
    view = View(**options)
    for record in (
        Acquired("a", "w", takeover=False, lease=3.0),
        SegmentsPlanned(("p", "q")),
        SegmentsPlanned(("r",)),
        InvocationStarted("", "i", "key", b"p", b"f", 1),
        Spliced("", 0, 0, (b"zero", b"one", b"two")),
        Spliced("", 1, 1, (b"new", b"er")),
        InvocationFinished("", "i", "completed", b"r"),
        InvocationStarted("g", "j", None, b"p", b"f", 1),
        ToolStarted("g", "u1", "name"),
        ToolFinished("g", "u2", b"result"),
        Tried("g", "u3", 1, b"e", 1.0, 2.0),
        DocumentSet("g", "state", b"v"),
        Noted("g", "kind", b"n"),
    ):
        view.apply(record)
    view.sequence = 7
    return view


def test_a_copy_without_messages_has_everything_else_and_is_a_copy() -> None:
    view = busy_view()
    copy = view.without_bodies()
    assert copy.bodies is None
    with pytest.raises(RuntimeError, match="keeps no messages"):
        _ = copy.scope("").messages
    for name in ("sequence", "owner", "finished", "planned", "next_ordinal"):
        assert getattr(copy, name) == getattr(view, name), name
    assert copy.planned == ["p", "q", "r"]
    names = ("path", "ordinals", "documents", "results", "started", "tries", "invocation", "notes")
    for path, scope in view.scopes.items():
        assert {name: getattr(copy.scopes[path], name) for name in names} == {
            name: getattr(scope, name) for name in names
        }
    before = [list(view.scope("").ordinals), dict(view.scope("g").results), dict(view.finished), list(view.planned)]
    for record in (
        Spliced("", 0, 1, ()),
        ToolFinished("g", "u4", b"more"),
        InvocationStarted("", "k", "other key", b"p", b"f", 1),
        InvocationFinished("", "k", "completed", b"r"),
        SegmentsPlanned(("s",)),
        ToolStarted("g", "u5", "name"),
        Tried("g", "u6", 1, b"e", 1.0, 2.0),
        DocumentSet("g", "state", b"w"),
        Noted("g", "kind", b"m"),
    ):
        copy.apply(record)
    after = [list(view.scope("").ordinals), dict(view.scope("g").results), dict(view.finished), list(view.planned)]
    assert before == after
    scope = view.scope("g")
    assert (scope.documents, scope.notes, set(scope.started), set(scope.tries)) == (
        {"state": b"v"}, {"kind": b"n"}, {"u1"}, {"u3"},
    )  # fmt: skip


@pytest.mark.parametrize("keep_dropped", [True, False])
def test_messages_that_are_live_no_more_are_let_go_unless_asked(*, keep_dropped: bool) -> None:
    view = busy_view(keep_dropped=keep_dropped)
    assert view.scope("").messages == [b"zero", b"new", b"er", b"two"]
    assert list(view.scope("").ordinals) == [0, 3, 4, 2]
    assert sorted(view.bodies or {}) == ([0, 1, 2, 3, 4] if keep_dropped else [0, 2, 3, 4])
    view.apply(ScopeClosed(""))
    assert sorted(view.bodies or {}) == ([0, 1, 2, 3, 4] if keep_dropped else [])


def test_a_view_without_messages_only_counts() -> None:
    view = busy_view(keep_bodies=False)
    assert view.bodies is None
    assert view.next_ordinal == 5
    assert list(view.scope("").ordinals) == [0, 3, 4, 2]
    view.apply(ToolFinished("g", "u9", b"x"))
    view.apply(Spliced("g", 0, 0, (Derived(pack_value({"role": "user", "content": None}), ("u9",)),)))
    assert len(view.scope("g").ordinals) == 1
    with pytest.raises(DamagedDataError):
        view.apply(Spliced("g", 0, 0, (Derived(b"no template", ()),)))


def test_closing_the_root_closes_every_scope_and_closing_one_its_own() -> None:
    view = View()
    view.apply(Acquired("a", "w", takeover=False, lease=3.0))
    for path in ("", "g", "g/x", "gg", "h"):
        view.apply(Noted(path, "k", b"v"))
    view.apply(ScopeClosed("g"))
    assert set(view.scopes) == {"", "gg", "h"}
    view.apply(ScopeClosed(""))
    assert view.scopes == {}


def test_how_a_tool_ended_is_known() -> None:
    view = View()
    for record in (
        Acquired("a", "w", takeover=False, lease=3.0),
        ToolStarted("", "u", "name"),
        Tried("", "u", 1, b"e", 1.0, 2.0),
    ):
        view.apply(record)
    scope = view.scope("")
    assert (scope.started, scope.tries["u"].attempt) == ({}, 1)
    view.apply(ToolStarted("", "u", "name"))
    assert (set(scope.started), set(scope.tries)) == ({"u"}, {"u"})
    view.apply(ToolFinished("", "u", b"r"))
    assert (scope.started, scope.tries, scope.results) == ({}, {}, {"u": b"r"})
    view.apply(Tried("", "v", 1, b"e", 1.0, 2.0))
    view.apply(ToolStarted("", "w", "name"))
    view.apply(Spliced("", 0, 0, (pack_value({"role": "assistant", "content": []}),)))
    assert (scope.started, scope.tries, scope.results) == ({}, {}, {})


ANSWER = pack_value({"role": "assistant", "content": []})


@pytest.mark.parametrize(
    ("splice", "is_over"),
    [
        (Spliced("", 2, 0, (ANSWER,)), True),
        (Spliced("", 2, 0, (b"x", ANSWER, b"y")), True),
        (Spliced("", 2, 0, (b"x",)), False),
        (Spliced("", 0, 1, (ANSWER,)), False),  # changed, not appended
        (Spliced("", 0, 0, (ANSWER,)), False),  # put before others
        (Spliced("", 1, 1, (ANSWER,)), False),  # the last one, changed
        (Spliced("", 1, 1, (b"x", ANSWER)), True),  # and one more
    ],
    ids=repr,
)
def test_an_answer_that_is_appended_opens_the_next_batch(splice: Spliced, *, is_over: bool) -> None:
    view = View()
    view.apply(Acquired("a", "w", takeover=False, lease=3.0))
    view.apply(Spliced("", 0, 0, (b"a", b"b")))
    view.apply(ToolFinished("", "u", b"r"))
    view.apply(splice)
    assert (view.scope("").results == {}) is is_over


@pytest.mark.parametrize(("size", "kept"), [(KEPT_FINISHED_BYTES // 4, 4), (KEPT_FINISHED_BYTES // 4 + 1, 3)])
def test_finished_invocations_have_so_many_bytes_together(size: int, kept: int) -> None:
    view = View()
    view.apply(Acquired("a", "w", takeover=False, lease=3.0))
    for number in [0, 1, 2, 3, 4, 2]:  # the same id again is the newest again
        identity = f"{number} {len(view.finished)} {view.next_ordinal}"
        view.apply(InvocationStarted("", identity, f"{number}", b"p", b"f", 1))
        view.apply(InvocationFinished("", identity, "completed", bytes(size - 1)))
    assert list(view.finished) == ["1", "3", "4", "2"][-kept:]


def test_nobody_writes_to_what_nobody_owns() -> None:
    view = View()
    for record in (Released("a"), Noted("", "k", b"v"), SegmentsPlanned(()), ScopeClosed("")):
        with pytest.raises(DamagedDataError, match="nobody owns the journal"):
            view.apply(record, key="the key")
    view.apply(Acquired("a", "w", takeover=False, lease=3.0))
    with pytest.raises(DamagedDataError, match="somebody who does not own it") as refused:
        view.apply(Released("b"), key="the key")
    assert refused.value.key == "the key"
    with pytest.raises(DamagedDataError, match="as if it had been released"):
        view.apply(Acquired("b", "w", takeover=False, lease=3.0))


@pytest.mark.parametrize("size", [KEPT_PROMPT_BYTES - 1, KEPT_PROMPT_BYTES])
def test_of_finished_invocations_only_short_prompts_are_kept(size: int) -> None:
    prompt = InvocationStarted("", "i", "k", bytes(size), b"f", 1)
    view = view_of(prompt, InvocationFinished("", "i", "completed", b"r"))
    assert view.finished["k"].prompt == (bytes(size) if size < KEPT_PROMPT_BYTES else b"")
