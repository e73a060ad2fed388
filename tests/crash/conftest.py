"""Where agents are killed: stores that survive it, on a disk in memory, and a server that forks the processes."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.servers import Daprd, PostgresServer, RedisServer
from strands_dapr_session import strands_compat
from strands_dapr_session.testing.crash import CrashTest
from strands_dapr_session.testing.keys import KeyLister, keys_of, redis_keys
from strands_dapr_session.testing.kills import Kill
from strands_dapr_session.testing.processes import ForkServer
from strands_dapr_session.testing.program import Program

FULL = bool(os.environ.get("CRASH_FULL"))
"""Kill at every moment, in every store, instead of at some."""

POINT = os.environ.get("CRASH_POINT")
"""Kill only there, as a failure said."""


@dataclass(frozen=True)
class Place:
    """A store that the processes of a test can open.

    Attributes:
        url: Its URL.
        list_keys: Lists what is in it; None where nothing can.
    """

    url: str
    list_keys: KeyLister | None


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """A server that has imported every program: what a life imports by itself costs it twenty times what it lives."""
    modules = ["tests.crash.programs", "tests.crash.durable_programs", "tests.crash.random_orchestrations"]
    if strands_compat.AFTER_TOOLS is not None:  # Strands has what they are made of
        modules.append("tests.crash.newer_programs")
    server = ForkServer(modules)
    yield server
    server.close()


@pytest.fixture
def workshop() -> Iterator[Path]:
    """A directory in memory if there is one: ledgers and SQLite wait for the disk at every line."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own in it
    with tempfile.TemporaryDirectory(prefix="crash-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def sqlite_place(workshop: Path) -> Place:
    url = f"sqlite:///{workshop / 'runs.db'}"
    return Place(url, keys_of(url))


@pytest.fixture
def redis_place(redis_server: RedisServer) -> Place:
    url = f"redis://{redis_server.address}/0"
    return Place(url, keys_of(url))


@pytest.fixture
def dapr_place(daprd: Daprd, redis_server: RedisServer) -> Place:
    return Place(f"dapr://statestore?address={daprd.address}", lambda: redis_keys(redis_server.url))


@pytest.fixture
def postgres_place(daprd: Daprd, postgres_server: PostgresServer) -> Place:  # noqa: ARG001 - it must run
    return Place(f"dapr://pg?address={daprd.address}", None)


@pytest.fixture(params=["sqlite", "dapr"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each of the two stores that matter most."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def crash_test(request: pytest.FixtureRequest, forks: ForkServer, workshop: Path) -> Callable[..., CrashTest]:
    """Make the crash test of a program in a place."""
    prefix = f"{request.node.name}"[:60].replace("/", "-")
    numbers = itertools.count(1)

    def make(program: Program, place: Place, **options: Any) -> CrashTest:
        name = f"{prefix}-{os.getpid()}-{next(numbers)}"
        return CrashTest(program, place.url, workshop, starter=forks, keys=place.list_keys, name=name, **options)

    return make


@pytest.fixture
def check(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[CrashTest, list[tuple[Kill, ...]]], None]:
    """Kill at each of some rows of moments, or only at the one that the environment names, and judge."""

    def run(test: CrashTest, rows: list[tuple[Kill, ...]]) -> None:
        if POINT:
            rows = [tuple(map(Kill.parse, POINT.split(",")))]
        report = test.everywhere(rows)
        report.replay = f"run: CRASH_POINT={{name}} .venv/bin/pytest '{request.node.nodeid}'"
        record_property("kills", len(rows))
        record_property("fired", dict(report.fired))
        report.check()

    return run


def some(moments: list[Kill], share: int) -> list[tuple[Kill, ...]]:
    """Choose one of so many moments; all of them when everything is asked for."""
    return [(moment,) for moment in (moments if FULL else moments[::share])]
