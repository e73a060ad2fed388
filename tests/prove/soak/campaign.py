"""The campaign: workers that are killed and replaced over sessions that are made, packed, taken over and deleted."""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.testing.ledger import Entry, Ledger
from tests.prove.campaign import Campaign, Findings, Violation
from tests.prove.checker.fold import fold
from tests.prove.checker.stored import Dump, journal_of, keys_of_session, read_journal, registry, unexplained
from tests.prove.kills.places import OnRedis, Place
from tests.prove.soak.worker import CALLS, main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.prove.soak.worker"])

_GROWTH = 1.25
"""By how much memory may grow between the second and the last quarter of a long life."""

_MOST_FILES_MORE = 8
_REFUSALS = ("SessionBusyError", "FencedError", "SessionDeletedError")
_SETTLED = 40
"""Samples from which on a life is long enough to judge its growth."""

EXPECTED = {"kill", "takeover", "packed", "deleted session", "called"}


class _Soak:
    def __init__(self, options: Namespace, place: Place, directory: Path) -> None:
        self._options = options
        self._place = place
        self._directory = directory
        self._chance = random.Random(f"soak {options.seeds.start}")
        self._until = time.time() + (options.minutes or 1.0) * 60
        self._workers: list[tuple[Any, bool]] = []
        self._born = 0
        self._takeovers: set[tuple[str, int]] = set()
        self._killed: set[int] = set()
        self.findings = Findings(expected=set(EXPECTED))

    def run(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        total = self._until - time.time()
        with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("soaking", total=total)
            for number in range(self._options.workers):
                # The first lives on, so that what grows shows; the others are killed at any time.
                self._start(may_die=number > 0)
            while time.time() < self._until:
                time.sleep(self._chance.uniform(2, 8))
                self._kill_one()
                progress.update(task, completed=total - max(self._until - time.time(), 0))
        for process, _ in self._workers:
            process.join(60)
        self._judge()

    def _start(self, *, may_die: bool) -> None:
        self._born += 1
        arguments = [self._place.url, self._ledger, self._born, self._options.sessions, self._until]
        process = _FORKS.Process(target=main, args=([*map(str, arguments)],))
        process.start()
        self._workers.append((process, may_die))

    @property
    def _ledger(self) -> Path:
        return self._directory / "soak.ledger"

    def _kill_one(self) -> None:
        victims = [each for each in self._workers if each[1]]
        if not victims:
            return
        victim = self._chance.choice(victims)
        victim[0].kill()
        victim[0].join()
        self._killed.add(victim[0].pid)
        self._workers.remove(victim)
        self.findings.faults["kill"] += 1
        self._start(may_die=True)
        self._see_takeovers(self._place.dump())

    def _see_takeovers(self, dump: Dump) -> None:
        """Remember the takeovers that journals tell of now: later they may be deleted."""
        for session, roots in registry(dump).items():
            for root in roots:
                journal = journal_of(dump, session, root)
                if journal is not None:
                    slots = (slot for slot, record in journal.acquisitions().items() if record[3])
                    self._takeovers |= {(journal.base, slot) for slot in slots}

    # -- judging -------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        entries = Ledger(self._ledger).entries()
        findings = self.findings
        findings.faults["called"] = findings.runs = sum(entry.kind == "called" for entry in entries)
        findings.faults["deleted session"] = sum(entry.kind == "deleted" for entry in entries)
        findings.figures["refused calls"] = sum(entry.kind == "refused" for entry in entries)
        for entry in entries:
            if entry.kind == "refused" and entry["error"] not in _REFUSALS:
                self._wrong("only typed refusals", f"{entry}")
        self._judge_growth(entries)
        dump = self._place.dump()
        self._see_takeovers(dump)
        findings.faults["takeover"] = len(self._takeovers)
        self._judge_store(dump)
        self._delete_all()

    def _judge_growth(self, entries: list[Entry]) -> None:
        samples: dict[int, list[Entry]] = {}
        for entry in entries:
            if entry.kind == "sample":
                samples.setdefault(entry.pid, []).append(entry)
        longest = max(samples.values(), key=len, default=[])
        self.findings.figures["samples of the longest life"] = len(longest)
        if len(longest) < _SETTLED:
            return
        quarter = len(longest) // 4
        for what in ("rss", "fds", "threads"):
            early = max(entry[what] for entry in longest[quarter : 2 * quarter])
            late = max(entry[what] for entry in longest[-quarter:])
            self.findings.figures[f"{what} early and late"] = [early, late]
            limit = early * _GROWTH if what == "rss" else early + _MOST_FILES_MORE
            if late > limit:
                self._wrong("flat memory and files", f"{what} grew from {early} to {late}")

    def _judge_store(self, dump: Dump) -> None:
        findings = self.findings
        known = registry(dump)
        sizes = []
        for session, roots in known.items():
            for root in roots:
                journal = journal_of(dump, session, root)
                if journal is None:
                    continue
                folded = fold(journal)
                for problem in (*journal.problems, *folded.problems):
                    self._wrong("no gap", f"{session}: {problem}")
                findings.faults["packed"] += journal.head is not None
                sizes.append(len(keys_of_session(dump, session)))
            for key in unexplained(dump, session):
                if not self._came_too_late(dump, key):
                    self._wrong("no orphan key", key)
        owned = {key for session in known for key in keys_of_session(dump, session)}
        for key in dump:
            if key.startswith("strands:{") and key not in owned:
                self._wrong("deletes are complete", f"{key} is of a session that the registry does not know")
        # A session has a few slots since its last packing, those that fence somebody off, and what packings left.
        findings.figures["most keys of a session"] = max(sizes, default=0)
        findings.figures["bytes in the store"] = sum(map(len, dump.values()))
        hearts = [key for key in dump if key.startswith("strands:worker:")]
        findings.figures["heartbeats at the end"] = len(hearts)
        dead = findings.faults["kill"]
        if len(hearts) > min(dead, self._options.sessions):
            self._wrong("no leaked heartbeat", f"{len(hearts)} heartbeats, {dead} workers died")

    def _delete_all(self) -> None:
        for number in range(self._options.sessions):
            DaprSessionManager(f"soak-{number}", store=self._place.url, lease=0.1, busy_timeout=20.0).delete()
        dump = self._place.dump()
        late = 0
        for key in dump:
            if key.startswith("strands:{"):
                late += self._came_too_late(dump, key)
                if not self._came_too_late(dump, key):
                    self._wrong("deletes are complete", f"{key} is left")
        self.findings.figures["came after its sender was killed and its session deleted"] = late

    def _came_too_late(self, dump: Dump, key: str) -> bool:
        """Tell whether a key is the first commit of a process that was killed: nobody was left to remove it."""
        base, _, number = key.rpartition(":")
        if not number.isdigit():
            return False
        session, root = base.removeprefix("strands:{").partition("}")[0].rsplit(":", 1)
        journal = read_journal(dump, session, root, base.rpartition(":")[2])
        writers = {int(record[2].split("/")[2]) for record in journal.acquisitions().values()}
        return bool(writers) and writers <= self._killed

    def _wrong(self, invariant: str, what: str) -> None:
        replay = f"python -m tests.prove soak --seeds {self._options.seeds.start} --minutes {self._options.minutes}"
        self.findings.violations.append(Violation(invariant, what, replay))


def run(options: Namespace) -> Findings:
    """Soak for so many minutes."""
    place = OnRedis()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        try:
            soak = _Soak(options, place, Path(name))
            soak.run()
        finally:
            place.close()
    return soak.findings


def add_arguments(parser: ArgumentParser) -> Any:
    """Say what can be chosen."""
    parser.add_argument("--workers", type=int, default=3, help="processes at a time, all but one of which get killed")
    parser.add_argument("--sessions", type=int, default=12, help="sessions that they share")
    parser.description = f"{parser.description}. A session is deleted after {CALLS} calls."


CAMPAIGN = Campaign(
    "soak",
    "workers and sessions that come and go for as long as is asked, over Redis behind daprd",
    run,
    add_arguments,
    small=("--seeds", "0", "--minutes", "1"),
    full=("--seeds", "0", "--minutes", "60", "--workers", "6", "--sessions", "60"),
)
