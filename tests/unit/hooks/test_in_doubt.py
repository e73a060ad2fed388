"""What a policy makes of a call that may have taken effect, and of the answers that it gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from strands.types.tools import ToolUse

from strands_dapr_session import ConfigurationError
from strands_dapr_session.hooks.in_doubt import (
    INTERRUPT_NAME,
    UNKNOWN_OUTCOME,
    check_policy,
    in_doubt,
    policy_of,
    reconcile,
    settle,
)

USE = ToolUse(toolUseId="t1", name="pay", input={"cents": 5})


class Event:
    """As much of an event as a policy needs."""

    def __init__(self, answer: Any = None) -> None:
        self.tool_use = USE
        self.selected_tool: Any = None
        self.cancel_tool: Any = False
        self.answer = answer
        self.asked: list[tuple[str, Any]] = []

    def interrupt(self, name: str, reason: Any) -> Any:
        self.asked.append((name, reason))
        return self.answer

    async def result(self) -> Any:
        """What the call returns now."""
        events = [event async for event in self.selected_tool.stream(self.tool_use, {})]
        return events[-1]["tool_result"] if "tool_result" in events[-1] else events[-1]


async def settled(event: Event, policy: Any) -> bool:
    return await settle(cast("Any", event), policy)


@pytest.mark.parametrize("answer", ["rerun", "run", "yes", "y", " Yes\n", "RERUN", True])
async def test_answers_that_say_run_it_again(answer: Any) -> None:
    event = Event(answer)
    assert await settled(event, "ask")
    assert event.asked[0][0] == INTERRUPT_NAME
    assert (event.asked[0][1]["tool"], event.asked[0][1]["input"]) == ("pay", {"cents": 5})
    assert event.cancel_tool is False


@pytest.mark.parametrize("answer", ["skip", "no", "", "nay", False, None, 1, {"rerun": True}, ["rerun"]], ids=repr)
async def test_any_other_answer_keeps_it_from_running(answer: Any) -> None:
    event = Event(answer)
    assert not await settled(event, "ask")
    assert event.cancel_tool == UNKNOWN_OUTCOME
    assert event.selected_tool is None


async def test_a_person_may_answer_with_the_result() -> None:
    event = Event({"result": "paid"})
    assert not await settled(event, "ask")
    assert event.cancel_tool is False
    assert event.selected_tool.tool_name == "pay"


async def test_never_twice_asks_nobody() -> None:
    event = Event()
    assert not await settled(event, "never_twice")
    assert (event.cancel_tool, event.asked) == (UNKNOWN_OUTCOME, [])


async def test_rerun_runs_it() -> None:
    event = Event()
    assert await settled(event, "rerun")
    assert (event.cancel_tool, event.asked, event.selected_tool) == (False, [], None)


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("found", [None, "paid", {"id": 3}, 0, ""], ids=repr)
async def test_a_function_finds_out(found: Any, *, is_async: bool) -> None:
    asked: list[ToolUse] = []

    async def later(use: ToolUse) -> Any:
        asked.append(use)
        return found

    def now(use: ToolUse) -> Any:
        asked.append(use)
        return found

    event = Event()
    assert await settled(event, reconcile(later if is_async else now)) is (found is None)
    assert asked == [USE]
    assert (event.selected_tool is None) is (found is None)


@pytest.mark.parametrize(
    ("value", "status", "content"),
    [
        ("paid", "success", [{"text": "paid"}]),
        ({"id": 3}, "success", [{"json": {"id": 3}}]),
        (0, "success", [{"json": 0}]),
        ({"status": "error", "content": [{"text": "no"}]}, "error", [{"text": "no"}]),
        ({"status": "success", "content": ({"text": "yes"},)}, "success", [{"text": "yes"}]),
        ({"status": "else", "content": []}, "success", [{"json": {"status": "else", "content": []}}]),
        ({"status": "error"}, "success", [{"json": {"status": "error"}}]),
    ],
    ids=repr,
)
async def test_what_is_found_is_the_result(value: Any, status: str, content: Any) -> None:
    event = Event()
    event.selected_tool = SimpleNamespace(tool_spec={"name": "pay", "description": "pays", "inputSchema": {}})
    assert not await settled(event, lambda _: value)
    assert event.selected_tool.tool_spec["description"] == "pays"
    assert await event.result() == {"toolUseId": "t1", "status": status, "content": content}


def test_the_session_manager_decides_before_the_tool() -> None:
    @in_doubt("ask")
    def mine() -> None: ...

    tool: Any = mine
    assert policy_of(tool, "mine", {"mine": "rerun"}, "never_twice") == "rerun"
    assert policy_of(tool, "mine", {"other": "rerun"}, "never_twice") == "ask"
    assert policy_of(None, "mine", {}, "never_twice") == "never_twice"


@pytest.mark.parametrize("policy", ["RERUN", "", None, 3], ids=repr)
def test_what_is_no_policy(policy: Any) -> None:
    for refuse in (lambda: in_doubt(policy), lambda: reconcile(policy), lambda: check_policy(policy, "x")):
        with pytest.raises(ConfigurationError, match="is not a policy"):
            refuse()
