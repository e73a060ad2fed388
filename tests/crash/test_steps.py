"""A step is recorded as a whole or not at all, however large it is."""

from __future__ import annotations

import time

import pytest

from strands_dapr_session.errors import FencedError, TooLargeError
from strands_dapr_session.journal.commit import LONGEST_COMMIT
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import DocumentSet, Spliced
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, FaultyStore

MEGABYTE = 1024 * 1024


def message(size: int) -> bytes:
    return pack_value({"role": "user", "content": [{"text": "x" * size}]})


def slots(store: MemoryStore) -> list[str]:
    keys = store.keys()
    return [key for key in keys if "{s:r}" in key]


async def test_what_belongs_together_is_never_seen_apart() -> None:
    inner = MemoryStore()
    moments: list[MemoryStore] = []

    def keep(_: Call) -> None:
        moments.append(MemoryStore())
        moments[-1]._entries = dict(inner._entries)

    journal = Journal(FaultyStore(inner, on_applied=keep), "s", "r")
    await journal.acquire()
    for number in range(1, 5):
        body, progress = message(MEGABYTE if number % 2 else 10), pack_value(number)
        journal.append(Spliced("", number - 1, 0, (body,)), DocumentSet("", "progress", progress))
    await journal.barrier()
    assert len((await journal.load()).scope("").messages) == 4
    for moment in moments:
        scope = (await Journal(moment, "s", "r").load()).scope("")
        assert scope.documents.get("progress") == (pack_value(len(scope.messages)) if scope.messages else None)


async def test_whoever_stood_still_for_a_lease_proves_that_it_still_owns() -> None:
    store = MemoryStore()
    stalled, other = (Journal(store, "s", "r", settings=JournalSettings(lease=0.2, on_busy="steal")) for _ in range(2))
    await stalled.acquire()
    stalled.append(Spliced("", 0, 0, (message(10),)))
    await stalled.barrier()
    await stalled.barrier()
    assert len(slots(store)) == 2
    time.sleep(0.3)  # noqa: ASYNC251 - as a process does that is stopped, its heart with it
    await stalled.barrier()
    assert len(slots(store)) == 3
    time.sleep(0.3)  # noqa: ASYNC251
    await other.acquire()
    with pytest.raises(FencedError):
        await stalled.barrier()


async def test_a_step_that_no_commit_can_hold_is_refused_as_a_whole() -> None:
    journal = Journal(MemoryStore(), "s", "r")
    await journal.acquire()
    with pytest.raises(TooLargeError, match="Spliced"):
        journal.append(
            Spliced("", 0, 0, (message(LONGEST_COMMIT // 2),)), Spliced("", 1, 0, (message(LONGEST_COMMIT // 2),))
        )
    journal.append(Spliced("", 0, 0, (message(10),)))
    await journal.release()
    assert len((await journal.load()).scope("").messages) == 1
