"""One session that is killed: a program, its processes, and what happens to them and to what they rest on."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strands_dapr_session.testing.compare import RULES, Life, Run, problems
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.kills import Kill
from strands_dapr_session.testing.plain import difference, plain
from strands_dapr_session.testing.processes import ForkServer, Process
from strands_dapr_session.testing.program import Program
from tests.crash import programs
from tests.prove.checker.evidence import Case
from tests.prove.checker.rules import doubts_are_surfaced, keys_stay_the_same, no_orphans, nothing_is_lost, remains
from tests.prove.kills.places import Place

PROGRAMS = (
    "sequential",
    "parallel",
    "parallel",
    "remembering",
    "window",
    "window_per_turn",
    "summarizing",
    "rewriting",
    "retrying",
    "approving",
    "two_prompts",
    "failing",
    "packing",
    "packing",
    "packing_window",
    "reconciled",
)
_ON_STORED_BYTES = (nothing_is_lost, no_orphans, doubts_are_surfaced, keys_stay_the_same)
_SHORT_LEASE = 0.5
_MOST_LIVES = 16


@dataclass
class Told:
    """What became of a session: which faults happened, and what was wrong."""

    faults: Counter[str] = field(default_factory=Counter)
    stories: list[tuple[str, str]] = field(default_factory=list)


class Killer:
    """Runs sessions in one place."""

    def __init__(self, place: Place, directory: Path, forks: ForkServer, name: str) -> None:
        self.place = place
        self._directory = directory
        self._forks = forks
        self._name = name
        self._tests: dict[str, CrashTest] = {}

    def test_of(self, name: str) -> CrashTest:
        """Get the crash test of a program, which has been run once undisturbed."""
        if name not in self._tests:
            program: Program = getattr(programs, name)
            test = CrashTest(
                replace(program, options={**program.options, "lease": _SHORT_LEASE, "busy_timeout": 40.0}),
                self.place.url,
                self._directory,
                starter=self._forks,
                name=f"{self._name}-{name}",
            )
            test.uninterrupted()
            self._tests[name] = test
        return self._tests[name]

    def run(self, seed: int) -> Told:
        """Run one session."""
        chance = random.Random(f"kills {seed}")
        name = chance.choice(PROGRAMS)
        test = self.test_of(name)
        session = _Session(test, self.place, chance, name)
        try:
            session.run()
        finally:
            self.place.mend()
        return session.told


class _Session:
    def __init__(self, test: CrashTest, place: Place, chance: random.Random, name: str) -> None:
        self._test = test
        self._place = place
        self._chance = chance
        self._name = name
        self._id = test.new_session("s")
        self._moments = test.moments()
        self._lives: list[Life] = []
        self._zombies: list[tuple[Process, int]] = []
        self.told = Told()

    def run(self) -> None:
        chance = self._chance
        for _ in range(chance.choice([1, 2, 3, 4, 5, 6])):
            chance.choice(self._ways())()
            if self._lives and self._lives[-1].status == 0:
                break
        self._place.mend()
        while not self._lives or self._lives[-1].status:
            self._live(None)
            if len(self._lives) > _MOST_LIVES:
                break
        zombies = [self._wake(process, at) for process, at in self._zombies]
        self._judge(zombies)

    def _ways(self) -> list[Callable[[], None]]:
        ways = [self._killed_at_a_point] * 4 + [self._killed_at_a_time] * 3
        if self._place.may_pause:
            ways += [self._paused] * 3
        if self._place.servers:
            ways += [self._without_a_server]
        if self._place.proxies:
            ways += [self._disturbed]
        return ways

    # -- lives ---------------------------------------------------------------------------------------------------

    def _live(self, kill: Kill | None) -> Life:
        return self._end(self._test.start(self._id, kill))

    def _end(self, process: Process) -> Life:
        """Wait for the end of a process, and let it go on if it was stopped too late to be noticed."""
        while not _has_ended(process):
            if _is_stopped(process):
                process.signal(signal.SIGCONT)
        life = self._test.end(self._id, process)
        self._lives.append(life)
        return life

    def _seconds(self) -> float:
        """How long the undisturbed process lived."""
        entries = self._test.uninterrupted().lives[0].entries
        return max(entries[-1].at - entries[0].at, 0.05)

    def _killed_at_a_point(self) -> None:
        # A process that goes on has less to do than the first one.
        soon = [each for each in self._moments if each.number <= (12 if each.what == "store" else 1)]
        kill = self._chance.choice(soon if self._lives else self._moments)
        life = self._live(kill)
        if note := life.first("killed"):
            self.told.faults[f"kill {kill.moment} {note.details.get('verb') or kill.what}"] += 1
            self.told.faults["kill"] += 1

    def _killed_at_a_time(self) -> None:
        process = self._test.start(self._id)
        time.sleep(self._chance.random() * self._seconds())
        with suppress(ProcessLookupError):
            process.signal(signal.SIGKILL)
        life = self._end(process)
        if life.status == -signal.SIGKILL:
            self.told.faults["kill at some time"] += 1
            self.told.faults["kill"] += 1

    def _paused(self) -> None:
        """Stop a process for longer than its lease; it is awakened when others have finished."""
        if self._chance.random() < 0.5:
            process = self._test.start(self._id, replace(self._chance.choice(self._moments), pause=True))
            with suppress(TimeoutError):
                process.wait_until_stopped(self._seconds() + 1)
        else:
            process = self._test.start(self._id)
            time.sleep(self._chance.random() * self._seconds())
            with suppress(ProcessLookupError, TimeoutError):
                process.signal(signal.SIGSTOP)
                process.wait_until_stopped(1.0)
        entries = [entry for entry in self._test.ledger(self._id).entries() if entry.pid == process.pid]
        if not _is_stopped(process) or any(entry.kind == "lived" for entry in entries):
            self._end(process)
            return
        self.told.faults["pause"] += 1
        self._lives.append(Life("run", -signal.SIGSTOP, tuple(entries)))
        self._zombies.append((process, len(entries)))

    def _without_a_server(self) -> None:
        """Kill a server under a process, and start it again."""
        which, server = self._chance.choice(sorted(self._place.servers.items()))
        process = self._test.start(self._id)
        time.sleep(self._chance.random() * self._seconds())
        server.kill()
        time.sleep(self._chance.choice([0.0, 0.1, 1.0]))
        server.start()
        self.told.faults[f"kill of {'daprd' if which == 'daprd' else self._place.name}"] += 1
        self._end(process)

    def _disturbed(self) -> None:
        """Disturb a connection under a process."""
        which, proxy = self._chance.choice(sorted(self._place.proxies.items()))
        how = self._chance.choice(["delay", "cut", "cut", "half-close"])
        process = self._test.start(self._id)
        before = (proxy.delays, proxy.cuts, proxy.half_closes)
        time.sleep(self._chance.random() * self._seconds() * 0.8)
        timer = threading.Timer(0.0, lambda: None)
        if how == "delay":
            proxy.delay = self._chance.choice([0.01, 0.1])
            timer = threading.Timer(1.5, lambda: setattr(proxy, "delay", 0.0))
            timer.start()
        elif how == "cut":
            proxy.cut()
        else:
            proxy.half_close()
        self._end(process)
        timer.cancel()
        proxy.delay = 0.0
        if (proxy.delays, proxy.cuts, proxy.half_closes) != before:
            self.told.faults[f"{how} {which}"] += 1

    def _wake(self, process: Process, at: int) -> Life:
        """Let a process go on that others have taken over from; returns what it did then."""
        if _is_stopped(process):
            process.signal(signal.SIGCONT)
        life = self._test.end(self._id, process)
        self.told.faults["zombie"] += 1
        if any("FencedError" in entry["error"] for entry in life.of("failed", "raised")):
            self.told.faults["zombie that was fenced"] += 1
        return replace(life, entries=life.entries[at:])

    # -- judging -------------------------------------------------------------------------------------------------

    def _judge(self, zombies: list[Life]) -> None:
        dump = self._place.dump()
        case = Case(self._test.ledger(self._id).entries(), dump, self._id, "default")
        if self._name == "reconciled":
            case.policies = {}
        found = [(each.invariant, each.what) for rule in _ON_STORED_BYTES for each in rule(case)]
        if case.folded.owner is not None:
            found.append(("released at the end", f"{case.folded.owner} still owns the journal"))
        end = next((life.first("end") for life in reversed(self._lives) if life.first("end")), None)
        if end and (what := difference(plain(case.folded.live()), end["messages"])):
            found.append(("restored state is what was acknowledged", f"memory and store differ: {what}"))
        self.told.faults["packed"] += case.journal.head is not None
        self.told.faults["takeover"] += sum(record[3] for record in case.journal.acquisitions().values())
        for zombie in zombies:
            found += [("the overtaken do nothing", what) for what in self._after(zombie)]
        look = self._test.live(self._id, role="look")
        run = Run(self._id, (*self._lives, look))
        found += [("as if nothing had happened", what) for what in problems(self._test.uninterrupted(), run, RULES)]
        found += [(each.invariant, each.what) for each in remains(self._place.dump(), self._id)]
        self.told.stories += [(invariant, self._story(what)) for invariant, what in found]

    def _after(self, zombie: Life) -> list[str]:
        """Tell what a process did that it must not: it had been taken over while it stood still."""
        paused = zombie.first("paused")
        allowed = (
            str(paused["id"]) if paused and paused["moment"].endswith("before-pause") and "id" in paused.details else ""
        )
        starts = [entry for entry in zombie.of("tool-start") if entry["id"] != allowed]
        resumed = min((entry.at for entry in zombie.entries), default=0.0)
        # What had been allowed before it was stopped may still be begun, at once.
        late = [entry for entry in starts if entry.at - resumed > 0.05]
        self.told.faults["tool that a zombie had been allowed to start"] += len(starts) - len(late)
        return [f"process {entry.pid} had been taken over, and started {entry}" for entry in late]

    def _story(self, what: str) -> str:
        lines = [what, f"  {self._name} on {self._place.name}, session {self._id}"]
        for number, life in enumerate(self._lives, 1):
            lines.append(f"  process {number} ended with {life.status}")
            lines += [f"    {entry}"[:200] for entry in life.entries if entry.kind not in ("found", "look", "lived")]
        return "\n".join(lines[:120])


def _has_ended(process: Process) -> bool:
    try:
        process.wait(0.25)
    except TimeoutError:
        return False
    return True


def _is_stopped(process: Process) -> bool:
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


def places(directory: Path, names: list[str]) -> dict[str, Place]:
    """Start places by their names."""
    from tests.prove.kills.places import OnPostgres, OnRedis, OnSqlite, OnSqliteSidecar  # noqa: PLC0415

    make: dict[str, Callable[[], Any]] = {
        "redis": OnRedis,
        "postgresql": OnPostgres,
        "sqlite": lambda: OnSqlite(directory),
        "sqlite behind daprd": OnSqliteSidecar,
    }
    return {name: make[name]() for name in names}
