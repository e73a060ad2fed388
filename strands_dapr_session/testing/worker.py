"""What a process of a crash test does: run a program from its beginning, and write down all that happens."""

from __future__ import annotations

import faulthandler
import pickle
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from strands import Agent

from strands_dapr_session import DaprSessionManager, strands_compat
from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.hooks.invocation import INVOCATION_ID
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing import ledger as ledgers
from strands_dapr_session.testing.faults import FaultyStore, nothing
from strands_dapr_session.testing.kills import Kill, KillSwitch
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.plain import digest, plain
from strands_dapr_session.testing.subject import (
    describe,
    found_in,
    has_failed,
    interrupts_of,
    observe,
    root_id,
    usage_of,
    waiting,
)
from strands_dapr_session.testing.witness import Witness

if TYPE_CHECKING:
    from strands_dapr_session.stores.base import StateStore
    from strands_dapr_session.testing.faults import Call as StoreCall
    from strands_dapr_session.testing.program import Call, Program

Role = Literal["run", "look"]

_SHORT = 0.001
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is told.

    Attributes:
        program: The program, pickled.
        store: The URL of the store.
        session_id: The session.
        ledger: The path of the ledger.
        role: "run": make the program's calls. "look": write down what the session holds, make the calls again, and
            delete the session.
        kill: When to die.
        seconds: When to die at the latest.
        path: Where to import from.
    """

    program: bytes
    store: str
    session_id: str
    ledger: str
    role: Role = "run"
    kill: Kill | None = None
    seconds: float = 60.0
    path: tuple[str, ...] = ()


def work(job: Job) -> int:
    """Do a job in this process; returns its exit status: 1 if a call raised to the end."""
    sys.path += [entry for entry in job.path if entry not in sys.path]
    faulthandler.dump_traceback_later(job.seconds * 0.9)
    signal.setitimer(signal.ITIMER_REAL, job.seconds)
    ledger = Ledger(job.ledger)
    ledgers.use(ledger)
    ledger.note("birth", role=job.role, kill=str(job.kill) if job.kill else None)
    switch = KillSwitch(job.kill, ledger)
    try:
        _Work(job, ledger, switch).do()
    except Exception as error:  # noqa: BLE001 - it belongs to the program
        traceback.print_exc()
        ledger.note("failed", error=repr(error))
        return 1
    finally:
        ledger.note("lived", **switch.counts)
    return 0


class _Manager(DaprSessionManager):
    """Remembers the agents that nobody can find in what was built.

    Attributes:
        attached: They, and their names.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.attached: list[tuple[Agent, str]] = []

    def attach(self, agent: Agent, scope: str) -> None:
        super().attach(agent, scope)
        self.attached.append((agent, scope))


class _Work:
    """One process's work."""

    def __init__(self, job: Job, ledger: Ledger, switch: KillSwitch) -> None:
        self._job = job
        self._ledger = ledger
        self._switch = switch
        self._program: Program = pickle.loads(job.program)  # noqa: S301 - from the process that started this one
        self._store = open_store(job.store)

    def do(self) -> None:
        """Do the job."""
        manager = _Manager(self._job.session_id, store=self._watched_store(), **self._program.options)
        built = self._program.build(manager)
        self._ledger.note("found", **self._found(built))
        if self._job.role == "look":
            self._ledger.note("look", **observe(built))
        witness = Witness(self._ledger, self._switch)
        witness.watch(built)
        for agent, scope in manager.attached:
            witness.watch_agent(scope, agent)
        calls = self._program.numbered_calls
        for number, call in enumerate(calls, 1):
            self._make(built, call, is_last=number == len(calls))
        self._ledger.note("end", **observe(built))
        if self._job.role == "look":
            # With a short lease: it waits for one if somebody was ever fenced off, and they all are dead for sure.
            DaprSessionManager(self._job.session_id, store=self._store, lease=_SHORT).delete()
            self._ledger.note("deleted")

    def _watched_store(self) -> StateStore:
        def before(call: StoreCall) -> None:
            self._switch.before("store", verb=call.verb, keys=len(call.keys), key=call.keys[0] if call.keys else "")

        def after(call: StoreCall) -> None:
            self._switch.after("store", call.number, verb=call.verb, key=call.keys[0] if call.keys else "")

        return FaultyStore(self._store, self._program.faults or nothing, on_call=before, on_applied=after)

    def _found(self, built: Any) -> dict[str, Any]:
        """Describe what the store holds, read past the agent and past all faults."""
        root = root_id(built)
        return found_in(Journal(self._store, self._job.session_id, root).load_sync(), root)

    def _found_patiently(self, built: Any) -> dict[str, Any]:
        """Wait until the store answers again."""
        while True:
            try:
                return self._found(built)
            except StoreUnavailableError:
                time.sleep(_PAUSE)

    def _answer(self, built: Any) -> None:
        """Answer the interrupts for which an earlier process, or call, ended waiting."""
        if pending := waiting(built):
            self._call(built, self._responses(pending), None)

    def _make(self, built: Any, call: Call, *, is_last: bool) -> None:
        # An orchestrator hands out the result of its last run only.
        is_over = call.id is None or not (is_last or strands_compat.is_a(built, Agent))
        if is_over and self._has_returned(call):
            return
        for attempt in range(1, call.attempts + 1):
            self._ledger.note("call", id=call.id, attempt=attempt)
            try:
                self._answer(built)
                result = self._call(built, call.prompt, call.id)
            except Exception as error:
                self._ledger.note("raised", id=call.id, error=repr(error))
                if attempt == call.attempts:
                    raise
                traceback.print_exc()
                self._ledger.note("found", **self._found_patiently(built))
            else:
                self._ledger.note("returned", id=call.id, prompt=_name(call), usage=usage_of(built), **describe(result))
                return

    def _has_returned(self, call: Call) -> bool:
        return any(entry["prompt"] == _name(call) for entry in self._ledger.entries("returned"))

    def _call(self, built: Any, prompt: Any, id_: str | None) -> Any:
        state = {} if id_ is None else {INVOCATION_ID: id_}
        result = built(prompt, invocation_state=dict(state))
        while asked := interrupts_of(result):
            self._ledger.note("interrupted", names=[interrupt["name"] for interrupt in asked])
            result = built(self._responses(asked), invocation_state=dict(state))
        if has_failed(result):
            raise RuntimeError(f"the run failed: {result}")
        return result

    def _responses(self, asked: list[dict[str, Any]]) -> list[Any]:
        answer = self._program.answer
        if answer is None:
            raise RuntimeError(f"the program has no `answer` for {[interrupt['name'] for interrupt in asked]}")
        responses = []
        for interrupt in asked:
            response = answer(interrupt["name"], interrupt.get("reason"))
            self._ledger.note("answered", name=interrupt["name"], response=response)
            responses.append({"interruptResponse": {"interruptId": interrupt["id"], "response": response}})
        return responses


def _name(call: Call) -> str:
    return digest(plain(call.prompt))


def main() -> None:
    """Do the job in the file that the first argument names."""
    sys.exit(work(pickle.loads(Path(sys.argv[1]).read_bytes())))  # noqa: S301 - written by the process that starts us


if __name__ == "__main__":
    main()
