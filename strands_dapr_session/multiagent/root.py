"""The root of a run: owns the journal for everything below it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from strands import Agent
from strands.multiagent.graph import Graph
from strands.multiagent.swarm import Swarm

from strands_dapr_session import io_thread, strands_compat
from strands_dapr_session.errors import (
    ConfigurationError,
    DurableSessionError,
    InvocationConflictError,
    UnfinishedRunError,
)
from strands_dapr_session.hooks.invocation import INTERRUPTED
from strands_dapr_session.hooks.ownership import Borrower, Found, count_unfinished, restore_borrowed
from strands_dapr_session.hooks.recording import Recording
from strands_dapr_session.journal.layout import below
from strands_dapr_session.multiagent.graph import GraphShape
from strands_dapr_session.multiagent.opening import open_run
from strands_dapr_session.multiagent.orchestration import Orchestration
from strands_dapr_session.multiagent.run import Recorded, reading
from strands_dapr_session.multiagent.swarm import SwarmShape
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import InvocationFinished
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from strands_dapr_session.hooks.recording import Recordings
    from strands_dapr_session.hooks.settings import Settings
    from strands_dapr_session.journal.journal import Journal
    from strands_dapr_session.multiagent.run import Run
    from strands_dapr_session.multiagent.shape import Shape
    from strands_dapr_session.records.records import Record

logger = logging.getLogger(__name__)

ROOT: Final = ""


class Root:
    """One orchestrator that was given the session manager, and its journal.

    Attributes:
        journal: The journal.
        settings: How the session manager was configured.
        recordings: The agents of the session manager.
        found: What the journal held when it was last read.
        answers: What people answered to interrupts of the run that goes on, by id.
        orchestration: The orchestrator.
    """

    def __init__(
        self,
        orchestrator: Any,
        journal: Journal,
        settings: Settings,
        recordings: Recordings,
        listen: Callable[[Agent], None],
    ) -> None:
        """Attach to an orchestrator and everything in it.

        Args:
            orchestrator: A graph or swarm.
            journal: Its journal.
            settings: How the session manager was configured.
            recordings: The agents of the session manager.
            listen: Registers the session manager's hooks with an agent.

        Raises:
            ConfigurationError: It is neither a graph nor a swarm.
        """
        if not isinstance(orchestrator, (Graph, Swarm)):
            raise ConfigurationError(
                f"{type(orchestrator).__name__} {getattr(orchestrator, 'id', '')!r} is not supported: only Graph and "
                "Swarm tell what their nodes do. Put it into a graph as a node; it then runs again as a whole."
            )
        self.journal = journal
        self.settings = settings
        self.recordings = recordings
        self.found = Found()
        self.answers: dict[str, Any] = {}
        self._listen = listen
        self._agents: list[tuple[Recording, Agent]] = []
        self._orchestrations: list[Orchestration] = []
        self._first: dict[str, strands_compat.Remembered] = {}
        self.orchestration = self._attach(orchestrator, ROOT)
        orchestrator.tracer = _Tap(orchestrator.tracer, self._see_task)  # type: ignore[assignment]

    def _attach(self, orchestrator: Any, scope: str) -> Orchestration:
        shape: Shape = GraphShape(orchestrator) if isinstance(orchestrator, Graph) else SwarmShape(orchestrator, scope)
        orchestration = Orchestration(self, scope, shape)
        for node_id, node in orchestrator.nodes.items():
            path = below(scope, node_id)
            executor = node.executor
            if strands_compat.is_a(executor, Agent):
                borrower = Borrower(lambda records, node_id=node_id: orchestration.visits.keep(node_id, records))  # type: ignore[misc]
                recording = Recording(self.journal, path, self.settings, borrower, self.found)
                orchestration.adopt(node_id, recording, borrower)
                self._agents.append((recording, executor))
                self._first[path] = strands_compat.Remembered(executor)
                self._listen(executor)
            elif strands_compat.is_a(executor, Graph, Swarm) and not strands_compat.session_manager_of(executor):
                orchestration.visits.below[node_id] = self._attach(executor, path)
        self._orchestrations.append(orchestration)
        orchestration.register()
        return orchestration

    # -- the journal ---------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Give everything back what is recorded of it. Reads only.

        Raises:
            DurableSessionError: The records cannot be read.
        """
        view = self.journal.load_sync()
        self._renew(view)
        with reading(self.journal):
            recorded = Recorded.read(view.scope(ROOT))
        if recorded is not None and not recorded.invocation.finished and recorded.status["state"] == INTERRUPTED:
            open_run(self.orchestration, view)  # so that callers see what it waits for

    def _renew(self, view: View) -> None:
        self.found.renew(view)
        self.answers = {}
        for orchestration in self._orchestrations:
            orchestration.shape.restore_beside(view.scope(orchestration.scope))
        for recording, agent in self._agents:
            self.restore_agent(recording, agent)

    def restore_agent(self, recording: Recording, agent: Agent) -> None:
        """Make a node's agent what the journal said it was when it was last read."""
        if recording.scope in self.found.view.scopes:
            restore_borrowed(recording, agent, self.found.view, may_wait=False)
            count_unfinished(recording, agent)
        elif len(recording.transcript):
            # Whatever it did was lost on the way to the store: it begins again from what it was made with.
            restore_borrowed(recording, agent, View(), may_wait=False)
            self._first[recording.scope].give_back(agent)
            strands_compat.load(agent, {"interrupt_state": strands_compat.without_batch({})})

    async def acquire(self) -> View:
        """Own the journal, and bring everything up to what it says.

        Raises:
            DurableSessionError: Somebody else owns it, or it cannot be read.
        """
        if self.journal.owned:
            self.journal.abandon()  # left over from a call that Strands refused before it began
        acquisition = await self.journal.acquire()
        if acquisition.moved:
            try:
                self._renew(acquisition.view)
            except BaseException:
                await self.release()
                raise
        return acquisition.view

    async def look_again(self, scope: str) -> None:
        """Read what is recorded by now, for a part of the run that begins again while the others go on.

        Args:
            scope: The part.

        Raises:
            DurableSessionError: It cannot be read, or this process does not own it any more.
        """
        self.found.renew_part(scope, await self.journal.load_again())

    async def acquire_again(self) -> None:
        """Own the journal once more, to go on with what was seen in it before it was released.

        Raises:
            InvocationConflictError: Somebody else went on meanwhile.
        """
        acquisition = await self.journal.acquire()
        if acquisition.moved:
            await self.release()
            self.journal.mistrust()
            raise self._answered_elsewhere()

    def _answered_elsewhere(self) -> InvocationConflictError:
        return InvocationConflictError(
            f"{self.orchestration.shape.orchestrator.id!r} was answered by somebody else, or in a call that failed "
            "before it could tell what came of it. Look at what it does now; called with the invocation id of a run "
            "that has finished, it hands its result out."
        )

    async def release(self, *last: Record) -> None:
        """Write the last records and let go of the journal; forget it if that fails or is cancelled."""
        if not self.journal.owned:
            await self._fail_if_lost()
            return
        try:
            await self.journal.release(*last)
        except BaseException:
            self._lose()
            raise

    async def _fail_if_lost(self) -> None:
        """Tell why the journal was lost while it was used."""
        try:
            await self.journal.barrier()
        except DurableSessionError:
            self._lose()
            raise
        except RuntimeError:
            return  # it was released before

    def _lose(self) -> None:
        """Forget the journal, and distrust the agents: questions that they asked, for example, may not be recorded."""
        self.journal.abandon()
        for recording, _ in self._agents:
            recording.stale = True

    async def give_up(self, key: str | None = None) -> None:
        """Give an unfinished run up: the next call begins anew.

        Args:
            key: Only if its caller gave it this id.

        Raises:
            DurableSessionError: It could not be recorded.
        """
        view = await self.acquire()
        recorded = Recorded.read(view.scope(ROOT))
        if recorded is None or recorded.invocation.finished or key not in {None, recorded.invocation.key}:
            await self.release()
            return
        self.journal.mistrust()
        await self.release(InvocationFinished(ROOT, recorded.run_id, "abandoned", pack_value(None)))
        strands_compat.forget_resume(self.orchestration.shape.orchestrator)

    def sync(self) -> None:
        """Record what changed in a swarm outside of its nodes' turns; everything else has its own time."""
        orchestration = self.orchestration
        if orchestration.run is not None and orchestration.run.is_announced and self.journal.owned:
            self.journal.append(*orchestration.shape.beside(orchestration.run))

    # -- the task ------------------------------------------------------------------------------------------------

    @staticmethod
    def pack_task(task: Any) -> bytes:
        """Pack a task."""
        return pack_value(task, path="task")

    @staticmethod
    def unpack_task(packed: bytes) -> Any:
        """Read a recorded task."""
        return unpack_value(packed)

    def remember_answers(self, interrupts: Mapping[str, Any]) -> None:
        """Remember what people answered, for agents that have not recorded it yet."""
        for id_, each in interrupts["interrupts"].items():
            if each.get("response") is not None:
                self.answers[id_] = each["response"]

    def _see_task(self, task: Any) -> None:
        """Compare the caller's task with the one that is about to go on.

        Raises:
            UnfinishedRunError: It is another one.
        """
        orchestration = self.orchestration
        run = orchestration.run
        if run is None or run.is_announced or run.is_answered or task is None:
            return
        if not run.is_resumed:
            if strands_compat.answered_by(task) and not run.is_given:
                # What waited for them has gone on since this process looked. They are no task.
                self._refuse()
                raise self._answered_elsewhere()
            return
        if self.pack_task(task) == run.task or self._are_answers_again(run, task):
            return
        unfinished = self.unpack_task(run.task)
        name = orchestration.shape.orchestrator.id
        if run.is_replayed:
            self._refuse()
            raise InvocationConflictError(
                f"invocation id {run.key!r} has finished the task {unfinished!r} of {name!r}. Use an id of its own for "
                "each task; to get the recorded result again, give the same task or None."
            )
        if self.settings.unfinished == "resume":
            logger.warning("orchestrator_id=<%s> | an unfinished task goes on; the new task is not run", name)
            return
        self._refuse()
        raise UnfinishedRunError(
            f"{name!r} has not finished the task {unfinished!r}. Call it again with that task (or None) to finish it, "
            'pass unfinished="resume" to finish it whatever the task, or give it up with '
            "session_manager.abandon(orchestrator).",
            unfinished,
            run.key,
        )

    def _are_answers_again(self, run: Run, task: Any) -> bool:
        """Tell whether the caller says again what it answered before the run was stopped."""
        given = strands_compat.answered_by(task)
        run.count_answers(strands_compat.orchestrator_interrupts(self.orchestration.shape.orchestrator))
        return bool(given) and given <= set(run.answers)

    def _refuse(self) -> None:
        """Let go of the journal before Strands is stopped, at a place from which no event follows."""
        self.orchestration.run = None
        self.journal.mistrust()
        io_thread.run_sync(self.release())


class _Tap(strands_compat.WatchedTracer):
    """A tracer that tells us the caller's task. Strands passes it to nothing else on resume; `tracer` is public."""

    def __init__(self, tracer: Any, see: Callable[[Any], None]) -> None:
        super().__init__(tracer)
        self._see = see

    def start_multiagent_span(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        self._see(task)
        return self._tracer.start_multiagent_span(task, *args, **kwargs)
