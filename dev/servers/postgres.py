"""A PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import signal
from typing import TYPE_CHECKING

from dev.programs import debian
from dev.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SUPERUSER = "postgres"


class PostgresServer(Server):
    """A PostgreSQL server with an empty database.

    Args:
        fsync: Whether commits wait for the disk, as in production. A killed server keeps every acknowledged commit in
            either case: only a machine that loses its power needs it, and benchmarks that want honest times.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "Fast shutdown"; SIGTERM would wait for all clients to hang up.

    def __init__(self, *, fsync: bool = False) -> None:
        super().__init__()
        self._fsync = fsync
        self._program = debian.locate("postgres")

    @property
    def url(self) -> str:
        """What PostgreSQL clients take, Dapr's component among them."""
        return f"postgres://{_SUPERUSER}@{self.address}/postgres?sslmode=disable"

    def _prepare(self) -> None:
        command = [str(self._program.sibling("initdb").path), "--pgdata", str(self._data), "--username", _SUPERUSER]
        # trust: it listens on loopback only and holds what tests made up. --no-sync: see `fsync`.
        options = ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        if self._spawn([*command, *options]).wait() != 0:
            raise self._start_error("could not make its data directory")

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "max_connections": "200",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self._program.path), "-D", str(self._data), *options]

    def _environment(self) -> Mapping[str, str]:
        return os.environ | self._program.environment

    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return None
        known = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in known else "nobody"

    def _is_ready(self) -> bool:
        # As pg_ctl does: the eighth line is the state. A server that was killed leaves its file, with another pid, and
        # the next one writes it anew: we may see it half written.
        lines = (self._data / "postmaster.pid").read_text().splitlines()
        return lines[:1] == [str(self.pid)] and lines[7:8] == ["ready   "]

    @property
    def _data(self) -> Path:
        return self.directory / "data"
