"""What is recorded of a result, and what becomes of structured output when its type is not what it was."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator
from strands import Agent, ToolContext, tool

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.errors import UnencodableValueError
from strands_dapr_session.hooks.results import RecordedOutput, decode_output, encode_output
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

ID: Any = {"invocation_id": "mine"}
NO_JSON = object()


class Offer(BaseModel):
    """An offer."""

    price: int


class OfferInEuros(BaseModel):
    """The same with something that was not asked for."""

    price: int
    currency: str = "EUR"


class Opaque(BaseModel):
    """Holds what is no JSON."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    price: Any

    @model_validator(mode="after")
    def look_it_up(self) -> Opaque:
        self.price = NO_JSON
        return self


class BeforePydantic211:
    """Takes no words about names."""

    @staticmethod
    def model_validate_json(text: str) -> Offer:
        return Offer.model_validate_json(text)


def agent_on(store: MemoryStore, script: Any, **options: Any) -> Agent:
    @tool(context=True)
    def ask(tool_context: ToolContext) -> str:
        """Ask a person."""
        return str(tool_context.interrupt("may I"))

    return Agent(
        model=ScriptedModel(script),
        tools=[ask],
        session_manager=DaprSessionManager("s", store=store),
        callback_handler=None,
        **options,
    )


def recorded(store: MemoryStore) -> Any:
    invocation = Journal(store, "s", "default").load_sync().scope("").invocation
    assert invocation is not None
    return unpack_value(invocation.result)


def test_only_what_may_be_asked_for_again_is_recorded_as_a_whole() -> None:
    store = MemoryStore()
    agent = agent_on(store, ["went"])

    agent("go")
    assert recorded(store) == {"stop_reason": "end_turn"}

    result = agent("go", invocation_state=ID)
    assert recorded(store)["message"]["content"] == result.message["content"]
    assert recorded(store)["usage"]["totalTokens"] == 11
    assert "usage_of_call" not in recorded(store)


def test_the_call_that_brought_the_answers_is_handed_out_with_its_own_tokens() -> None:
    store = MemoryStore()
    agent = agent_on(store, [[("ask", {})], "asked"])
    first = agent("go", invocation_state=ID)
    answers: Any = [
        {"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in first.interrupts or []
    ]
    agent(answers)

    again = agent_on(store, [])("go", invocation_state=ID)

    assert str(again).strip() == "asked"
    assert again.metrics.latest_agent_invocation.usage["totalTokens"] == 11  # type: ignore[union-attr]
    assert again.metrics.accumulated_usage["totalTokens"] == 22


def test_output_that_is_no_json_is_refused() -> None:
    with pytest.raises(UnencodableValueError, match="Opaque is no JSON"):
        encode_output(Opaque(price=3))
    assert encode_output(None) is None
    assert encode_output(Offer(price=3)) == '{"price":3}'


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        (None, Offer, None),
        ('{"price":3}', Offer, Offer(price=3)),
        ('{"price":3}', OfferInEuros, RecordedOutput(price=3)),  # type: ignore[call-arg]
        ('{"price":"a lot"}', Offer, RecordedOutput(price="a lot")),  # type: ignore[call-arg]
        ('{"price":3}', None, RecordedOutput(price=3)),  # type: ignore[call-arg]
        ("[3]", None, RecordedOutput(root=[3])),  # type: ignore[call-arg]
        ('{"price":3}', BeforePydantic211, Offer(price=3)),
    ],
    ids=["none", "the same", "says more", "does not fit", "no type", "no dict", "older pydantic"],
)
def test_output_is_of_its_type_where_that_says_the_same(text: str | None, model: Any, expected: Any) -> None:
    assert decode_output(text, model) == expected


@pytest.mark.parametrize("by_alias", [False, True])
def test_fields_are_named_as_they_were_when_the_output_was_recorded(*, by_alias: bool) -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(serialize_by_alias=by_alias)

        price: int = Field(alias="cost")

    text = Aliased(cost=3).model_dump_json()

    assert text == ('{"cost":3}' if by_alias else '{"price":3}')
    assert decode_output(text, Aliased) == Aliased(cost=3)
