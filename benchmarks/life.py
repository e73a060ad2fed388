"""The whole life of a session in seconds: the real log and the real packing, over a store in memory.

What it leaves there is byte for byte what would lie in any other store. Messages are as long as real ones, and all the
same, because making a million different ones would take longer than all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.conversation import conversation
from strands_dapr_session.journal.acquire import Wish, acquire
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.layout import random_name
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import SegmentsPlanned, Spliced
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.memory import MemoryStore

if TYPE_CHECKING:
    from strands_dapr_session.journal.layout import Layout

_IN_A_COMMIT = 2


@dataclass(frozen=True)
class Life:
    """What a session came to.

    Attributes:
        store: Where it is.
        layout: Its keys.
        longest_head: Bytes of its head when that was longest.
    """

    store: MemoryStore
    layout: Layout
    longest_head: int


async def live(session: str, length: int, window: int | None) -> Life:
    """Write so many messages, and pack them whenever an owner would.

    Args:
        session: The id.
        length: How many messages.
        window: How many of them stay live; all if None.
    """
    store = MemoryStore("benchmark")
    context = Context(store, this_process)
    settings = JournalSettings()
    claim = await acquire(context, Wish(session, "default", settings, random_name(), []))
    log, longest, pending, count = LogWriter(context, claim), 0, 0, 0
    bodies = tuple(pack_value(message) for message in conversation(_IN_A_COMMIT))
    for _ in range(length // _IN_A_COMMIT):
        drop = max(0, count + _IN_A_COMMIT - window) if window is not None else 0
        records = [encode_record(Spliced("", 0, drop, ()))] if drop else []
        records.append(encode_record(Spliced("", count - drop, 0, bodies)))
        count += _IN_A_COMMIT - drop
        pending += 1
        if pending < settings.compact_slots:
            await log.write(records)
            continue
        plan, pending = f"p{random_name()}", 0
        slot = await log.write([encode_record(SegmentsPlanned((plan,))), *records])
        await compact(context, claim.layout, plan, slot.number)
        head = await store.get(claim.layout.head)
        longest = max(longest, len(head.value) if head else 0)
    return Life(store, claim.layout, longest)
