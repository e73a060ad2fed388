"""Many sessions that commit at the same time, and the bare state API writing as much. Also run as a process of its own.

What it prints there: when it began and ended, by the clock that all processes of the machine share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.conversation import conversation
from benchmarks.floor import RawStateAsync
from benchmarks.places import Addresses
from benchmarks.results import percentile
from benchmarks.subjects import Ours
from strands_dapr_session.journal.commit import prepare
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Spliced
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from strands_dapr_session.journal.journal import Journal

_TICK = 0.005
_ACQUIRED_AT_ONCE = 50


@dataclass
class Flood:
    """What a flood took.

    Attributes:
        writes: How many were acknowledged.
        began: When it began, in seconds of `time.monotonic`.
        ended: When the last write was acknowledged.
        processor: Seconds of processor time that this process spent meanwhile.
        stalls: By how many milliseconds the caller's event loop was late, many times.
    """

    writes: int
    began: float = 0.0
    ended: float = 0.0
    processor: float = 0.0
    stalls: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Writes in a second."""
        return self.writes / (self.ended - self.began)

    @property
    def p99_stall(self) -> float:
        """The 99th percentile of the stalls."""
        return percentile(self.stalls, 99)


async def ours(at: Addresses, store: str, sessions: int, commits: int) -> Flood:
    """Commit one message after the other in many sessions, which are owned before the clock starts."""
    subject, name = Ours(at, store), f"flood-{time.monotonic_ns()}"
    bodies = [pack_value(message) for message in conversation(commits)]
    journals = [subject.journal(f"{name}-{number}") for number in range(sessions)]
    await journals[0].acquire()  # which also proves the store
    for start in range(1, sessions, _ACQUIRED_AT_ONCE):
        await asyncio.gather(*(journal.acquire() for journal in journals[start : start + _ACQUIRED_AT_ONCE]))

    async def run(journal: Journal) -> None:
        for length, body in enumerate(bodies):
            journal.append(Spliced("", length, 0, (body,)))
            await journal.barrier()

    flood = await _flood(sessions * commits, [run(journal) for journal in journals])
    for start in range(0, sessions, _ACQUIRED_AT_ONCE):
        await asyncio.gather(*(journal.release() for journal in journals[start : start + _ACQUIRED_AT_ONCE]))
    return flood


async def raw(at: Addresses, store: str, sessions: int, commits: int) -> Flood:
    """Write the same bytes with the bare state API, on the caller's own event loop."""
    state = RawStateAsync(at, {"redis": "statestore"}.get(store, store))
    layout = Layout("raw", "raw", str(time.monotonic_ns()))
    opened = open_store(at.store(store))
    records = [encode_record(Spliced("", 1, 0, (pack_value(message),))) for message in conversation(commits)]
    values = [prepare(opened, layout, 1, [record]).value for record in records]

    async def run(session: int) -> None:
        for number, value in enumerate(values):
            await state.create(f"{layout.base}:{session}.{number}", value)

    flood = await _flood(sessions * commits, [run(number) for number in range(sessions)])
    await state.close()
    return flood


async def _flood(writes: int, runs: list[Awaitable[None]]) -> Flood:
    flood = Flood(writes)
    watch = asyncio.create_task(_watch(flood.stalls))
    flood.began, spent = time.monotonic(), time.process_time()
    await asyncio.gather(*runs)
    flood.ended, flood.processor = time.monotonic(), time.process_time() - spent
    watch.cancel()
    return flood


async def _watch(stalls: list[float]) -> None:
    """Note how late the event loop is."""
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        stalls.append(max(0.0, time.perf_counter() - due) * 1000)


KINDS: dict[str, Callable[[Addresses, str, int, int], Coroutine[Any, Any, Flood]]] = {"ours": ours, "raw": raw}


def main() -> None:
    """Flood once, as one of several processes."""
    wanted = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)

    flood = asyncio.run(
        KINDS[wanted["kind"]](Addresses(**wanted["at"]), wanted["store"], wanted["sessions"], wanted["commits"])
    )
    found = {"began": flood.began, "ended": flood.ended, "writes": flood.writes, "processor": flood.processor}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
