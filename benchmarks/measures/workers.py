"""Workers on Dapr Workflow: what they add to a turn and to a call, how many runs one does, how soon others go on.

Redis behind a sidecar with placement and scheduler, all on this machine. Moments are written down by the model and the
tools of the agents themselves, in all processes by the clock of the machine.
"""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.crew import DEADLINE
from benchmarks.moments import Times
from benchmarks.our_workers import our_workers
from benchmarks.results import Row
from benchmarks.subjects import WORKER
from benchmarks.worked_agent import build_agent

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.our_workers import OurWorkers

_SETTING: dict[str, str | int] = {"store": "redis", "lease": 3}
_TURNS = 20
_ROUNDS, _STARTS, _RUNS, _KILLS, _STOPS = 20, 50, 400, 100, 6
_AT_ONCE = 32
_CREW = 3


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    with our_workers(bench.places.path) as ours:
        bench.say("a turn, a start, and runs of one worker")
        rows = [
            *_turns(ours, bench.repeat(_ROUNDS)),
            _first_call(ours, bench.repeat(_STARTS)),
            _throughput(ours, bench.repeat(_RUNS)),
        ]
        for _ in range(_CREW - 1):
            ours.crew.start()
        for number, what, repeat in (
            (signal.SIGKILL, "killed to tool again", bench.repeat(_KILLS)),
            (signal.SIGSTOP, "frozen to tool again", bench.repeat(_STOPS)),
        ):
            bench.say(f"failover: {what}, {repeat} times")
            rows.append(_failover(ours, number, what, repeat))
        return rows


def _turns(ours: OurWorkers, rounds: int) -> list[Row]:
    """Compare turns of an agent in a worker with those of the same agent alone, in turn."""
    durable: list[float] = []
    followed: list[float] = []
    plain: list[float] = []
    crew = ours.crew
    times = Times(crew.times)
    for number in range(rounds):
        run = ours.submit(f"turns {_TURNS}")
        run.result(timeout=DEADLINE)
        durable += crew.gaps(run.invocation_id)
        run = ours.submit(f"turns {_TURNS}")
        events = sum(event.kind == "tool_result" for event in run.stream())
        if events != _TURNS:
            raise RuntimeError(f"a stream had {events} results of {_TURNS}")
        followed += crew.gaps(run.invocation_id)
        name = f"plain-{number}"
        build_agent(times, crew.directory)(f"turns {_TURNS} {name}")
        plain += crew.gaps(name)
    setting = {**_SETTING, "turns": _TURNS}
    durably, alone = (
        Row.of(WORKER, setting, "turn", "ms", durable),
        Row.of("plain agent", setting, "turn", "ms", plain),
    )
    added = (durably.median or 0) - (alone.median or 0)
    streamed = Row.of(WORKER, setting, "turn, while a stream follows", "ms", followed)
    return [durably, alone, streamed, Row.single(WORKER, setting, "added to a turn, median", "ms", added)]


def _first_call(ours: OurWorkers, repeat: int) -> Row:
    values = []
    for _ in range(repeat):
        began = time.time()
        run = ours.submit("say")
        run.result(timeout=DEADLINE)
        values.append((ours.crew.moments("model", run.invocation_id)[0].at - began) * 1000)
    return Row.of(WORKER, _SETTING, "submit to first model call", "ms", values)


def _throughput(ours: OurWorkers, count: int) -> Row:
    began = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for finished in [threads.submit(lambda: ours.submit("say").result(DEADLINE)) for _ in range(count)]:
            finished.result()
    seconds = time.perf_counter() - began
    return Row.single(WORKER, {**_SETTING, "at once": _AT_ONCE}, "runs of one worker", "1/s", count / seconds)


def _failover(ours: OurWorkers, number: signal.Signals, what: str, repeat: int) -> Row:
    values = []
    for _ in range(repeat):
        ours.crew.wait_until_complete()
        run = ours.submit("hang")
        values.append(ours.crew.failover(run.invocation_id, number))
        run.result(timeout=DEADLINE)
    return Row.of(WORKER, {**_SETTING, "workers": _CREW}, what, "ms", values)
