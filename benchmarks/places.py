"""Where things are kept while they are measured: servers of our own, started when a measure first asks for them."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dev.servers import Daprd, PostgresServer, PostgresState, RedisServer, RedisState

if TYPE_CHECKING:
    from typing_extensions import Self

REDIS = "statestore"
POSTGRES = "postgres"

_MAX_BODY = "64Mi"
"""Only for the whole-conversation documents of others; all that this package sends stays below the default of 4 MiB."""


@dataclass(frozen=True)
class Addresses:
    """What another process needs to know.

    Attributes:
        directory: Where files may be.
        dapr: Host and port of the sidecar; empty if there is none.
        dapr_http: Its HTTP port.
        s3: URL of the S3 server; empty if there is none.
    """

    directory: str
    dapr: str = ""
    dapr_http: str = ""
    s3: str = ""

    def plain(self) -> dict[str, str]:
        """Make it something that JSON can carry."""
        return asdict(self)

    def store(self, name: str) -> str:
        """The URL of one of the stores that ours is measured on."""
        if name == "sqlite":
            return f"sqlite:///{self.directory}/ours.db"
        component = {"redis": REDIS, "postgres": POSTGRES}[name]
        return f"dapr://{component}?address={self.dapr}"


class Places:
    """The servers and the directory of one run; a context manager that takes them away."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._directory = ""
        self._dapr = self._dapr_http = ""
        self._s3 = ""

    def __enter__(self) -> Self:
        self._directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="strands-dapr-session-bench-"))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def files(self) -> Addresses:
        """The directory, and whatever was started so far."""
        return Addresses(self._directory, self._dapr, self._dapr_http, self._s3)

    def with_dapr(self) -> Addresses:
        """A sidecar with Redis and PostgreSQL behind it, the latter syncing to disk as in production."""
        if not self._dapr:
            redis = self._stack.enter_context(RedisServer())
            postgres = self._stack.enter_context(PostgresServer(fsync=True))
            components = [RedisState(REDIS, redis.address), PostgresState(POSTGRES, postgres.url)]
            daprd = self._stack.enter_context(Daprd(components, max_body_size=_MAX_BODY, app_id="bench"))
            self._dapr, self._dapr_http = daprd.address, str(daprd.http_port)
        return self.files

    def with_s3(self) -> Addresses:
        """A local S3 server as well.

        Raises:
            ImportError: Its package is not installed: see `make bench`.
        """
        if not self._s3:
            from moto.server import ThreadedMotoServer  # noqa: PLC0415 - only in the environment of the benchmarks

            server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
            server.start()
            self._stack.callback(server.stop)
            host, port = server.get_host_and_port()
            self._s3 = f"http://{host}:{port}"
        return self.files

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self._directory)
