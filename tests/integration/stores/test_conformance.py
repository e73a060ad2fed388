"""Every store keeps the whole contract, on its real server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from dev.servers import Daprd, RedisServer
from strands_dapr_session import io_thread
from strands_dapr_session.stores import StateStore, open_store
from strands_dapr_session.stores.conformance import CHECKS, Check, name_of, run_check, run_conformance
from strands_dapr_session.stores.probe import check_store
from tests.integration.stores.conftest import sidecar_url


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_conformance(store: StateStore, check: Check) -> None:
    await io_thread.run(run_check(store, check))


async def test_the_probe_passes(store: StateStore) -> None:
    await io_thread.run(check_store(store))


async def test_probe_and_conformance_leave_no_key_behind(own_daprd: Daprd, own_redis: RedisServer) -> None:
    client = Redis.from_url(own_redis.url)
    remaining: dict[str, Callable[[], object]] = {"statestore": client.dbsize, "sqlite": lambda: rows(own_daprd)}
    for component, keys in remaining.items():
        store = open_store(sidecar_url(own_daprd, component))
        await io_thread.run(store.open())
        await io_thread.run(check_store(store))
        report = await io_thread.run(run_conformance(store))
        assert report.conforms, str(report)
        assert keys() == 0
        await io_thread.run(store.close())
    client.close()


def rows(daprd: Daprd) -> int:
    (path,) = Path(daprd.directory).glob("stores/sqlite.db")
    db = sqlite3.connect(path)
    try:
        (count,) = db.execute("SELECT count(*) FROM state").fetchone()
        return int(count)
    finally:
        db.close()
