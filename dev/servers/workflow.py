"""All that Dapr workflows need."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from dev.servers.components import SqliteState
from dev.servers.control_plane import Placement, Scheduler
from dev.servers.daprd import Daprd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from dev.servers.components import StateComponent


class WorkflowStack:
    """Placement, scheduler and a sidecar whose actors have a store.

    Args:
        components: The sidecar's stores. When none of them is for actors, one in SQLite, `actors`, is added.
        app_id: The sidecar's application.

    Attributes:
        placement: The placement service.
        scheduler: The scheduler service.
        daprd: The sidecar.
    """

    def __init__(self, components: Sequence[StateComponent] = (), *, app_id: str = "test-app") -> None:
        if not any(component.actors for component in components):
            components = [*components, SqliteState("actors", actors=True)]
        self.placement = Placement()
        self.scheduler = Scheduler()
        self.daprd = Daprd(components, app_id=app_id, placement=self.placement, scheduler=self.scheduler)
        self._started = ExitStack()

    def start(self) -> Self:
        """Start all three, the sidecar last."""
        with ExitStack() as starting:
            for server in (self.placement, self.scheduler, self.daprd):
                starting.enter_context(server)
            self._started = starting.pop_all()
        return self

    def close(self) -> None:
        """Stop all three for good."""
        self._started.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
