"""A slice of the campaign, and what it and the fuzzer found before: every test run reads that again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import DocumentSet, InvocationStarted, Noted, Record
from strands_dapr_session.records.view import InvocationView, View
from tests.prove.damage import EVERY, damage
from tests.prove.damage.guided import CORPUS, read_input
from tests.prove.damage.judging import (
    HangError,
    ViolationError,
    alarm_clock,
    bounded_memory,
    go_on,
    load,
    read_directly,
)
from tests.prove.damage.stored import Stored, stored_sessions
from tests.prove.damage.ways import FORGERIES, Damage


@pytest.fixture(scope="module")
def stored() -> list[Stored]:
    return stored_sessions()


def test_whatever_is_stored_is_refused_in_order(stored: list[Stored]) -> None:
    judges = {"directly": read_directly, "loaded": load, "resumed": go_on}
    with bounded_memory():
        findings = damage(stored, judges, 6, range(4_000))
    assert findings.holds, (findings.violations, findings.never_fired)
    assert findings.runs > 3_000
    assert findings.faults["resumed"] > findings.runs / EVERY["resumed"] / 2


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_the_fuzzer_found_is_refused_in_order(path: Path) -> None:
    read_input(path.read_bytes())


FORGED: list[tuple[str, Callable[[Any], object]]] = [
    ("status", lambda note: note.pop("state")),
    ("batch", lambda note: note.pop("state")),
    ("batch", lambda note: note.pop("nodes")),
    ("batch", lambda note: note["state"].pop("completed")),
    ("batch", lambda note: note["state"]["usage"].pop("totalTokens")),
    ("batch", lambda note: note["state"]["metrics"].update(latencyMs="x")),
    ("batch", lambda note: note.update(visits=[])),
]


@pytest.mark.parametrize(("kind", "forge"), FORGED, ids=[str(number) for number in range(len(FORGED))])
def test_forged_notes_are_refused_in_order(stored: list[Stored], kind: str, forge: Callable[[Any], object]) -> None:
    graph = next(each for each in stored if each.name == "graph")
    store, ran = graph.store(), list[str]()
    note = unpack_value(graph.load(store).scope("").notes[kind])
    forge(note)
    journal = graph.journal(store)

    async def write() -> None:
        await journal.acquire()
        await journal.release(Noted("", kind, pack_value(note)))

    io_thread.run_sync(write())
    with pytest.raises(DamagedDataError, match="do not describe a run"):
        graph.go_on(store, ran)
    assert ran == []


FORGED_PARTS: dict[str, Callable[[InvocationView], Record]] = {
    "progress": lambda _: DocumentSet("", "progress", pack_value({"batches": 1, "usage": {}, "latency": 0})),
    "count": lambda _: DocumentSet(
        "", "progress", pack_value({"messages": "x", "batches": 1, "usage": {}, "latency": 0})
    ),
    "fingerprint": lambda now: InvocationStarted("", now.id, None, now.prompt, pack_value({"tools": {}}), 1),
    "prompt": lambda now: InvocationStarted("", now.id, None, pack_value([1]), now.fingerprint, 1),
}


@pytest.mark.parametrize("part", FORGED_PARTS)
def test_forged_parts_of_an_invocation_are_refused_in_order(stored: list[Stored], part: str) -> None:
    small = stored[0]
    store, ran = small.store(), list[str]()
    now = small.load(store).scope("").invocation
    assert now is not None
    journal, forged = small.journal(store), FORGED_PARTS[part](now)

    async def write() -> None:
        await journal.acquire()
        await journal.release(forged)

    io_thread.run_sync(write())
    with pytest.raises(DamagedDataError, match="do not describe an agent"):
        small.go_on(store, ran)
    assert ran == []


# -- and the judges can find something ----------------------------------------------------------------------------


def flipped(stored: Stored, key: str) -> Damage:
    value = stored.values[key]
    return Damage("flipped bits", key, value[:-1] + bytes([value[-1] ^ 1]))


def test_accepted_damage_is_a_violation(stored: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    small = stored[0]
    damaged = flipped(small, small.layout.slot(1))
    for judge in (read_directly, load, go_on):
        assert isinstance(judge(small, damaged).refused, DamagedDataError)
    monkeypatch.setattr("strands_dapr_session.records.frames._checksum", lambda *_: small.values[damaged.key][5:13])
    with pytest.raises(ViolationError):
        read_directly(small, damaged)


def test_a_shorter_journal_is_a_violation(stored: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    small = stored[0]
    monkeypatch.setattr(Stored, "load", lambda *_: View())
    with pytest.raises(ViolationError, match="0 commits instead"):
        load(small, flipped(small, small.layout.slot(2)))


def test_an_error_of_another_kind_is_a_violation(stored: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    small = stored[0]
    monkeypatch.setattr("tests.prove.damage.judging.read", fail)
    with pytest.raises(ViolationError, match="KeyError"):
        read_directly(small, flipped(small, small.layout.slot(1)))


def test_a_tool_that_runs_on_refused_ground_is_a_violation(
    stored: list[Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(self: Stored, store: object, ran: list[str]) -> None:  # noqa: ARG001
        ran.append("work")
        raise DamagedDataError("key", "late")

    monkeypatch.setattr(Stored, "go_on", go)
    with pytest.raises(ViolationError, match="ran, and then"):
        go_on(stored[0], flipped(stored[0], stored[0].layout.slot(1)))


def test_a_hang_is_noticed() -> None:
    def hang(wind: Callable[[], object]) -> None:
        wind()
        sum(iter(lambda: 1, 0))

    # The clock starts inside: a collection of garbage in a large process may take that second anywhere.
    with alarm_clock(1) as wind, pytest.raises(HangError):
        hang(wind)


def test_memory_is_bounded() -> None:
    with bounded_memory(64 * 1024 * 1024), pytest.raises(MemoryError):
        bytearray(512 * 1024 * 1024)


def test_every_forgery_is_a_kind_of_its_own() -> None:
    assert all(Damage(kind, "k", b"").is_forged for kind in FORGERIES)
