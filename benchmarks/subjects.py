"""What is compared: this package's session manager on several stores, and what users would take instead."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from strands import Agent, tool
from strands.agent.conversation_manager import NullConversationManager

from benchmarks.conversation import conversation, messages_for_ever
from benchmarks.places import REDIS
from strands_dapr_session import DaprSessionManager, io_thread
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.recent import RecentLogs
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Spliced
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands.agent.conversation_manager import ConversationManager
    from strands.session.session_manager import SessionManager
    from strands.types.content import Message

    from benchmarks.places import Addresses
    from strands_dapr_session.stores.base import StateStore

OURS = "DaprSessionManager"
WORKER = "AgentWorker"
FILE = "FileSessionManager"
SNAPSHOT = "SnapshotSessionManager"
S3 = "S3SessionManager"
DAPR_EXT = "dapr.ext.strands"
NONE = "no session manager"

_BUCKET = "bench"
_MESSAGES_IN_A_COMMIT = 2
_LARGEST_DOCUMENT = 64 * 1024 * 1024


class Subject(Protocol):
    """A session manager that can be measured."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def module(self) -> str:
        """What must be imported before it can be made."""

    def manager(self, session: str) -> SessionManager | None:
        """Make a session manager, as a user does when a process starts."""

    def fill(self, session: str, messages: list[Message]) -> None:
        """Store a conversation, so that an agent which is made afterwards has it."""


@dataclass(frozen=True)
class Ours:
    """This package on one of its stores.

    Attributes:
        at: Where things are.
        store: ``redis`` and ``postgres`` behind a sidecar, or ``sqlite``.
    """

    at: Addresses
    store: str
    name: str = OURS

    @property
    def module(self) -> str:
        """The package's own store."""
        return f"strands_dapr_session.stores.{'sqlite' if self.store == 'sqlite' else 'dapr'}"

    def manager(self, session: str) -> DaprSessionManager:
        """Make one."""
        return DaprSessionManager(session, store=self.at.store(self.store))

    def fill(self, session: str, messages: list[Message]) -> None:
        """Store a conversation turn by turn, packed as it is in life."""
        asyncio.run(fill_journal(self.journal(session), iter(messages), len(messages)))

    def forget(self, session: str) -> None:
        """Have the next load begin as in a process that has not loaded this session before."""
        RecentLogs.of(open_store(self.at.store(self.store))).forget(Layout(session, "default", ""))

    def journal(self, session: str) -> Journal:
        """Name the journal that the session manager of a session uses for its agent."""
        return Journal(open_store(self.at.store(self.store)), session, "default")


async def fill_journal(journal: Journal, messages: Iterator[Message], length: int, window: int | None = None) -> None:
    """Write a conversation into a journal, turn by turn.

    Args:
        journal: Which.
        messages: At least as many as are written.
        length: How many to write.
        window: How many stay live, as a conversation manager has it; all if not given.
    """
    await journal.acquire()
    live = 0
    for start in range(0, length, _MESSAGES_IN_A_COMMIT):
        count = min(_MESSAGES_IN_A_COMMIT, length - start)
        bodies = tuple(pack_value(next(messages)) for _ in range(count))
        drop = max(0, live + count - window) if window is not None else 0
        trimmed = (Spliced("", 0, drop, ()),) if drop else ()
        journal.append(*trimmed, Spliced("", live - drop, 0, bodies))
        live += count - drop
        await journal.barrier()
    await journal.release()


@dataclass(frozen=True)
class Repository:
    """Those of Strands that keep each message by itself, and the one that Dapr brings."""

    at: Addresses
    name: str = FILE

    @property
    def module(self) -> str:
        """Theirs."""
        return {
            FILE: "strands.session.file_session_manager",
            S3: "strands.session.s3_session_manager",
            DAPR_EXT: "dapr.ext.strands",
        }[self.name]

    def manager(self, session: str) -> SessionManager:
        """Make one."""
        if self.name == FILE:
            from strands.session.file_session_manager import FileSessionManager  # noqa: PLC0415 - one of several

            return FileSessionManager(session, storage_dir=f"{self.at.directory}/file")
        if self.name == S3:
            return self._on_s3(session)
        return self._dapr(session)

    def fill(self, session: str, messages: list[Message]) -> None:
        """Append one message after the other."""
        manager: Any = self.manager(session)
        documents: dict[str, Any] = {}
        if self.name == DAPR_EXT:
            # Dapr's reads and writes the whole conversation for each message: that takes minutes for thousands of them.
            manager._read_state, manager._write_state = documents.get, documents.__setitem__  # noqa: SLF001
        agent = agent_with(manager)
        for message in messages:
            agent.messages.append(message)
            manager.append_message(message, agent)
        manager.sync_agent(agent)
        for key, document in documents.items():  # so it is written once
            manager.__class__._write_state(manager, key, document)  # noqa: SLF001

    def _on_s3(self, session: str) -> SessionManager:
        import boto3  # noqa: PLC0415 - one of several
        from strands.session.s3_session_manager import S3SessionManager  # noqa: PLC0415

        credentials = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name="us-east-1")  # noqa: S106
        credentials.client("s3", endpoint_url=self.at.s3).create_bucket(Bucket=_BUCKET)
        return S3SessionManager(session, _BUCKET, boto_session=credentials, endpoint_url=self.at.s3)

    def _dapr(self, session: str) -> SessionManager:
        # By name: the package brings no types.
        manager: SessionManager = importlib.import_module("dapr.ext.strands").DaprSessionManager(
            session, REDIS, _dapr_client(self.at)
        )
        return manager


@cache
def _dapr_client(at: Addresses) -> Any:
    """Get the one client of a process. It looks for the sidecar's health on a port of its own settings."""
    importlib.import_module("dapr.conf").settings.DAPR_HTTP_PORT = at.dapr_http
    return importlib.import_module("dapr.clients").DaprClient(at.dapr, max_grpc_message_length=_LARGEST_DOCUMENT)


@dataclass(frozen=True)
class Snapshot:
    """Strands' newest: the whole agent in one document, on local files."""

    at: Addresses
    name: str = SNAPSHOT
    module: str = "strands.session.snapshot_session_manager"

    def manager(self, session: str) -> SessionManager:
        """Make one, that saves each message as the others do."""
        from strands.session import SnapshotSessionManager  # noqa: PLC0415 - the oldest Strands has none
        from strands.storage import LocalFileStorage  # noqa: PLC0415

        storage = LocalFileStorage(f"{self.at.directory}/snapshot")
        return SnapshotSessionManager(session, storage=storage, save_latest_on="message")

    def fill(self, session: str, messages: list[Message]) -> None:
        """Store it at once."""
        manager: Any = self.manager(session)
        agent = agent_with(manager)
        agent.messages.extend(messages)
        manager.sync_agent(agent)


@dataclass(frozen=True)
class Nothing:
    """An agent alone: the floor."""

    name: str = NONE
    module: str = "strands"

    def manager(self, session: str) -> None:
        """Make none."""

    def fill(self, session: str, messages: list[Message]) -> None:
        """Store nothing."""


def subject(at: Addresses, name: str, store: str) -> Subject:
    """Get a subject by its name, in whatever process."""
    if name == OURS:
        return Ours(at, store)
    if name == SNAPSHOT:
        return Snapshot(at)
    if name == NONE:
        return Nothing()
    return Repository(at, name)


def agent_with(
    manager: SessionManager | None, turns: int = 0, conversation_manager: ConversationManager | None = None
) -> Agent:
    """Make an agent whose model calls one tool in each of so many turns, and gets about 4 KB back."""
    results = [_text_of(message) for message in conversation(2 * turns)[1::2]]

    @tool
    def look_up(order: int) -> str:
        """Look an order up."""
        return results[order]

    script: list[Any] = [[("look_up", {"order": number})] for number in range(turns)]
    return Agent(
        model=ScriptedModel([*script, "done"]),
        tools=[look_up],
        callback_handler=None,
        session_manager=manager,
        conversation_manager=conversation_manager or NullConversationManager(),
    )


def load(subject: Subject, session: str, expected: int) -> Agent:
    """Make an agent with a stored session.

    Raises:
        RuntimeError: It does not have all of its messages.
    """
    agent = agent_with(subject.manager(session))
    if len(agent.messages) != expected:
        raise RuntimeError(f"{subject.name} loaded {len(agent.messages)} messages of {expected}")
    return agent


def fill_window(ours: Ours, session: str, length: int, window: int) -> None:
    """Store a long conversation of which only the last messages are live.

    It lives in memory and is copied, key by key, which leaves what a life in the store itself would leave: that would
    take a millisecond for each of its commits.
    """
    asyncio.run(io_thread.run(_fill_by_copy(open_store(ours.at.store(ours.store)), session, length, window)))


async def _fill_by_copy(store: StateStore, session: str, length: int, window: int) -> None:
    await store.open()
    memory = MemoryStore(max_value_bytes=store.capabilities.max_value_bytes)
    journal = Journal(memory, session, "default")
    await fill_journal(journal, messages_for_ever(), length, window)
    for key, entry in (await memory.get_many(memory.keys())).items():
        await store.create(key, entry.value)


def _text_of(message: Message) -> str:
    return message["content"][0]["toolResult"]["content"][0]["text"]
