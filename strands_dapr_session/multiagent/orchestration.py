"""The lifecycle of one orchestrator, root or nested: its events become records, and its records a run that goes on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from strands.hooks import (
    AfterMultiAgentInvocationEvent,
    AfterNodeCallEvent,
    BeforeMultiAgentInvocationEvent,
    BeforeNodeCallEvent,
)
from strands.hooks.registry import HookOrder

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import (
    ConfigurationError,
    DurableSessionError,
    InvocationConflictError,
)
from strands_dapr_session.hooks import owed as only_owed
from strands_dapr_session.hooks.ending import is_being_cancelled
from strands_dapr_session.hooks.gate import Gate
from strands_dapr_session.hooks.invocation import FAILED, INTERRUPTED, INVOCATION_ID, RUNNING
from strands_dapr_session.multiagent.opening import open_run
from strands_dapr_session.multiagent.swarm import SwarmShape
from strands_dapr_session.multiagent.topology import describe
from strands_dapr_session.multiagent.visits import Visits
from strands_dapr_session.multiagent.waiting import strip
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import InvocationFinished, InvocationStarted

if TYPE_CHECKING:
    from strands_dapr_session.hooks.ownership import Borrower
    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.multiagent.root import Root
    from strands_dapr_session.multiagent.run import Run
    from strands_dapr_session.multiagent.shape import Shape
    from strands_dapr_session.records.records import Record

logger = logging.getLogger(__name__)

_STEPS_UNTIL_CLOSED = 3
"""Of the event loop, from the moment when a stream is dropped to that when its end begins."""


class Orchestration:
    """Records and resumes one orchestrator.

    Attributes:
        root: What owns the journal.
        scope: The path in it.
        shape: The orchestrator.
        visits: The visits of its nodes.
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
        self.visits = Visits(root, scope, shape)
        self.run: Run | None = None
        self.ahead: Run | None = None
        self.visit: str | None = None
        self.is_answering = False
        self.kept: list[Record] = []
        self._ending = Gate()

    def register(self) -> None:
        """Listen to the orchestrator."""
        add = self.shape.orchestrator.add_hook
        add(self._before_run, BeforeMultiAgentInvocationEvent, order=HookOrder.SDK_LAST)
        add(self._before_node, BeforeNodeCallEvent, order=HookOrder.SDK_FIRST)
        add(self._after_node, AfterNodeCallEvent, order=HookOrder.SDK_LAST)
        add(self._after_run, AfterMultiAgentInvocationEvent, order=HookOrder.SDK_LAST)

    def adopt(self, node_id: str, recording: Recording, borrower: Borrower) -> None:
        """Take over an agent that is a node."""
        self.visits.agents[node_id] = recording
        recording.beside = self._beside
        if isinstance(self.shape, SwarmShape):
            shape = self.shape
            borrower.resume = lambda: shape.resume_visit(recording.visit or "")

    @property
    def is_root(self) -> bool:
        """Whether it is what was given the session manager."""
        return self.root.orchestration is self

    def _beside(self) -> list[Record]:
        return [] if self.run is None else self.shape.beside(self.run)

    # -- the run -------------------------------------------------------------------------------------------------

    async def _before_run(self, event: BeforeMultiAgentInvocationEvent) -> None:
        """Own the journal, and set the orchestrator back to where its records end."""
        await self._await_end()
        if self.run is not None and self.run.is_announced:
            raise InvocationConflictError(
                f"{self.shape.orchestrator.id!r} runs already: one object runs one task at a time"
            )
        self.visits.leave_all()
        self.run, self.ahead = self.ahead, None
        if self.run is not None:
            only_owed.found()
            return
        if not self.is_root and self.visit is None:
            return  # somebody calls a nested orchestrator on its own
        view = await self.root.acquire() if self.is_root else self.root.found.take(self.scope)
        try:
            self.run = open_run(self, view, self._key(event))
            only_owed.found()
            if self.is_root and self.run.is_answered:
                # Strands has yet to look at the answers, and refuses the call if they are none: nobody would release.
                await self.root.release()
        except BaseException:
            if self.is_root:
                await self.root.release()
            raise

    async def _await_end(self) -> None:
        """Wait for the end of a run whose caller has dropped its stream: the event loop is about to close that."""
        for _ in range(_STEPS_UNTIL_CLOSED):
            if self.run is not None and not self._ending.is_taken:
                await asyncio.sleep(0)
        if self._ending.is_taken:
            async with self._ending:
                pass
            await asyncio.sleep(0)  # Strands has to do something behind our hook

    def open_ahead(self) -> None:
        """Set a nested orchestrator back before it is called with answers.

        Before Strands 1.5x it takes them before it tells us, and only if it waits for them.
        """
        self.ahead = open_run(self, self.root.found.take(self.scope))

    def stop_waiting(self) -> None:
        """Let a nested orchestrator be called without answers. If it waits for some, it has got them, and then failed.

        Before Strands 1.5x it demands them before it tells us.
        """
        orchestrator = self.shape.orchestrator
        if strands_compat.orchestrator_interrupts(orchestrator)["activated"]:
            strands_compat.forget_resume(orchestrator)

    def _key(self, event: BeforeMultiAgentInvocationEvent) -> str | None:
        key = (event.invocation_state or {}).get(INVOCATION_ID) if self.is_root else None
        if key is not None and (not isinstance(key, str) or not key.strip()):
            raise ConfigurationError(f"invocation_state[{INVOCATION_ID!r}] must be a non-empty string, got {key!r}")
        return key

    async def _announce(self, run: Run, node_id: str) -> None:
        """Write down what this call does, together with its first batch."""
        run.is_announced = True
        if run.is_replayed:
            return
        if self.is_root and run.is_answered:
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
        run.starts.expect()
        state = self.shape.snapshot(run)
        run.history = len(state["order"])
        return [*self.shape.beside(run), run.note_batch(run.batch, state)]

    async def _after_run(self, event: AfterMultiAgentInvocationEvent) -> None:  # noqa: ARG002
        """Write down how the run ended; the caller gets its result after that."""
        was_cancelled = self.shape.status == "executing" and is_being_cancelled()
        async with self._ending:
            try:
                await self._stop_and_end()
            except DurableSessionError as error:
                if not was_cancelled:
                    raise
                name = self.shape.orchestrator.id
                logger.warning("orchestrator_id=<%s>, error=<%s> | the end of a run is lost", name, error)

    async def _stop_and_end(self) -> None:
        try:
            if self.run is not None:
                await self.run.under_way.stop()
        finally:
            if self.run is not None:
                self._end_left(self.run)
            await self._end()

    def _end_left(self, run: Run) -> None:
        """Write down what became of the node of a swarm whose caller has left it: of that Strands tells us at any time.

        It may have finished, and its last event have been the one at which the caller left.
        """
        if isinstance(self.shape, SwarmShape) and self.shape.status == "executing":
            for node_id in set(run.batch) - run.pending - run.finished.keys():
                self.visits.end(run, node_id)

    async def _end(self) -> None:
        run, self.run = self.run, None
        self.visits.leave_all()
        if run is None:
            return
        is_finished = self.shape.status == "completed"
        try:
            last = self._last_records(run) if run.is_announced and not run.is_replayed else []
        except DurableSessionError as problem:
            last, run.error = [], run.error or problem
        if not is_finished:
            self.root.journal.mistrust()
        if self.is_root:
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
        if self._ending.is_taken or (run is None and self.is_root):
            raise asyncio.CancelledError  # its caller has left, and Strands has not stopped it yet
        if run is None:
            return
        if not isinstance(self.shape, SwarmShape):
            run.under_way.add_task()
        try:
            run.starts.prepare(event.node_id)
            try:
                await self._prepare(run, event.node_id)
            finally:
                run.starts.has_prepared(event.node_id)
            await run.starts.wait(event.node_id)
        except DurableSessionError as error:
            run.error = run.error or error
            raise

    async def _prepare(self, run: Run, node_id: str) -> None:
        async with run.lock:
            await asyncio.sleep(0)  # all nodes of the batch have asked after this, or are marked as under way
            if not run.is_announced:
                await self._announce(run, node_id)
            elif node_id not in run.pending:
                # Results and edges say the same, so it may travel with the first thing that a node does.
                self.root.journal.append_with_next(*self._next_batch(run, node_id))
            run.pending.discard(node_id)
        await self.visits.begin(run, node_id)

    def _after_node(self, event: AfterNodeCallEvent) -> None:
        """Write down that a node has finished, together with the last records of whatever it is."""
        if self._ending.is_taken and isinstance(self.shape, SwarmShape):
            return  # see `_end_left`
        if self.run is None:
            self.visits.leave(event.node_id)
        else:
            self.visits.end(self.run, event.node_id)
