"""A durable step elsewhere: what other systems take to make one message safe, each in a program of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.conversation import conversation
from benchmarks.measures.step import take
from benchmarks.peer_environment import PeerEnvironment, reason, variables
from benchmarks.results import Row
from benchmarks.subjects import OURS
from dev.programs import temporal
from dev.servers import RedisServer
from dev.servers.temporal import TemporalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands.types.content import Message

    from benchmarks.bench import Bench

STEPS = 400

_QUANTITY = "durable step"
_SHARE = 8
_PROGRAMS = Path(__file__).parent / "peers"


@contextlib.contextmanager
def _no_server() -> Iterator[dict[str, str]]:
    yield {}


@contextlib.contextmanager
def _redis() -> Iterator[dict[str, str]]:
    with RedisServer() as server:
        yield {"redis": server.url}


@contextlib.contextmanager
def _temporal() -> Iterator[dict[str, str]]:
    temporal.install()
    with TemporalServer() as server:
        yield {"address": server.address}


@dataclass(frozen=True)
class StepPeer:
    """A system with durable steps.

    Attributes:
        name: What to call it.
        program: What takes the steps and prints how long each took.
        environment: What it runs in.
        keeps: What one should know of what it makes durable.
        store: Where that is.
        wanted: More that the program is told.
        server: Starts what it needs, and gives what the program is told of it.
    """

    name: str
    program: str
    environment: PeerEnvironment
    keeps: str
    store: str = "sqlite"
    wanted: dict[str, str] = field(default_factory=dict)
    server: Any = _no_server

    def times(self, directory: Path, messages: list[Message]) -> list[float]:
        """Get the milliseconds that each message takes."""
        python = self.environment.python()
        directory.mkdir()
        with self.server() as told:
            done = subprocess.run(
                [python, "-W", "ignore", _PROGRAMS / self.program],
                input=json.dumps({"directory": str(directory), "messages": messages, **self.wanted, **told}),
                env=variables(),
                capture_output=True,
                text=True,
                check=True,
                timeout=_LONGEST,
            )
        times: list[float] = json.loads(done.stdout.splitlines()[-1])
        return times


_LONGEST = 180
"""Seconds that one may take."""

_LANGGRAPH = PeerEnvironment("langgraph", ("langgraph>=1.2,<2", "langgraph-checkpoint-sqlite>=3.1,<4"))
_LANGGRAPH_REDIS = PeerEnvironment("langgraph_redis", ("langgraph>=1.2,<2", "langgraph-checkpoint-redis>=0.5.2,<0.6"))

PEERS = (
    StepPeer(
        "LangGraph, SqliteSaver",
        "langgraph_steps.py",
        _LANGGRAPH,
        "keeps the whole state with each step; resumes a graph between its nodes",
        wanted={"channel": "whole", "saver": "sqlite"},
    ),
    StepPeer(
        "LangGraph, SqliteSaver, DeltaChannel",
        "langgraph_steps.py",
        _LANGGRAPH,
        "in beta; keeps what each step adds, and the whole state every 100 steps; resumes a graph between its nodes",
        wanted={"channel": "delta", "saver": "sqlite"},
    ),
    StepPeer(
        "LangGraph, RedisSaver",
        "langgraph_steps.py",
        _LANGGRAPH_REDIS,
        "needs the search and JSON modules of Redis, which Redis 8 has and Redis 7 does not",
        store="redis",
        wanted={"channel": "whole", "saver": "redis"},
        server=_redis,
    ),
    StepPeer(
        "DBOS",
        "dbos_steps.py",
        PeerEnvironment("dbos", ("dbos>=2,<3",)),
        "resumes functions that are written as its workflows and steps",
    ),
    StepPeer(
        "Temporal, an activity",
        "temporal_steps.py",
        PeerEnvironment("temporal", ("temporalio>=1.35,<2",)),
        f"on the development server of its command {temporal.temporal_version()}, without its limit of 20 polls of the "
        "queue in a second; resumes functions that are written as its workflows and activities",
        server=_temporal,
    ),
)


def measure(bench: Bench) -> list[Row]:
    """Measure all, ours beside each, and say of each that cannot be measured why."""
    messages = conversation(STEPS // 4 if bench.quick else STEPS)
    ours: list[list[float]] = []
    rows = []
    for number, peer in enumerate(PEERS):
        bench.say(f"{len(messages)} steps of {OURS} and of {peer.name}")
        ours.append(asyncio.run(take(bench.places.files, "sqlite", messages)))
        try:
            times = peer.times(bench.places.path / f"steps-{number}", messages)
            rows += _rows(peer.name, peer.store, [times])
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with others is told, and is no failure of ours
            for setting in _settings(peer.store, len(messages)):
                rows.append(Row.missing(peer.name, setting, _QUANTITY, "ms", reason(error)))
        rows.append(Row.missing(peer.name, {}, "what it keeps", "", peer.environment.note(peer.keeps)))
    return [*_rows(OURS, "sqlite", ours), *rows]


def _rows(name: str, store: str, runs: list[list[float]]) -> list[Row]:
    """Sum up the steps of one or more runs of as many messages."""
    share = len(runs[0]) // _SHARE
    young = [step for times in runs for step in times[share : 2 * share]]
    old = [step for times in runs for step in times[-share:]]
    settings = _settings(store, len(runs[0]))
    return [
        Row.of(name, setting, _QUANTITY, "ms", found) for setting, found in zip(settings, (young, old), strict=True)
    ]


def _settings(store: str, steps: int) -> list[dict[str, str | int]]:
    return [{"store": store, "steps before": before} for before in ("few", steps)]
