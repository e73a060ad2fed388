"""Workers on Dapr Workflow: what they add to a turn and to a call, how many runs one does, how soon others go on.

Redis behind a sidecar with placement and scheduler, all on this machine. Moments are written down by the model and the
tools of the agents themselves, in all processes by the clock of the machine.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.results import Row
from benchmarks.worker_program import AGENT, Times, build_agent
from dev.nursery import Child, Nursery
from dev.servers import RedisServer, RedisState, WorkflowStack
from strands_dapr_session import AgentClient, io_thread
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.workflow.crew import list_cards

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.bench import Bench
    from strands_dapr_session import Run

_SUBJECT = "AgentWorker"
_SETTING: dict[str, str | int] = {"store": "redis", "lease": 3}
_TURNS = 20
_ROUNDS, _STARTS, _RUNS, _KILLS, _STOPS = 20, 50, 400, 200, 20
_AT_ONCE = 32
_CREW = 3
_DEADLINE = 60.0


@dataclass
class _Stage:
    """A stack and its workers."""

    directory: Path
    store: str
    nursery: Nursery
    workers: list[Child] = field(default_factory=list)

    @property
    def times(self) -> Path:
        return self.directory / "times"

    def start(self) -> None:
        """Start a worker."""
        arguments = [str(self.directory), self.store]
        self.workers.append(self.nursery.start(arguments, os.environ, self.directory / "workers.log"))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def wait_for_crew(self) -> None:
        """Wait until all workers work."""
        pids = {str(worker.pid) for worker in self.workers}
        deadline = time.monotonic() + _DEADLINE
        while not pids <= {
            card.worker.split("/")[2] for card in io_thread.run_sync(list_cards(open_store(self.store)))
        }:
            if time.monotonic() > deadline:
                raise TimeoutError((self.directory / "workers.log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def moments(self, what: str, run: str) -> list[tuple[float, int]]:
        """Read when something happened in a run, and in which process."""
        if not self.times.exists():
            return []
        lines = [line.split() for line in self.times.read_text().splitlines()]
        return [(float(at), int(pid)) for at, pid, kind, name in lines if (kind, name) == (what, run)]

    def wait(self, found: Callable[[], list[tuple[float, int]]], count: int) -> tuple[float, int]:
        """Wait until something has happened so often; tell when, and in which process."""
        deadline = time.monotonic() + _DEADLINE
        while len(moments := found()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError((self.directory / "workers.log").read_text(errors="replace")[-2000:])
            time.sleep(0.002)
        return moments[count - 1]


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    with contextlib.ExitStack() as closing:
        redis = closing.enter_context(RedisServer())
        stack = closing.enter_context(WorkflowStack([RedisState("statestore", redis.address, actors=True)]))
        nursery = closing.enter_context(Nursery("benchmarks.worker_program"))
        store = f"dapr://statestore?address={stack.daprd.address}"
        stage = _Stage(bench.places.path, store, nursery)
        closing.callback(stage.close)
        client = AgentClient(store=store)
        stage.start()
        _submit(client, "say warm").result(timeout=_DEADLINE)
        bench.say("a turn, a start, and runs of one worker")
        rows = [
            *_turns(stage, client, bench.repeat(_ROUNDS)),
            _first_call(stage, client, bench.repeat(_STARTS)),
            _throughput(client, bench.repeat(_RUNS)),
        ]
        for _ in range(_CREW - 1):
            stage.start()
        for number, what, repeat in (
            (signal.SIGKILL, "killed to tool again", bench.repeat(_KILLS)),
            (signal.SIGSTOP, "frozen to tool again", bench.repeat(_STOPS)),
        ):
            bench.say(f"failover: {what}, {repeat} times")
            rows.append(_failover(stage, client, number, what, repeat))
        return rows


_numbers = itertools.count()


def _submit(client: AgentClient, prompt: str) -> Run:
    name = f"{prompt.partition(' ')[0]}-{next(_numbers)}"
    return client.submit(AGENT, session_id=name, prompt=f"{prompt} {name}", invocation_id=name)


def _turns(stage: _Stage, client: AgentClient, rounds: int) -> list[Row]:
    """Compare turns of an agent in a worker with those of the same agent alone, in turn."""
    durable: list[float] = []
    followed: list[float] = []
    plain: list[float] = []
    times = Times(stage.times)
    for number in range(rounds):
        run = _submit(client, f"turns {_TURNS}")
        run.result(timeout=_DEADLINE)
        durable += _gaps(stage, run.invocation_id)
        run = _submit(client, f"turns {_TURNS}")
        events = sum(event.kind == "tool_result" for event in run.stream())
        if events != _TURNS:
            raise RuntimeError(f"a stream had {events} results of {_TURNS}")
        followed += _gaps(stage, run.invocation_id)
        name = f"plain-{number}"
        build_agent(times, stage.directory, None)(f"turns {_TURNS} {name}")
        plain += _gaps(stage, name)
    setting = {**_SETTING, "turns": _TURNS}
    ours, alone = Row.of(_SUBJECT, setting, "turn", "ms", durable), Row.of("plain agent", setting, "turn", "ms", plain)
    added = (ours.median or 0) - (alone.median or 0)
    streamed = Row.of(_SUBJECT, setting, "turn, while a stream follows", "ms", followed)
    return [ours, alone, streamed, Row.single(_SUBJECT, setting, "added to a turn, median", "ms", added)]


def _gaps(stage: _Stage, run: str) -> list[float]:
    moments = [at for at, _ in stage.moments("model", run)]
    return [(after - before) * 1000 for before, after in itertools.pairwise(moments)]


def _first_call(stage: _Stage, client: AgentClient, repeat: int) -> Row:
    values = []
    for _ in range(repeat):
        began = time.time()
        run = _submit(client, "say")
        run.result(timeout=_DEADLINE)
        values.append((stage.moments("model", run.invocation_id)[0][0] - began) * 1000)
    return Row.of(_SUBJECT, _SETTING, "submit to first model call", "ms", values)


def _throughput(client: AgentClient, count: int) -> Row:
    began = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for finished in [threads.submit(lambda: _submit(client, "say").result(_DEADLINE)) for _ in range(count)]:
            finished.result()
    seconds = time.perf_counter() - began
    return Row.single(_SUBJECT, {**_SETTING, "at once": _AT_ONCE}, "runs of one worker", "1/s", count / seconds)


def _failover(stage: _Stage, client: AgentClient, number: signal.Signals, what: str, repeat: int) -> Row:
    values = []
    for _ in range(repeat):
        run = _submit(client, "hang")

        def tools(name: str = run.invocation_id) -> list[tuple[float, int]]:
            return stage.moments("tool", name)

        stage.wait_for_crew()  # or it is the start of a worker that is measured
        _, pid = stage.wait(tools, 1)
        time.sleep(random.uniform(0, 0.3))  # not always at the same place of whatever comes round again
        victim = next(worker for worker in stage.workers if worker.pid == pid)
        began = time.time()
        victim.signal(number)
        again, _ = stage.wait(tools, 2)
        values.append((again - began) * 1000)
        run.result(timeout=_DEADLINE)
        victim.kill()
        stage.workers.remove(victim)
        stage.start()
    return Row.of(_SUBJECT, {**_SETTING, "workers": _CREW}, what, "ms", values)
