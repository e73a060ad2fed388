from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import peer_steps, peer_workers
from benchmarks.bench import Bench
from benchmarks.measures.peers import side_by_side
from benchmarks.peer_environment import PeerEnvironment, reason
from benchmarks.peer_steps import StepPeer
from benchmarks.peer_workers import WorkerPeer
from benchmarks.places import Places
from benchmarks.results import Row
from benchmarks.subjects import OURS, WORKER


class Here(PeerEnvironment):
    """This very environment."""

    def python(self) -> Path:
        return Path(sys.executable)


class Nowhere(PeerEnvironment):
    """One that cannot be made."""

    def python(self) -> Path:
        raise OSError("no network\n  no packages")


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Places() as places:
        yield Bench(places, Console(quiet=True), quick=True)


def step_peer(program: Path, text: str) -> StepPeer:
    program.write_text(text)
    return StepPeer("peer", str(program), Here("here", ()), "nothing")


def test_steps_of_peers_stand_beside_ours(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "import json, sys; print('hello'); print(json.dumps([1.0] * len(json.load(sys.stdin)['messages'])))"
    monkeypatch.setattr(peer_steps, "PEERS", (step_peer(tmp_path / "steps.py", text),))

    rows = [row for row in side_by_side(peer_steps.measure(bench)) if row.quantity == "durable step"]

    assert [row.subject for row in rows] == [OURS, "peer", OURS, "peer"]
    assert rows[1].median == rows[3].median == 1.0
    assert rows[0].setting == rows[1].setting == {"store": "sqlite", "steps before": "few"}
    assert all(row.median for row in rows)


def test_a_peer_whose_program_fails_is_listed_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = step_peer(tmp_path / "fails.py", "raise SystemExit('unknown command FT.INFO')")
    monkeypatch.setattr(peer_steps, "PEERS", (peer,))

    rows = [row for row in peer_steps.measure(bench) if row.subject == "peer" and row.quantity == "durable step"]

    assert [(row.median, row.note) for row in rows] == [(None, "not measured: unknown command FT.INFO")] * 2


@pytest.mark.newest_dependencies  # the oldest `dapr` has no `dapr.ext.workflow` of its own, with which our workers run
def test_a_peer_without_an_environment_is_listed_with_the_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Row.of(WORKER, {}, "turn", "ms", [1.0])
    monkeypatch.setattr(peer_workers, "_ours", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(peer_workers, "_rows", lambda *_: [ours])
    peer = WorkerPeer(
        "peer", "no.module", "none", Nowhere("nowhere", ("strands-agents>=1",)), has_agent=False, differs="all"
    )
    monkeypatch.setattr(peer_workers, "PEERS", (peer,))

    found, missing, note = peer_workers.measure(bench)

    assert found is ours
    assert (missing.subject, missing.median, missing.note) == ("peer", None, "not measured: no packages")
    assert note.note == "not installed; all"


def test_reasons_are_one_line() -> None:
    assert reason(ValueError("a\n\n  why\n")) == "not measured: why"
    assert reason(ValueError("this | that")) == "not measured: this / that"
    assert reason(ValueError()) == "not measured: ValueError()"
    assert len(reason(ValueError("x" * 1000))) < 250


def test_rows_of_one_quantity_and_setting_stand_together() -> None:
    def row(subject: str, quantity: str, **setting: str | int) -> Row:
        return Row.single(subject, setting, quantity, "ms", 1.0)

    rows = [
        row("a", "turn", store="redis", turns=20),
        row("a", "kill"),
        row("b", "turn", store="sqlite", turns=20),
        row("b", "turn", store="sqlite", turns=30),
        row("b", "kill"),
    ]

    assert [(each.subject, each.quantity) for each in side_by_side(rows)] == [
        ("a", "turn"),
        ("b", "turn"),
        ("a", "kill"),
        ("b", "kill"),
        ("b", "turn"),
    ]
