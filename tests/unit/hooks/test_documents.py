"""What changed in an agent besides its messages is recorded, once, and never lost."""

from __future__ import annotations

import pytest
from strands import Agent
from strands.agent.state import AgentState

from strands_dapr_session.hooks.documents import Documents
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import DocumentSet
from strands_dapr_session.testing.model import ScriptedModel


def agent_with(**state: object) -> Agent:
    return Agent(model=ScriptedModel(["done"]), state=state, callback_handler=None)


def state_in(documents: Documents, agent: Agent) -> list[object]:
    records, _ = documents.changed(agent)
    return [unpack_value(record.value) for record in records if record.name == "state" and record.value]


def test_what_did_not_change_is_not_recorded_again() -> None:
    agent, documents = agent_with(a=1), Documents("")
    assert state_in(documents, agent) == [{"a": 1}]
    documents.take(*documents.changed(agent))
    assert documents.changed(agent)[0] == []


def test_a_change_between_looking_and_recording_is_found_the_next_time() -> None:
    """A tool in a thread of its own may set state at any time."""
    agent, documents = agent_with(a=1), Documents("")
    records, version = documents.changed(agent)
    agent.state.set("a", 2)
    documents.take(records, version)
    assert state_in(documents, agent) == [{"a": 2}]


def test_what_was_not_taken_is_found_again() -> None:
    agent, documents = agent_with(a=1), Documents("")
    documents.changed(agent)
    assert state_in(documents, agent) == [{"a": 1}]


def test_a_state_that_was_replaced_is_found() -> None:
    agent, documents = agent_with(a=1), Documents("")
    documents.take(*documents.changed(agent))
    agent.state = agent_with(b=2).state
    assert state_in(documents, agent) == [{"b": 2}]


@pytest.mark.parametrize("blank", [{}, [], None, {"interrupts": {}, "context": {}, "activated": False}], ids=repr)
def test_what_says_nothing_is_recorded_only_where_something_was(blank: object) -> None:
    documents = Documents("g/x")
    assert documents.difference("d", blank) == []
    said = {"interrupts": {}, "context": {}, "activated": True}
    records = documents.difference("d", said)
    assert records == [DocumentSet("g/x", "d", pack_value(said))]
    documents.take(records)
    assert documents.difference("d", said) == []
    assert documents.difference("d", blank) == [DocumentSet("g/x", "d", pack_value(blank))]
    assert documents.recorded("d") == said
    assert documents.recorded("e") is None


def test_a_state_that_did_not_change_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be large, and every step asks for it."""
    agent, documents = agent_with(a=1), Documents("")
    looked: list[object] = []
    get = AgentState.get

    def counted(state: AgentState, key: str | None = None) -> object:
        looked.append(state)
        return get(state, key)

    monkeypatch.setattr(AgentState, "get", counted)
    documents.take(*documents.changed(agent))
    assert len(looked) == 1
    documents.take(*documents.changed(agent))
    assert len(looked) == 1
    documents.take(documents.difference("progress", {"a": 1}))  # says nothing of the state
    documents.changed(agent)
    assert len(looked) == 1
    again = Documents("")
    again.reset(agent, {"state": pack_value({"a": 1})})
    again.changed(agent)
    assert len(looked) == 1
    again.reset(agent, {})
    assert state_in(again, agent) == [{"a": 1}]
    assert len(looked) == 2
    agent.state.set("b", 2)
    again.changed(agent)
    assert len(looked) == 3


def test_a_state_is_another_one_though_it_has_the_address_of_the_one_before() -> None:
    agent, documents = agent_with(), Documents("")
    for number in range(20):
        agent.state = AgentState({"number": number})
        documents.take(*documents.changed(agent))
        agent.state = AgentState({"number": "lost"})
        agent.state = AgentState({"number": "kept"})
        assert state_in(documents, agent) == [{"number": "kept"}]
