"""`AgentClient`: submits runs to workers, and says how they stand."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import io_thread
from strands_dapr_session.errors import UnknownAgentError, WorkflowUnavailableError, WrongApplicationError
from strands_dapr_session.journal.layout import check_id
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.workflow.crew import list_cards
from strands_dapr_session.workflow.engine import Engine, sidecar_of
from strands_dapr_session.workflow.keys import RunKeys
from strands_dapr_session.workflow.offers import Offers
from strands_dapr_session.workflow.run import Run
from strands_dapr_session.workflow.runs import Runs
from strands_dapr_session.workflow.state import Request

if TYPE_CHECKING:
    from strands_dapr_session.stores.base import StateStore

_KNOWN_FOR: Final = 5.0


class AgentClient:
    """Submits runs to the workers of a store. May be used by several threads; its methods block.

    Example:
        ```python
        client = AgentClient()
        run = client.submit("research", session_id="s-1", prompt="...", invocation_id="req-77")
        print(run.result(timeout=60))
        ```
    """

    def __init__(self, *, store: str | StateStore | None = None, sidecar: str | None = None) -> None:
        """Set a client up. Nothing is contacted yet.

        Args:
            store: Where the workers keep their runs, as in `DaprSessionManager`.
            sidecar: The address of a sidecar of the workers' Dapr application. Without it, the one of the store, else
                as Dapr's environment variables say.

        Raises:
            ConfigurationError: An argument cannot be used.
            WorkflowUnavailableError: Dapr's workflow SDK is not installed.
        """
        self._store = open_store(store)
        self._engine = Engine(sidecar or sidecar_of(store))
        self._runs = Runs(self._store)
        self._app_id: str | None = None
        self._known: dict[str, float] = {}

    def submit(self, agent: str, *, session_id: str, prompt: Any, invocation_id: str | None = None) -> Run:
        """Ask for a run. Asking again for the same gives the same run.

        Args:
            agent: The name under which workers registered the agent, graph or swarm.
            session_id: The session to run it in; one that exists goes on.
            prompt: What to call it with: a text, content blocks or messages.
            invocation_id: Names the run, for ever: what is submitted again under it is the same run.

        Raises:
            InvocationConflictError: Something else was submitted under this id.
            UnknownAgentError: There are workers, and none knows the agent.
            WrongApplicationError: The workers belong to another Dapr application than the sidecar of this client.
            WorkflowUnavailableError: The sidecar does not answer, or cannot run workflows.
            UnencodableValueError: The prompt would not survive storage.
            StoreError: The store cannot be used.
        """
        check_id("session_id", session_id)
        run = self.run(invocation_id or uuid.uuid4().hex)
        io_thread.run_sync(self._submit(run.invocation_id, Request(agent, session_id, prompt)))
        return run

    def run(self, invocation_id: str) -> Run:
        """Get a run that was submitted earlier, perhaps by another process. Nothing is read yet.

        Raises:
            InvalidIdentifierError: There can be no such id.
        """
        return Run(check_id("invocation_id", invocation_id), self._runs, self._engine, self._store)

    async def _submit(self, invocation_id: str, request: Request) -> None:
        await self._store.open()
        if self._app_id is None:
            self._app_id = await self._engine.check()
        await self._check_workers(request.agent)
        state = await self._runs.submit(invocation_id, request)
        if state.is_over:
            return
        telling = self._engine.schedule(RunKeys(invocation_id).workflow(state.generation), invocation_id)
        if not await Offers(self._store).lay_out_and_tell(request.agent, invocation_id, telling):
            raise WorkflowUnavailableError(
                f"no worker is connected to the sidecar at {self._engine.address}, and many runs wait for one already. "
                "Start a worker, and submit again."
            )

    async def _check_workers(self, agent: str) -> None:
        """Refuse what no worker will ever take, as far as one can know."""
        if time.monotonic() - self._known.get(agent, float("-inf")) < _KNOWN_FOR:
            return
        cards = await list_cards(self._store)
        applications = {card.app_id for card in cards}
        if cards and self._app_id not in applications:
            raise WrongApplicationError(
                f"the workers of {self._store.name} belong to the Dapr application {min(applications)!r}, and the "
                f"sidecar of this client to {self._app_id!r}: its workflows would never reach them. "
                "Use a sidecar of the workers' application: AgentClient(sidecar=...)."
            )
        known = sorted({name for card in cards for name in card.agents})
        if cards and agent not in known:
            raise UnknownAgentError(
                f"no worker of {self._store.name} knows the agent {agent!r}. Known: {', '.join(known)}. "
                "Start a worker for it first."
            )
        if cards:
            self._known[agent] = time.monotonic()
