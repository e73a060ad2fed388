"""A history put in order: which process owned the journal when, and what it did meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from strands_dapr_session.testing.ledger import Entry
from tests.prove.checker.fold import Folded, fold
from tests.prove.checker.sealed import value_of
from tests.prove.checker.stored import SPLICED, STARTED, TOOL_FINISHED, Dump, StoredJournal, journal_of

_SLOT = re.compile(r"(?P<base>strands:\{[^}]*\}:[a-z2-7]+:)(?P<number>\d+)")


@dataclass(frozen=True)
class Stint:
    """One ownership of the journal.

    Attributes:
        pid: Whose.
        slot: The slot of the acquisition.
        entries: What the process did while it owned the journal, by its number in the history.
        overtaken: What it did after somebody else had taken the journal over.
    """

    pid: int
    slot: int
    entries: tuple[tuple[int, Entry], ...]
    overtaken: tuple[tuple[int, Entry], ...] = ()

    def of(self, *kinds: str) -> list[Entry]:
        """Get its entries of some kinds."""
        return [entry for _, entry in self.entries if entry.kind in kinds]


@dataclass
class Case:
    """What is judged.

    Attributes:
        history: What happened, in order. The store noted which write was "applied", whatever became of its answer.
        dump: What lay in the store at the end.
        session: The session.
        root: The root.
        lease: Seconds of silence after which the owner may be taken for dead.
        policies: In-doubt policies by the names of tools.
    """

    history: Sequence[Entry]
    dump: Dump
    session: str
    root: str
    lease: float = 3.0
    policies: dict[str, str] = field(default_factory=dict)

    @cached_property
    def journal(self) -> StoredJournal:
        """The journal as it is stored; an empty one if there is none."""
        return journal_of(self.dump, self.session, self.root) or StoredJournal("")

    @cached_property
    def folded(self) -> Folded:
        """What it adds up to."""
        return fold(self.journal)

    @cached_property
    def applied(self) -> dict[int, tuple[int, Entry]]:
        """When each slot was written, and by whom: its number in the history, and the entry."""
        found: dict[int, tuple[int, Entry]] = {}
        for index, entry in enumerate(self.history):
            if entry.kind == "applied" and (number := self.slot_of(entry["key"])) is not None:
                found.setdefault(number, (index, entry))
        return found

    def slot_of(self, key: str) -> int | None:
        """Get the number of a slot of this journal from its key."""
        found = _SLOT.fullmatch(key)
        return int(found["number"]) if found and found["base"] == self.journal.base else None

    @cached_property
    def stints(self) -> list[Stint]:
        """Every ownership, in the order of the journal."""
        begun = [
            (slot, int(record[2].split("/")[2]), self.applied[slot][0])
            for slot, record in sorted(self.journal.acquisitions().items())
            if slot in self.applied
        ]
        return [self._stint(begun, position) for position in range(len(begun))]

    def _stint(self, begun: list[tuple[int, int, int]], position: int) -> Stint:
        slot, pid, start = begun[position]
        later = begun[position + 1 :]
        end = next((index for _, other, index in later if other == pid), len(self.history))
        mine = [(index, entry) for index, entry in enumerate(self.history[start:end], start) if entry.pid == pid]
        overtaken_at = end
        if later and self.journal.acquisitions()[later[0][0]][3] and later[0][1] != pid:
            overtaken_at = later[0][2]
        return Stint(
            pid,
            slot,
            tuple(each for each in mine if each[0] < overtaken_at),
            tuple(each for each in mine if each[0] >= overtaken_at),
        )

    def records(self, kind: int, before: int | None = None) -> Iterator[tuple[int, list[Any]]]:
        """Go through the records of a kind, with their slots, up to before a slot."""
        for number in sorted(self.journal.commits):
            if before is not None and number >= before:
                return
            for record in self.journal.commits[number]:
                if record[0] == kind:
                    yield number, record

    def found(self, slot: int) -> dict[str, Any]:
        """Describe what the journal held before a slot, as crash tests describe what a process found."""
        state = fold(self.journal, slot - 1)
        messages = [message for scope in state.scopes for message in state.live(scope)]
        blocks = [block for message in messages for block in message.get("content") or []]
        results = {b["toolResult"]["toolUseId"] for b in blocks if "toolResult" in b}
        results |= {record[2] for _, record in self.records(TOOL_FINISHED, slot)}
        return {
            "messages": messages,
            "asked": [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block],
            "results": sorted(results),
            "finished": list(state.finished),
            "unfinished": [
                s.invocation.key for s in state.scopes.values() if s.invocation and not s.invocation.outcome
            ],
        }

    def asked_in(self) -> dict[str, int]:
        """Get the slot in which each tool call was asked for, by its id."""
        found: dict[str, int] = {}
        ordinal = 0
        packed = self.journal.head.sequence if self.journal.head else 0
        for number, (_, _, _, _, bodies) in self.records(SPLICED):
            for body in bodies:
                data = self.journal.messages.get(ordinal) if number <= packed else body
                ordinal += 1
                if not isinstance(data, bytes) or not data:
                    continue
                for block in value_of(data).get("content") or []:
                    if "toolUse" in block:
                        found.setdefault(block["toolUse"]["toolUseId"], number)
        return found

    def invocations(self) -> list[tuple[int, str]]:
        """List where invocations started, and their ids."""
        return [(number, record[2]) for number, record in self.records(STARTED)]
