"""Journals for tests: a random agent that records itself, and what it should be restored to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from strands_dapr_session.journal.acquire import Claim, Wish, acquire
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.fold import fold
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.journal.reading import read_journal
from strands_dapr_session.journal.recent import RecentLogs
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    Released,
    SegmentsPlanned,
    Spliced,
    ToolFinished,
)
from strands_dapr_session.records.view import View
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore

SETTINGS = JournalSettings(on_busy="steal", lease=0.01)


class Alone:
    """There is no other worker."""

    name = "w"

    def is_alive(self, owner: Acquired) -> bool | None:  # noqa: ARG002
        return False

    def heartbeat_key(self, owner: Acquired) -> str | None:  # noqa: ARG002
        return None

    def has_given_up(self, owner: Acquired, heartbeat: bytes | None) -> bool:  # noqa: ARG002
        return False


def context_of(store: StateStore) -> Context:
    return Context(store, Alone())


def keys_of(store: StateStore) -> list[str]:
    """List the keys of a store in memory, with or without faults around it."""
    inner = store.inner if isinstance(store, FaultyStore) else store
    assert isinstance(inner, MemoryStore)
    return list(inner.keys())


def message(role: str, text: str) -> bytes:
    return pack_value({"role": role, "content": [{"text": text}]})


@dataclass
class Script:
    """Writes a journal, and knows what must be in it."""

    store: StateStore
    session_id: str = "s"
    root_id: str = "r"
    live: dict[str, list[bytes]] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    claim: Claim | None = None
    log: LogWriter | None = None
    recent: RecentLogs = field(default_factory=RecentLogs)
    acquisitions: int = 0
    invocations: int = 0

    async def own(self) -> None:
        self.acquisitions += 1
        wish = Wish(self.session_id, self.root_id, SETTINGS, f"a{self.acquisitions}")
        self.claim = await acquire(context_of(self.store), wish)
        self.log = LogWriter(context_of(self.store), self.claim)

    async def write(self, *records: Record) -> None:
        assert self.log is not None
        await self.log.write([encode_record(record) for record in records])

    async def release(self) -> None:
        await self.write(Released(f"a{self.acquisitions}"))
        self.claim = self.log = None

    async def say(self, *texts: str, scope: str = "") -> None:
        live = self.live.setdefault(scope, [])
        bodies = tuple(message("user" if n % 2 else "assistant", text) for n, text in enumerate(texts))
        await self.write(Spliced(scope, len(live), 0, bodies))
        live += bodies

    async def trim(self, keep: int, scope: str = "") -> None:
        live = self.live.setdefault(scope, [])
        drop = max(len(live) - keep, 0)
        await self.write(Spliced(scope, 0, drop, ()))
        del live[:drop]

    async def change(self, at: int, text: str, scope: str = "") -> None:
        body = message("user", text)
        await self.write(Spliced(scope, at, 1, (body,)))
        self.live[scope][at] = body

    async def use_tool(self, number: int) -> None:
        result = {"toolUseId": f"t{number}", "content": [{"text": f"result {number}"}]}
        template = {"role": "user", "content": None}
        await self.write(ToolFinished("", f"t{number}", pack_value(result)))
        live = self.live.setdefault("", [])
        await self.write(Spliced("", len(live), 0, (Derived(pack_value(template), (f"t{number}",)),)))
        live.append(pack_value({**template, "content": [{"toolResult": result}]}))

    async def set(self, name: str, value: bytes) -> None:
        await self.write(DocumentSet("", name, value), Noted("", name, value))
        self.documents[name] = value

    async def invoke(self) -> None:
        self.invocations += 1
        identity = f"i{self.invocations}"
        await self.write(InvocationStarted("", identity, identity, b"p", b"f", 1))
        await self.write(InvocationFinished("", identity, "completed", b"r"))

    async def pack(self, through: int | None = None) -> bool:
        assert self.log is not None
        plan = f"p{self.log.sequence}"
        await self.write(SegmentsPlanned((plan,)))
        return await compact(context_of(self.store), self.log.layout, plan, through or self.log.sequence) is not None

    async def load(self, recent: RecentLogs | None = None) -> View:
        context = replace(context_of(self.store), recent=recent)
        log = await read_journal(context, self.session_id, self.root_id)
        return View() if log is None else fold(log)

    async def check(self) -> View:
        """Compare what a new reader finds, and one that remembers what it found at the last check."""
        self._compare(await self.load(self.recent))
        view = await self.load()
        self._compare(view)
        return view

    def _compare(self, view: View) -> None:
        for scope in {*self.live, *view.scopes}:
            assert view.scope(scope).messages == self.live.get(scope, [])
        assert view.scope("").documents == self.documents

    async def random_steps(self, count: int, chance: random.Random, window: int, length: int = 30) -> None:
        """Do something, often in several scopes, and keep about so many messages alive."""
        for _ in range(count):
            text = "x" * chance.randrange(length)
            scope = chance.choice(["", "", "", "g/x"])
            live = self.live.setdefault(scope, [])
            match chance.randrange(9):
                case 0 | 1 | 2 | 3:
                    await self.say(*[text] * chance.randrange(1, 4), scope=scope)
                case 4 if live:
                    await self.change(chance.randrange(len(live)), text, scope)
                case 5 if len(live) > window:
                    await self.trim(window, scope)
                case 6:
                    await self.use_tool(chance.randrange(100))
                case 7:
                    await self.set(chance.choice("ab"), text.encode())
                case _:
                    await self.invoke()


async def small_journal(store: StateStore, rounds: Sequence[int] = (5, 7)) -> Script:
    """Make a journal with a checkpoint, a tail, long commits, a takeover and what a compaction left behind."""
    script = Script(store)
    chance = random.Random(7)
    for steps in rounds:
        await script.own()
        await script.random_steps(steps, chance, window=6)
        await script.say("long " * 1000)
        await script.pack()
        await script.random_steps(3, chance, window=6)
    await script.write(SegmentsPlanned(("orphan",)))
    return script
