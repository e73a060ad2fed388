"""Stores to die over: each behind a sidecar and proxies of its own, all of which may be killed and disturbed."""

from __future__ import annotations

import base64
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import redis

from dev.servers import Daprd, PostgresServer, PostgresState, RedisServer, RedisState, Server, SqliteState
from tests.prove.kills.proxy import Proxy

_PREFIX = "test-app||"


class Place:
    """A store that processes can open.

    Attributes:
        name: What it is called in figures.
        url: Its URL.
        servers: What can be killed and started again, by name.
        proxies: What connections go through, by name.
        may_pause: Whether a process may stand still: with an embedded database it would hold everybody up.
    """

    may_pause = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.servers: dict[str, Server] = {}
        self.proxies: dict[str, Proxy] = {}
        self._stack = ExitStack()

    def dump(self) -> Mapping[str, bytes]:
        """Copy everything that is in it, past the package and past the sidecar."""
        raise NotImplementedError

    def mend(self) -> None:
        """Make everything work again, whatever was done to it."""
        for proxy in self.proxies.values():
            proxy.delay = 0.0
        for server in self.servers.values():
            if not server.is_running:
                server.start()

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def _sidecar(self, component: Any) -> None:
        daprd = self._stack.enter_context(Daprd([component]))
        to_daprd = Proxy(daprd.port)
        self._stack.callback(to_daprd.close)
        self.servers["daprd"] = daprd
        self.proxies["to daprd"] = to_daprd
        self.url = f"dapr://statestore?address={to_daprd.address}"

    def _behind(self, server: Server) -> Proxy:
        proxy = Proxy(server.port)
        self._stack.callback(proxy.close)
        self.servers["store"] = server
        self.proxies["to the store"] = proxy
        return proxy


class OnRedis(Place):
    """Redis with an append-only file."""

    def __init__(self) -> None:
        super().__init__("redis")
        self._redis = self._stack.enter_context(RedisServer(durable=True))
        self._sidecar(RedisState("statestore", self._behind(self._redis).address))

    def dump(self) -> Mapping[str, bytes]:
        with closing(redis.Redis.from_url(self._redis.url)) as client:
            keys = list(client.scan_iter(match=f"{_PREFIX}strands:*", count=1000))
            values = [client.hget(key, "data") for key in keys]
        found: dict[str, Any] = {
            key.decode().removeprefix(_PREFIX): value for key, value in zip(keys, values, strict=True)
        }
        return {key: value for key, value in found.items() if value is not None}


class OnPostgres(Place):
    """PostgreSQL, version 2 of the component."""

    def __init__(self) -> None:
        super().__init__("postgresql")
        self._postgres = self._stack.enter_context(PostgresServer())
        proxy = self._behind(self._postgres)
        url = self._postgres.url.replace(self._postgres.address, proxy.address)
        self._sidecar(PostgresState("statestore", url))

    def dump(self) -> Mapping[str, bytes]:
        program = self._postgres._program.sibling("psql")
        query = "SELECT key, encode(value, 'hex') FROM state"
        command = [str(program.path), self._postgres.url, "-AtF", "\t", "-c", query]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=program.environment or None)
        rows = [line.split("\t") for line in told.stdout.splitlines()]
        return {key.removeprefix(_PREFIX): bytes.fromhex(value) for key, value in rows if key.startswith(_PREFIX)}


class OnSqliteSidecar(Place):
    """SQLite behind a sidecar."""

    def __init__(self) -> None:
        super().__init__("sqlite behind daprd")
        self._sidecar(SqliteState("statestore"))

    def dump(self) -> Mapping[str, bytes]:
        path = self.servers["daprd"].directory / "stores" / "statestore.db"
        with closing(sqlite3.connect(path)) as db:
            rows = db.execute("SELECT key, value, is_binary FROM state").fetchall()
        return {
            key.removeprefix(_PREFIX): base64.b64decode(value.strip('"')) if binary else value.encode()
            for key, value, binary in rows
            if key.startswith(_PREFIX)
        }


class OnSqlite(Place):
    """SQLite in the processes themselves."""

    may_pause = False

    def __init__(self, directory: Path) -> None:
        super().__init__("sqlite")
        self._path = directory / "runs.db"
        self.url = f"sqlite:///{self._path}"

    def dump(self) -> Mapping[str, bytes]:
        if not self._path.exists():
            return {}
        with closing(sqlite3.connect(self._path)) as db:
            return {key: bytes(value) for key, value in db.execute("SELECT key, value FROM strands_dapr_session")}
