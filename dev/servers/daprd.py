"""A Dapr sidecar."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from dev.programs import dapr
from dev.servers import http
from dev.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dev.servers.components import Component
    from dev.servers.control_plane import Placement, Scheduler


class Daprd(Server):
    """A Dapr sidecar with the state stores that it is given.

    State needs the sidecar alone; actors and workflows also need `placement` and `scheduler`, started before it.

    Args:
        components: The state stores, each under its own name.
        app_id: The application it belongs to. By default it is part of every key in a store.
        max_body_size: The longest message that it takes, in Dapr's notation.
        resiliency: The YAML of a Resiliency resource.
        api_token: What clients must send as `dapr-api-token`.
        placement: Where the placement table of actors comes from.
        scheduler: Who keeps the reminders of actors.
        log_level: What it logs: debug, info, warn, error.
    """

    name = "daprd"
    port_names = ("grpc", "http", "internal")

    def __init__(  # noqa: PLR0913  (each is an option of daprd)
        self,
        components: Sequence[Component],
        *,
        app_id: str = "test-app",
        max_body_size: str = "4Mi",
        resiliency: str | None = None,
        api_token: str | None = None,
        placement: Placement | None = None,
        scheduler: Scheduler | None = None,
        log_level: str = "info",
    ) -> None:
        super().__init__()
        self.components = tuple(components)
        self.app_id = app_id
        self._max_body_size = max_body_size
        self._resiliency = resiliency
        self._api_token = api_token
        self._placement = placement
        self._scheduler = scheduler
        self._log_level = log_level
        self._program = dapr.locate("daprd")

    @property
    def http_port(self) -> int:
        """The port of its HTTP API."""
        return self.port_number("http")

    @property
    def client_environment(self) -> dict[str, str]:
        """What an application's process needs to find it, as `dapr run` would set it."""
        environment = {"DAPR_GRPC_PORT": str(self.port), "DAPR_HTTP_PORT": str(self.http_port), "APP_ID": self.app_id}
        return environment | ({"DAPR_API_TOKEN": self._api_token} if self._api_token else {})

    def _prepare(self) -> None:
        # Stores keep their files outside of what daprd reads as resources, and watches.
        for name in ("resources", "stores"):
            (self.directory / name).mkdir()
        for component in self.components:
            manifest = component.manifest(self.directory / "stores")
            # JSON is YAML; the name must end as YAML's to be read.
            (self.directory / "resources" / f"{component.name}.yaml").write_text(json.dumps(manifest))
        if self._resiliency:
            (self.directory / "resources" / "resiliency.yaml").write_text(self._resiliency)
        (self.directory / "config.yaml").write_text(json.dumps(self._configuration()))

    def _configuration(self) -> dict[str, object]:
        names = {"connectionString": str(self.directory / "names.db")}
        return {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Configuration",
            "metadata": {"name": "development"},
            "spec": {
                "features": [{"name": "HotReload", "enabled": False}],
                "metric": {"enabled": False},
                # By default it would announce itself to the local network by mDNS.
                "nameResolution": {"component": "sqlite", "version": "v1", "configuration": names},
            },
        }

    def _command(self) -> list[str]:
        options = {
            "app-id": self.app_id,
            "config": str(self.directory / "config.yaml"),
            "resources-path": str(self.directory / "resources"),
            "dapr-listen-addresses": "127.0.0.1",
            "dapr-grpc-port": str(self.port),
            "dapr-http-port": str(self.http_port),
            "dapr-internal-grpc-listen-address": "127.0.0.1",
            "dapr-internal-grpc-port": str(self.port_number("internal")),
            "enable-metrics": "false",
            "max-body-size": self._max_body_size,
            "log-level": self._log_level,
            # Given empty, they keep it from looking for the default ones.
            "placement-host-address": self._placement.address if self._placement else "",
            "scheduler-host-address": self._scheduler.address if self._scheduler else "",
        }
        return [str(self._program.path), *(f"--{option}={value}" for option, value in options.items())]

    def _environment(self) -> Mapping[str, str]:
        # Not what the environment says about some other sidecar.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("DAPR_", "APP_"))}
        ours = {"DAPR_HOST_IP": "127.0.0.1"}
        return inherited | ours | ({"DAPR_API_TOKEN": self._api_token} if self._api_token else {})

    def _is_ready(self) -> bool:
        # "outbound" waits for the stores; the whole one also for the connection to the control plane, and for an
        # application when there is one.
        path = "/v1.0/healthz" if self._placement else "/v1.0/healthz/outbound"
        return http.get(self.http_port, path) is not None and self._has_loaded_all()

    def _has_loaded_all(self) -> bool:
        # A component that can't be initialised ends daprd, at times only after it has called itself healthy.
        headers = {"dapr-api-token": self._api_token} if self._api_token else {}
        answer = http.get(self.http_port, "/v1.0/metadata", headers)
        loaded = {component["name"] for component in json.loads(answer or b"{}").get("components", ())}
        return loaded.issuperset(component.name for component in self.components)
