"""Bytes written over the life of a session, packing included, beside the payload: its messages as MessagePack.

Counted in a store in memory, where what is written is what any store gets. What each value was before compression is
found by opening it. The life is that of an agent which commits each turn; nothing of it is skipped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from benchmarks.conversation import messages_for_ever
from benchmarks.results import Row
from benchmarks.subjects import OURS, fill_journal
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import open_sealed
from strands_dapr_session.stores.memory import MemoryStore

if TYPE_CHECKING:
    from benchmarks.bench import Bench

LENGTHS = (1000, 10_000)
WINDOW = 40


class _Counting(MemoryStore):
    """Adds up what is written."""

    def __init__(self) -> None:
        super().__init__("bytes")
        self.stored = self.plain = 0

    async def create(self, key: str, value: bytes) -> None:
        await super().create(key, value)
        self._count(key, value)

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        await super().replace(key, value, etag)
        self._count(key, value)

    def _count(self, key: str, value: bytes) -> None:
        self.stored += len(value)
        self.plain += len(open_sealed(key, value))


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    rows = []
    for length in bench.sizes(LENGTHS):
        bench.say(f"lives of {length} messages")
        messages = messages_for_ever()
        payload = sum(len(pack_value(next(messages))) for _ in range(length))
        for window in (WINDOW, None):
            store = _Counting()
            asyncio.run(fill_journal(Journal(store, "life", "default"), messages_for_ever(), length, window))
            setting: dict[str, str | int] = {"messages": length, "live": window or "all"}
            rows += [
                Row.single(OURS, setting, "written beside payload, before compression", "times", store.plain / payload),
                Row.single(OURS, setting, "written beside payload", "times", store.stored / payload),
            ]
    return rows
