"""What the records of a journal add up to, worked out a second time, from the very first record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.prove.checker.sealed import value_of
from tests.prove.checker.stored import (
    ACQUIRED,
    CLOSED,
    DOCUMENT,
    FINISHED,
    NOTED,
    RELEASED,
    SPLICED,
    STARTED,
    TOOL_FINISHED,
    TOOL_STARTED,
    TRIED,
    StoredJournal,
)


@dataclass
class Invocation:
    """The newest invocation of a scope."""

    id: str
    key: str | None
    prompt: bytes
    outcome: str | None = None
    result: bytes | None = None


@dataclass
class Scope:
    """What is live in one scope. `results` are those that no message has taken up, `tries` the last failures."""

    numbers: list[int] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    tries: dict[str, list[Any]] = field(default_factory=dict)
    invocation: Invocation | None = None

    def close_batch(self) -> None:
        """Forget the tools of the batch that is over."""
        self.results, self.started, self.tries = {}, set(), {}


@dataclass
class Folded:
    """What a journal says.

    Attributes:
        scopes: What is live, by scope.
        messages: Every message, by number.
        owner: Who has acquired and not released it.
        owner_at: Who owned it at each slot, after its first record.
        finished: Outcome and result by the id that the caller gave.
        problems: What cannot be.
    """

    scopes: dict[str, Scope] = field(default_factory=dict)
    messages: dict[int, Any] = field(default_factory=dict)
    owner: list[Any] | None = None
    owner_at: dict[int, list[Any] | None] = field(default_factory=dict)
    finished: dict[str, tuple[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def live(self, scope: str = "") -> list[Any]:
        """Get the live messages of a scope."""
        return [self.messages[number] for number in self.scopes.get(scope, Scope()).numbers]

    def document(self, name: str, scope: str = "") -> Any:
        """Get a document of a scope; None if there is none."""
        packed = self.scopes.get(scope, Scope()).documents.get(name)
        return None if packed is None else value_of(packed)

    def note(self, kind: str, scope: str = "") -> Any:
        """Get a note of a scope; None if there is none."""
        packed = self.scopes.get(scope, Scope()).notes.get(kind)
        return None if packed is None else value_of(packed)


def fold(journal: StoredJournal, through: int | None = None) -> Folded:
    """Apply every record from the first slot on, packed or not; compare with the checkpoint on the way."""
    folding = _Folding(journal)
    for number in sorted(journal.commits):
        if through is not None and number > through:
            break
        for record in journal.commits[number]:
            folding.apply(number, record)
        folding.folded.owner_at.setdefault(number, folding.folded.owner)
        if journal.head is not None and number == journal.head.sequence:
            folding.compare_with_checkpoint()
    return folding.folded


class _Folding:
    def __init__(self, journal: StoredJournal) -> None:
        self._journal = journal
        self._packed = journal.head.sequence if journal.head else 0
        self._next = 0
        self.folded = Folded()

    def apply(self, number: int, record: list[Any]) -> None:
        folded = self.folded
        kind, *fields = record
        if kind == ACQUIRED:
            if (folded.owner is not None) != fields[2]:
                folded.problems.append(f"slot {number}: takeover={fields[2]} with owner {folded.owner}")
            folded.owner = fields
            folded.owner_at[number] = fields
            return
        if folded.owner is None:
            folded.problems.append(f"slot {number}: a record of kind {kind} though nobody owns the journal")
        folded.owner_at.setdefault(number, folded.owner)
        if kind == RELEASED:
            if folded.owner is not None and folded.owner[0] != fields[0]:
                folded.problems.append(f"slot {number}: released by somebody else")
            folded.owner = None
        elif kind == CLOSED:
            self._close(fields[0])
        elif kind in (STARTED, SPLICED, TOOL_STARTED, TOOL_FINISHED, DOCUMENT, FINISHED, NOTED, TRIED):
            self._in_scope(number, folded.scopes.setdefault(fields[0], Scope()), kind, fields[1:])

    def _in_scope(self, number: int, scope: Scope, kind: int, fields: list[Any]) -> None:
        if kind == SPLICED:
            self._splice(number, scope, *fields)
        elif kind == TOOL_STARTED:
            scope.started.add(fields[0])
        elif kind == TOOL_FINISHED:
            scope.started.discard(fields[0])
            scope.tries.pop(fields[0], None)
            scope.results[fields[0]] = fields[1]
        elif kind == TRIED:
            scope.started.discard(fields[0])
            scope.tries[fields[0]] = fields
        elif kind == DOCUMENT:
            if fields[1] is None:
                scope.documents.pop(fields[0], None)
            else:
                scope.documents[fields[0]] = fields[1]
        elif kind == NOTED:
            scope.notes[fields[0]] = fields[1]
        elif kind == STARTED:
            before = scope.invocation
            if before is not None and before.id != fields[0] and before.outcome != "interrupted":
                scope.close_batch()
            scope.invocation = Invocation(fields[0], fields[1], fields[2])
        else:
            self._finish(number, scope, *fields)

    def _finish(self, number: int, scope: Scope, identity: str, outcome: str, result: bytes) -> None:
        now = scope.invocation
        if now is None or now.id != identity or now.outcome is not None:
            self.folded.problems.append(f"slot {number}: invocation {identity} finishes, and does not run")
            return
        now.outcome, now.result = outcome, result
        if outcome != "interrupted":
            scope.close_batch()
        if now.key is not None:
            self.folded.finished.pop(now.key, None)
            self.folded.finished[now.key] = (outcome, value_of(result))

    def _splice(self, number: int, scope: Scope, at: int, drop: int, bodies: list[Any]) -> None:
        length = len(scope.numbers)
        if at + drop > length:
            self.folded.problems.append(f"slot {number}: messages {at}+{drop} of {length} are replaced")
        added = [self._message(number, scope, body) for body in bodies]
        scope.numbers[at : at + drop] = added
        appended = added[drop:] if at + drop == length else []
        if any(self.folded.messages[each].get("role") == "assistant" for each in appended):
            scope.close_batch()

    def _message(self, number: int, scope: Scope, body: Any) -> int:
        ordinal, self._next = self._next, self._next + 1
        if number <= self._packed:
            packed = self._journal.messages.get(ordinal)
            if packed is None:
                self.folded.problems.append(f"slot {number}: message {ordinal} is in no segment")
                packed = b"\x80"
            message = value_of(packed)
            for block in message.get("content") or []:
                if isinstance(block, dict) and "toolResult" in block:
                    scope.results.pop(block["toolResult"].get("toolUseId"), None)
        elif isinstance(body, bytes):
            message = value_of(body)
        else:
            template, ids = body
            lost = [each for each in ids if each not in scope.results]
            if lost:
                self.folded.problems.append(f"slot {number}: a message is made of results {lost} that are not there")
            message = value_of(template)
            results = [value_of(scope.results.pop(each)) for each in ids if each in scope.results]
            message["content"] = [{"toolResult": result} for result in results]
        self.folded.messages[ordinal] = message
        return ordinal

    def _close(self, path: str) -> None:
        scopes = self.folded.scopes
        for name in [name for name in scopes if not path or name == path or name.startswith(f"{path}/")]:
            del scopes[name]

    def compare_with_checkpoint(self) -> None:
        """What a compaction wrote in place of the commits must be what they add up to."""
        folded, checkpoint = self.folded, self._journal.checkpoint
        if checkpoint is None:
            folded.problems.append("the head names no checkpoint")
            return
        sequence, owner, next_ordinal, _, scopes, inline = checkpoint
        if sequence != self._packed or next_ordinal != self._next or (owner or None) != folded.owner:
            found = (sequence, next_ordinal, owner)
            folded.problems.append(f"checkpoint says {found}, not {(self._packed, self._next, folded.owner)}")
        stored = {plain[0]: plain for plain in scopes}
        for name in stored.keys() ^ folded.scopes.keys():
            folded.problems.append(f"checkpoint and history differ in scope {name!r}")
        for name in stored.keys() & folded.scopes.keys():
            self._compare_scope(name, folded.scopes[name], stored[name])
        for ordinal, packed in inline.items():
            if value_of(packed) != folded.messages.get(ordinal):
                folded.problems.append(f"checkpoint has another message {ordinal} than the segment")

    def _compare_scope(self, name: str, mine: Scope, stored: list[Any]) -> None:
        _, ranges, documents, results, _, invocation, notes, *rest = stored
        numbers = [number for first, count in ranges for number in range(first, first + count)]
        now = mine.invocation
        outcome = (now.outcome or "") if now is not None else ""
        pairs = (
            ("live messages", numbers, mine.numbers),
            ("documents", documents, mine.documents),
            ("notes", notes, mine.notes),
            ("failures", rest[0] if rest else [], list(mine.tries.values())),
            ("invocation", [invocation[0], invocation[6]] if invocation else None, [now.id, outcome] if now else None),
        )
        for what, found, expected in pairs:
            if found != expected:
                self.folded.problems.append(f"checkpoint has other {what} in scope {name!r}: {found}, not {expected}")
        for identity in set(results) - set(mine.results):
            self.folded.problems.append(f"checkpoint has a result {identity} in scope {name!r} that was never recorded")
        # What is packed lacks the bytes of results that were used later in the same time: the checkpoint has them.
        mine.results = dict(results)
