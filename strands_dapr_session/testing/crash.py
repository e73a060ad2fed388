"""Kill a program wherever it can be killed, start it again, and compare with the run that was left alone.

    test = CrashTest(Program(build_agent, calls=["Process order 4711"]), "sqlite:////tmp/runs.db", directory)
    with test:
        test.everywhere().check()

Every process is a real one and dies of SIGKILL. What ran is read from a ledger that no store knows of.
"""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from strands_dapr_session.journal.layout import quote
from strands_dapr_session.testing.compare import RULES, Life, Rule, Run, problems
from strands_dapr_session.testing.kills import Kill, What
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.processes import ForkServer
from strands_dapr_session.testing.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Self

    from strands_dapr_session.testing.keys import KeyLister
    from strands_dapr_session.testing.ledger import Entry
    from strands_dapr_session.testing.processes import Process, Starter
    from strands_dapr_session.testing.program import Program
    from strands_dapr_session.testing.worker import Role

_MOST_LIVES = 8
_READS = ("get", "get_many")


@dataclass(frozen=True)
class Outcome:
    """What became of one run that was killed.

    Attributes:
        kills: The moments that were chosen, one for each process.
        fired: What really happened at them; shorter if the program was done before.
        problems: What is wrong.
        run: The run.
    """

    kills: tuple[Kill, ...]
    fired: tuple[str, ...]
    problems: tuple[str, ...]
    run: Run

    @property
    def name(self) -> str:
        """The moments, as `Kill.parse` reads them."""
        return ",".join(map(str, self.kills))

    def __str__(self) -> str:
        """Tell what is wrong, and everything that happened."""
        lines = [f"killed at {self.name} ({'; '.join(self.fired) or 'never reached'}):"]
        lines += [f"  - {problem}" for problem in self.problems]
        for number, life in enumerate(self.run.lives, 1):
            lines.append(f"    process {number} ({life.role}) ended with {life.status}")
            lines += [f"    {entry}" for entry in life.entries]
        return "\n".join(lines)


@dataclass
class Report:
    """What became of many runs.

    Attributes:
        outcomes: One for each.
        replay: Completes the sentence "to see it alone, …" for the moments of one outcome.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    replay: str = "pass [Kill.parse({name!r})] to CrashTest.everywhere()"

    @property
    def fired(self) -> Counter[str]:
        """How often each kind of kill really happened."""
        return Counter(fired for outcome in self.outcomes for fired in outcome.fired)

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes with problems."""
        return [outcome for outcome in self.outcomes if outcome.problems]

    def check(self) -> None:
        """Do nothing if all is well.

        Raises:
            AssertionError: Something is not, or nothing was killed.
        """
        if not self.fired:
            raise AssertionError("nothing was killed")
        if not self.failed:
            return
        first = self.failed[0]
        others = "".join(f"\n{outcome.name}: {outcome.problems[0]}" for outcome in self.failed[1:])
        raise AssertionError(
            f"{len(self.failed)} of {len(self.outcomes)} kills did harm\n{first}\n"
            f"To see it alone, {self.replay.format(name=first.name)}\n{others}"
        )


class CrashTest:
    """Runs one program in one store, with and without kills."""

    def __init__(  # noqa: PLR0913 - each is a choice
        self,
        program: Program,
        store: str,
        directory: str | Path,
        *,
        starter: Starter | None = None,
        keys: KeyLister | None = None,
        rules: Iterable[Rule] = RULES,
        seconds: float = 60.0,
        name: str = "crash",
    ) -> None:
        """Set a test up.

        Args:
            program: The program.
            store: The URL of a store that several processes can open.
            directory: Where ledgers and logs go; on a disk in memory it is fastest.
            starter: Starts the processes; a fork server of its own unless one is given.
            keys: Lists what is in the store. With it, every run ends with the deletion of its session, and nothing may
                be left.
            rules: What must hold.
            seconds: How long a process may live.
            name: What session ids begin with.
        """
        self._program = program
        self._pickled = program.pickled()
        self._store = store
        self._directory = Path(directory)
        self._own_starter = None if starter else ForkServer(program.modules)
        self._starter: Starter = starter or self._own_starter or ForkServer()
        self._keys = keys
        self._rules = tuple(rules)
        self._seconds = seconds
        self._name = name
        self._numbers = itertools.count(1)
        self._reference: Run | None = None

    # -- running -------------------------------------------------------------------------------------------------

    def uninterrupted(self) -> Run:
        """The run that nobody kills, made once.

        Raises:
            AssertionError: There is something wrong already with that one.
        """
        if self._reference is None:
            run = self.run(())
            if wrong := self._problems(run, run):
                raise AssertionError(str(Outcome((), (), tuple(wrong), run)))
            self._reference = run
        return self._reference

    def moments(self, life: int = 1) -> list[Kill]:
        """List the moments in the life of a process of the uninterrupted run.

        They are around store calls that write, before those that read, and around runs of tools, calls of models and
        turns of nodes.

        Args:
            life: Which process, counted from 1; a program that fails needs several.
        """
        lived = self.uninterrupted().lives[life - 1].first("lived")
        if lived is None:
            raise RuntimeError(f"process {life} of the uninterrupted run did not live to its end")
        found = []
        for what in get_args(What):
            for number, name in enumerate(lived[what], 1):
                found.append(Kill(what, number, "before"))
                if name not in _READS:
                    found.append(Kill(what, number, "after"))
        return found

    def run(self, kills: Sequence[Kill], *, then: Program | None = None) -> Run:
        """Run the program, kill its first processes one after the other, and let the next one finish.

        Args:
            kills: When to kill; one for each process.
            then: What all processes but the first run instead.
        """
        session_id = self.new_session("-".join(map(str, kills)) or "alone")
        lives: list[Life] = []
        while not lives or (lives[-1].status not in (0, -signal.SIGALRM) and len(lives) < _MOST_LIVES):
            kill = kills[len(lives)] if len(lives) < len(kills) else None
            lives.append(self.live(session_id, kill, then if lives else None))
        lives.append(self.live(session_id, None, then, "look"))
        return Run(session_id, tuple(lives))

    def new_session(self, hint: str) -> str:
        """Make the id of another session."""
        return f"{self._name}-{next(self._numbers)}-{hint}"

    def live(
        self, session_id: str, kill: Kill | None = None, program: Program | None = None, role: Role = "run"
    ) -> Life:
        """Start a process and wait for its end."""
        return self.end(session_id, self.start(session_id, kill, program, role), role)

    def start(
        self, session_id: str, kill: Kill | None = None, program: Program | None = None, role: Role = "run"
    ) -> Process:
        """Start a process.

        Args:
            session_id: Its session.
            kill: When it dies, or pauses.
            program: What it runs; the program of this test unless another one is given.
            role: "run" to run the program, "look" to look at what others left.
        """
        pickled = program.pickled() if program else self._pickled
        ledger = str(self.ledger(session_id).path)
        job = Job(pickled, self._store, session_id, ledger, role, kill, self._seconds)
        return self._starter.start(job, self._directory / f"{session_id}.log")

    def end(self, session_id: str, process: Process, role: Role = "run") -> Life:
        """Wait for the end of a process, and collect what it wrote down."""
        status = process.wait(self._seconds + 10)
        entries = self.ledger(session_id).entries()
        return Life(role, status, tuple(entry for entry in entries if entry.pid == process.pid))

    def ledger(self, session_id: str) -> Ledger:
        """Get the ledger of a session."""
        return Ledger(self._directory / f"{session_id}.ledger")

    # -- judging -------------------------------------------------------------------------------------------------

    def killed(self, *kills: Kill) -> Outcome:
        """Run the program with kills, and judge."""
        reference = self.uninterrupted()
        run = self.run(kills)
        return self.judge(kills, run, reference)

    def judge(self, kills: Sequence[Kill], run: Run, reference: Run) -> Outcome:
        """Compare a run that was killed with one that was not."""
        fired = tuple(_describe(note) for life in run.working if (note := life.first("killed")))
        return Outcome(tuple(kills), fired, tuple(self._problems(reference, run)), run)

    def everywhere(self, moments: Iterable[Kill | Sequence[Kill]] | None = None) -> Report:
        """Kill at every moment, in a run of its own each.

        Args:
            moments: Only at these; several in a row kill one process after the other.
        """
        chosen = self.moments() if moments is None else moments
        report = Report()
        for moment in chosen:
            report.outcomes.append(self.killed(*([moment] if isinstance(moment, Kill) else moment)))
        return report

    def _problems(self, reference: Run, run: Run) -> list[str]:
        found = [
            f"process {number} died of {_signal_name(life.status)}: see {run.session_id}.log"
            for number, life in enumerate(run.lives, 1)
            if life.status < 0 and life.first("killed") is None
        ]
        found += problems(reference, run, self._rules)
        if self._keys is not None:
            mark = f"{{{quote(run.session_id)}:"
            found += [f"after the deletion, {key} is left" for key in self._keys() if mark in key]
        return found

    # -- ending --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End what was started."""
        if self._own_starter is not None:
            self._own_starter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _describe(note: Entry) -> str:
    kill = Kill.parse(note["moment"])
    return f"{kill.moment} {note.details.get('verb') or kill.what}"


def _signal_name(status: int) -> str:
    try:
        return signal.Signals(-status).name
    except ValueError:
        return str(status)
