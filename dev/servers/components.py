"""Components for a daprd, typed: state stores, and the secrets that they are encrypted with."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Component(ABC):
    """Something that a daprd offers.

    Attributes:
        name: What clients call it.
        metadata: More of Dapr's own settings of this component, by Dapr's names; they win over ours.
    """

    type: ClassVar[str]
    version: ClassVar[str] = "v1"

    name: str
    metadata: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def settings(self, directory: Path) -> dict[str, str]:
        """Return what this kind of component needs to be told.

        Args:
            directory: Where it may keep files; none of them is read as a resource.
        """

    def common(self) -> dict[str, str]:
        """Return what every component of this sort may be told."""
        return {}

    def references(self) -> dict[str, tuple[str, str]]:
        """Return settings whose values are secrets: the name of a component that has them, and that of the secret."""
        return {}

    def manifest(self, directory: Path) -> dict[str, object]:
        """Return the resource that daprd loads."""
        settings = {**self.settings(directory), **self.common(), **self.metadata}
        metadata: list[dict[str, object]] = [{"name": key, "value": value} for key, value in settings.items()]
        manifest: dict[str, object] = {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": self.name},
            "spec": {"type": self.type, "version": self.version, "metadata": metadata},
        }
        for key, (store, secret) in self.references().items():
            metadata.append({"name": key, "secretKeyRef": {"name": secret, "key": secret}})
            manifest["auth"] = {"secretStore": store}
        return manifest


@dataclass(frozen=True)
class SecretFile(Component):
    """Secrets in a file of the daprd's own directory.

    Attributes:
        secrets: By their names.
    """

    type = "secretstores.local.file"

    secrets: Mapping[str, str]

    def settings(self, directory: Path) -> dict[str, str]:
        """Write the file, and return its path."""
        path = directory / f"{self.name}.json"
        path.write_text(json.dumps(dict(self.secrets)))
        return {"secretsFile": str(path)}


@dataclass(frozen=True)
class Keys:
    """What Dapr encrypts a state store with.

    Attributes:
        store: The name of the component that has the keys, each of 32 or 64 hexadecimal digits.
        primary: The name of the key to write with, and to read.
        secondary: The name of one to read with.
    """

    store: str
    primary: str
    secondary: str = ""


@dataclass(frozen=True)
class StateComponent(Component):
    """A state store.

    Attributes:
        actors: Whether actors, and so workflows, keep their state in it. One store of a daprd can.
        keys: What Dapr encrypts values with, if it does.
    """

    actors: bool = field(default=False, kw_only=True)
    keys: Keys | None = field(default=None, kw_only=True)

    def references(self) -> dict[str, tuple[str, str]]:
        """Return the keys."""
        if self.keys is None:
            return {}
        names = {"primaryEncryptionKey": self.keys.primary, "secondaryEncryptionKey": self.keys.secondary}
        return {setting: (self.keys.store, name) for setting, name in names.items() if name}

    def common(self) -> dict[str, str]:
        """Return what every kind of state store may be told."""
        return {"actorStateStore": "true"} if self.actors else {}


@dataclass(frozen=True)
class RedisState(StateComponent):
    """Redis.

    Attributes:
        address: Host and port, as `RedisServer.address` gives them.
    """

    type = "state.redis"

    address: str

    def settings(self, directory: Path) -> dict[str, str]:  # noqa: ARG002  (it needs none)
        """Return the server's address."""
        return {"redisHost": self.address, "redisPassword": ""}


@dataclass(frozen=True)
class PostgresState(StateComponent):
    """PostgreSQL, version 2 of the component.

    Attributes:
        url: As `PostgresServer.url` gives it.
    """

    type = "state.postgresql"
    version = "v2"

    url: str

    def settings(self, directory: Path) -> dict[str, str]:  # noqa: ARG002  (it needs none)
        """Return the server's URL."""
        return {"connectionString": self.url}


@dataclass(frozen=True)
class SqliteState(StateComponent):
    """SQLite, in a file of the daprd's own directory."""

    type = "state.sqlite"

    def settings(self, directory: Path) -> dict[str, str]:
        """Return the file's path."""
        return {"connectionString": str(directory / f"{self.name}.db")}


@dataclass(frozen=True)
class InMemoryState(StateComponent):
    """The memory of the daprd: all is lost when it ends."""

    type = "state.in-memory"

    def settings(self, directory: Path) -> dict[str, str]:  # noqa: ARG002  (it needs none)
        """Return nothing: there is nothing to set."""
        return {}
