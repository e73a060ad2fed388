"""Stores on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dev.servers import Daprd, RedisServer
from strands_dapr_session import io_thread
from strands_dapr_session.stores import StateStore, open_store

KINDS = ["dapr-redis", "dapr-postgresql", "dapr-sqlite", "dapr-memory", "redis", "sqlite"]
COMPONENTS = {
    "dapr-redis": "statestore",
    "dapr-postgresql": "pg",
    "dapr-sqlite": "sqlite",
    "dapr-memory": "memory",
}


def sidecar_url(daprd: Daprd, component: str, options: str = "") -> str:
    return f"dapr://{component}?address={daprd.address}{options}"


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    """An open store of each kind."""
    kind = request.param
    if kind in COMPONENTS:
        url = sidecar_url(request.getfixturevalue("daprd"), COMPONENTS[kind])
    elif kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        url = f"{server.url}?app_id=direct"
    else:
        url = f"sqlite:///{tmp_path}/sessions.db"
    opened = open_store(url)
    await io_thread.run(opened.open())
    yield opened
    await io_thread.run(opened.close())
