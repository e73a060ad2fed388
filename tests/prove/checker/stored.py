"""What lies in a store, read from a dump of it: registry, journals, and what every single key is there for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.prove.checker.sealed import UnreadableError, opened, value_of, values_in

ACQUIRED, RELEASED, STARTED, SPLICED, TOOL_STARTED, TOOL_FINISHED = 1, 2, 3, 4, 5, 6
DOCUMENT, FINISHED, PLANNED, NOTED, CLOSED, TRIED = 7, 8, 9, 10, 11, 12

Dump = Mapping[str, bytes]
"""All keys of a store, without what a sidecar puts in front of them."""

_JOURNAL_KEY = re.compile(r"strands:\{(?P<names>[^}]*)\}:(?P<incarnation>[a-z2-7]+):(?P<rest>.+)")


@dataclass
class Head:
    """The head of a journal, field by field as it is stored."""

    session: str
    root: str
    stamp: bytes
    sequence: int
    owner: list[Any] | None
    checkpoint: list[Any] | None
    checkpoint_bytes: int
    segments: list[list[Any]]
    kept: list[int]
    older: list[Any] | None
    swept: int
    parts: list[list[int]]
    garbage: list[list[Any]]
    orphans: list[str]


@dataclass
class StoredJournal:
    """One incarnation of a journal.

    Attributes:
        base: What its keys begin with.
        head: Its head; None if it was never packed.
        commits: The records of every commit ever, by slot; those of packed ones without what was packed elsewhere.
        tail: The slots after the head.
        messages: All messages in segments, by number.
        checkpoint: The packed view.
        explained: Keys that have a reason to be there.
        stray: Slots below the head that nothing needs: acquisitions that did not hold, and writes that came too late.
        problems: What is wrong with it.
    """

    base: str
    head: Head | None = None
    commits: dict[int, list[Any]] = field(default_factory=dict)
    tail: list[int] = field(default_factory=list)
    messages: dict[int, bytes] = field(default_factory=dict)
    checkpoint: list[Any] | None = None
    explained: set[str] = field(default_factory=set)
    stray: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The last slot."""
        return max(self.commits, default=0)

    def acquisitions(self) -> dict[int, list[Any]]:
        """Get every acquisition by its slot."""
        return {n: record for n, records in self.commits.items() for record in records if record[0] == ACQUIRED}


def registry(dump: Dump) -> dict[str, dict[str, list[str]]]:
    """Read which sessions and roots exist: the live incarnation, empty if there is none, then the dead ones."""
    found: dict[str, dict[str, list[str]]] = {}
    for key, data in dump.items():
        if key.startswith("strands:sessions:"):
            _, sessions = value_of(opened(key, data), key)
            found.update(sessions)
    return found


def quoted(name: str) -> str:
    """Write an id as keys have it."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,39}", name):
        return name
    import base64  # noqa: PLC0415

    digest = base64.b32encode(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=15).digest())
    return f".{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:14]}.{digest.decode().rstrip('=').lower()}"


def keys_of_session(dump: Dump, session: str) -> list[str]:
    """List the keys of all journals of a session."""
    return sorted(key for key in dump if key.startswith(f"strands:{{{quoted(session)}:"))


def journal_of(dump: Dump, session: str, root: str) -> StoredJournal | None:
    """Read the live journal of a root; None if there is none."""
    incarnations = registry(dump).get(session, {}).get(root, [""])
    return read_journal(dump, session, root, incarnations[0]) if incarnations[0] else None


def read_journal(dump: Dump, session: str, root: str, incarnation: str) -> StoredJournal:
    """Read one incarnation."""
    journal = StoredJournal(f"strands:{{{quoted(session)}:{quoted(root)}}}:{incarnation}:")
    try:
        _Reader(dump, journal).read()
    except UnreadableError as error:
        journal.problems.append(str(error))
    if journal.head is not None and (journal.head.session, journal.head.root) != (session, root):
        journal.problems.append(f"the head belongs to {journal.head.session!r}/{journal.head.root!r}")
    return journal


def unexplained(dump: Dump, session: str) -> list[str]:
    """List the keys of a session that nothing accounts for."""
    explained: set[str] = set()
    for root, (live, *dead) in registry(dump).get(session, {}).items():
        if live:
            journal = read_journal(dump, session, root, live)
            explained |= journal.explained | set(journal.stray)
        for incarnation in dead:
            base = f"strands:{{{quoted(session)}:{quoted(root)}}}:{incarnation}:"
            explained |= {key for key in dump if key.startswith(base)}
    return [key for key in keys_of_session(dump, session) if key not in explained]


class _Reader:
    def __init__(self, dump: Dump, journal: StoredJournal) -> None:
        self._dump = dump
        self._journal = journal
        self._base = journal.base
        self._keys = [key for key in dump if key.startswith(self._base)]

    def read(self) -> None:
        journal, head_key = self._journal, f"{self._base}head"
        if head_key in self._dump:
            journal.head = Head(*value_of(opened(head_key, self._dump[head_key]), head_key))
            journal.explained.add(head_key)
            self._read_packed(journal.head)
        sequence = journal.head.sequence if journal.head else 0
        numbers = sorted(number for number in self._slots() if number > sequence)
        for expected, number in enumerate(numbers, sequence + 1):
            if number != expected:
                journal.problems.append(f"slot {expected} is missing though slot {number} exists")
                break
        for number in numbers:
            journal.commits[number] = self._commit(number)
            journal.tail.append(number)
            journal.explained.add(f"{self._base}{number}")
        self._explain_leftovers(sequence)

    def _slots(self) -> Iterator[int]:
        for key in self._keys:
            rest = key.removeprefix(self._base)
            if rest.isdigit():
                yield int(rest)

    def _commit(self, number: int) -> list[Any]:
        key = f"{self._base}{number}"
        items = value_of(opened(key, self._dump[key]), key)
        if len(items) == 3 and isinstance(items[1], int) and isinstance(items[2], bytes):
            keys = [f"{key}.{index}" for index in range(items[1])]
            self._journal.explained.update(keys)
            payload = b"".join(self._payload(part) for part in keys)
            if hashlib.blake2b(payload, digest_size=16).digest() != items[2]:
                raise UnreadableError(key, "its parts do not belong together")
            items = value_of(payload, key)
        if not items or not isinstance(items[0], bytes) or len(items[0]) != 16:
            raise UnreadableError(key, "a commit without an id")
        records: list[Any] = items[1:]
        return records

    def _payload(self, key: str) -> bytes:
        if key not in self._dump:
            raise UnreadableError(key, "missing, and needed")
        return opened(key, self._dump[key])

    def _run(self, run: list[Any]) -> bytes:
        plan, first, count = run
        keys = [f"{self._base}{plan}.{first + offset}" for offset in range(count)]
        self._journal.explained.update(keys)
        return b"".join(map(self._payload, keys))

    def _read_packed(self, head: Head) -> None:
        journal = self._journal
        segments, kept, older = [*head.segments], [*head.kept], head.older
        while older is not None:
            more, gone, older = value_of(self._run(older), f"{self._base}page")
            segments, kept = [*more, *segments], [*gone, *kept]
        for run, first, count, _, _ in segments:
            start, bodies, history = value_of(self._run(run), f"{self._base}{run[0]}.{run[1]}")
            if (start, len(bodies)) != (first, count):
                journal.problems.append(f"segment {run} holds messages {start}+{len(bodies)}, not {first}+{count}")
            journal.messages.update(enumerate(bodies, first))
            for number, *records in values_in(history):
                if number in journal.commits:
                    journal.problems.append(f"slot {number} is in two segments")
                journal.commits[number] = records
        missing = set(range(1, head.sequence + 1)) - journal.commits.keys()
        if missing:
            journal.problems.append(f"the history of packed slots lacks {sorted(missing)}")
        if head.checkpoint is not None:
            journal.checkpoint = value_of(self._run(head.checkpoint), f"{self._base}checkpoint")
        journal.explained.update(f"{self._base}{number}" for number in kept)

    def _explain_leftovers(self, sequence: int) -> None:
        """Find the reason of keys that are there only for a while, or only because somebody came too late."""
        journal, head = self._journal, self._journal.head
        swept, garbage, orphans = (head.swept, head.garbage, head.orphans) if head else (0, [], [])
        for plan, first, count in garbage:
            journal.explained.update(f"{self._base}{plan}.{first + offset}" for offset in range(count))
        records = [record for number in journal.tail for record in journal.commits[number]]
        plans = {*orphans, *(plan for record in records if record[0] == PLANNED for plan in record[1])}
        may_have_parts = {number for number in journal.tail if any(r[0] == ACQUIRED for r in journal.commits[number])}
        may_have_parts |= {journal.end + 1, *range(swept + 1, sequence + 1)}
        for key in self._keys:
            rest = key.removeprefix(self._base)
            name, _, index = rest.partition(".")
            if rest.isdigit():
                if swept < int(rest) <= sequence:
                    journal.explained.add(key)
                elif int(rest) <= swept and key not in journal.explained:
                    journal.stray.append(key)
            elif index.isdigit() and (name in plans or (name.isdigit() and int(name) in may_have_parts)):
                journal.explained.add(key)
