"""A Redis server."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from dev.programs import debian
from dev.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping


class RedisServer(Server):
    """A Redis server.

    Args:
        durable: Whether every write is in the append-only file before it is acknowledged, so that a killed server
            comes back with all of them. Otherwise it comes back empty.
    """

    name = "redis"

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self._durable = durable
        self._program = debian.locate("redis-server")

    @property
    def url(self) -> str:
        """What Redis clients take."""
        return f"redis://{self.address}/0"

    def _command(self) -> list[str]:
        persistence = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else ["--appendonly", "no"]
        listen = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        # --save "": no snapshots in the background, which would make a kill keep some writes and lose others.
        return [str(self._program.path), *listen, "--save", "", *persistence]

    def _environment(self) -> Mapping[str, str]:
        return os.environ | self._program.environment

    def _is_ready(self) -> bool:
        # While it loads its data it listens already, and answers an error.
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64) == b"+PONG\r\n"
