"""Temporal's development server, which one benchmark compares with."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from dev.programs import temporal
from dev.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping


class TemporalServer(Server):
    """Temporal in one process, on a SQLite file."""

    name = "temporal"

    def __init__(self) -> None:
        super().__init__()
        self._program = temporal.locate()

    def _command(self) -> list[str]:
        files = ["--db-filename", str(self.directory / "temporal.db")]
        listen = ["--ip", "127.0.0.1", "--port", str(self.port), "--headless"]
        elsewhere = ["--disable-config-file", "--disable-config-env", "--log-level", "error"]
        # With its one shard, 20 polls a second would let one workflow take no more than ten steps.
        limits = ["--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"]
        return [str(self._program.path), "server", "start-dev", *files, *listen, *elsewhere, *limits]

    def _environment(self) -> Mapping[str, str]:
        # By default it asks its makers whether there is a newer one.
        return os.environ | {"TEMPORAL_VERSION_CHECK_DISABLED": "1"}

    def _is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
