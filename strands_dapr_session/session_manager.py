"""`DaprSessionManager`: what users give to Strands."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.hooks import MultiAgentInitializedEvent
from strands.session.session_manager import SessionManager

from strands_dapr_session import io_thread, strands_compat
from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.hooks.ceiling import Ceiling
from strands_dapr_session.hooks.checkpoint import CheckpointHooks
from strands_dapr_session.hooks.deadlines import Deadlines
from strands_dapr_session.hooks.ownership import Found, Owner
from strands_dapr_session.hooks.parking import give_up, restart
from strands_dapr_session.hooks.recording import Recording, Recordings
from strands_dapr_session.hooks.resume import ResumeHook
from strands_dapr_session.hooks.retry import Retries
from strands_dapr_session.hooks.retrying import RetryHook
from strands_dapr_session.hooks.settings import DriftMode, Settings, UnfinishedMode
from strands_dapr_session.hooks.timekeeping import TimekeepingHook
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.layout import check_id
from strands_dapr_session.journal.sessions import delete_session
from strands_dapr_session.journal.settings import JournalSettings, OnBusy
from strands_dapr_session.multiagent.attached import AttachedHooks
from strands_dapr_session.multiagent.subagents import SubAgentHooks
from strands_dapr_session.stores.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands.hooks import HookRegistry
    from strands.types.content import Message

    from strands_dapr_session.hooks.in_doubt import InDoubtPolicy
    from strands_dapr_session.hooks.retry import RetryPolicy
    from strands_dapr_session.multiagent.root import Root
    from strands_dapr_session.multiagent.tally import NodeTally
    from strands_dapr_session.stores.base import StateStore

ROOT_SCOPE = ""
"""Path of what was given ``session_manager=`` inside its journal."""


class DaprSessionManager(SessionManager):
    """Makes an agent, graph or swarm durable: killed anywhere, it finishes the same run when it is called again.

    A composition of hook providers: `CheckpointHooks` records, `ResumeHook` resumes, `SubAgentHooks` follows an agent
    into those that it uses as tools. Several agents, graphs and swarms of one session may share a manager; each has a
    journal of its own.

    Example:
        ```python
        agent = Agent(model=model, tools=[charge, ship], session_manager=DaprSessionManager("order-4711"))
        agent("Process order 4711")  # killed? start the same program again
        ```
    """

    def __init__(  # noqa: PLR0913  (each is a choice that users have)
        self,
        session_id: str,
        *,
        store: str | StateStore | None = None,
        in_doubt: InDoubtPolicy | Mapping[str, InDoubtPolicy] = "rerun",
        drift: DriftMode = "warn",
        unfinished: UnfinishedMode = "refuse",
        retry: RetryPolicy | Retries | None = None,
        deadlines: Deadlines | None = None,
        max_attempts: int | None = None,
        on_busy: OnBusy = "wait",
        busy_timeout: float = 30.0,
        lease: float = 3.0,
    ) -> None:
        """Set a session up. Nothing is sent yet.

        Args:
            session_id: Names the session; up to 255 characters, no slashes, no control characters.
            store: Where to keep it: the name of a Dapr state store component, a URL (``dapr://redis-main``,
                ``sqlite:///runs.db``, ``redis://localhost:6379``, ``memory://``), or a `StateStore`. Without it, the
                environment variable ``STRANDS_DAPR_SESSION_STORE``, else the component ``statestore``.
            in_doubt: What to do with a tool call that may have run and left no result: a policy for all tools, or
                policies by tool name. A tool's own `in_doubt` decorator yields to a policy by name.
            drift: What to do when an unfinished invocation is resumed with other tools, system prompt or model:
                ``"warn"``, ``"refuse"`` or ``"ignore"``.
            unfinished: What to do when a graph or swarm gets a new task while another one is unfinished: ``"refuse"``
                with an error that names it, or ``"resume"`` and leave the new one undone. See also `abandon`.
            retry: What is tried again when it fails, when, and how often: one `RetryPolicy` for everything, or
                `Retries` with one for each kind. Counts and times are recorded: a crash changes neither.
            deadlines: How long tools, model calls and invocations may take. See `Deadlines`.
            max_attempts: How many tries of an invocation may end at the same place, with no step recorded in between,
                before it is parked: it then raises `ParkedError` until it is let go on with `restart`. A try is a
                process that died with it, or a call that raised. None: any number.
            on_busy: What to do when another live worker runs the session: ``"wait"``, ``"raise"`` or ``"steal"``.
            busy_timeout: How long to wait for it, in seconds.
            lease: After how many seconds of silence a worker counts as dead. It decides when a takeover is polite;
                no guarantee rests on it.

        Raises:
            InvalidIdentifierError: The session id cannot be used.
            ConfigurationError: Another argument cannot be used.
        """
        by_name, default = ({}, in_doubt) if isinstance(in_doubt, str) or callable(in_doubt) else (in_doubt, "rerun")
        self.session_id = check_id("session_id", session_id)
        self._settings = Settings(dict(by_name), default, drift, unfinished, max_attempts, Retries.of(retry))
        self._journal_settings = JournalSettings(on_busy=on_busy, busy_timeout=busy_timeout, lease=lease, probe=True)
        self._store = open_store(store)
        self._recordings = Recordings(self._begin)
        self._checkpoint = CheckpointHooks(self._recordings)
        self._resume = ResumeHook(self._recordings)
        self._attached = AttachedHooks(self._recordings)
        self._subagents = SubAgentHooks(self._recordings, self._listen)
        self._ceiling = Ceiling()
        self._timekeeping = TimekeepingHook(self._recordings, deadlines or Deadlines())
        self._retry = RetryHook(self._recordings)
        self._heard: weakref.WeakSet[Agent] = weakref.WeakSet()
        self._roots: dict[str, Root] = {}

    def register_hooks(self, registry: HookRegistry, **_: Any) -> None:
        """Register what records and what resumes, with the registry of an agent, a graph or a swarm."""
        registry.add_callback(MultiAgentInitializedEvent, lambda event: self.initialize_multi_agent(event.source))
        self._register_agent(registry)

    def _register_agent(self, registry: HookRegistry) -> None:
        registry.add_hook(self._attached)
        registry.add_hook(self._subagents)
        registry.add_hook(self._checkpoint)
        registry.add_hook(self._resume)
        registry.add_hook(self._timekeeping)
        registry.add_hook(self._ceiling)
        registry.add_hook(self._retry)

    def _listen(self, agent: Agent) -> None:
        """Register with an agent that runs as a part of something else; once."""
        if agent not in self._heard:
            self._heard.add(agent)
            self._register_agent(agent.hooks)

    def _begin(self, agent: Agent) -> Recording:
        journal = Journal(self._store, self.session_id, agent.agent_id, settings=self._journal_settings)
        return Recording(journal, ROOT_SCOPE, self._settings, Owner(), Found())

    # -- what Strands and users call directly --------------------------------------------------------------------

    def initialize(self, agent: Agent, **_: Any) -> None:
        """Restore an agent from the session.

        Raises:
            DuplicateAgentError: The session manager already has an agent of that id.
            DurableSessionError: The session cannot be read.
        """
        self._resume.restore(agent)

    def append_message(self, message: Message, agent: Agent, **_: Any) -> None:
        """Record a message of an agent, adding it to the agent's messages if it is not among them.

        Raises:
            DurableSessionError: It could not be recorded.
        """
        if not any(own is message for own in agent.messages):
            agent.messages.append(message)
        self.sync_agent(agent)

    def redact_latest_message(self, redact_message: Message, agent: Agent, **_: Any) -> None:
        """Record a message whose content was redacted in place.

        What is restored, and what a model sees, is the redacted message from here on. The journal is a log: what was
        recorded before stays in its history until the session is deleted.

        Raises:
            DurableSessionError: It could not be recorded.
        """
        if agent.messages and agent.messages[-1] is not redact_message:
            agent.messages[-1] = redact_message
        self.sync_agent(agent)

    def sync_agent(self, agent: Agent, **_: Any) -> None:
        """Record everything that changed in an agent.

        While the agent runs, this returns at once and the commit travels; otherwise it returns when it is durable.

        Raises:
            DurableSessionError: It could not be recorded.
        """
        if not self._checkpoint.record(agent):
            io_thread.run_sync(self._checkpoint.record_now(agent))

    def initialize_multi_agent(self, source: Any, **_: Any) -> None:
        """Attach to a graph or swarm and everything in it, and restore what is recorded of them.

        Raises:
            ConfigurationError: It is neither a graph nor a swarm.
            DuplicateAgentError: The session manager already has a graph or swarm of that id.
            DurableSessionError: The session cannot be read.
        """
        if source.id in self._roots:
            raise strands_compat.DuplicateAgentError(
                f"The `id` of a graph or swarm must be unique in a session: {source.id!r} is taken. Give the second "
                "one an `id` of its own, or use one session manager for each session."
            )
        # Not above: it takes Strands' graphs and swarms along, which a process that has only agents does without.
        from strands_dapr_session.multiagent.root import Root  # noqa: PLC0415

        journal = Journal(self._store, self.session_id, source.id, settings=self._journal_settings)
        root = Root(source, journal, self._settings, self._recordings, self._listen)
        self._roots[source.id] = root
        root.restore()

    def sync_multi_agent(self, source: Any, **_: Any) -> None:
        """Record what changed in a graph or swarm that runs. It is recorded anyway when its turn comes."""
        root = self._roots.get(source.id)
        if root is not None:
            root.sync()

    def attach(self, agent: Agent, scope: str) -> None:
        """Record an agent that code of yours calls: a custom node of a graph, or a tool of an agent.

        Such code runs again as a whole when it had not finished. The agent's calls in it are then not made again: one
        that had finished returns its recorded result, and the one that was under way goes on inside its own batch of
        tools. Calls are told apart by their order, so the code must make them in the same order with the same prompts;
        from the first that differs on, they are made anew. With each visit of the node, or call of the tool, the agent
        begins with the messages and the state that it was attached with. Called elsewhere, it is not recorded.

        Args:
            agent: The agent. Attach it once, when it is made.
            scope: Names it below the node or tool call; agents that are called there need different ones.

        Raises:
            ConfigurationError: It has a session manager of its own, or is attached under another name.
        """
        self._attached.attach(agent, scope)
        self._listen(agent)

    def tally(self, orchestrator: Any) -> dict[str, NodeTally]:
        """Tell what became of each node of a graph or swarm in this process; `picture.draw` shows it.

        Raises:
            ConfigurationError: The graph or swarm is not of this session manager.
        """
        return self._root_of(orchestrator).orchestration.visits.tally()

    def _root_of(self, orchestrator: Any) -> Root:
        root = self._roots.get(orchestrator.id)
        if root is None:
            raise ConfigurationError(f"{orchestrator.id!r} was not given this session manager")
        return root

    def abandon(self, built: Any, invocation_id: str | None = None) -> None:
        """Give up what an agent, graph or swarm has not finished, so that it takes something new. What it did stays.

        Args:
            built: The agent, graph or swarm.
            invocation_id: Only if it was begun under this id.

        Raises:
            ConfigurationError: The graph or swarm is not of this session manager.
            DurableSessionError: It could not be recorded, or another live worker runs it.
        """
        root = None if isinstance(built, Agent) else self._root_of(built)
        journal = self._journal(built)
        if invocation_id is not None:
            # Read without owning it: where it is another one that runs, there is nothing to wait for.
            last = journal.load_sync().scope(ROOT_SCOPE).invocation
            if last is None or last.key != invocation_id:
                return
        if root is None:
            strands_compat.stop_waiting(built)
            self.sync_agent(built)
            io_thread.run_sync(give_up(journal, invocation_id))
        else:
            io_thread.run_sync(root.give_up(invocation_id))

    def restart(self, built: Any) -> None:
        """Let what is parked of an agent, graph or swarm be tried again; the next call does.

        Raises:
            SessionBusyError: A live worker runs it.
            DurableSessionError: It could not be recorded.
        """
        io_thread.run_sync(restart(self._journal(built)))

    def _journal(self, built: Any) -> Journal:
        """Make a journal of an agent, graph or swarm that knows nothing yet."""
        root_id = str(getattr(built, "agent_id", None) or built.id)
        return Journal(self._store, self.session_id, root_id, settings=self._journal_settings)

    def delete(self) -> None:
        """Delete the whole session: every agent's journal and what points to it. Safe to repeat.

        Raises:
            SessionBusyError: A live worker runs an agent of the session.
            DamagedDataError: What names its keys cannot be read; says how to delete them nevertheless.
            DurableSessionError: The store failed half-way; call it again.
        """
        io_thread.run_sync(delete_session(self._store, self.session_id, self._journal_settings))
