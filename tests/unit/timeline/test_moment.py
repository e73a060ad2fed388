"""What agents were is read out of a view: messages, results that are there, and documents that were kept."""

from __future__ import annotations

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Acquired, DocumentSet, Noted, Record, Spliced, ToolFinished
from strands_dapr_session.records.view import View
from strands_dapr_session.timeline.moment import AgentMoment, Moment, agents_of

MESSAGE = {"role": "user", "content": [{"text": "hi"}]}
RESULT = {"toolUseId": "t", "status": "success", "content": []}


def view_of(*records: Record) -> View:
    view = View()
    for record in (Acquired("a", "w", takeover=False, lease=3.0), *records):
        view.apply(record, key="s/r")
    return view


def said(scope: str, message: object = MESSAGE) -> Spliced:
    return Spliced(scope, 0, 0, (pack_value(message),))


def test_agents_are_what_has_messages_or_a_state() -> None:
    state = pack_value({"a": 1})
    view = view_of(
        Noted("", "status", pack_value({})),
        said("said"),
        DocumentSet("silent", "state", state),
        said("silent/*stash"),
        Noted("noted", "status", pack_value({})),
    )
    assert agents_of(view, "s/r") == {
        "said": AgentMoment("said", [MESSAGE], [], {}, {}),  # type: ignore[list-item]
        "silent": AgentMoment("silent", [], [], {"a": 1}, {}),
    }


def test_results_and_documents_are_those_of_the_agent() -> None:
    view = view_of(
        said(""),
        ToolFinished("", "t", pack_value(RESULT)),
        DocumentSet("", "state", b"\x80"),
        DocumentSet("", "conversation_manager_state", pack_value({"removed": 3})),
    )
    moment = Moment("s", "r", 7, agents_of(view, "s/r")).agent
    assert moment.tool_results == [RESULT]  # type: ignore[comparison-overlap]
    assert (moment.state, moment.conversation_manager_state) == ({}, {"removed": 3})


def test_what_was_not_kept_is_none() -> None:
    view = view_of(said(""), DocumentSet("", "state", b"1"), DocumentSet("", "conversation_manager_state", b"1"))
    view.scopes[""].documents.update(state=b"", conversation_manager_state=b"")
    moment = agents_of(view, "s/r")[""]
    assert (moment.state, moment.conversation_manager_state) == (None, None)


@pytest.mark.parametrize(
    "record",
    [
        Spliced("", 0, 0, (b"\xc1",)),
        said("", {"role": "user"}),
        ToolFinished("", "t", b"\xc1"),
        ToolFinished("", "t", pack_value(7)),
        DocumentSet("", "state", b"\xc1"),
        DocumentSet("", "conversation_manager_state", pack_value([1])),
    ],
)
def test_what_describes_no_agent_is_damage(record: Record) -> None:
    view = view_of(DocumentSet("", "other", b"1"), record)
    with pytest.raises(DamagedDataError) as damaged:
        agents_of(view, "s/r")
    assert damaged.value.key == "s/r"
