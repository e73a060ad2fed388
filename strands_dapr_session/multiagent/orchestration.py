"""The lifecycle of one orchestrator, root or nested: its events become records, and its records a run that goes on."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.hooks import (
    AfterMultiAgentInvocationEvent,
    AfterNodeCallEvent,
    BeforeMultiAgentInvocationEvent,
    BeforeNodeCallEvent,
)
from strands.hooks.registry import HookOrder
from strands.multiagent.graph import Graph
from strands.multiagent.swarm import Swarm

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import (
    ConfigurationError,
    DeadlineError,
    DurableSessionError,
    InvocationConflictError,
    LimitReachedError,
)
from strands_dapr_session.hooks import owed as only_owed
from strands_dapr_session.hooks.invocation import FAILED, INTERRUPTED, INVOCATION_ID, RUNNING
from strands_dapr_session.hooks.ownership import Borrower, is_owed
from strands_dapr_session.hooks.retrying import failure, pause
from strands_dapr_session.journal.layout import quote
from strands_dapr_session.multiagent import attached
from strands_dapr_session.multiagent.attached import Place
from strands_dapr_session.multiagent.attempts import answer_again, never_again, try_again
from strands_dapr_session.multiagent.replay import ReplayedNode
from strands_dapr_session.multiagent.run import Recorded, Run, reading
from strands_dapr_session.multiagent.swarm import SwarmShape
from strands_dapr_session.multiagent.tally import NodeTally, Tallies
from strands_dapr_session.multiagent.topology import check_topology, describe
from strands_dapr_session.multiagent.waiting import answers_of, refill, strip
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import InvocationFinished, InvocationStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.hooks.retry import RetryPolicy
    from strands_dapr_session.multiagent.root import Root
    from strands_dapr_session.multiagent.shape import Shape
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import View

logger = logging.getLogger(__name__)


class Orchestration:
    """Records and resumes one orchestrator.

    Attributes:
        root: What owns the journal.
        scope: The path in it.
        shape: The orchestrator.
        agents: What is recorded of the agents that its nodes are.
        below: The orchestrators that its nodes are.
        tallies: What became of its nodes in this process.
        run: What runs now.
        ahead: What a nested one is about to run, set up before it is called.
        visit: Names the occasion on which the parent runs this orchestrator. None for the root, and outside of a run.
        is_answering: The parent passes answers of a person on.
        kept: The last records of a nested run: they go with the result of the parent's node.
    """

    def __init__(self, root: Root, scope: str, shape: Shape) -> None:
        self.root = root
        self.scope = scope
        self.shape = shape
        self.agents: dict[str, Recording] = {}
        self.below: dict[str, Orchestration] = {}
        self.tallies = Tallies()
        self.run: Run | None = None
        self.ahead: Run | None = None
        self.visit: str | None = None
        self.is_answering = False
        self.kept: list[Record] = []
        self._kept_by_agents: dict[str, list[Record]] = {}
        self._replaced: dict[str, Any] = {}
        self._undo: dict[str, Callable[[], None]] = {}

    def register(self) -> None:
        """Listen to the orchestrator."""
        add = self.shape.orchestrator.add_hook
        add(self._before_run, BeforeMultiAgentInvocationEvent, order=HookOrder.SDK_LAST)
        add(self._before_node, BeforeNodeCallEvent, order=HookOrder.SDK_FIRST)
        add(self._after_node, AfterNodeCallEvent, order=HookOrder.SDK_LAST)
        add(self._after_run, AfterMultiAgentInvocationEvent, order=HookOrder.SDK_LAST)

    def adopt(self, node_id: str, recording: Recording, borrower: Borrower) -> None:
        """Take over an agent that is a node."""
        self.agents[node_id] = recording
        recording.beside = self._beside
        if isinstance(self.shape, SwarmShape):
            shape = self.shape
            borrower.resume = lambda: shape.resume_visit(recording.visit or "")

    def keep(self, node_id: str, records: list[Record]) -> None:
        """Hold the last records of a node's agent back until the node has finished."""
        self._kept_by_agents[node_id] = records

    @property
    def _is_root(self) -> bool:
        return self.root.orchestration is self

    def _beside(self) -> list[Record]:
        return [] if self.run is None else self.shape.beside(self.run)

    # -- the run -------------------------------------------------------------------------------------------------

    async def _before_run(self, event: BeforeMultiAgentInvocationEvent) -> None:
        """Own the journal, and set the orchestrator back to where its records end."""
        if self.run is not None and self.run.is_announced:
            raise InvocationConflictError(
                f"{self.shape.orchestrator.id!r} runs already: one object runs one task at a time"
            )
        self._leave_nodes()
        self.run, self.ahead = self.ahead, None
        if self.run is not None:
            only_owed.found()
            return
        if not self._is_root and self.visit is None:
            return  # somebody calls a nested orchestrator on its own
        view = await self.root.acquire() if self._is_root else self.root.found.take(self.scope)
        try:
            self.run = self.open(view, self._key(event))
            only_owed.found()
            if self._is_root and self.run.is_answered:
                # Strands has yet to look at the answers, and refuses the call if they are none: nobody would release.
                await self.root.release()
        except BaseException:
            if self._is_root:
                await self.root.release()
            raise

    def open_ahead(self) -> None:
        """Set a nested orchestrator back before it is called with answers.

        Before Strands 1.5x it takes them before it tells us, and only if it waits for them.
        """
        self.ahead = self.open(self.root.found.take(self.scope))

    def stop_waiting(self) -> None:
        """Let a nested orchestrator be called without answers. If it waits for some, it has got them, and then failed.

        Before Strands 1.5x it demands them before it tells us.
        """
        orchestrator = self.shape.orchestrator
        if strands_compat.orchestrator_interrupts(orchestrator)["activated"]:
            strands_compat.forget_resume(orchestrator)

    def _key(self, event: BeforeMultiAgentInvocationEvent) -> str | None:
        key = (event.invocation_state or {}).get(INVOCATION_ID) if self._is_root else None
        if key is not None and (not isinstance(key, str) or not key.strip()):
            raise ConfigurationError(f"invocation_state[{INVOCATION_ID!r}] must be a non-empty string, got {key!r}")
        return key

    def open(self, view: View, key: str | None = None) -> Run:
        """Decide what the call is.

        * The unfinished run of this visit goes on. Whether the task is the same will be seen later (see `Root`).
        * The id of the last run, which has finished: Strands goes through its last batch again, with recorded results.
        * Else a new one begins.

        Raises:
            InvocationConflictError: The id is that of an earlier run.
            DriftError: The orchestrator is not the one that began, and may not go on.
            LimitReachedError: The run stands at one of the orchestrator's limits.
            DamagedDataError: What is recorded is no run of it.
        """
        scope = view.scope(self.scope)
        with reading(self.root.journal):
            recorded = Recorded.read(scope)
            if recorded is not None and (
                is_owed(view, self.scope, self.visit, key=self.root.journal.name)
                or (key is not None and key == recorded.invocation.key)
            ):
                return self._resume(recorded)
        if self._is_root:
            only_owed.refuse_new(self.root.journal.name)
        if key is not None and key in view.finished:
            raise InvocationConflictError(
                f"invocation id {key!r} is that of an earlier run of {self.shape.orchestrator.id!r}. Only the last run "
                "can hand out its result again; use an id of its own for each task."
            )
        # Where nothing is recorded yet, it is the user who gave it a state to go on from.
        is_given = recorded is None and strands_compat.is_to_resume(self.shape.orchestrator)
        if not is_given:
            self.shape.begin_anew(scope)
        return Run(self.scope, key=key, is_given=is_given)

    def _resume(self, recorded: Recorded) -> Run:
        orchestrator, scope, last = self.shape.orchestrator, recorded.scope, recorded.invocation
        owed = list(recorded.batch["nodes"])
        check_topology(orchestrator, last.fingerprint, owed, self.root.settings.drift)
        run = Run(self.scope, last.id, last.key, int(recorded.status["attempt"]) + 1, last.prompt, is_resumed=True)
        run.is_replayed = last.finished
        run.answers = [str(each) for each in recorded.status.get("answers", ())]
        run.number, run.batch, run.visits = recorded.batch["number"], owed, dict(recorded.batch["visits"])
        run.history = len(recorded.batch["state"]["order"])
        run.finished, run.handovers = recorded.finished(orchestrator.nodes)
        executors = {name: orchestrator.nodes[name].executor for name in run.finished if name in self.agents}
        run.kept = {name: strands_compat.keep(executor) for name, executor in executors.items()}
        run.first = frozenset(owed) - run.finished.keys()
        for name, visits in run.visits.items():
            if not self.tallies.has_seen(name):
                self.tallies.count(name, "replayed", visits)
        # Those that have finished first, in their order: so their results come in the order in which they came.
        owed.sort(key=lambda name: [*run.finished, name].index(name))
        run.tries = dict(scope.tries)
        waits = recorded.status["state"] == INTERRUPTED and not run.is_replayed
        run.is_answered = waits and (self._is_root or self.is_answering)
        results = recorded.results(orchestrator.nodes)
        self.shape.restore_beside(scope)
        if run.is_answered:
            end = recorded.status["end"]
            interrupted = [end["names"][index] for index in end.get("interrupted", [])] or owed
            run.pending = set(interrupted)
            run.counted = recorded.status["counted"]
            waiting = refill(self, recorded.interrupts())
            self.shape.restore(end, interrupted, {**results, **run.finished}, waiting)
        else:
            self._check_limit(recorded)
            run.pending = set(owed)
            interrupts = recorded.interrupts()
            answered = {**interrupts, "context": {}, "activated": False}
            self.root.remember_answers(answered)
            run.repeated = answers_of(interrupts, self.root.answers)
            if waits and answered["interrupts"].keys() <= self.root.answers.keys():
                run.counted = recorded.status["counted"]  # its nodes will not ask, and be counted, once more
            self.shape.restore(run.counted or recorded.batch["state"], owed, results, answered)
        orchestrator.state.task = self.root.unpack_task(run.task)
        logger.info(
            "orchestrator_id=<%s>, run_id=<%s>, attempt=<%d>, nodes=<%s>, replayed=<%s> | going on with a run",
            orchestrator.id,
            run.id,
            run.attempt,
            owed,
            sorted(run.finished),
        )
        return run

    def _check_limit(self, recorded: Recorded) -> None:
        if not recorded.status.get("limit"):
            return
        reason = self.shape.limit(recorded.status["end"])
        if reason is not None:
            orchestrator = self.shape.orchestrator
            raise LimitReachedError(
                f"the unfinished run of {orchestrator.id!r} cannot go on: {reason}. Raise that limit of the "
                f"{type(orchestrator).__name__} and call it again, or give the run up with abandon()."
            )

    async def _announce(self, run: Run, node_id: str) -> None:
        """Write down what this call does, together with its first batch."""
        run.is_announced = True
        if run.is_replayed:
            return
        if self._is_root and run.is_answered:
            await self.root.acquire_again()
        orchestrator = self.shape.orchestrator
        records: list[Record] = []
        if not run.is_resumed:
            run.task = self.root.pack_task(orchestrator.state.task)
            records.append(InvocationStarted(self.scope, run.id, run.key, run.task, describe(orchestrator), 1))
            given = {
                name: each for name, each in orchestrator.state.results.items() if each.status.value == "completed"
            }
            records += [run.note_result(name, result, None) for name, result in given.items()]
            run.visits = dict.fromkeys(given, 1)
        run.count_answers(strands_compat.orchestrator_interrupts(orchestrator))
        records.append(run.note_status(RUNNING, self.visit))
        if run.is_answered or run.is_given:
            records.append(run.note_interrupts(strip(self)))
        if run.counted is not None:
            records.append(run.note_batch(run.batch, run.counted))
        if node_id not in run.pending:
            records += self._next_batch(run, node_id)
        self.root.journal.append(*records)

    def _next_batch(self, run: Run, node_id: str) -> list[Record]:
        run.count_visits()
        run.number += 1
        run.batch = self.shape.batch(node_id)
        run.pending = set(run.batch)
        state = self.shape.snapshot(run)
        run.history = len(state["order"])
        return [*self.shape.beside(run), run.note_batch(run.batch, state)]

    async def _after_run(self, event: AfterMultiAgentInvocationEvent) -> None:  # noqa: ARG002
        """Write down how the run ended; the caller gets its result after that."""
        run, self.run = self.run, None
        self._leave_nodes()
        if run is None:
            return
        is_finished = self.shape.status == "completed"
        try:
            last = self._last_records(run) if run.is_announced and not run.is_replayed else []
        except DurableSessionError as problem:
            last, run.error = [], run.error or problem
        if not is_finished:
            self.root.journal.mistrust()
        if self._is_root:
            await self.root.release(*last)
        elif is_finished:
            self.kept = last
        elif self.root.journal.owned:
            self.root.journal.append(*last)
        error = run.error or self._swallowed_error()
        if error is not None:
            raise error

    def _swallowed_error(self) -> Exception | None:
        """Find an error of ours that a swarm turned into a status."""
        if self.shape.status != "failed":
            return None
        results = self.shape.orchestrator.state.results.values()
        return next((each.result for each in results if isinstance(each.result, DurableSessionError)), None)

    def _last_records(self, run: Run) -> list[Record]:
        status = self.shape.status
        if status == "completed":
            return [*self.shape.beside(run), InvocationFinished(self.scope, run.id, "completed", pack_value(None))]
        end = self.shape.snapshot(run)
        if status == "interrupted":
            counted = self.shape.state_while_waiting(run)
            return [
                run.note_interrupts(strip(self)),
                run.note_status(INTERRUPTED, self.visit, end=end, counted=counted),
            ]
        failed = [end["names"][index] for index in end.get("failed", [])]
        is_over = set(run.batch) <= run.finished.keys() | run.failed
        if not is_over:
            return [run.note_status(FAILED, self.visit)]
        if failed and all(self.shape.has_failed(node_id) for node_id in failed):
            # Its siblings went on and have ended. What failed is owed, and nothing else.
            run.count_visits()
            run.number += 1
            retry = run.note_batch(sorted(failed), self.shape.without(end, failed))
            return [retry, run.note_status(FAILED, self.visit)]
        return [run.note_status(FAILED, self.visit, end=end, limit=self.shape.limit(end))]

    # -- its nodes -----------------------------------------------------------------------------------------------

    async def _before_node(self, event: BeforeNodeCallEvent) -> None:
        """Write down a batch when the first of its nodes begins, and prepare the node."""
        run = self.run
        if run is None:
            return
        try:
            async with run.lock:
                await asyncio.sleep(0)  # all nodes of the batch have asked after this, or are marked as under way
                if not run.is_announced:
                    await self._announce(run, event.node_id)
                elif event.node_id not in run.pending:
                    # Results and edges say the same, so it may travel with the first thing that a node does.
                    self.root.journal.append_with_next(*self._next_batch(run, event.node_id))
                run.pending.discard(event.node_id)
            await self._enter(run, event.node_id)
        except DurableSessionError as error:
            run.error = run.error or error
            raise

    async def _enter(self, run: Run, node_id: str) -> None:
        node = self.shape.orchestrator.nodes[node_id]
        self.tallies.count(node_id, self._what_happens(run, node_id))
        if node_id in run.finished:
            self._replaced[node_id] = node.executor
            if node_id in run.kept and self.shape.is_reset(run, node_id):
                run.kept[node_id]()
            node.executor = ReplayedNode(node.executor, run.finished[node_id], self._handing_over(run, node_id))
        elif node_id in self.agents:
            recording = self.agents[node_id]
            recording.visit = run.token(node_id)
            if isinstance(recording.ownership, Borrower):
                recording.ownership.is_reset = self.shape.is_reset(run, node_id)
                recording.ownership.answers = self.root.answers
            self.root.recordings.bind(node.executor, recording)
        elif node_id in self.below:
            nested = self.below[node_id]
            nested.visit = run.token(node_id)
            interrupts = strands_compat.orchestrator_interrupts(self.shape.orchestrator)
            nested.is_answering = bool(interrupts["activated"]) and node_id in interrupts["context"]
            if nested.is_answering:
                nested.open_ahead()
            else:
                nested.stop_waiting()
        else:
            root, scope = self.root, f"{self.scope}/{quote(node_id)}" if self.scope else quote(node_id)
            attached.enter(Place(root.journal, root.settings, root.found, scope, run.token(node_id)))
            await root.journal.barrier()  # it runs as a whole, so this is where its effects begin
            if node_id in run.repeated and not strands_compat.is_a(node.executor, Graph, Swarm):  # which keep theirs
                self._undo[node_id] = answer_again(node.executor, run.repeated.pop(node_id))
        policy = self.root.settings.retries.node
        if policy is not None and node_id not in run.finished:
            await self._pause(run, node_id)
            try_again(node.executor, partial(self._prepare_again, run, node_id, policy))

    async def _prepare_again(self, run: Run, node_id: str, policy: RetryPolicy, error: Exception) -> bool:
        """Decide whether a node that raised runs again, and get it ready to go on where its records end."""
        if (isinstance(error, DurableSessionError) and not isinstance(error, DeadlineError)) or not policy.wants(error):
            return False
        name, visit = self.root.journal.root_id, run.token(node_id)
        tried = failure(name, self.scope, visit, run.tries.get(visit), error, policy)
        self.root.journal.append(tried)
        run.tries[visit] = tried
        if tried.delay is None:
            return False
        await self.root.look_again()
        await self._pause(run, node_id)
        if node_id in self.agents:
            self.root.restore_agent(self.agents[node_id], self.shape.orchestrator.nodes[node_id].executor)
        return True

    @staticmethod
    async def _pause(run: Run, node_id: str) -> None:
        """Wait until the next attempt of a node is due."""
        tried = run.tries.get(run.token(node_id))
        if tried is not None:
            await pause(tried, lambda: False)

    def _what_happens(self, run: Run, node_id: str) -> str:
        """Tell what the visit of a node that begins is, in the words of `NodeTally`."""
        if node_id in run.finished:
            return "replayed"
        part = self.agents.get(node_id) or self.below.get(node_id)
        view, name = self.root.found.view, self.root.journal.name
        is_under_way = part is not None and is_owed(view, part.scope, run.token(node_id), key=name)
        return "resumed" if is_under_way or (run.is_answered and node_id in run.first) else "run"

    def tally(self) -> dict[str, NodeTally]:
        """Tell what became of each node in this process."""
        return {
            name: self.tallies.of(name, self.below[name].tally() if name in self.below else {})
            for name in self.shape.orchestrator.nodes
        }

    def _handing_over(self, run: Run, node_id: str) -> Any:
        def then() -> None:
            self.shape.hand_over(run.handovers.get(node_id))

        return then

    def _after_node(self, event: AfterNodeCallEvent) -> None:
        """Write down that a node has finished, together with the last records of whatever it is."""
        run, node_id = self.run, event.node_id
        was_replayed = node_id in self._replaced
        kept = self._leave_node(node_id)
        if run is None:
            return
        results = self.shape.orchestrator.state.results
        closed = attached.leave(run.token(node_id))
        try:
            if not self.shape.is_finished(run, node_id):
                if self.shape.has_failed(node_id):
                    run.failed.add(node_id)
                    self.root.journal.append(run.note_result(node_id, results[node_id], None))
                self.tallies.count(node_id, "failed")
                if kept:
                    self.root.journal.mistrust()  # what it recorded last is lost: this process believes otherwise
                return
            if was_replayed:
                results[node_id] = run.finished[node_id]
                return
            handed_over = self.shape.handed_over(run, node_id)
            note = run.note_result(node_id, results[node_id], handed_over)
            self.root.journal.append(*kept, *closed, note, *self.shape.beside(run))
            run.finished[node_id], run.handovers[node_id] = results[node_id], handed_over
        except DurableSessionError as error:
            run.error = run.error or error
            raise

    def _leave_node(self, node_id: str) -> list[Record]:
        """Put everything about a node back, and get the last records of what ran in it."""
        node = self.shape.orchestrator.nodes[node_id]
        if self.root.settings.retries.node is not None:
            never_again(node.executor)
        if node_id in self._undo:
            self._undo.pop(node_id)()
        if node_id in self._replaced:
            node.executor = self._replaced.pop(node_id)
        kept = self._kept_by_agents.pop(node_id, [])
        if node_id in self.agents and strands_compat.is_a(node.executor, Agent):
            self.root.recordings.unbind(node.executor)
        if node_id in self.below:
            nested = self.below[node_id]
            kept, nested.kept, nested.visit, nested.ahead = nested.kept, [], None, None
        return kept

    def _leave_nodes(self) -> None:
        """Put everything back about nodes that ended without an event: those that were interrupted."""
        for node_id in self.shape.orchestrator.nodes:
            self._leave_node(node_id)
