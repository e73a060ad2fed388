"""One recorded step: a message of about 2 KB is appended to a journal and acknowledged.

Beside it, on the same store: the raw state API, asked by the caller's own event loop to create a key with the very
bytes that the commit has. Step and raw write alternate one by one. A session that is ten messages old and one of ten
thousand alternate as well, while their logs are packed beside them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import floor
from benchmarks.conversation import messages_for_ever
from benchmarks.places import REDIS
from benchmarks.results import Row
from benchmarks.subjects import FILE, OURS, Ours, Repository, agent_with, fill_journal
from strands_dapr_session.journal.commit import prepare
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Spliced
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from strands.types.content import Message

    from benchmarks.bench import Bench
    from benchmarks.places import Addresses
    from strands_dapr_session.journal.journal import Journal

YOUNG, OLD = 10, 10_000

_REPEAT = 3000
"""On Redis; a third on the others. Of fewer, the 99th percentile is another one each time."""

_RAW_SQLITE = "raw SQLite"


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    at = bench.places.with_dapr()
    steps, old = bench.repeat(_REPEAT), OLD // 10 if bench.quick else OLD
    rows = []
    for store in ("redis", "postgres", "sqlite"):
        bench.say(f"steps on {store}")
        repeat = steps if store == "redis" else steps // 3
        rows += asyncio.run(_measure_store(at, store, repeat, old))
    return rows + _measure_file(at, steps // 3)


@dataclass
class _Session:
    """A session that gets one message after the other."""

    journal: Journal
    length: int

    async def step(self, message: Message) -> None:
        """Append a message and wait until it is safe."""
        self.journal.append(Spliced("", self.length, 0, (pack_value(message),)))
        self.length += 1
        await self.journal.barrier()


async def take(at: Addresses, store: str, messages: list[Message]) -> list[float]:
    """Take a step for each message, in a new session, and get the milliseconds of each."""
    session = await _begin(Ours(at, store), f"steps-{time.monotonic_ns()}", 0)
    found = [await _timed(session.step(message)) for message in messages]
    await session.journal.release()
    return found


@dataclass
class Steps:
    """What each step took, in milliseconds: in a young session, in an old one, and raw."""

    young: list[float] = field(default_factory=list)
    old: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)


async def alternate(at: Addresses, store: str, repeat: int, old: int) -> Steps:
    """Take steps in turn.

    Args:
        at: Where things are.
        store: On which store.
        repeat: How many of each.
        old: How many messages the old session begins with.
    """
    ours = Ours(at, store)
    young = await _begin(ours, f"step-young-{store}-{time.monotonic_ns()}", YOUNG)
    aged = await _begin(ours, f"step-old-{store}-{time.monotonic_ns()}", old)
    raw = _raw_sqlite(at) if store == "sqlite" else _raw_dapr(at, store)
    found = Steps()
    layout, messages = Layout("raw", "raw", str(time.monotonic_ns())), messages_for_ever(seed=3)
    for number in range(1, repeat + 1):
        message = next(messages)
        record = encode_record(Spliced("", 1, 0, (pack_value(message),)))
        slot = prepare(open_store(at.store(store)), layout, number, [record])
        found.young.append(await _timed(young.step(message)))
        found.raw.append(await _timed(raw(slot.key, slot.value)))
        found.old.append(await _timed(aged.step(message)))
    await young.journal.release()
    await aged.journal.release()
    return found


async def _measure_store(at: Addresses, store: str, repeat: int, old: int) -> list[Row]:
    found = await alternate(at, store, repeat, old)
    setting: dict[str, str | int] = {"store": store}
    return [
        Row.of(OURS, setting | {"messages": YOUNG}, "step", "ms", found.young),
        Row.of(OURS, setting | {"messages": old}, "step", "ms", found.old),
        Row.of(_RAW_SQLITE if store == "sqlite" else floor.NAME, setting, "step", "ms", found.raw),
    ]


async def _begin(ours: Ours, session: str, length: int) -> _Session:
    journal = ours.journal(session)
    await fill_journal(journal, messages_for_ever(), length)
    await journal.acquire()
    return _Session(journal, length)


async def _timed(action: Awaitable[object]) -> float:
    began = time.perf_counter()
    await action
    return (time.perf_counter() - began) * 1000


def _raw_dapr(at: Addresses, component: str) -> Callable[[str, bytes], Awaitable[None]]:
    return floor.RawStateAsync(at, {"redis": REDIS}.get(component, component)).create


def _raw_sqlite(at: Addresses) -> Callable[[str, bytes], Awaitable[None]]:
    """Insert a row as durably as a commit is, in the caller's own thread."""
    db = sqlite3.connect(f"{at.directory}/raw.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value BLOB)")

    async def create(key: str, value: bytes) -> None:
        db.execute("INSERT INTO state VALUES (?, ?)", (key, value))

    return create


def _measure_file(at: Addresses, repeat: int) -> list[Row]:
    """Append to Strands' session of files, which syncs nothing to disk."""
    manager = Repository(at, FILE).manager("step")
    agent, messages = agent_with(manager), messages_for_ever(seed=3)
    found = []
    for _ in range(repeat):
        message = next(messages)
        agent.messages.append(message)
        began = time.perf_counter()
        manager.append_message(message, agent)
        manager.sync_agent(agent)
        found.append((time.perf_counter() - began) * 1000)
    return [Row.of(FILE, {"store": "files"}, "step", "ms", found)]
