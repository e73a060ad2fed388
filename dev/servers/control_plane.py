"""The two servers that Dapr's actors and workflows need beside a sidecar.

The health port of both listens on all addresses: Dapr 1.18.2 has `--healthz-listen-address` and ignores it. All that it
tells anybody is whether the server is well.
"""

from __future__ import annotations

from dev.programs import dapr
from dev.servers import http
from dev.servers.server import Server


class Placement(Server):
    """Dapr's placement service: says which sidecar runs which actor."""

    name = "placement"
    port_names = ("main", "health", "raft")

    def __init__(self) -> None:
        super().__init__()
        self._program = dapr.locate("placement")

    def _command(self) -> list[str]:
        return [
            str(self._program.path),
            "--listen-address=127.0.0.1",
            f"--port={self.port}",
            f"--healthz-port={self.port_number('health')}",
            "--id=placement",
            f"--initial-cluster=placement=127.0.0.1:{self.port_number('raft')}",
            "--enable-metrics=false",
        ]

    def _is_ready(self) -> bool:
        return http.get(self.port_number("health"), "/healthz") is not None


class Scheduler(Server):
    """Dapr's scheduler service: keeps jobs and reminders, in an etcd of its own.

    After `kill` it is soon up again, and serves no sidecar for another 20 s: a lease of its dead self has to run out.
    """

    name = "scheduler"
    port_names = ("main", "health", "etcd-client", "etcd-peer")

    def __init__(self) -> None:
        super().__init__()
        self._program = dapr.locate("scheduler")

    def _command(self) -> list[str]:
        return [
            str(self._program.path),
            "--listen-address=127.0.0.1",
            f"--port={self.port}",
            f"--healthz-port={self.port_number('health')}",
            # Sidecars connect to what it broadcasts, which would be this machine's address on the network.
            f"--override-broadcast-host-port={self.address}",
            "--id=scheduler",
            f"--etcd-data-dir={self.directory / 'etcd'}",
            "--etcd-client-listen-address=127.0.0.1",
            f"--etcd-client-port={self.port_number('etcd-client')}",
            f"--etcd-initial-cluster=scheduler=http://127.0.0.1:{self.port_number('etcd-peer')}",
            "--enable-metrics=false",
        ]

    def _is_ready(self) -> bool:
        return http.get(self.port_number("health"), "/healthz") is not None
