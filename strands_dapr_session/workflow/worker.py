"""`AgentWorker`: a process that runs agents for others."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from strands_dapr_session import io_thread, strands_compat
from strands_dapr_session.errors import ConfigurationError, DeadlineError, DurableSessionError
from strands_dapr_session.journal.layout import check_id
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.session_manager import DaprSessionManager
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.attending import Attending
from strands_dapr_session.workflow.crew import Card, Crew
from strands_dapr_session.workflow.engine import Engine, sidecar_of
from strands_dapr_session.workflow.keys import speaker_key
from strands_dapr_session.workflow.runs import Runs
from strands_dapr_session.workflow.settings import WorkerSettings
from strands_dapr_session.workflow.waiting import open_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from strands_dapr_session.stores.base import StateStore
    from strands_dapr_session.workflow.runs import Claim
    from strands_dapr_session.workflow.state import Request

    Build: TypeAlias = Callable[..., Any]

logger = logging.getLogger(__name__)

_SIGNALS_SEEN_WITHIN: Final = 0.5
"""Seconds. A signal that the kernel gives to another thread, as after a stop, does not wake the main one."""

_BEATS_PER_LEASE: Final = 3
_LOOKS_PER_BEAT: Final = 2
_LONGEST_INTERVAL: Final = 0.5
"""Seconds between two looks, whatever the lease: this is also how soon a cancellation is seen."""
_ID_OF_STRANDS: Final = ("default", "default_graph", "default_swarm")
"""What an agent, a graph and a swarm are called that were given no id (1.43 to 1.62)."""

_serving: set[str] = set()
"""The stores for which this process has a worker."""


class AgentWorker:
    """Runs agents, graphs and swarms that `AgentClient` submits, as one of any number of processes on any machines.

    A run whose worker dies, hangs or is told to end goes on in another one, where its records end.

    Example:
        ```python
        def build_agent(session_id: str, session_manager: DaprSessionManager) -> Agent:
            return Agent(model=model, tools=[search, charge], session_manager=session_manager, agent_id="research")

        AgentWorker("research", build=build_agent).run()
        ```
    """

    def __init__(  # noqa: PLR0913  (each is a choice that users have)
        self,
        name: str | Mapping[str, Build] | None = None,
        build: Build | None = None,
        *,
        store: str | StateStore | None = None,
        sidecar: str | None = None,
        session: Mapping[str, Any] | None = None,
        lease: float = 3.0,
        max_concurrent_runs: int = 32,
        max_attempts: int = 5,
        retry_on: tuple[type[BaseException], ...] = (DeadlineError,),
        misfit_timeout: float = 600.0,
        drain: float = 20.0,
    ) -> None:
        """Set a worker up. Nothing is contacted yet.

        Args:
            name: What clients call the agent; or functions that build agents, by such names.
            build: Makes the agent, graph or swarm for a session: ``build(session_id)``, which has its own
                `DaprSessionManager`, or ``build(session_id, session_manager)``, which gets one with the settings of
                this worker. May be async.
            store: Where the runs and their sessions are, as in `DaprSessionManager`.
            sidecar: The address of the sidecar whose workflows drive the runs. Without it, the one of the store, else
                as Dapr's environment variables say.
            session: Further arguments for the session managers that `build` gets.
            lease: See `WorkerSettings`, also for the rest.
            max_concurrent_runs: How many runs at a time.
            max_attempts: How often a run may kill its worker, or raise, at the same place before it is parked.
            retry_on: Exceptions after which a run is tried again.
            misfit_timeout: How long a run may wait for a worker that can run it.
            drain: Seconds that runs have to finish on SIGTERM.

        Raises:
            ConfigurationError: An argument cannot be used.
            WorkflowUnavailableError: Dapr's workflow SDK is not installed.
        """
        self._store = open_store(store)
        self._engine = Engine(sidecar or sidecar_of(store))
        self._settings = WorkerSettings(
            lease, max_concurrent_runs, max_attempts, tuple(retry_on), misfit_timeout, drain
        )
        self._session = {
            "lease": lease,
            # A run that waits for another one is put off: it needs none of the places meanwhile.
            "on_busy": "raise",
            "max_attempts": max_attempts,
            **(session or {}),
        }
        self._builds: dict[str, Callable[[str], Any]] = {}
        self._app_id = ""
        self._attending: Attending | None = None
        self._crew: Crew | None = None
        self._runtime: Any = None
        self._monitor: asyncio.Task[None] | None = None
        self._told_to_end = threading.Event()
        if isinstance(name, str):
            if build is None:
                raise ConfigurationError(f"AgentWorker({name!r}) needs build=, a function that makes the agent")
            self.register(name, build)
        elif name is not None:
            for each, its_build in name.items():
                self.register(each, its_build)

    def register(self, name: str, build: Build) -> Self:
        """Let this worker run another agent.

        Args:
            name: What clients call it.
            build: As in `AgentWorker`.

        Raises:
            ConfigurationError: The name is taken or cannot be used, or the worker has begun.
        """
        check_id("agent name", name)
        if self._runtime is not None:
            raise ConfigurationError("register agents before the worker is started")
        if name in self._builds:
            raise ConfigurationError(f"this worker has an agent {name!r} already")
        if not callable(build):
            raise ConfigurationError(f"build of the agent {name!r} must be a function, not {type(build).__name__}")
        self._builds[name] = self._with_manager(build) if _takes_manager(build) else build
        return self

    def _with_manager(self, build: Build) -> Callable[[str], Any]:
        def build_with_manager(session_id: str) -> Any:
            return build(session_id, DaprSessionManager(session_id, store=self._store, **self._session))

        return build_with_manager

    # -- its life ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until the process gets SIGTERM or SIGINT; then finish, or hand over, what is in hand.

        Raises:
            ConfigurationError: No agent is registered, or the process has a worker for this store.
            WorkflowUnavailableError: The sidecar cannot run workflows. The message says what it lacks.
            StoreError: The store cannot be used.
        """
        before = {each: signal.signal(each, self._end_soon) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            while not self._told_to_end.wait(_SIGNALS_SEEN_WITHIN):
                pass
            self.stop()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
        if _has_stuck_tools():
            # A tool without `async` that was stopped still runs, and the interpreter would wait for its thread.
            logger.warning("a tool that could not be stopped is left behind: the process ends without it")
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)

    def _end_soon(self, number: int, _: FrameType | None) -> None:
        if self._told_to_end.is_set():
            raise KeyboardInterrupt(f"signal {number} for the second time")
        self._told_to_end.set()

    def start(self) -> Self:
        """Begin to work, in threads of its own.

        Raises:
            ConfigurationError: See `run`.
            WorkflowUnavailableError: See `run`.
            StoreError: See `run`.
        """
        if not self._builds:
            raise ConfigurationError("a worker needs at least one agent: AgentWorker(name, build=...) or register()")
        if self._store.name in _serving:
            raise ConfigurationError(
                f"this process has a worker for {self._store.name} already: register several agents with one worker"
            )
        _serving.add(self._store.name)
        try:
            attending = io_thread.run_sync(self._open())

            async def attend(invocation_id: str) -> str:  # on a loop of the SDK's; what it waits for outlives that
                return str(await io_thread.run(attending.attend(invocation_id)))

            # More may be offered than are run at a time: what another worker has in hand costs this one nothing.
            self._runtime = self._engine.serve(attend, places=100 * self._settings.max_concurrent_runs)
        except BaseException:
            io_thread.run_sync(self._close())
            raise
        logger.info("store=<%s>, agents=<%s> | the worker has begun", self._store.name, ", ".join(self._builds))
        return self

    def stop(self) -> None:
        """Take no more runs; give those in hand time to finish, and hand over those that do not."""
        if self._runtime is None:
            return
        runtime, self._runtime = self._runtime, None
        # First, so that Dapr offers to others what is in hand here. They wait for it, and go on when it is let go.
        closing = threading.Thread(target=runtime.shutdown, daemon=True)
        closing.start()
        io_thread.run_sync(self._close())
        closing.join(self._settings.lease)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # -- on the I/O loop -----------------------------------------------------------------------------------------

    async def _open(self) -> Attending:
        await self._store.open()
        self._app_id = await self._engine.check()
        runs = Runs(self._store)
        self._crew = Crew(self._store, self._card, self._settings.lease)
        self._attending = Attending(self._crew, self._engine, self._builds, self._prepare, self._settings)
        await self._crew.join()
        self._monitor = asyncio.get_running_loop().create_task(self._watch(runs, self._crew, self._attending))
        return self._attending

    async def _close(self) -> None:
        if self._attending is not None:
            await self._attending.drain(self._settings.drain)
        if self._monitor is not None:
            self._monitor.cancel()
        if self._crew is not None:
            with contextlib.suppress(DurableSessionError):  # others will see that the process is gone
                await self._crew.leave()
        self._attending = self._crew = self._monitor = None
        _serving.discard(self._store.name)

    def _card(self) -> Card:
        runs = self._attending.in_hand if self._attending is not None else ()
        return Card(this_process.name, self._app_id, tuple(self._builds), runs, self._settings.lease)

    async def _watch(self, runs: Runs, crew: Crew, attending: Attending) -> None:
        """Say that this worker lives, and look after the runs of those that do not."""
        interval = min(self._settings.lease / _BEATS_PER_LEASE / _LOOKS_PER_BEAT, _LONGEST_INTERVAL)
        next_beat = 0.0
        while True:
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._settings.lease / _BEATS_PER_LEASE
                    await crew.announce()
                attending.check(await runs.states(list(attending.in_hand)))
                await attending.look_around()
                for card in await crew.look():
                    if await attending.look_after(card):
                        await crew.bury(card.worker)
            except DurableSessionError as error:
                logger.warning("store=<%s>, error=<%s> | the other workers cannot be seen", self._store.name, error)
            await crew.wait(interval)

    # -- on the loop of an attempt -------------------------------------------------------------------------------

    async def _prepare(self, claim: Claim, root: Any) -> tuple[dict[str, Any], ...]:
        """Do what is left to do before an agent is called; give the questions that it has instead."""
        await self._keep_apart(claim.request, root)
        state = claim.state
        if state.unpark:
            # In a thread: it blocks.
            await asyncio.to_thread(strands_compat.session_manager_of(root).restart, root)
        if state.unpark or state.failures:
            await io_thread.run(Runs(self._store).conclude(claim, lambda now: now.called()))
        return await open_questions(root, claim, self._store)

    async def _keep_apart(self, request: Request, root: Any) -> None:
        """Keep agents apart that have the same id because they were given none.

        Raises:
            ConfigurationError: Another agent of the workers speaks under this id in the session.
        """
        root_id = getattr(root, "agent_id", None) or getattr(root, "id", "")
        if root_id not in _ID_OF_STRANDS:
            return
        key = speaker_key(request.session_id, root_id)
        speaker = await io_thread.run(documents.create(self._store, key, request.agent, path="agent"))
        if speaker != request.agent:
            raise ConfigurationError(
                f"the agents {speaker!r} and {request.agent!r} both have the id {root_id!r}, so in session "
                f"{request.session_id!r} they would share one conversation. Give each an id of its own: "
                "Agent(agent_id=...), GraphBuilder.set_graph_id(...) or Swarm(id=...)."
            )


def _takes_manager(build: Build) -> bool:
    """Tell whether a function wants a session manager besides the session's id."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return len([each for each in places if each.default is each.empty]) > 1


def _has_stuck_tools() -> bool:
    return any(each.name.startswith("strands-tool") and each.is_alive() for each in threading.enumerate())
