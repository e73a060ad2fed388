"""The checker itself: a history in which something is wrong is found out, whatever it is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from strands_dapr_session.testing.ledger import Entry
from tests.prove.checker.evidence import Case
from tests.prove.checker.rules import findings, remains, tell
from tests.prove.checker.sealed import opened, value_of
from tests.prove.simulation.agents import Program
from tests.prove.simulation.campaign import in_a_process
from tests.prove.simulation.process import Fate
from tests.prove.simulation.schedule import SESSION, Plan, Schedule
from tests.prove.simulation.sidecar import Weather

TURNS: Any = (
    [("work", {"n": 1, "ms": 5}), ("charge", {"n": 2, "ms": 5})],
    [("put", {"n": 3, "ms": 0})],
    [("charge", {"n": 4, "ms": 5})],
    "done",
)
PROGRAM = Program((TURNS, TURNS), ("call-0", "call-1"), policy="never_twice", compact_slots=4)


class OneDeath(Plan):
    """The first process dies after its fifth tool; the second finishes."""

    def __init__(self) -> None:
        super().__init__(random.Random(0), {}, PROGRAM)
        self.lives = 1

    def machine(self) -> str:
        return "m1"

    def weather(self) -> Weather:
        return Weather()

    def fates(self) -> tuple[Fate, ...]:
        return (Fate("kill", "tool-end", 5),)

    def patience(self) -> float:
        return 1000.0

    def sleeper(self) -> Fate | None:
        return None

    def deletion(self) -> tuple[Fate, ...]:
        return ()


def history() -> tuple[list[Entry], dict[str, bytes], list[tuple[str, str]]]:
    alone = Schedule(PROGRAM, "alone")
    reference = alone.alone()
    schedule = Schedule(PROGRAM, "one death")
    outcome = schedule.run(reference, {}, OneDeath())
    return list(schedule.case.history), dict(schedule.case.dump), outcome.stories


@pytest.fixture(scope="module")
def made() -> Any:
    return in_a_process(history)


@pytest.fixture
def case(made: Any) -> Case:
    entries, dump, stories = made
    assert stories == []
    return Case(list(entries), dict(dump), SESSION, "default", PROGRAM.lease, {"charge": "never_twice"})


def broken(case: Case) -> set[str]:
    return {finding.invariant for finding in findings(replace(case, history=list(case.history)))}


def after(case: Case, kind: str, **details: Any) -> int:
    """Find the last entry of a kind."""
    return max(
        index
        for index, entry in enumerate(case.history)
        if entry.kind == kind and all(entry.details.get(name) == value for name, value in details.items())
    )


def put_in(case: Case, index: int, entry: Entry) -> Case:
    return replace(case, history=[*case.history[:index], entry, *case.history[index:]])


def resealed(key: str, payload: bytes) -> bytes:
    digest = hashlib.blake2b(payload + f"1 0 {key}".encode(), digest_size=8).digest()
    return b"SDS\x01\x00" + digest + payload


def test_a_history_in_which_nothing_is_wrong(case: Case) -> None:
    assert findings(case) == []
    assert case.journal.head is not None
    assert len(case.journal.acquisitions()) >= 3
    assert {stint.pid for stint in case.stints} == {1, 2}
    assert case.folded.live()[-1]["content"] == [{"text": "done"}]
    assert list(case.folded.finished) == ["call-0", "call-1"]


def _slot(case: Case, at: int) -> str:
    return f"{case.journal.base}{case.journal.tail[at]}"


def _without_a_slot(case: Case) -> Case:
    return replace(case, dump={key: value for key, value in case.dump.items() if key != _slot(case, 0)})


def _without_the_last_slot(case: Case) -> Case:
    return replace(case, dump={key: value for key, value in case.dump.items() if key != _slot(case, -1)})


def _with_a_flipped_bit(case: Case) -> Case:
    value = bytearray(case.dump[_slot(case, -1)])
    value[-1] ^= 1
    return replace(case, dump={**case.dump, _slot(case, -1): bytes(value)})


def _with_a_slot_of_another_key(case: Case) -> Case:
    return replace(case, dump={**case.dump, _slot(case, -1): case.dump[_slot(case, -2)]})


def _with_an_orphan(case: Case) -> Case:
    key = f"{case.journal.base}pnobody.0"
    return replace(case, dump={**case.dump, key: resealed(key, b"\xc0")})


def _with_another_checkpoint(case: Case) -> Case:
    assert case.journal.head is not None
    plan, first, _ = case.journal.head.checkpoint or []
    key = f"{case.journal.base}{plan}.{first}"
    checkpoint = value_of(opened(key, case.dump[key]))
    checkpoint[4][0][1] = checkpoint[4][0][1][:-1]  # the live messages of the first scope
    return replace(case, dump={**case.dump, key: resealed(key, msgpack.packb(checkpoint))})


def _with_a_write_of_another(case: Case) -> Case:
    index = after(case, "applied", key=_slot(case, -1))
    entry = case.history[index]
    return put_in(replace(case, history=[e for e in case.history if e is not entry]), index, replace(entry, pid=9))


def _with_a_tool_again(case: Case) -> Case:
    index = after(case, "tool-start", name="work", id="p0t0i0")
    entry = case.history[index]
    return put_in(case, after(case, "end"), replace(entry, pid=2, at=entry.at + 100))


def _with_a_tool_too_early(case: Case) -> Case:
    index = after(case, "tool-start", name="put")
    entry = case.history[index]
    early = max(i for i, e in enumerate(case.history[:index]) if e.kind == "model-start")
    return put_in(case, early, entry)


def _with_a_tool_in_doubt_again(case: Case) -> Case:
    entry = next(e for e in case.history if e.kind == "tool-start" and e["name"] == "charge")
    return put_in(case, after(case, "end"), replace(entry, pid=2))


def _with_another_key(case: Case) -> Case:
    index = after(case, "tool-start")
    entry = case.history[index]
    return put_in(case, index, replace(entry, details={**entry.details, "key": "another"}))


def _with_a_result_from_nowhere(case: Case) -> Case:
    entry = case.history[after(case, "returned")]
    return put_in(case, after(case, "end"), replace(entry, details={**entry.details, "id": "call-9"}))


def _with_a_zombie(case: Case) -> Case:
    entry = next(e for e in case.history if e.kind == "tool-start")
    return put_in(case, after(case, "end"), replace(entry, pid=1, at=entry.at + 60))


def _with_an_owner_that_ended(case: Case) -> Case:
    return replace(case, dump={key: value for key, value in case.dump.items() if key != _slot(case, -1)})


BREAKAGES: list[tuple[Callable[[Case], Case], str]] = [
    (_without_a_slot, "no gap"),
    (_without_the_last_slot, "nothing acknowledged is missing"),
    (_with_a_flipped_bit, "no gap"),
    (_with_a_slot_of_another_key, "no gap"),
    (_with_an_orphan, "no orphan key"),
    (_with_another_checkpoint, "no gap"),
    (_with_a_write_of_another, "one owner"),
    (_with_a_write_of_another, "nothing acknowledged is missing"),
    (_with_a_tool_again, "recorded results never run twice"),
    (_with_a_tool_too_early, "a tool that starts rests on acknowledged commits"),
    (_with_a_tool_in_doubt_again, "in-doubt policies"),
    (_with_another_key, "idempotency keys"),
    (_with_a_result_from_nowhere, "a result handed out rests on acknowledged commits"),
    (_with_a_zombie, "the overtaken do nothing"),
    (_with_an_owner_that_ended, "released at the end"),
]


@pytest.mark.parametrize(("breakage", "invariant"), BREAKAGES)
def test_what_is_wrong_is_found(case: Case, breakage: Callable[[Case], Case], invariant: str) -> None:
    assert invariant in broken(breakage(case))


def test_a_story_tells_what_happened(case: Case) -> None:
    worse = _with_a_tool_again(case)
    finding = next(each for each in findings(worse) if each.invariant == "recorded results never run twice")
    story = tell(worse, finding)
    assert "p0t0i0" in story
    assert "death" in story
    assert len(story.splitlines()) < 70


def test_what_a_deletion_leaves_is_found(case: Case) -> None:
    assert {finding.invariant for finding in remains(case.dump, SESSION)} == {"deletes are complete"}
    assert remains({}, SESSION) == []
    registry = {key: value for key, value in case.dump.items() if key.startswith("strands:sessions:")}
    assert len(remains(registry, SESSION)) == 1
