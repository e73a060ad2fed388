"""State store components for a daprd, typed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Component(ABC):
    """A state store that a daprd offers.

    Attributes:
        name: What clients call the store.
        actors: Whether actors, and so workflows, keep their state in it. One store of a daprd can.
        metadata: More of Dapr's own settings of this component, by Dapr's names; they win over ours.
    """

    type: ClassVar[str]
    version: ClassVar[str] = "v1"

    name: str
    actors: bool = field(default=False, kw_only=True)
    metadata: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def settings(self, directory: Path) -> dict[str, str]:
        """Return what this kind of store needs to be told.

        Args:
            directory: Where it may keep files; none of them is read as a resource.
        """

    def manifest(self, directory: Path) -> dict[str, object]:
        """Return the resource that daprd loads."""
        settings = self.settings(directory)
        if self.actors:
            settings["actorStateStore"] = "true"
        settings.update(self.metadata)
        return {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": self.name},
            "spec": {
                "type": self.type,
                "version": self.version,
                "metadata": [{"name": key, "value": value} for key, value in settings.items()],
            },
        }


@dataclass(frozen=True)
class RedisState(Component):
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
class PostgresState(Component):
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
class SqliteState(Component):
    """SQLite, in a file of the daprd's own directory."""

    type = "state.sqlite"

    def settings(self, directory: Path) -> dict[str, str]:
        """Return the file's path."""
        return {"connectionString": str(directory / f"{self.name}.db")}


@dataclass(frozen=True)
class InMemoryState(Component):
    """The memory of the daprd: all is lost when it ends."""

    type = "state.in-memory"

    def settings(self, directory: Path) -> dict[str, str]:  # noqa: ARG002  (it needs none)
        """Return nothing: there is nothing to set."""
        return {}
