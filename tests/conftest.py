"""The servers that tests share, and those that a test has for itself, to kill and to pause.

Every worker of pytest-xdist starts its own, when a test first asks for them: that takes half a second, and no worker
can then disturb another. A program that is missing is an error, never a skip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import settings

from dev.servers import (
    Component,
    Daprd,
    InMemoryState,
    PostgresServer,
    PostgresState,
    RedisServer,
    RedisState,
    SqliteState,
    WorkflowStack,
)

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name parameters alike in every process of xdist: no addresses of functions."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(val)) if " at 0x" in repr(val) else None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"  # what Strands runs on


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def daprd(redis_server: RedisServer, postgres_server: PostgresServer) -> Iterator[Daprd]:
    """A sidecar with the stores `statestore` (Redis), `pg`, `sqlite` and `memory`."""
    with Daprd(all_stores(redis_server, postgres_server)) as sidecar:
        yield sidecar


@pytest.fixture(scope="session")
def workflow_stack() -> Iterator[WorkflowStack]:
    with WorkflowStack() as stack:
        yield stack


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for this test alone, which keeps its data when it is killed."""
    with RedisServer(durable=True) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_daprd(own_redis: RedisServer, own_postgres: PostgresServer) -> Iterator[Daprd]:
    """A sidecar for this test alone, with the stores of `daprd` on servers that are the test's own too."""
    with Daprd(all_stores(own_redis, own_postgres)) as sidecar:
        yield sidecar


def all_stores(redis: RedisServer, postgres: PostgresServer) -> list[Component]:
    return [
        RedisState("statestore", redis.address),
        PostgresState("pg", postgres.url),
        SqliteState("sqlite"),
        InMemoryState("memory"),
    ]
