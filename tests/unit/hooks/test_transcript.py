"""The recorded edits, applied one after the other, give the live list: whatever somebody did to it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strands_dapr_session.errors import UnencodableValueError
from strands_dapr_session.hooks.transcript import Transcript
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import Acquired, Derived, Spliced, ToolFinished
from strands_dapr_session.records.view import View


def user(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}], "tracking_id": text}


def answers(*results: Any) -> Any:
    return {"role": "user", "content": [{"toolResult": result} for result in results], "tracking_id": "t"}


def result(tool_use_id: str, text: str = "ok") -> Any:
    return {"toolUseId": tool_use_id, "status": "success", "content": [{"text": text}]}


class Journal:
    """Folds what a transcript records."""

    def __init__(self) -> None:
        self.view = View()
        self.view.apply(Acquired("a", "w", takeover=False, lease=3.0))

    def apply(self, records: list[Spliced]) -> None:
        for record in records:
            self.view.apply(record)

    @property
    def messages(self) -> list[Any]:
        return [unpack_value(body) for body in self.view.scope("").messages]


def test_appending_costs_only_what_was_appended() -> None:
    transcript, live = Transcript(""), [user("a")]
    assert [record.bodies for record in transcript.appended(live, {})] == [(pack_value(live[0]),)]
    live.append(user("b"))
    [record] = transcript.appended(live, {})
    assert (record.at, record.drop, record.bodies) == (1, 0, (pack_value(live[1]),))
    assert transcript.appended(live, {}) == []


def test_appending_trusts_what_is_between_the_first_and_the_last() -> None:
    transcript, journal = Transcript(""), Journal()
    live = [user("a"), user("b"), user("c")]
    journal.apply(transcript.changed(live, {}))
    live[1]["content"][0]["text"] = "changed"
    live.append(user("d"))
    records = transcript.appended(live, {})
    assert [(record.at, record.drop, len(record.bodies)) for record in records] == [(3, 0, 1)]
    journal.apply(records)
    journal.apply(transcript.changed(live, {}))
    assert journal.messages == live


NO_LONGER_IN_PLACE: dict[str, Callable[[list[Any]], object]] = {
    "the first is gone": lambda live: live.pop(0),
    "the first is another": lambda live: live.__setitem__(0, user("other")),
    "the last is gone": lambda live: live.pop(),
    "the last is another": lambda live: live.__setitem__(-1, user("other")),
    "all are gone": lambda live: live.clear(),
    "others are before them": lambda live: live.insert(0, user("before")),
}


@pytest.mark.parametrize("more", [0, 1, 2])
@pytest.mark.parametrize("edit", NO_LONGER_IN_PLACE.values(), ids=NO_LONGER_IN_PLACE)
def test_appending_compares_where_the_first_or_the_last_is_not_in_place(
    edit: Callable[[list[Any]], object], more: int
) -> None:
    transcript, journal = Transcript(""), Journal()
    live = [user("a"), user("b"), user("c")]
    journal.apply(transcript.changed(live, {}))
    edit(live)
    live += [user(f"more {number}") for number in range(more)]
    journal.apply(transcript.appended(live, {}))
    assert journal.messages == live
    assert transcript.last is (live[-1] if live else None)


def test_results_are_referred_to_where_the_list_was_changed_too() -> None:
    transcript, live = Transcript(""), [user("a"), user("b")]
    transcript.changed(live, {})
    recorded = {"t1": pack_value(result("t1"))}
    live[:] = [user("summary"), answers(result("t1"))]
    [record] = transcript.appended(live, recorded)
    assert [type(body) for body in record.bodies] == [bytes, Derived]


def test_messages_that_are_others_and_say_the_same_are_taken_for_what_is_recorded() -> None:
    transcript, live = Transcript(""), [user("a"), user("b")]
    transcript.changed(live, {})
    live = copy.deepcopy(live)
    assert transcript.changed(live, {}) == []
    assert transcript.last is live[-1]


def test_a_message_of_recorded_results_costs_no_bytes_of_its_own() -> None:
    transcript, journal = Transcript(""), Journal()
    results = [result("t1", "x" * 4000), result("t2", "y" * 4000)]
    packed = {item["toolUseId"]: pack_value(item) for item in results}
    for tool_use_id, body in packed.items():
        journal.view.apply(ToolFinished("", tool_use_id, body))
    message = answers(*results)
    [record] = transcript.appended([message], packed)
    assert isinstance(record.bodies[0], Derived)
    assert len(record.bodies[0].template) < 100
    journal.apply([record])
    assert journal.messages == [message]


def test_a_recorded_result_is_referred_to_once() -> None:
    recorded = {"t1": pack_value(result("t1"))}
    [one] = Transcript("").appended([answers(result("t1")), answers(result("t1"))], recorded)
    assert [type(body) for body in one.bodies] == [Derived, bytes]
    [twice] = Transcript("").appended([answers(result("t1"), result("t1"))], recorded)
    assert [type(body) for body in twice.bodies] == [bytes]


def test_what_is_said_beside_recorded_results_is_written_out() -> None:
    recorded = {"t1": pack_value(result("t1"))}
    in_the_block: Any = {**answers(), "content": [{"toolResult": result("t1"), "more": 1}]}
    beside: Any = {**answers(), "content": [{"toolResult": result("t1")}, {"text": "more"}]}
    for message in (in_the_block, beside, answers(result("t1"), result("unknown"))):
        [record] = Transcript("").appended([message], recorded)
        assert record.bodies == (pack_value(message),)


def test_a_result_that_was_changed_after_it_was_recorded_is_written_out() -> None:
    transcript = Transcript("")
    recorded = {"t1": pack_value(result("t1"))}
    [record] = transcript.appended([answers(result("t1", "changed"))], recorded)
    assert isinstance(record.bodies[0], bytes)


def test_changes_that_equality_does_not_see_are_found() -> None:
    for before, after in ((1, True), (1, 1.0), ({"a": 1, "b": 2}, {"b": 2, "a": 1})):
        transcript, journal = Transcript(""), Journal()
        live = [{"role": "user", "content": [{"json": before}]}, user("z")]
        journal.apply(transcript.changed(live, {}))
        live[0]["content"][0]["json"] = after
        records = transcript.changed(live, {})
        assert len(records) == 1
        journal.apply(records)
        assert repr(journal.messages) == repr(live)


def test_a_bytearray_changed_in_place_is_found() -> None:
    transcript, image = Transcript(""), bytearray(b"abc")
    live: list[Any] = [{"role": "user", "content": [{"image": {"source": {"bytes": image}}}]}]
    transcript.changed(live, {})
    image[0] = 0
    assert len(transcript.changed(live, {})) == 1


def test_trimming_a_long_list_costs_one_small_record() -> None:
    transcript, live = Transcript(""), [user(str(n)) for n in range(1000)]
    transcript.changed(live, {})
    del live[1:41]  # the first is pinned
    live.append(user("new"))
    records = transcript.changed(live, {})
    assert sum(len(record.bodies) for record in records) == 1
    assert sum(record.drop for record in records) == 40


edit = st.one_of(
    st.tuples(st.just("append"), st.text(max_size=3)),
    st.tuples(st.just("trim"), st.integers(0, 4)),
    st.tuples(st.just("change"), st.integers(0, 20), st.text(max_size=3)),
    st.tuples(st.just("insert"), st.integers(0, 20), st.text(max_size=3)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
    st.tuples(st.just("clear")),
)


@given(st.lists(st.lists(edit, max_size=4), max_size=8))
def test_whatever_is_done_to_the_list_the_journal_follows(rounds: list[list[tuple[Any, ...]]]) -> None:
    transcript, journal = Transcript(""), Journal()
    live: list[Any] = []
    for edits in rounds:
        for kind, *arguments in edits:
            _edit(live, kind, arguments)
        journal.apply(transcript.changed(live, {}))
        assert journal.messages == live
        assert len(transcript) == len(live)
        live = copy.copy(live)


def _edit(live: list[Any], kind: str, arguments: list[Any]) -> None:
    if kind == "append":
        live.append(user(arguments[0]))
    elif kind == "trim":
        del live[: arguments[0]]
    elif kind == "clear":
        live.clear()
    elif kind == "insert":
        live.insert(arguments[0], user(arguments[1]))
    elif live:
        index = arguments[0] % len(live)
        if kind == "delete":
            del live[index]
        else:
            live[index]["content"][0]["text"] = arguments[1]


def test_a_last_message_that_was_changed_in_place_is_recorded_anew() -> None:
    transcript, journal = Transcript(""), Journal()
    live = [user("a"), {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "n", "input": {}}}]}]
    journal.apply(transcript.appended(live, {}))
    assert transcript.amended(live) == []
    live[1]["content"][0]["toolUse"]["input"]["x"] = 1
    [edit] = transcript.amended(live)
    assert (edit.at, edit.drop, len(edit.bodies)) == (1, 1, 1)
    journal.apply([edit])
    assert journal.messages == live
    assert transcript.amended(live) == []
    assert transcript.changed(live, {}) == []


def test_only_the_message_itself_is_amended() -> None:
    transcript, live = Transcript(""), [user("a"), user("b")]
    assert transcript.amended(live) == []
    transcript.appended(live, {})
    assert transcript.amended([live[0], user("c")]) == []
    assert transcript.amended(live[:1]) == []
    live[0]["content"][0]["text"] = "another"
    assert transcript.amended(live) == []


def test_what_became_of_the_last_message_is_recorded_with_the_next() -> None:
    transcript, journal, live = Transcript(""), Journal(), [user("a")]
    journal.apply(transcript.appended(live, {}))
    live[0]["content"].append({"text": "a note"})
    live.append(user("b"))
    edits = transcript.appended(live, {})
    assert sorted((edit.at, edit.drop) for edit in edits) == [(0, 1), (1, 0)]
    journal.apply(edits)
    assert journal.messages == live
    live[1]["content"].append({"text": "another"})
    journal.apply(transcript.appended(live, {}))
    assert journal.messages == live
    assert transcript.appended(live, {}) == []


def test_nothing_is_taken_as_recorded_if_one_of_two_edits_cannot_be() -> None:
    transcript, journal, live = Transcript(""), Journal(), [user("a")]
    journal.apply(transcript.appended(live, {}))
    live[0]["content"].append({"text": "a note"})
    live.append({"role": "user", "content": [{"text": object()}]})
    with pytest.raises(UnencodableValueError):
        transcript.appended(live, {})
    live[1] = user("b")
    journal.apply(transcript.appended(live, {}))
    assert journal.messages == live


def asks(*inputs: Any) -> Any:
    calls = [{"toolUse": {"toolUseId": f"t{n}", "name": "n", "input": each}} for n, each in enumerate(inputs)]
    return {"role": "assistant", "content": calls}


@pytest.mark.parametrize("method", ["edited", "changed"])
def test_a_message_that_asks_for_tools_is_replaced_alone_whatever_was_put_in_before_it(method: str) -> None:
    """Taken for a new one, it would end the batch that it has opened, and the results of that would be lost."""
    transcript, journal, live = Transcript(""), Journal(), [user("a"), user("b"), asks({})]
    journal.apply(transcript.appended(live, {}))
    live[1:2] = [user("c"), user("d")]
    live[-1]["content"][0]["toolUse"]["input"]["x"] = 1
    edits = transcript.edited(live) if method == "edited" else transcript.changed(live, {})
    assert sorted((edit.at, edit.drop, len(edit.bodies)) for edit in edits) == [(1, 1, 2), (2, 1, 1)]
    journal.apply(edits)
    assert journal.messages == live
    assert transcript.changed(live, {}) == []


def test_what_is_edited_ends_with_the_last_recorded_message() -> None:
    transcript, journal, live = Transcript(""), Journal(), [user("a"), asks({})]
    journal.apply(transcript.appended(live, {}))
    live[0]["content"][0]["text"] = "another"
    behind = user("b")
    live.append(behind)
    journal.apply(transcript.edited(live))
    assert journal.messages == live[:2]
    assert transcript.behind(live) == [behind]
    assert transcript.edited([user("c")]) == []
    journal.apply(transcript.changed(live, {}))
    assert journal.messages == live
    assert transcript.behind(live) == []
