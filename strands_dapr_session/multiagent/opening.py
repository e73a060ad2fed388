"""Deciding what a call of an orchestrator means, given what is recorded: a new run, or one that goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from strands_dapr_session import strands_compat, telemetry
from strands_dapr_session.errors import InvocationConflictError, LimitReachedError
from strands_dapr_session.hooks import owed as only_owed
from strands_dapr_session.hooks.invocation import INTERRUPTED
from strands_dapr_session.hooks.ownership import is_owed
from strands_dapr_session.multiagent.run import Recorded, Run, reading
from strands_dapr_session.multiagent.topology import check_topology
from strands_dapr_session.multiagent.waiting import answers_of, asked_before, refill

if TYPE_CHECKING:
    from strands_dapr_session.multiagent.orchestration import Orchestration
    from strands_dapr_session.records.view import View

logger = logging.getLogger(__name__)


def open_run(orchestration: Orchestration, view: View, key: str | None = None) -> Run:
    """Decide what the call is, and set the orchestrator up for it.

    * The unfinished run of this visit goes on. Whether the task is the same will be seen later (see `Root`).
    * The id of the last run, which has finished: Strands goes through its last batch again, with recorded results.
    * Else a new one begins.

    Args:
        orchestration: The orchestrator.
        view: What the journal holds.
        key: The id that the caller gave, if any.

    Raises:
        InvocationConflictError: The id is that of an earlier run.
        DriftError: The orchestrator is not the one that began, and may not go on.
        LimitReachedError: The run stands at one of the orchestrator's limits.
        DamagedDataError: What is recorded is no run of it.
    """
    root, shape, scope = orchestration.root, orchestration.shape, view.scope(orchestration.scope)
    with reading(root.journal):
        recorded = Recorded.read(scope)
        if recorded is not None and (
            is_owed(view, orchestration.scope, orchestration.visit, key=root.journal.name)
            or (key is not None and key == recorded.invocation.key)
        ):
            return _resume(orchestration, recorded)
    if orchestration.is_root:
        only_owed.refuse_new(root.journal.name)
    if key is not None and key in view.finished:
        raise InvocationConflictError(
            f"invocation id {key!r} is that of an earlier run of {shape.orchestrator.id!r}. Only the last run "
            "can hand out its result again; use an id of its own for each task."
        )
    # Where nothing is recorded yet, it is the user who gave it a state to go on from.
    is_given = recorded is None and strands_compat.is_to_resume(shape.orchestrator)
    if is_given:
        shape.forget_under_way()
    else:
        shape.begin_anew(scope)
    return Run(orchestration.scope, key=key, is_given=is_given)


def _resume(orchestration: Orchestration, recorded: Recorded) -> Run:
    shape, root, visits = orchestration.shape, orchestration.root, orchestration.visits
    orchestrator = shape.orchestrator
    check_topology(orchestrator, recorded.invocation.fingerprint, list(recorded.batch["nodes"]), root.settings.drift)
    run = _read(orchestration, recorded)
    executors = {name: orchestrator.nodes[name].executor for name in run.finished if name in visits.agents}
    run.kept = {name: strands_compat.keep(executor) for name, executor in executors.items()}
    for name, times in run.visits.items():
        if not visits.tallies.has_seen(name):
            visits.tallies.count(name, "replayed", times)
    results = recorded.results(orchestrator.nodes)
    shape.restore_beside(recorded.scope)
    if run.is_answered:
        end = recorded.status["end"]
        interrupted = [end["names"][index] for index in end.get("interrupted", [])] or run.batch
        run.pending = set(interrupted)
        run.counted = recorded.status["counted"]
        waiting = refill(orchestration, recorded.interrupts())
        shape.restore(end, interrupted, {**results, **run.finished}, waiting)
    else:
        _check_limit(orchestration, recorded)
        run.pending = set(run.batch)
        interrupts = recorded.interrupts()
        answered = {**interrupts, "context": {}, "activated": False}
        root.remember_answers(answered)
        run.repeated = answers_of(interrupts, root.answers)
        if _waits(run, recorded) and answered["interrupts"].keys() <= root.answers.keys():
            run.counted = recorded.status["counted"]  # its nodes will not ask, and be counted, once more
        shape.restore(run.counted or recorded.batch["state"], run.batch, results, answered)
    late = asked_before(recorded.interrupts()) - run.finished.keys()
    run.starts.expect(replayed=run.pending & run.finished.keys(), late=late)
    orchestrator.state.task = root.unpack_task(run.task)
    logger.info(
        "orchestrator_id=<%s>, run_id=<%s>, attempt=<%d>, nodes=<%s>, replayed=<%s> | going on with a run",
        orchestrator.id,
        run.id,
        run.attempt,
        run.batch,
        sorted(run.finished),
    )
    if not run.is_replayed:
        telemetry.RESUMED.add(1, {"of": "orchestrator", "after": "answers" if run.is_answered else "failure"})
    return run


def _read(orchestration: Orchestration, recorded: Recorded) -> Run:
    """Read the run as it stood when its records end."""
    last, batch = recorded.invocation, recorded.batch
    run = Run(orchestration.scope, last.id, last.key, int(recorded.status["attempt"]) + 1, last.prompt, is_resumed=True)
    run.is_replayed = last.finished
    run.is_answered = _waits(run, recorded) and (orchestration.is_root or orchestration.is_answering)
    run.answers = [str(each) for each in recorded.status.get("answers", ())]
    run.number, run.batch, run.visits = batch["number"], list(batch["nodes"]), dict(batch["visits"])
    run.history = len(batch["state"]["order"])
    run.finished, run.handovers = recorded.finished(orchestration.shape.orchestrator.nodes)
    run.first = frozenset(run.batch) - run.finished.keys()
    # Those that have finished first, in their order: so their results come in the order in which they came.
    run.batch.sort(key=lambda name: [*run.finished, name].index(name))
    run.tries = dict(recorded.scope.tries)
    return run


def _waits(run: Run, recorded: Recorded) -> bool:
    """Tell whether a run waits for answers of people."""
    return bool(recorded.status["state"] == INTERRUPTED) and not run.is_replayed


def _check_limit(orchestration: Orchestration, recorded: Recorded) -> None:
    if not recorded.status.get("limit"):
        return
    reason = orchestration.shape.limit(recorded.status["end"])
    if reason is not None:
        orchestrator = orchestration.shape.orchestrator
        raise LimitReachedError(
            f"the unfinished run of {orchestrator.id!r} cannot go on: {reason}. Raise that limit of the "
            f"{type(orchestrator).__name__} and call it again, or give the run up with abandon()."
        )
