"""One agent's place in a journal: which messages are whose, and what becomes of a failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from strands_dapr_session.errors import FencedError, StoreUnavailableError
from strands_dapr_session.hooks.invocation import Invocation
from strands_dapr_session.hooks.recording import Recording
from strands_dapr_session.records.view import View
from strands_dapr_session.strands_compat import INTERRUPTED_TEXT

ASKS: Any = {"role": "assistant", "content": [{"toolUse": {"toolUseId": id_}} for id_ in ("t1", "t2")]}


class Journal:
    """Fails at a barrier when it is told to.

    Attributes:
        barriers: How often somebody waited.
    """

    def __init__(self) -> None:
        self.owned = True
        self.error: Exception | None = None
        self.barriers = 0

    async def barrier(self) -> None:
        self.barriers += 1
        if self.error is not None:
            raise self.error


def recording(*messages: Any) -> Any:
    nothing: Any = None
    journal: Any = Journal()
    made = Recording(journal, "", nothing, nothing, nothing)
    made.transcript.reset(list(messages), [b"%d" % number for number in range(len(messages))])
    return made


def agent(*messages: Any) -> Any:
    return SimpleNamespace(messages=list(messages))


def user(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def answers(*texts: str, ids: tuple[str, ...] = ("t1", "t2")) -> Any:
    blocks = [{"toolResult": {"toolUseId": id_, "content": [{"text": text}]}} for id_, text in zip(ids, texts)]  # noqa: B905
    return {"role": "user", "content": blocks}


PLACEHOLDER = answers(INTERRUPTED_TEXT, INTERRUPTED_TEXT)


@pytest.mark.parametrize(("after", "expected"), [
    ([], ["a", ASKS]),
    (["b"], ["a", ASKS, "b"]),
    (["b", "c"], ["a", ASKS, "b", "c"]),
], ids=["nothing", "one", "two"])  # fmt: skip
def test_a_held_message_is_put_back_in_its_place(after: list[str], expected: list[Any]) -> None:
    held = recording("a", ASKS)
    held.held = ASKS
    live = agent("a", *after)
    held.put_back(live)
    held.put_back(live)  # it is back
    assert live.messages == expected


def test_a_held_message_whose_predecessors_are_gone_is_put_at_the_end() -> None:
    held = recording("a", "b", "c", ASKS)
    held.held = ASKS
    live = agent("a")
    held.put_back(live)
    assert live.messages == ["a", ASKS]


def test_only_the_very_placeholder_is_taken_away_and_only_from_the_end() -> None:
    same = answers(INTERRUPTED_TEXT, INTERRUPTED_TEXT)
    for messages, left in (
        ([ASKS, PLACEHOLDER], [ASKS]),
        ([PLACEHOLDER, ASKS], [PLACEHOLDER, ASKS]),
        ([ASKS, same], [ASKS, same]),
        ([], []),
    ):
        failed, live = recording(ASKS), agent(*messages)
        failed.placeholder = PLACEHOLDER
        failed.put_back(live)
        assert live.messages == left
        assert failed.placeholder is None
    live = agent(ASKS, PLACEHOLDER)
    recording(ASKS).put_back(live)
    assert live.messages == [ASKS, PLACEHOLDER]


@pytest.mark.parametrize(("message", "owed", "stale", "expected"), [
    (PLACEHOLDER, True, False, True),
    (PLACEHOLDER, False, True, True),
    (PLACEHOLDER, False, False, False),
    ({"role": "user", "content": []}, True, True, False),
    (user(INTERRUPTED_TEXT), True, True, False),
    (answers(INTERRUPTED_TEXT, "worked"), True, True, False),
    (answers("worked", "worked"), True, True, False),
    (answers(INTERRUPTED_TEXT), True, False, False),
    (answers(INTERRUPTED_TEXT), True, True, True),
    (answers(INTERRUPTED_TEXT, INTERRUPTED_TEXT, ids=("t1", "t3")), True, False, False),
])  # fmt: skip
def test_what_strands_answers_to_a_batch_that_is_owed_is_a_placeholder(
    message: Any, *, owed: bool, stale: bool, expected: bool
) -> None:
    failed = recording(ASKS)
    failed.owed, failed.stale = owed, stale
    assert failed.is_placeholder(message) is expected
    assert (failed.placeholder is message) == expected


def test_what_was_added_since_is_unrecorded_but_for_what_is_held_or_lost() -> None:
    a, b, c = user("a"), user("b"), user("c")
    assert recording(a).unrecorded(agent(a, b, c)) == [b, c]
    held = recording(a, ASKS)
    held.held = ASKS
    assert held.unrecorded(agent(a, b)) == [b]
    failed = recording(a, b)
    failed.lost, failed.placeholder = [a, b], PLACEHOLDER
    assert failed.unrecorded(agent(a, b, PLACEHOLDER, c)) == [c]


def test_only_a_message_of_the_assistant_asks_for_tools() -> None:
    assert recording(ASKS).batch == ["t1", "t2"]
    assert recording(ASKS, user("a")).batch == []
    assert recording({**ASKS, "role": "user"}).batch == []
    assert recording().batch == []


def test_what_stopped_to_ask_a_person_is_not_in_doubt() -> None:
    asking = recording(ASKS)
    scope = View().scope("")
    scope.started = {"t1": "work", "t2": "work"}
    assert asking.doubts(scope) == {"t1", "t2"}
    asking.status = {"asking": ["t2"]}
    assert asking.doubts(scope) == {"t1"}


def test_without_an_invocation_none_runs() -> None:
    idle = recording()
    with pytest.raises(RuntimeError, match="no invocation runs"):
        assert idle.running
    idle.invocation = Invocation(None, [])
    assert idle.running is idle.invocation


async def test_the_first_failure_is_the_one_that_is_told() -> None:
    failed = recording()
    await failed.check()
    failed.fail(FencedError("first"))
    failed.fail(StoreUnavailableError("second"))
    with pytest.raises(FencedError, match="first"):
        await failed.check()
    assert failed.journal.barriers == 0


async def test_whoever_lost_the_journal_is_told_why_by_the_next_check() -> None:
    failed = recording()
    failed.journal.owned, failed.journal.error = False, FencedError("taken over")
    for _ in range(2):
        with pytest.raises(FencedError, match="taken over"):
            await failed.check()
    assert failed.journal.barriers == 1


async def test_what_a_barrier_told_stays() -> None:
    failed = recording()
    failed.journal.error = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError, match="away"):
        await failed.barrier()
    failed.journal.error = None
    with pytest.raises(StoreUnavailableError, match="away"):
        await failed.check()
