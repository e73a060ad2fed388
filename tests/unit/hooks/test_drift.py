"""What counts as another version of an agent, and what is done about it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from strands import Agent, tool

from strands_dapr_session.errors import DriftError
from strands_dapr_session.hooks.drift import _differences, _digest, check_drift, fingerprint
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.testing.model import ScriptedModel


@tool
def work(cents: int) -> str:
    """Work."""
    return str(cents)


@tool
def rest() -> str:
    """Rest."""
    return ""


def build(tools: list[Any], prompt: str | None = "be brief", model: Any = None) -> Agent:
    return Agent(model=model or ScriptedModel(["done"]), tools=tools, system_prompt=prompt, callback_handler=None)


def drifts(before: Agent, after: Agent) -> str:
    """What is said about a difference; nothing if there is none."""
    try:
        check_drift(after, fingerprint(before), "refuse")
    except DriftError as error:
        return str(error).partition("another version of it: ")[2].partition(". Resume")[0]
    return ""


def reworded() -> Any:
    @tool(name="work", description="Work hard.")
    def work_hard(cents: int) -> str:
        return str(cents)

    return work_hard


class Silent(ScriptedModel):
    """Does not say what it is."""

    def get_config(self) -> Any:
        raise NotImplementedError


class Named(ScriptedModel):
    """Says what it is."""

    def __init__(self, config: Any) -> None:
        super().__init__(["done"])
        self.says = config

    def get_config(self) -> Any:
        return self.says


def test_the_same_agent_does_not_drift() -> None:
    assert drifts(build([work, rest]), build([rest, work])) == ""
    assert drifts(build([], None), build([], None)) == ""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([work, rest], [work], "tools removed: rest"),
        ([work], [work, rest], "tools added: rest"),
        ([work], [rest], "tools removed: work; tools added: rest"),
        ([], [work, rest], "tools added: rest, work"),
    ],
    ids=["removed", "added", "another", "several"],
)
def test_tools_that_come_and_go(before: list[Any], after: list[Any], said: str) -> None:
    assert drifts(build(before), build(after)) == said


def test_what_else_drifts() -> None:
    assert drifts(build([work, rest]), build([reworded(), rest])) == "tools changed: work"
    assert drifts(build([]), build([], "be lavish")) == "system prompt changed"
    said = drifts(build([], model=Named({"model_id": "a"})), build([], model=Named({"model_id": "b"})))
    assert said.startswith("model changed from ")
    assert said.partition(" to ")[0].endswith("Named:a")
    assert said.endswith("Named:b")
    assert drifts(build([], model=Silent(["x"])), build([], model=Silent(["y"]))) == ""
    assert unpack_value(fingerprint(build([], model=Silent(["x"]))))["model"].endswith("Silent:None")
    assert unpack_value(fingerprint(build([], model=Named("no dict"))))["model"].endswith("Named:None")


def test_what_is_done_about_it(caplog: pytest.LogCaptureFixture) -> None:
    before, after = fingerprint(build([work])), build([rest])
    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        check_drift(after, before, "ignore")
        assert caplog.text == ""
        check_drift(build([work]), before, "warn")
        assert caplog.text == ""
        check_drift(after, before, "warn")
        assert "tools removed: work" in caplog.text
    with pytest.raises(DriftError, match="tools removed: work"):
        check_drift(after, before, "refuse")


def test_the_order_of_dictionaries_says_nothing_and_everything_else_does() -> None:
    assert _digest({"a": 1, "b": [{"c": 1, "d": 2}]}) == _digest({"b": [{"d": 2, "c": 1}], "a": 1})
    assert _digest((1, 2)) == _digest([1, 2])
    values: list[Any] = [None, "", [], [1, 2], [2, 1], {"a": 1}, {"a": 2}, {"b": 1}, [{"a": 1}], "1", 1]
    assert len({_digest(value) for value in values}) == len(values)


def test_a_description_of_an_older_version_that_says_the_same_is_no_drift() -> None:
    """Bytes may differ where nothing does: an older version may have put things in another order."""
    agent = build([work, rest])
    plain = unpack_value(fingerprint(agent))
    other = pack_value({"model": plain["model"], "system_prompt": plain["system_prompt"], "tools": plain["tools"]})
    assert other != fingerprint(agent)
    assert _differences(plain, unpack_value(other)) == []
    check_drift(agent, other, "refuse")
