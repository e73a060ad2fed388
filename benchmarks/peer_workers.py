"""Agents in workers, ours and others: what a turn takes, a batch of tools, and a worker that is killed in a tool.

Each has a stack of its own: Redis behind a sidecar with placement and scheduler.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.crew import DEADLINE, Crew
from benchmarks.moments import Times, moments
from benchmarks.our_workers import our_workers
from benchmarks.peer_environment import PeerEnvironment, reason, variables
from benchmarks.results import Row
from benchmarks.subjects import WORKER
from benchmarks.worked_agent import build_agent
from benchmarks.worked_script import BATCH, NAP
from dev.nursery import Nursery
from dev.servers import RedisServer, RedisState, WorkflowStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dapr.ext.workflow import DaprWorkflowClient

    from benchmarks.bench import Bench

_TURNS = 20
_ROUNDS, _BATCHES, _KILLS = 4, 3, 4
_AFTER = (0.0, 1.2)
"""Seconds that a tool has run when its worker is killed."""
_YOUNG = "a tool younger than a second when its worker is killed is started again when that second is over"
_CREW = 3
_TURN: dict[str, str | int] = {"store": "redis", "turns": _TURNS}


@dataclass(frozen=True)
class Submitted:
    """A run that somebody works on.

    Attributes:
        name: Its name, with which its prompt ends.
        finish: Waits for its end.
    """

    name: str
    finish: Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """Workers that are compared.

    Attributes:
        crew: The workers; at first there is one.
        submit: Hands them a prompt, to which it adds a name.
        alone: Lets the same agent answer a prompt with nothing that lasts, where there is such an agent.
    """

    crew: Crew
    submit: Callable[[str], Submitted]
    alone: Callable[[str], object] | None


@dataclass(frozen=True)
class WorkerPeer:
    """A system whose workers go on with the agents of others.

    Attributes:
        name: What to call it.
        program: The module of its worker.
        workflow: What it calls the workflow of the agent.
        environment: What it runs in.
        has_agent: Whether its program can run the agent alone.
        differs: What one should know of what it does.
    """

    name: str
    program: str
    workflow: str
    environment: PeerEnvironment
    has_agent: bool
    differs: str


PEERS = (
    WorkerPeer(
        "Diagrid, DaprWorkflowAgentRunner",
        "benchmarks.peers.diagrid_worker",
        "dapr.strands.Bench.workflow",
        PeerEnvironment("diagrid", ("diagrid[strands]>=0.5.3,<0.6",)),
        has_agent=True,
        differs="the tools of a batch run one after the other; no hook fires, so a veto is ignored; the agent has no "
        f"messages afterwards; {_YOUNG}",
    ),
    WorkerPeer(
        "dapr-agents, DurableAgent",
        "benchmarks.peers.dapr_agents_worker",
        "dapr.agents.bench.workflow",
        PeerEnvironment("dapr_agents", ("dapr-agents>=1.0.9,<1.1",)),
        has_agent=False,
        differs=f"not a Strands agent, an agent loop of its own; {_YOUNG}",
    ),
)


def measure(bench: Bench) -> list[Row]:
    """Measure all, and say of each that cannot be measured why."""
    bench.say(WORKER)
    with _ours(_directory(bench, "ours")) as contender:
        rows = _rows(WORKER, contender, bench)
    for peer in PEERS:
        bench.say(peer.name)
        try:
            with _theirs(peer, _directory(bench, peer.environment.name)) as contender:
                rows += _rows(peer.name, contender, bench)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with others is told, and no failure of ours
            rows.append(Row.missing(peer.name, _TURN, "turn", "ms", reason(error)))
        rows.append(Row.missing(peer.name, {}, "what differs", "", peer.environment.note(peer.differs)))
    return rows


def _directory(bench: Bench, name: str) -> Path:
    directory = bench.places.path / f"workers-{name}"
    directory.mkdir()
    return directory


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[Contender]:
    with our_workers(directory) as ours:
        times = Times(ours.crew.times)

        def submit(prompt: str) -> Submitted:
            run = ours.submit(prompt)
            return Submitted(run.invocation_id, lambda: run.result(timeout=DEADLINE))

        def alone(prompt: str) -> None:
            build_agent(times, directory)(prompt)

        yield Contender(ours.crew, submit, alone)


@contextlib.contextmanager
def _theirs(peer: WorkerPeer, directory: Path) -> Iterator[Contender]:
    """Start servers and one worker, which has done a run."""
    from dapr.ext.workflow import DaprWorkflowClient  # noqa: PLC0415 - the oldest dapr has none

    python = peer.environment.python()
    with contextlib.ExitStack() as closing:
        redis = closing.enter_context(RedisServer())
        stack = closing.enter_context(WorkflowStack([RedisState("statestore", redis.address, actors=True)]))
        environment = variables() | stack.daprd.client_environment
        nursery = closing.enter_context(Nursery(peer.program, python=python, environment=environment))
        times, arguments = directory / "times", [str(directory), str(stack.daprd.port)]

        def at_work() -> set[int]:
            return {moment.pid for moment in moments(times, "worker", "up")}

        crew = Crew(directory, nursery, arguments, at_work, environment)
        closing.callback(crew.close)
        client = DaprWorkflowClient(host="127.0.0.1", port=str(stack.daprd.port))
        closing.callback(client.close)
        numbers = itertools.count()

        def submit(prompt: str) -> Submitted:
            name = f"{prompt.partition(' ')[0]}-{next(numbers)}"
            client.schedule_new_workflow(peer.workflow, input={"task": f"{prompt} {name}"}, instance_id=name)
            return Submitted(name, lambda: _finish(client, name))

        def alone(prompt: str) -> None:
            crew.start("--alone", prompt).wait(DEADLINE)

        crew.start()
        crew.wait_until_complete()
        submit("say").finish()
        yield Contender(crew, submit, alone if peer.has_agent else None)


def _finish(client: DaprWorkflowClient, name: str) -> None:
    from dapr.ext.workflow import WorkflowStatus  # noqa: PLC0415

    state = client.wait_for_workflow_completion(name, timeout_in_seconds=round(DEADLINE))
    if state is None or state.runtime_status != WorkflowStatus.COMPLETED:
        raise RuntimeError(f"{name} ended as {state and state.runtime_status}")


def _rows(name: str, contender: Contender, bench: Bench) -> list[Row]:
    turns = _turns(name, contender, bench.repeat(_ROUNDS))
    batch = [_batch(contender) for _ in range(bench.repeat(_BATCHES))]
    for _ in range(_CREW - 1):
        contender.crew.start()
    return [
        *turns,
        Row.of(name, {"store": "redis"}, f"turn of {BATCH} tools of {NAP * 1000:.0f} ms", "ms", batch),
        *(_kills(name, contender, after, bench.repeat(_KILLS)) for after in _AFTER),
    ]


def _turns(name: str, contender: Contender, rounds: int) -> list[Row]:
    """Compare turns of an agent in a worker with those of the same agent alone, in turn."""
    durable: list[float] = []
    alone: list[float] = []
    for number in range(rounds):
        run = contender.submit(f"turns {_TURNS}")
        run.finish()
        durable += _all_turns(contender.crew, run.name)
        if contender.alone:
            contender.alone(f"turns {_TURNS} alone-{number}")
            alone += _all_turns(contender.crew, f"alone-{number}")
    rows = [Row.of(name, _TURN, "turn", "ms", durable)]
    if alone:
        plain = Row.of(f"plain agent, beside {name}", _TURN, "turn", "ms", alone)
        added = (rows[0].median or 0) - (plain.median or 0)
        rows += [plain, Row.single(name, _TURN, "added to a turn, median", "ms", added)]
    return rows


def _all_turns(crew: Crew, run: str) -> list[float]:
    found = crew.gaps(run)
    if len(found) != _TURNS:
        raise RuntimeError(f"{run} had {len(found)} turns of {_TURNS}")
    return found


def _batch(contender: Contender) -> float:
    run = contender.submit("batch")
    run.finish()
    [found] = contender.crew.gaps(run.name)
    return found


def _kills(name: str, contender: Contender, after: float, repeat: int) -> Row:
    values = []
    for _ in range(repeat):
        contender.crew.wait_until_complete()
        run = contender.submit("hang")
        values.append(contender.crew.failover(run.name, signal.SIGKILL, after))
        run.finish()
    setting: dict[str, str | int] = {"store": "redis", "workers": _CREW, "tool runs for": f"{after:g} s"}
    return Row.of(name, setting, "killed to tool again", "ms", values)
