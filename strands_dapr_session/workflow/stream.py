"""Following a run step by step, from any process, by reading what its journal is told. The run does not notice."""

from __future__ import annotations

from asyncio import sleep
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from strands_dapr_session.journal.commit import part_keys, read_records
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.head import read_head
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.past import read_history, with_results
from strands_dapr_session.journal.registry import roots_of
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.derived import fill
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    InvocationFinished,
    InvocationStarted,
    Spliced,
    ToolFinished,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strands_dapr_session.records.records import Record
    from strands_dapr_session.stores.base import Entry, StateStore
    from strands_dapr_session.workflow.runs import Runs

EventKind: TypeAlias = Literal["started", "message", "tool_result", "finished"]

_LOOK_AHEAD: Final = 16
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25
_EVENTS_PER_COMMIT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class RunEvent:
    """A recorded step of a run.

    Attributes:
        offset: Its place. Offsets grow, and stay the same for ever; they are not consecutive.
        kind: ``"started"`` (again with each attempt that says so), ``"message"``, ``"tool_result"``, ``"finished"``.
        path: What it happened to: empty for the agent or orchestrator itself, ``"node"`` or ``"node/tool"`` below it.
        data: The message, the tool result, or ``{"attempt": ...}`` or ``{"outcome": ...}``, as Strands has them.
    """

    offset: int
    kind: EventKind
    path: str
    data: dict[str, Any]


class Follower:
    """Follows one run. All methods are called on the I/O loop."""

    def __init__(self, store: StateStore, runs: Runs, invocation_id: str, from_offset: int) -> None:
        """Set up; nothing is read yet.

        Args:
            store: Where the run is.
            runs: The runs of the store.
            invocation_id: The run.
            from_offset: The offset of the last event that is known; 0 for none.
        """
        self._store = store
        self._runs = runs
        self._invocation_id = invocation_id
        self._reader = _Reader(invocation_id, from_offset)
        self._layout: Layout | None = None
        self._slot = 0
        self._pause = _FIRST_PAUSE

    async def further(self) -> list[RunEvent] | None:
        """Wait for the next events; None when there will be none.

        Raises:
            RunNotFoundError: Nothing was submitted under this id.
            StoredDataError: Something is damaged.
            StoreError: The store cannot be read.
        """
        while True:
            is_over = (await self._runs.state(self._invocation_id)).is_over  # first: what it wrote before is there then
            events = await self._read()
            if events:
                self._pause = _FIRST_PAUSE
                return events
            if is_over or self._reader.is_over:
                return None
            await sleep(self._pause)
            self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)

    async def _read(self) -> list[RunEvent]:
        """Read what is new."""
        if self._layout is None:
            self._layout = await self._find()
            if self._layout is None:
                return []
        events: list[RunEvent] = []
        while True:
            before = self._slot
            events += await self._read_slots(self._layout)
            if self._slot == before or events:
                return events

    async def _find(self) -> Layout | None:
        """Find the journal that the run writes to."""
        request = await self._runs.request(self._invocation_id)
        context = Context(self._store, this_process)
        places = {
            root: place.live for root, place in (await roots_of(context, request.session_id)).items() if place.live
        }
        for root, incarnation in places.items():
            layout = Layout(request.session_id, root, incarnation or "")
            if len(places) == 1 or await self._is_in(layout):
                return layout
        return None

    async def _is_in(self, layout: Layout) -> bool:
        commits = await read_history(self._store, layout.session_id, layout.root_id)
        return any(
            isinstance(record, InvocationStarted) and record.key == self._invocation_id
            for _, records in commits
            for record in records
        )

    async def _read_slots(self, layout: Layout) -> list[RunEvent]:
        """Read the next commits, from their own keys where they still are."""
        numbers = range(self._slot + 1, self._slot + _LOOK_AHEAD + 1)
        keys = [layout.slot(number) for number in numbers]
        entries = await self._store.get_many([layout.head, *keys])
        events: list[RunEvent] = []
        for number in numbers:
            entry = entries.get(layout.slot(number))
            records = None if entry is None else await self._records(layout, number, entry)
            if records is None or isinstance(records[0], Acquired):
                # One that was packed and deleted, or that does not hold: see `journal.acquire`. The head knows.
                packed = read_head(layout, await self._store.get(layout.head)).sequence
                if packed >= number:
                    return events + await self._read_packed(layout, packed)
            if records is None:
                break
            events += self._take(number, records)
        return events

    async def _records(self, layout: Layout, number: int, entry: Entry) -> list[Record] | None:
        parts = part_keys(layout, number, entry)
        found = await self._store.get_many(parts) if parts else {}
        return read_records(layout, number, entry, found) if len(found) == len(parts) else None

    async def _read_packed(self, layout: Layout, packed: int) -> list[RunEvent]:
        events: list[RunEvent] = []
        commits = await read_history(self._store, layout.session_id, layout.root_id)
        for number, records in with_results(commits, layout.head):
            if number > self._slot:
                events += self._take(number, records)
        self._slot = max(self._slot, packed)
        return events

    def _take(self, number: int, records: Sequence[Record]) -> list[RunEvent]:
        self._slot = number
        return list(self._reader.read(number, records))


class _Reader:
    """Makes events of records, the same ones whether or not they have been packed."""

    def __init__(self, invocation_id: str, from_offset: int) -> None:
        self._key = invocation_id
        self._from = from_offset
        self._is_ours = False
        self._results: dict[tuple[str, str], bytes] = {}
        self._id = ""
        self.is_over = False

    def read(self, number: int, records: Sequence[Record]) -> Iterator[RunEvent]:
        index = 0
        for record in records:
            for kind, data in self._steps(record):
                offset = number * _EVENTS_PER_COMMIT + index
                index += 1
                if offset > self._from:
                    yield RunEvent(offset, kind, getattr(record, "scope", ""), data)

    def _steps(self, record: Record) -> Iterator[tuple[EventKind, dict[str, Any]]]:
        if isinstance(record, InvocationStarted) and not record.scope:
            self._is_ours = record.key == self._key
            if self._is_ours:
                self._id = record.invocation_id
                yield "started", {"attempt": record.attempt}
        if isinstance(record, ToolFinished) and record.result:
            self._results[record.scope, record.tool_use_id] = record.result
        messages = list(self._messages(record)) if isinstance(record, Spliced) else []
        if not self._is_ours:
            return
        if isinstance(record, ToolFinished) and record.result:
            yield "tool_result", unpack_value(record.result)
        for message in messages:
            yield "message", message
        if isinstance(record, InvocationFinished) and not record.scope and record.invocation_id == self._id:
            self._is_ours, self.is_over = False, True
            yield "finished", {"outcome": record.outcome}

    def _messages(self, record: Spliced) -> Iterator[dict[str, Any]]:
        """Unpack what was appended. What replaced something is no step."""
        for body in record.bodies:
            if isinstance(body, Derived):
                results = [self._results.pop((record.scope, name)) for name in body.results]
                packed = fill(body.template, results)
            else:
                packed = body
            if not record.drop:
                message: dict[str, Any] = unpack_value(packed)
                yield message
