"""One run of an orchestrator as this process knows it, and the notes that describe it in the journal."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError, DurableSessionError
from strands_dapr_session.hooks.invocation import STATUS, answered_so_far
from strands_dapr_session.multiagent.results import decode_result, encode_result
from strands_dapr_session.multiagent.starts import Starts
from strands_dapr_session.multiagent.underway import UnderWay
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import Noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from strands.multiagent.base import NodeResult

    from strands_dapr_session.journal.journal import Journal
    from strands_dapr_session.records.records import Tried
    from strands_dapr_session.records.view import InvocationView, ScopeView

BATCH: Final = "batch"
"""Kind of the note that says which nodes are under way, and what the orchestrator was like before."""

_RESULT: Final = "result"

_TOKENS: Final = ("inputTokens", "outputTokens", "totalTokens")

INTERRUPTS: Final = "interrupts"
"""Kind of the note that holds the human-in-the-loop state of a batch."""


@contextlib.contextmanager
def reading(journal: Journal) -> Iterator[None]:
    """Take notes that cannot be understood for damage.

    Raises:
        DamagedDataError: They are sealed as they should be, and do not describe a run.
    """
    try:
        yield
    except DurableSessionError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DamagedDataError(journal.name, f"its notes do not describe a run: {error!r}") from error


@dataclass(slots=True)
class Run:
    """A task that an orchestrator works on, from its acceptance to its result.

    Attributes:
        scope: The orchestrator's path.
        id: Ours, the same for every attempt.
        key: The id that the caller gave, if any.
        attempt: 1 for the first call that works on it.
        task: The task as it is recorded, packed; empty before it is known.
        is_resumed: It was begun by an earlier call.
        is_given: It goes on from a state that the user gave to `deserialize_state`, and that no journal has.
        is_answered: It waited for answers of a person, and this call brings them.
        answers: The interrupts that people have answered so far, in whatever batch: who answers again is no other task.
        repeated: What people answered to nodes of this batch that are to go on, by node.
        is_replayed: It has finished before; this call hands out its recorded result.
        is_announced: What this call does is written down.
        number: Counts the batches.
        batch: The nodes that run, or are to run, at the same time.
        pending: Those of them whose turn in this process has not come yet.
        visits: How often each node had finished before the batch.
        finished: Results of the nodes of the batch that have finished.
        handovers: What each of those did besides.
        first: The nodes that this call has to finish before any other begins.
        kept: Sets their agents back to what they were when they had finished.
        failed: Nodes of the batch that returned a result which says that they failed.
        history: How many nodes had finished before the batch, in all.
        counted: The state to repeat the batch from, if waiting for answers changed what was noted when it began.
        tries: The last failure of each node that is tried again, by the token of its visit.
        error: Why recording failed.
        starts: When the nodes of the batch begin.
        under_way: Its nodes that have begun.
        lock: Held while it is written down that nodes begin.
    """

    scope: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    key: str | None = None
    attempt: int = 1
    task: bytes = b""
    is_resumed: bool = False
    is_given: bool = False
    is_answered: bool = False
    answers: list[str] = field(default_factory=list)
    repeated: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    is_replayed: bool = False
    is_announced: bool = False
    number: int = 0
    batch: list[str] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    visits: dict[str, int] = field(default_factory=dict)
    finished: dict[str, NodeResult] = field(default_factory=dict)
    handovers: dict[str, Any] = field(default_factory=dict)
    first: frozenset[str] = frozenset()
    kept: dict[str, Callable[[], None]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    history: int = 0
    counted: dict[str, Any] | None = None
    tries: dict[str, Tried] = field(default_factory=dict)
    error: Exception | None = None
    starts: Starts = field(default_factory=Starts)
    under_way: UnderWay = field(default_factory=UnderWay)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def token(self, node_id: str) -> str:
        """Name the visit of a node; the same until it finishes, whatever the attempt."""
        return f"{self.id}:{self.visits.get(node_id, 0) + 1}:{node_id}"

    def count_answers(self, interrupts: Mapping[str, Any]) -> None:
        """Remember what of an orchestrator's interrupts has been answered."""
        self.answers = answered_so_far(self.answers, interrupts["interrupts"])

    def count_visits(self) -> None:
        """Close the batch: its finished nodes have been visited once more."""
        for node_id in self.finished:
            self.visits[node_id] = self.visits.get(node_id, 0) + 1
        self.finished, self.handovers, self.failed = {}, {}, set()

    # -- to the journal ------------------------------------------------------------------------------------------

    def note_status(self, state: str, visit: str | None, **details: Any) -> Noted:
        """Write down how the run stands."""
        status = {"invocation": self.id, "state": state, "attempt": self.attempt, **details}
        if self.answers:
            status["answers"] = list(self.answers)
        if visit is not None:
            status["visit"] = visit
        return Noted(self.scope, STATUS, pack_value(status, path=STATUS))

    def note_batch(self, nodes: list[str], state: dict[str, Any]) -> Noted:
        """Write down which nodes begin, and the state to begin them from."""
        value = {"number": self.number, "nodes": nodes, "visits": self.visits, "state": state}
        return Noted(self.scope, BATCH, pack_value(value, path=BATCH))

    def note_interrupts(self, interrupts: dict[str, Any]) -> Noted:
        """Write down the human-in-the-loop state of this batch."""
        value = {"run": self.id, "number": self.number, "state": interrupts}
        return Noted(self.scope, INTERRUPTS, pack_value(value, path=INTERRUPTS))

    def note_result(self, node_id: str, result: NodeResult, handed_over: Any) -> Noted:
        """Write down the result of a node's visit.

        The result of the visit before stays: until the batch is over, other nodes of it may still read that one.

        Raises:
            UnencodableValueError: Something in it would not survive storage.
        """
        visit = self.visits.get(node_id, 0) + 1
        value = {
            "run": self.id,
            "visit": visit,
            "place": len(self.finished),
            "result": encode_result(result),
            "handover": handed_over,
        }
        return Noted(self.scope, _result_kind(node_id, visit), pack_value(value, path=f"result of node {node_id!r}"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the notes of a scope say about its last run."""

    scope: ScopeView
    invocation: InvocationView
    status: dict[str, Any]
    batch: dict[str, Any]

    @classmethod
    def read(cls, scope: ScopeView) -> Recorded | None:
        """Read the notes; None if there was no run.

        Raises:
            DamagedDataError: They do not describe one. To be used inside of `reading`, which says where.
        """
        if scope.invocation is None or BATCH not in scope.notes:
            return None
        status, batch = unpack_value(scope.notes[STATUS]), unpack_value(scope.notes[BATCH])
        counted = [status["state"], batch["state"], *(status[name] for name in ("end", "counted") if status.get(name))]
        # What Strands itself adds to later, without a look.
        totals = [
            total
            for each in counted[1:]
            for total in (*(each["usage"][name] for name in _TOKENS), each["metrics"]["latencyMs"])
        ]
        if not all(isinstance(total, (int, float)) for total in totals):
            raise TypeError("a total is no number")
        return cls(scope, scope.invocation, status, batch)

    @property
    def run_id(self) -> str:
        """The run."""
        return str(self.status["invocation"])

    def results(self, nodes: Any) -> dict[str, NodeResult]:
        """Read the results as they were before the batch, in the order in which nodes had finished for the first time.

        That order shows in the prompt of what follows a nested orchestrator.
        """
        found = {}
        state = self.batch["state"]
        finished = [name for name in (state["names"][index] for index in state["order"]) if name in nodes]
        for node_id in dict.fromkeys([*finished, *nodes]):
            node = nodes[node_id]
            visit = self.batch["visits"].get(node_id, 0)
            for number in (visit + 1, visit):  # a node that failed and is not repeated yet left its result
                note = self._note(node_id, number)
                if note is None or (
                    number > visit and (note["result"]["status"] != "failed" or self._is_owed(node_id))
                ):
                    continue
                found[node_id] = decode_result(note["result"], node.executor)
                break
        return found

    def _is_owed(self, node_id: str) -> bool:
        return node_id in self.batch["nodes"]

    def finished(self, nodes: Any) -> tuple[dict[str, NodeResult], dict[str, Any]]:
        """Read the results of the nodes of the batch that have finished, and what they did besides."""
        notes = {name: self._note(name, self.batch["visits"].get(name, 0) + 1) for name in self.batch["nodes"]}
        done = {name: note for name, note in notes.items() if note and note["result"]["status"] != "failed"}
        results, handovers = {}, {}
        for node_id, note in sorted(done.items(), key=lambda item: int(item[1]["place"])):
            results[node_id] = decode_result(note["result"], nodes[node_id].executor)
            handovers[node_id] = note["handover"]
        return results, handovers

    def _note(self, node_id: str, visit: int) -> dict[str, Any] | None:
        packed = self.scope.notes.get(_result_kind(node_id, visit))
        if packed is None:
            return None
        note: dict[str, Any] = unpack_value(packed)
        return note if (note["run"], note["visit"]) == (self.run_id, visit) else None

    def interrupts(self) -> dict[str, Any]:
        """Read the human-in-the-loop state of the batch; an empty one if it raised none."""
        packed = self.scope.notes.get(INTERRUPTS)
        note = None if packed is None else unpack_value(packed)
        if note is None or (note["run"], note["number"]) != (self.run_id, self.batch["number"]):
            return {"interrupts": {}, "context": {}, "activated": False}
        state: dict[str, Any] = note["state"]
        return state


def node_of_result(kind: str) -> str | None:
    """Get the node whose result a note holds; None if it is a note of another kind."""
    what, _, rest = kind.partition(":")
    return rest.partition(":")[2] if what == _RESULT else None


def _result_kind(node_id: str, visit: int) -> str:
    return f"{_RESULT}:{visit % 2}:{node_id}"
