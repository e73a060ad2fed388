"""The visits of an orchestrator's nodes: each is prepared when it begins, and written down when it has ended."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.multiagent.graph import Graph
from strands.multiagent.swarm import Swarm

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import DeadlineError, DurableSessionError
from strands_dapr_session.hooks.ownership import Borrower, is_owed
from strands_dapr_session.hooks.retrying import failure, pause
from strands_dapr_session.journal.layout import below
from strands_dapr_session.multiagent import attached
from strands_dapr_session.multiagent.attached import Place
from strands_dapr_session.multiagent.attempts import answer_again, let_others_begin, try_again
from strands_dapr_session.multiagent.replay import ReplayedNode
from strands_dapr_session.multiagent.swarm import SwarmShape
from strands_dapr_session.multiagent.tally import NodeTally, Tallies

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.hooks.retry import RetryPolicy
    from strands_dapr_session.multiagent.orchestration import Orchestration
    from strands_dapr_session.multiagent.root import Root
    from strands_dapr_session.multiagent.run import Run
    from strands_dapr_session.multiagent.shape import Shape
    from strands_dapr_session.records.records import Record


class Visits:
    """Prepares the nodes of one orchestrator for their visits, and records how these end.

    Attributes:
        agents: What is recorded of the agents that its nodes are.
        below: The orchestrators that its nodes are.
        tallies: What became of its nodes in this process.
    """

    def __init__(self, root: Root, scope: str, shape: Shape) -> None:
        """Look after the nodes of one orchestrator.

        Args:
            root: What owns the journal.
            scope: The path of the orchestrator in it.
            shape: The orchestrator.
        """
        self.agents: dict[str, Recording] = {}
        self.below: dict[str, Orchestration] = {}
        self.tallies = Tallies()
        self._root = root
        self._scope = scope
        self._shape = shape
        self._kept_by_agents: dict[str, list[Record]] = {}
        self._replaced: dict[str, Any] = {}
        self._undo: dict[str, list[Callable[[], None]]] = {}
        self._places: dict[str, Place] = {}

    def keep(self, node_id: str, records: list[Record]) -> None:
        """Hold the last records of a node's agent back until the node has finished."""
        self._kept_by_agents[node_id] = records

    def tally(self) -> dict[str, NodeTally]:
        """Tell what became of each node in this process."""
        return {
            name: self.tallies.of(name, self.below[name].visits.tally() if name in self.below else {})
            for name in self._shape.orchestrator.nodes
        }

    # -- the beginning -------------------------------------------------------------------------------------------

    async def begin(self, run: Run, node_id: str) -> None:
        """Prepare a node for its visit, which is to go on, to begin, or to be replayed.

        Raises:
            DurableSessionError: It must not run.
        """
        node = self._shape.orchestrator.nodes[node_id]
        self.tallies.count(node_id, self._what_happens(run, node_id))
        if node_id in run.finished:
            self._replay(run, node_id, node)
            return
        if node_id in self.agents:
            self._begin_agent(run, node_id, node.executor)
        elif node_id in self.below:
            self._begin_nested(run, node_id)
        else:
            await self._begin_code(run, node_id, node.executor)
        if len(run.batch) > 1:
            self._undo.setdefault(node_id, []).append(let_others_begin(node.executor))
        policy = self._root.settings.retries.node
        if policy is not None:
            pausing = partial(self._pause, run, node_id)
            undo = try_again(node.executor, pausing, partial(self._prepare_again, run, node_id, policy))
            self._undo.setdefault(node_id, []).append(undo)

    def _what_happens(self, run: Run, node_id: str) -> str:
        """Tell what the visit of a node that begins is, in the words of `NodeTally`."""
        if node_id in run.finished:
            return "replayed"
        part = self.agents.get(node_id) or self.below.get(node_id)
        view, name = self._root.found.view, self._root.journal.name
        is_under_way = part is not None and is_owed(view, part.scope, run.token(node_id), key=name)
        return "resumed" if is_under_way or (run.is_answered and node_id in run.first) else "run"

    def _replay(self, run: Run, node_id: str, node: Any) -> None:
        self._replaced[node_id] = node.executor
        if node_id in run.kept and self._shape.is_reset(run, node_id):
            run.kept[node_id]()
        handing_over = partial(self._shape.hand_over, run.handovers.get(node_id))
        node.executor = ReplayedNode(node.executor, run.finished[node_id], handing_over)

    def _begin_agent(self, run: Run, node_id: str, agent: Agent) -> None:
        recording = self.agents[node_id]
        recording.visit = run.token(node_id)
        if isinstance(recording.ownership, Borrower):
            recording.ownership.is_reset = self._shape.is_reset(run, node_id)
            recording.ownership.answers = self._root.answers
        self._root.recordings.bind(agent, recording)
        if isinstance(self._shape, SwarmShape):
            self._undo[node_id] = [run.under_way.watch(agent)]

    def _begin_nested(self, run: Run, node_id: str) -> None:
        nested = self.below[node_id]
        nested.visit = run.token(node_id)
        interrupts = strands_compat.orchestrator_interrupts(self._shape.orchestrator)
        nested.is_answering = bool(interrupts["activated"]) and node_id in interrupts["context"]
        if nested.is_answering:
            nested.open_ahead()
        else:
            nested.stop_waiting()

    async def _begin_code(self, run: Run, node_id: str, executor: Any) -> None:
        root, scope = self._root, self._path(node_id)
        place = self._places[node_id] = Place(
            root.recordings, root.journal, root.settings, root.found, scope, run.token(node_id)
        )
        attached.enter(place)
        place.answered = self._answered(run, node_id)
        place.await_answers()
        await root.journal.barrier()  # it runs as a whole, so this is where its effects begin
        if node_id in run.repeated and not strands_compat.is_a(executor, Graph, Swarm):  # which keep theirs
            self._undo[node_id] = [answer_again(executor, run.repeated.pop(node_id))]

    def _path(self, node_id: str) -> str:
        return below(self._scope, node_id)

    def _answered(self, run: Run, node_id: str) -> set[str]:
        """List the interrupts with whose answers a node of the user's is called."""
        if node_id in run.repeated:
            return {each["interruptResponse"]["interruptId"] for each in run.repeated[node_id]}
        interrupts = strands_compat.orchestrator_interrupts(self._shape.orchestrator)
        asked = interrupts["context"].get(node_id) if interrupts["activated"] else None
        return set(asked["interrupt_ids"]) if isinstance(asked, dict) and not asked.get("from_hook", True) else set()

    # -- further attempts ----------------------------------------------------------------------------------------

    async def _prepare_again(self, run: Run, node_id: str, policy: RetryPolicy, error: Exception) -> bool:
        """Decide whether a node that raised runs again, and get it ready to go on where its records end."""
        if (isinstance(error, DurableSessionError) and not isinstance(error, DeadlineError)) or not policy.wants(error):
            return False
        name, visit = self._root.journal.root_id, run.token(node_id)
        tried = failure(name, self._scope, visit, run.tries.get(visit), error, policy)
        self._root.journal.append(tried)
        run.tries[visit] = tried
        if tried.delay is None:
            return False
        await self._root.look_again(self._path(node_id))
        await self._pause(run, node_id)
        if node_id in self.agents:
            agent, recording = self._shape.orchestrator.nodes[node_id].executor, self.agents[node_id]
            self._root.restore_agent(recording, agent)
            strands_compat.take_answers_again(agent, recording.status.get("answers", ()))  # if it was called with them
        elif node_id in self._places:
            self._places[node_id].begin_again()
        return True

    @staticmethod
    async def _pause(run: Run, node_id: str) -> None:
        """Wait until the next attempt of a node is due."""
        tried = run.tries.get(run.token(node_id))
        if tried is not None:
            await pause(tried, lambda: False)

    # -- the end -------------------------------------------------------------------------------------------------

    def end(self, run: Run, node_id: str) -> None:
        """Write down how a visit ended, together with the last records of whatever the node is.

        Raises:
            DurableSessionError: It cannot be recorded.
        """
        was_replayed = node_id in self._replaced
        kept = self.leave(node_id)
        results = self._shape.orchestrator.state.results
        closed = attached.leave(run.token(node_id))
        try:
            if not self._shape.is_finished(run, node_id):
                if self._shape.has_failed(node_id):
                    run.failed.add(node_id)
                    self._root.journal.append(run.note_result(node_id, results[node_id], None))
                self.tallies.count(node_id, "failed")
                if kept:
                    self._root.journal.mistrust()  # what it recorded last is lost: this process believes otherwise
                return
            run.starts.has_ended(node_id)
            if was_replayed:
                results[node_id] = run.finished[node_id]
                return
            handed_over = self._shape.handed_over(run, node_id)
            note = run.note_result(node_id, results[node_id], handed_over)
            self._root.journal.append(*kept, *closed, note, *self._shape.beside(run))
            run.finished[node_id], run.handovers[node_id] = results[node_id], handed_over
        except DurableSessionError as error:
            run.error = run.error or error
            raise

    def leave(self, node_id: str) -> list[Record]:
        """Put everything about a node back, and get the last records of what ran in it."""
        node = self._shape.orchestrator.nodes[node_id]
        for undo in reversed(self._undo.pop(node_id, [])):
            undo()
        if node_id in self._replaced:
            node.executor = self._replaced.pop(node_id)
        if node_id in self._places:
            self._places.pop(node_id).stop_waiting()
        kept = self._kept_by_agents.pop(node_id, [])
        if node_id in self.agents and strands_compat.is_a(node.executor, Agent):
            self._root.recordings.unbind(node.executor)
        if node_id in self.below:
            nested = self.below[node_id]
            kept, nested.kept, nested.visit, nested.ahead = nested.kept, [], None, None
        return kept

    def leave_all(self) -> None:
        """Put everything back about nodes that ended without an event: those that were interrupted."""
        for node_id in self._shape.orchestrator.nodes:
            self.leave(node_id)
