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
from typing import TYPE_CHECKING, Any, Literal, cast

from strands import Agent

from strands_dapr_session import DaprSessionManager, strands_compat
from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.hooks.invocation import INVOCATION_ID, tool_use_ids
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing import ledger as ledgers
from strands_dapr_session.testing.faults import FaultyStore, nothing
from strands_dapr_session.testing.kills import Kill, KillSwitch
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.plain import digest, plain
from strands_dapr_session.testing.witness import Witness, answer_of, describe, observe

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
        manager = DaprSessionManager(self._job.session_id, store=self._watched_store(), **self._program.options)
        built = self._program.build(manager)
        self._ledger.note("found", **self._found(built))
        if self._job.role == "look":
            self._ledger.note("look", **observe(built))
        Witness(self._ledger, self._switch).watch(built)
        for call in self._program.numbered_calls:
            self._make(built, call)
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
        root = str(getattr(built, "agent_id", None) or built.id)
        view = Journal(self._store, self._job.session_id, root).load_sync()
        answers: list[str] = []
        asked: list[str] = []
        results: list[str] = []
        unfinished = []
        for scope in view.scopes.values():
            messages = [unpack_value(body) for body in scope.messages]
            # Whoever says it: a summary becomes a message of the user.
            answers += [answer_of(message) for message in messages]
            blocks = [block for message in messages for block in message["content"]]
            asked += [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
            results += [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
            if messages and tool_use_ids(messages[-1]):  # otherwise a message has taken them up
                results += scope.results
            if scope.invocation is not None and not scope.invocation.finished:
                unfinished.append(scope.invocation.key)
        return {
            "answers": answers,
            "asked": asked,
            "results": sorted(results),
            "unfinished": unfinished,
            "finished": list(view.finished),
            "is_new": view.sequence == 0,
        }

    def _found_patiently(self, built: Any) -> dict[str, Any]:
        """Wait until the store answers again."""
        while True:
            try:
                return self._found(built)
            except StoreUnavailableError:
                time.sleep(_PAUSE)

    def _answer(self, built: Any) -> None:
        """Answer the interrupts for which an earlier process, or call, ended waiting."""
        if isinstance(built, Agent) and (pending := _pending(built)):
            self._call(built, self._responses(pending), None)

    def _make(self, built: Any, call: Call) -> None:
        if call.id is None and self._has_returned(call):
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
                self._ledger.note("returned", id=call.id, prompt=_name(call), usage=_usage(built), **describe(result))
                return

    def _has_returned(self, call: Call) -> bool:
        return any(entry["prompt"] == _name(call) for entry in self._ledger.entries("returned"))

    def _call(self, built: Any, prompt: Any, id_: str | None) -> Any:
        state = {} if id_ is None else {INVOCATION_ID: id_}
        result = built(prompt, invocation_state=dict(state))
        while getattr(result, "stop_reason", "") == "interrupt":
            waiting = [interrupt.to_dict() for interrupt in result.interrupts]
            self._ledger.note("interrupted", names=[interrupt["name"] for interrupt in waiting])
            result = built(self._responses(waiting), invocation_state=dict(state))
        return result

    def _responses(self, waiting: list[dict[str, Any]]) -> list[Any]:
        answer = self._program.answer
        if answer is None:
            raise RuntimeError(f"the program has no `answer` for {[interrupt['name'] for interrupt in waiting]}")
        responses = []
        for interrupt in waiting:
            response = answer(interrupt["name"], interrupt.get("reason"))
            self._ledger.note("answered", name=interrupt["name"], response=response)
            responses.append({"interruptResponse": {"interruptId": interrupt["id"], "response": response}})
        return responses


def _name(call: Call) -> str:
    return digest(plain(call.prompt))


def _usage(built: Any) -> dict[str, int] | None:
    """Get the tokens of the last call."""
    if not isinstance(built, Agent) or built.event_loop_metrics.latest_agent_invocation is None:
        return None
    return {
        name: int(cast("int", count)) for name, count in built.event_loop_metrics.latest_agent_invocation.usage.items()
    }


def _pending(agent: Agent) -> list[dict[str, Any]]:
    state = strands_compat.interrupt_state(agent)
    if not state["activated"]:
        return []
    interrupts = list(cast("dict[str, dict[str, Any]]", state["interrupts"]).values())
    # Where all are answered, the call that answered them has failed: it must be made again.
    return [interrupt for interrupt in interrupts if interrupt.get("response") is None] or interrupts


def main() -> None:
    """Do the job in the file that the first argument names."""
    sys.exit(work(pickle.loads(Path(sys.argv[1]).read_bytes())))  # noqa: S301 - written by the process that starts us


if __name__ == "__main__":
    main()
