"""One schedule: processes that come and go over one session, until the program is done; then its deletion."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from strands import Agent

from strands_dapr_session import strands_compat
from strands_dapr_session.journal.sessions import delete_session
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.testing.compare import RULES as COMPARED
from strands_dapr_session.testing.compare import Life, Run, problems
from strands_dapr_session.testing.kills import KillSwitch, What
from strands_dapr_session.testing.ledger import Entry, Ledger
from strands_dapr_session.testing.plain import difference, digest, plain
from strands_dapr_session.testing.subject import describe, observe
from strands_dapr_session.testing.witness import Witness
from tests.prove.checker.evidence import Case
from tests.prove.checker.fold import Folded, fold
from tests.prove.checker.rules import Finding, findings, remains, tell
from tests.prove.checker.stored import journal_of
from tests.prove.simulation import agents, orchestrators
from tests.prove.simulation.agents import Program
from tests.prove.simulation.process import Fate, Point, SimProcess, simulated
from tests.prove.simulation.sidecar import COMPONENTS, Backend, Weather
from tests.prove.simulation.world import StuckError, World

SESSION = "s"
_MOST_ATTEMPTS = 4
_LONGEST = 4000.0
"""Seconds of the world after which a schedule must be over."""

Build = Callable[[SimProcess, Any, str], Any]


class Switch(KillSwitch):
    """Tells a process which points it passes; nobody is killed by it."""

    def __init__(self, process: SimProcess) -> None:
        super().__init__(None, cast("Ledger", process))  # which notes as a ledger does
        self._process = process

    def before(self, what: What, **details: Any) -> int:
        number = super().before(what, **details)
        self._process.pass_by(cast("Point", f"{what}-start"))
        if details.get("name") == "ask":
            self._process.pass_by("ask")
        return number

    def after(self, what: What, number: int, **details: Any) -> None:  # noqa: ARG002
        self._process.pass_by(cast("Point", f"{what}-end"))


@dataclass
class Outcome:
    """What became of a schedule."""

    world: World
    case: Case
    found: list[Finding] = field(default_factory=list)

    @property
    def stories(self) -> list[tuple[str, str]]:
        """What is wrong: the invariant, and how it came about."""
        return [(finding.invariant, tell(self.case, finding)) for finding in self.found]


class Schedule:
    """Runs one program once."""

    def __init__(self, program: Any, seed: str, *, build: Build = agents.build, root: str | None = None) -> None:
        self.program = program
        self.seed = seed
        self.world = World(seed)
        self.kind = self.world.chance.choice(list(COMPONENTS))
        self.backend = Backend(self.world, self.kind)
        self.processes: list[SimProcess] = []
        self.found: list[Finding] = []
        self.had_rivals = False
        self.case = Case([], {}, SESSION, "")
        self._build = build
        self._root = root or program.root

    # -- processes -----------------------------------------------------------------------------------------------

    def process(self, weather: Weather, fates: tuple[Fate, ...] = (), machine: str = "m1") -> SimProcess:
        process = SimProcess(self.world, len(self.processes) + 1, machine, self.backend, weather, fates)
        self.processes.append(process)
        return process

    async def work(self, process: SimProcess, attempts: int = _MOST_ATTEMPTS) -> None:
        """Do what a process does: build the agent, and make its calls."""
        before = self._writes()
        witness = Witness(cast("Ledger", process), Switch(process))
        process.watch = witness.watch_agent
        built = self._build(process, self.program, SESSION)
        if self._writes() == before:
            self._check_restored(built)
        witness.watch(built)
        for number, prompt in enumerate(self.program.prompts):
            id_ = self.program.ids[number]
            if id_ is None and any(e.kind == "returned" and e["prompt"] == digest(prompt) for e in self.world.ledger):
                continue
            await self._call(process, built, prompt, id_, attempts)
        process.note("end", **observe(built))

    def _writes(self) -> int:
        return sum(entry.kind == "applied" for entry in self.world.ledger)

    async def _call(self, process: SimProcess, built: Any, prompt: str, id_: str | None, attempts: int) -> None:
        for attempt in range(1, attempts + 1):
            process.note("call", id=id_, attempt=attempt)
            try:
                await self._answer(process, built)
                result = await self._ask(process, built, prompt, id_)
            except Exception as error:
                process.note("raised", id=id_, error=repr(error)[:300])
                if attempt == attempts:
                    raise
                await asyncio.sleep(self.world.chance.random() * 3)
            else:
                process.note("returned", id=id_, prompt=digest(prompt), usage=None, **_described(result))
                return

    async def _answer(self, process: SimProcess, built: Any) -> None:
        """Answer the interrupts for which an earlier process ended waiting."""
        state = (
            strands_compat.interrupt_state(built)
            if isinstance(built, Agent)
            else strands_compat.orchestrator_interrupts(built)
        )
        if not state["activated"]:
            return
        interrupts = list(cast("dict[str, dict[str, Any]]", state["interrupts"]).values())
        pending = [each for each in interrupts if each.get("response") is None] or interrupts
        await self._ask(process, built, self._responses(process, pending), None)

    async def _ask(self, process: SimProcess, built: Any, prompt: Any, id_: str | None) -> Any:
        state = {} if id_ is None else {"invocation_id": id_}
        result = await built.invoke_async(prompt, invocation_state=dict(state))
        while _is_waiting(result):
            waiting = [interrupt.to_dict() for interrupt in result.interrupts]
            process.note("interrupted", names=[interrupt["name"] for interrupt in waiting])
            result = await built.invoke_async(self._responses(process, waiting), invocation_state=dict(state))
        return result

    def _responses(self, process: SimProcess, waiting: list[dict[str, Any]]) -> list[Any]:
        responses = []
        for interrupt in waiting:
            response = agents.answer(self.program, interrupt["name"], interrupt.get("reason"))
            process.note("answered", name=interrupt["name"], response=response)
            responses.append({"interruptResponse": {"interruptId": interrupt["id"], "response": response}})
        return responses

    def _check_restored(self, built: Any) -> None:
        """What a new process restores is what the store says, read by somebody else."""
        if not isinstance(built, Agent):
            return
        journal = journal_of(self.backend.dump(), SESSION, self._root)
        if journal is None:
            return
        state = fold(journal)
        messages = _without_held(state)
        if what := difference(plain(messages), plain(built.messages)):
            self.found.append(Finding("restored state is what was acknowledged", f"messages{what}"))
        document = state.document("state")
        if document is not None and (what := difference(plain(document), plain(built.state.get()))):
            self.found.append(Finding("restored state is what was acknowledged", f"state{what}"))

    # -- running -------------------------------------------------------------------------------------------------

    def alone(self) -> Run:
        """Run the program without any fault; returns what it did."""
        with simulated(self.world, self.seed):
            process = self.process(Weather())
            process.start(self.work(process, 1))
            self._until(lambda: process.is_dead)
        return Run(SESSION, (_life(self.world.ledger, process.pid),))

    def _until(self, is_over: Callable[[], bool], seconds: float | None = None) -> None:
        """Let things happen until something is so, or so much time has passed."""
        limit = self.world.now + (_LONGEST if seconds is None else seconds)
        self.world.at(limit, lambda: None)
        self.world.run(lambda: is_over() or self.world.now >= limit)
        if seconds is None and self.world.now >= limit:
            raise StuckError(f"not over after {_LONGEST:.0f} s")

    def run(self, reference: Run, counts: dict[str, int], plan: Plan | None = None) -> Outcome:
        """Run it with processes that die, stand still and lose their connection, by a plan."""
        chance, apart = random.Random(f"plan {self.seed}"), random.Random(f"plan apart {self.seed}")
        plan = plan or Plan(chance, counts, self.program, apart)
        try:
            with simulated(self.world, self.seed):
                self._run(plan)
                case = self.case = self._case()
                if self._is_clear(case):
                    self.found += findings(case)
                self.found += [Finding("as if nothing had happened", what) for what in self._compared(case, reference)]
                self.found += [Finding("at the end", what) for what in self._ending(case)]
                self._delete(plan)
        except StuckError as error:
            case = self._case()
            self.found.append(Finding("no schedule hangs", str(error)))
        self.found += [Finding("nothing goes wrong in silence", each) for each in self.world.complaints]
        return Outcome(self.world, case, self.found)

    def _run(self, plan: Plan) -> None:
        for _ in range(plan.lives):
            process = self.process(plan.weather(), plan.fates(), plan.machine())
            process.start(self.work(process))
            self._until(lambda: process.is_dead or process.paused_until > self.world.now, plan.patience())  # noqa: B023
            if process.paused_until > self.world.now:
                self.world.faults[
                    "zombie" if process.paused_until - self.world.now > self.program.lease else "nap"
                ] += 1
            self._until(lambda: False, plan.pause())
            self.had_rivals = self.had_rivals or not process.is_dead
        while True:  # the last ones are left alone
            process = self.process(Weather(), (), plan.machine())
            process.start(self.work(process, 12))
            self._until(lambda: process.is_dead)  # noqa: B023
            if any(entry.kind == "end" and entry.pid == process.pid for entry in self.world.ledger):
                break
            if len(self.processes) > plan.lives + 6:
                self.found.append(Finding("it finishes", _last_error(self.world.ledger, process.pid)))
                break
        self._until(lambda: all(each.is_dead for each in self.processes))
        self._until(lambda: False, 10.0)

    def _case(self) -> Case:
        return Case(
            list(self.world.ledger),
            self.backend.dump(),
            SESSION,
            self._root,
            self.program.lease,
            {"charge": self.program.policy},
        )

    def _is_clear(self, case: Case) -> bool:
        """Whether every prompt was one invocation.

        One without an id, whose answer got lost with the process that was about to hand it out, is another one when it
        comes again: nobody can tell.
        """
        return None not in self.program.ids or len({id_ for _, id_ in case.invocations()}) <= len(self.program.ids)

    def _compared(self, case: Case, reference: Run) -> list[str]:
        """Compare with the run that was left alone."""
        if not self.program.is_faithful or not self._is_clear(case):
            return []
        lives = []
        # What one that was overtaken did still took place, and a function that finds out finds it; and what fails a few
        # times has failed once less.
        known = {entry["id"] for entry in case.history if entry.kind == "reconciled" and entry["ended"]}
        known |= {entry["what"] for entry in case.history if entry.kind == "tried"}
        for stint in case.stints:
            found = Entry(0.0, stint.pid, "found", {**case.found(stint.slot), "answers": {}})
            tools = [e for _, e in stint.overtaken if e.kind in {"tool-start", "tool-end"} and e["id"] in known]
            lives.append(Life("run", 0, (found, *(entry for _, entry in stint.entries), *tools)))
        if not lives:
            return []
        rules = [rule for rule in COMPARED if rule.__name__ in _COMPARED]
        return problems(reference, Run(SESSION, tuple(lives)), rules)

    def _ending(self, case: Case) -> list[str]:
        """What the last process had in memory is what lies in the store."""
        ends = [entry for entry in case.history if entry.kind == "end"]
        if not ends or "messages" not in ends[-1].details:
            return []
        wrong = difference(plain(case.folded.live()), ends[-1]["messages"])
        return [f"the agent has other messages than the store: {wrong}"] if wrong else []

    def _delete(self, plan: Plan) -> None:
        """Delete the session, perhaps in several processes that die, and look for what is left."""
        sleeper = plan.sleeper()
        if sleeper is not None:
            self._put_to_sleep(sleeper, plan)
        for fate in (*plan.deletion(), None):
            process = self.process(Weather(), (fate,) if fate else (), plan.machine())
            self._delete_in(process)
        if sleeper is not None:
            self._until(lambda: all(each.is_dead for each in self.processes))
            # Who sleeps through a deletion before it has looked makes the session anew, and may.
            self._delete_in(self.process(Weather(), (), plan.machine()))
        late = set(self.backend.late)
        self.found += remains(self.backend.dump(), SESSION, late)

    def _put_to_sleep(self, sleeper: Fate, plan: Plan) -> None:
        """Have one more process stand still until after the deletion."""
        process = self.process(Weather(), (sleeper,), plan.machine())
        process.start(self.work(process, 1))
        self._until(lambda: process.is_dead or process.paused_until > self.world.now)
        self.world.faults["asleep during a deletion"] += not process.is_dead

    def _delete_in(self, process: SimProcess) -> None:
        process.start(delete_session(process.store, SESSION, JournalSettings(lease=0.5)))
        self._until(lambda: process.is_dead)


_COMPARED = {"recorded_tools_rest", "tools_run_as_often", "models_go_on", "results_are_equal"}


class Plan:
    """What goes wrong in a schedule, decided beforehand."""

    def __init__(
        self, chance: random.Random, counts: dict[str, int], program: Program, apart: random.Random | None = None
    ) -> None:
        """Decide by `chance`, and by `apart` what was thought of later: recorded seeds are to stay what they were."""
        self._chance = chance
        self._counts = counts
        self._lease = program.lease
        self._apart = apart if program.is_cut_off_asking else None
        self._is_named = None not in program.ids
        """Without an id the same prompt, asked again after it was answered, is a new one: so one process at a time."""
        self.lives = chance.choice([1, 1, 2, 2, 2, 3])
        self._is_stormy = self._is_named and chance.random() < 0.4
        self._machines = ["m1"] if chance.random() < 0.5 else ["m1", "m2", "m3"]

    def machine(self) -> str:
        return self._chance.choice(self._machines)

    def weather(self) -> Weather:
        if not self._is_stormy:
            return Weather()
        return Weather(faults=self._chance.choice([0.02, 0.1, 0.3]), slow=self._chance.choice([0.0, 0.05, 0.2]))

    def fates(self) -> tuple[Fate, ...]:
        fates = tuple(self._fate() for _ in range(self._chance.choice([1, 1, 1, 2])))
        return (*fates, *self._cut_off())

    def _cut_off(self) -> tuple[Fate, ...]:
        """Decide whether a process is cut off while it asks a person, for so long that it gives up."""
        chance, asks = self._apart, self._counts.get("ask", 0)
        if not asks or chance is None or chance.random() < 0.5:
            return ()
        return (Fate("cut", "ask", chance.randint(1, asks), chance.choice([13.0, 20.0, 30.0])),)

    def _fate(self) -> Fate:
        chance = self._chance
        point = chance.choice([point for point, count in self._counts.items() if count and point != "ask"])
        number = chance.randint(1, self._counts[point])
        kind = chance.choice(["kill", "kill", "pause", "cut"] if self._is_named else ["kill"])
        seconds = (
            0.0 if kind == "kill" else chance.choice([0.3, 1.0, 3.0]) * self._lease * (0.2 + chance.random() * 1.5)
        )
        return Fate(kind, cast("Point", point), number, seconds)  # type: ignore[arg-type]

    def patience(self) -> float:
        """Seconds after which somebody starts another process, though the one before may still run."""
        return self._chance.choice([0.05, 0.5, 5.0, 100.0, 100.0]) if self._is_named else _LONGEST

    def pause(self) -> float:
        """Seconds until the next process is started."""
        return self._chance.choice([0.0, 0.01, 0.5, 4.0])

    def sleeper(self) -> Fate | None:
        """Decide whether a process sleeps through the deletion."""
        if self._chance.random() < 0.7:
            return None
        point = cast("Point", self._chance.choice(["send", "applied", "reply"]))
        return Fate("pause", point, self._chance.randint(1, 14), 60.0)

    def deletion(self) -> tuple[Fate, ...]:
        if self._chance.random() < 0.5:
            return ()
        point = self._chance.choice(["send", "applied", "reply"])
        kills = self._chance.choice([1, 2])
        return tuple(Fate("kill", cast("Point", point), self._chance.randint(1, 12)) for _ in range(kills))


def _is_waiting(result: Any) -> bool:
    status = getattr(result, "stop_reason", None) or result.status.value
    return bool(status in ("interrupt", "interrupted"))


def _described(result: Any) -> dict[str, Any]:
    return describe(result) if hasattr(result, "stop_reason") else {"result": orchestrators.summary(result)}


def _life(ledger: list[Entry], pid: int) -> Life:
    entries = tuple(entry for entry in ledger if entry.pid == pid)
    found = Entry(0.0, pid, "found", {"results": [], "asked": [], "answers": {}, "finished": [], "unfinished": []})
    failed = any(entry.kind == "failed" for entry in entries)
    return Life("run", int(failed), (found, *entries))


def _without_held(state: Folded) -> list[Any]:
    """Leave out the message that a restored agent does not show: it asks for tools that have no results yet."""
    messages = state.live()
    scope = state.scopes.get("")
    invocation = scope.invocation if scope else None
    if invocation is None or invocation.outcome is not None:
        return messages
    waits = (state.note("status") or {}).get("state") == "interrupted"
    is_open = messages and any("toolUse" in block for block in messages[-1]["content"])
    return messages[:-1] if is_open and not waits else messages


def _last_error(ledger: list[Entry], pid: int) -> str:
    errors = [e["error"] for e in ledger if e.pid == pid and e.kind in ("raised", "failed")]
    return f"the last process ended with {errors[-1] if errors else 'nothing'}"
