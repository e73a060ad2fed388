"""Dapr Workflow, as far as this package uses it: is it there, schedule, tell, ask, and serve.

`dapr.ext.workflow` came with dapr 1.19; it is imported when it is used.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import grpc
from dapr.proto import api_v1

from strands_dapr_session import io_thread
from strands_dapr_session.errors import WorkflowUnavailableError
from strands_dapr_session.stores.dapr.sidecar import CallFailed, SidecarAddress, sidecar_at
from strands_dapr_session.stores.retry import Backoff, RetryPolicy
from strands_dapr_session.workflow.orchestration import ACTIVITY, ANSWERED, WORKFLOW, run_workflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from dapr.ext.workflow import WorkflowRuntime
    from dapr.ext.workflow.aio import DaprWorkflowClient

    from strands_dapr_session.stores.base import StateStore

logger = logging.getLogger(__name__)

CHECK_SECONDS = 20.0
"""For how long a sidecar may lack something when it is looked at: it may just have been started, and so the services
that it needs. A scheduler that was killed takes 20 s to serve again."""

_AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=timezone.utc)
"""A start in the past is one at once. Without any, Dapr answers only when a worker has begun with the workflow, which
takes long when it gives the first step to one that is frozen."""

_ANSWERS_WITHIN: Final = 3.0
"""Seconds. A sidecar to which no worker is connected answers nothing that concerns workflows."""

_METADATA_TIMEOUT: Final = 5.0
_TRANSIENT: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
)
_REFUSALS: Final = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INVALID_ARGUMENT,
)
"""Answers that stay the same however often one asks. What is neither these nor transient comes and goes with the
workers: "actor type ... not registered", "operations on actor reminders are only possible on hosted actor types",
"actor is closed", "remote actor moved" and more, all as UNKNOWN (Dapr 1.18.2)."""


def workflow_sdk() -> Any:
    """Import Dapr's workflow SDK.

    Raises:
        WorkflowUnavailableError: It is not installed.
    """
    try:
        import dapr.ext.workflow.aio  # noqa: PLC0415
        from dapr.ext.workflow.logger import LoggerOptions  # noqa: PLC0415, F401
    except ImportError as error:
        raise WorkflowUnavailableError(
            "workers and clients need Dapr's workflow SDK, which is a part of dapr since 1.19: "
            'pip install "strands-dapr-session[workflow]"'
        ) from error
    return dapr.ext.workflow


def sidecar_of(store: str | StateStore | None) -> str | None:
    """Find the address in a store's URL, if it has one."""
    if isinstance(store, str) and store.startswith("dapr://") and "address=" in store:
        return store.partition("address=")[2].partition("&")[0]
    return None


class Engine:
    """Dapr Workflow behind one sidecar. All methods but `serve` are called on the I/O loop."""

    def __init__(self, address: str | None) -> None:
        """Name the sidecar; nothing is contacted yet.

        Args:
            address: In any form that the Dapr SDK takes. None: as Dapr's environment variables say.
        """
        self._sdk = workflow_sdk()
        self.address = SidecarAddress.parse(address) if address else SidecarAddress.from_environment()
        self._client: DaprWorkflowClient | None = None
        self._generation = -1

    async def check(self) -> str:
        """Check that the sidecar can run workflows.

        Returns:
            The id of its Dapr application.

        Raises:
            WorkflowUnavailableError: It cannot, and why; or it does not answer.
        """
        backoff = Backoff(RetryPolicy(budget=CHECK_SECONDS))
        while True:
            try:
                metadata = await sidecar_at(self.address).call(
                    "GetMetadata", api_v1.GetMetadataRequest(), _METADATA_TIMEOUT
                )
            except CallFailed as failure:
                if not await backoff.pause():
                    raise WorkflowUnavailableError(
                        f"no Dapr sidecar answers at {self.address} ({failure}). Start one beside this process, "
                        "for instance with: dapr run --app-id my-app -- python worker.py"
                    ) from failure
                continue
            problem = _problem(metadata)
            if problem is None:
                _tell_resiliency(metadata)
                return str(metadata.id)
            if not await backoff.pause():
                raise WorkflowUnavailableError(f"the Dapr sidecar at {self.address} cannot run workflows: {problem}")

    async def schedule(self, instance_id: str, invocation_id: str) -> bool:
        """Begin the workflow of a run, unless it is under way.

        Returns:
            Whether the sidecar says that it has it. While no worker is connected, it says something else, or nothing.

        Raises:
            WorkflowUnavailableError: The sidecar refuses it, or cannot be reached.
        """
        order = {"invocation_id": invocation_id}
        return await self._ask(
            "schedule",
            lambda client: client.schedule_new_workflow(
                WORKFLOW, input=order, instance_id=instance_id, start_at=_AT_ONCE
            ),
        )

    async def wake(self, instance_id: str) -> bool:
        """Tell the workflow of a run that waits for people; see `schedule`."""
        return await self._ask("wake", lambda client: client.raise_workflow_event(instance_id, ANSWERED, data=True))

    async def status(self, instance_id: str) -> str | None:
        """Ask how Dapr says that a workflow stands, in its words; None if it does not know it, or does not answer."""
        try:
            state = await asyncio.wait_for(
                self._connected().get_workflow_state(instance_id, fetch_payloads=False), _ANSWERS_WITHIN
            )
        except (grpc.RpcError, asyncio.TimeoutError):
            return None
        return None if state is None else str(state.runtime_status.name)

    async def purge(self, instance_id: str) -> None:
        """Make Dapr forget a workflow that is over. While no worker is connected, it does so itself some day.

        Raises:
            WorkflowUnavailableError: The sidecar refuses it, or cannot be reached.
        """
        await self._ask("purge", lambda client: client.purge_workflow(instance_id))

    async def _ask(self, what: str, call: Callable[[DaprWorkflowClient], Coroutine[Any, Any, object]]) -> bool:
        """Make a call that may be repeated; false when nobody is there to heed it."""
        backoff = Backoff(RetryPolicy())
        while True:
            try:
                await asyncio.wait_for(call(self._connected()), _ANSWERS_WITHIN)
            except asyncio.TimeoutError:
                return False
            except grpc.RpcError as error:
                code, details = error.code(), error.details() or ""
                if "already exists" in details or "no such instance" in details:
                    return True
                if code in _TRANSIENT and await backoff.pause():
                    continue
                if code in _TRANSIENT or code in _REFUSALS:
                    raise WorkflowUnavailableError(
                        f"the Dapr sidecar at {self.address} could not {what} a run's workflow ({code.name}: "
                        f"{details}). Nothing is lost: do the same again."
                    ) from error
                logger.debug("address=<%s>, details=<%s> | could not %s a workflow", self.address, details, what)
                return False
            else:
                return True

    def _connected(self) -> DaprWorkflowClient:
        if self._client is None or self._generation != io_thread.generation():
            if self._client is not None:
                io_thread.abandon(self._client)
            self._generation = io_thread.generation()
            self._client = self._sdk.aio.DaprWorkflowClient(**self._where(), logger_options=self._quiet())
        return self._client

    def serve(self, attend: Callable[[str], Awaitable[str]], places: int) -> WorkflowRuntime:
        """Take work from the sidecar until the runtime is shut down. Blocks until the sidecar has said hello.

        Args:
            attend: Called with the invocation id of a run that is offered, on a loop of the SDK's.
            places: How many runs may be offered at the same time, at least.

        Raises:
            WorkflowUnavailableError: The sidecar does not answer.
        """
        runtime: WorkflowRuntime = self._sdk.WorkflowRuntime(
            **self._where(),
            logger_options=self._quiet(),
            maximum_concurrent_activity_work_items=places,
        )

        # The SDK marks what it has registered, and takes nothing twice: these are new ones for each runtime.
        async def activity(_: Any, invocation_id: str) -> str:
            return await attend(invocation_id)

        def workflow(context: Any, order: dict[str, Any]) -> Any:
            return (yield from run_workflow(context, order))

        runtime.register_workflow(workflow, name=WORKFLOW)
        runtime.register_activity(activity, name=ACTIVITY)
        try:
            runtime.start()
        except RuntimeError as error:
            raise WorkflowUnavailableError(f"the Dapr sidecar at {self.address} gives no work: {error}") from error
        return runtime

    def _where(self) -> dict[str, str]:
        target = self.address.target.removeprefix("dns:")
        host, _, port = target.rpartition(":")
        return {"host": f"https://{host}" if self.address.tls else host, "port": port}

    @staticmethod
    def _quiet() -> Any:
        """Leave what the SDK has to say to the application's own logging."""
        from dapr.ext.workflow.logger import LoggerOptions  # noqa: PLC0415

        return LoggerOptions(log_level="WARNING", log_handler=logging.NullHandler())


def _problem(metadata: Any) -> str | None:
    """Say what a sidecar lacks; None if it lacks nothing."""
    if not any("ACTOR" in component.capabilities for component in metadata.registered_components):
        return (
            'none of its components is a state store for actors. Set actorStateStore: "true" in the metadata of the '
            "state store component"
        )
    if not metadata.actor_runtime.host_ready:
        return "it is not connected to Dapr's placement service. `dapr init` starts one"
    if not metadata.scheduler.connected_addresses:
        return (
            "it is not connected to Dapr's scheduler service. `dapr init` starts one. Without it, runs that died are "
            "finished by `resume_abandoned`"
        )
    return None


def _tell_resiliency(metadata: Any) -> None:
    """Say which Resiliency resources apply, as far as the sidecar tells: their names."""
    names = ", ".join(sorted(each.name for each in getattr(metadata, "resiliencies", ())))
    if names:
        logger.warning(
            "app_id=<%s>, resiliencies=<%s> | Dapr's own retries and timeouts are safe, and those for the store make "
            "fencing and takeovers slower. See docs/workers.md",
            metadata.id,
            names,
        )
