"""The facts that a journal is made of. Each is written once and never changed.

Values inside are packed already (see `codec`), so a caller packs each value once. `scope` is a path inside the root:
empty for the root itself, ``"g/sub/y"`` for an agent further down.

How they become bytes is in `wire`. A field may be added at the end of a record only together with a new tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

INTERRUPTED = "interrupted"
"""The outcome of an invocation that stopped to ask a person, and will go on in another one with what it has."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """A worker owns the journal from here on.

    Attributes:
        acquisition: Random; names this ownership.
        worker: Who (see `journal.worker`).
        takeover: The owner before had not released. Its slot is kept for ever.
        lease: Seconds of silence after which the worker may be taken for dead.
    """

    acquisition: str
    worker: str
    takeover: bool
    lease: float


@dataclass(frozen=True, slots=True)
class Released:
    """The owner writes nothing more."""

    acquisition: str


@dataclass(frozen=True, slots=True)
class InvocationStarted:
    """A prompt was accepted, or is tried again.

    Attributes:
        scope: Whose.
        invocation_id: Ours, the same for every attempt.
        key: The id that the user gave, if any.
        prompt: The prompt, packed.
        fingerprint: What the agent was made of, to notice drift.
        attempt: 1 for the first.
    """

    scope: str
    invocation_id: str
    key: str | None
    prompt: bytes
    fingerprint: bytes
    attempt: int


@dataclass(frozen=True, slots=True)
class Derived:
    """The message that answers a batch of tools. It is made of results that are recorded, so it costs nothing.

    Attributes:
        template: The message, packed, whose "content" is None.
        results: The ids of the results, in order. Content becomes one ``{"toolResult": result}`` for each.
    """

    template: bytes
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spliced:
    """The list of live messages changed: ``messages[at:at+drop] = bodies``.

    Attributes:
        scope: Whose.
        at: Where.
        drop: How many messages go.
        bodies: The messages that come, packed or derived.
    """

    scope: str
    at: int
    drop: int
    bodies: tuple[bytes | Derived, ...]


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool may run from here on; without a result it is in doubt."""

    scope: str
    tool_use_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool returned; the result is packed."""

    scope: str
    tool_use_id: str
    result: bytes


@dataclass(frozen=True, slots=True)
class Tried:
    """Something failed, and is tried again or not.

    Attributes:
        scope: Whose.
        what: The id of a tool call, or a name that no tool call has.
        attempt: Which attempt failed, counted from 1.
        error: What went wrong, packed.
        at: When, in seconds since the epoch, by the clock of the worker.
        delay: Seconds to wait from then until the next attempt; None when there is none.
    """

    scope: str
    what: str
    attempt: int
    error: bytes
    at: float
    delay: float | None


@dataclass(frozen=True, slots=True)
class DocumentSet:
    """A named part of the state has a new value, packed; None when it is gone."""

    scope: str
    name: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class InvocationFinished:
    """The invocation came to its end.

    Attributes:
        scope: Whose.
        invocation_id: Which.
        outcome: How; `INTERRUPTED` keeps the results of the batch that is under way.
        result: What the caller gets, packed.
    """

    scope: str
    invocation_id: str
    outcome: str
    result: bytes


@dataclass(frozen=True, slots=True)
class SegmentsPlanned:
    """A compaction is about to write keys that begin with these. If it dies, they are found and removed."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """A fact of an extension. The newest of each kind counts."""

    scope: str
    kind: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ScopeClosed:
    """A part of the root and everything below it is over. Its history stays, its live state goes."""

    scope: str


Record: TypeAlias = (
    Acquired
    | Released
    | InvocationStarted
    | Spliced
    | ToolStarted
    | ToolFinished
    | Tried
    | DocumentSet
    | InvocationFinished
    | SegmentsPlanned
    | Noted
    | ScopeClosed
)
