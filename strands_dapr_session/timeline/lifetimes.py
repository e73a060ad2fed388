"""What the agents of a session had, each thing once, and from which step to which: a whole past without repetition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from strands_dapr_session.hooks.checks import check_messages, check_tool_results
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.records.codec import unpack_values
from strands_dapr_session.records.records import DocumentSet, Spliced
from strands_dapr_session.records.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from strands_dapr_session.journal.history import Identity
    from strands_dapr_session.journal.past import Commits
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import ScopeView

LifetimeKind: TypeAlias = Literal["message", "tool_result", "state", "conversation_manager_state"]
"""What it is that an agent had. A ``tool_result`` is one of a batch of which other results are missing."""

STATES: Final[tuple[LifetimeKind, ...]] = ("state", "conversation_manager_state")
"""Which documents of an agent are told of."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Something that an agent had for some time.

    Attributes:
        path: The agent: empty for the one that was given the session manager, ``"node"`` or ``"node/…"`` below it.
        kind: What it is.
        value: The message, tool result, or state; None for a state that was not kept.
        first: The first step at which the agent had it.
        last: The last one, or a number between that and the next step; None if the agent has it still.
    """

    path: str
    kind: LifetimeKind
    value: Any
    first: int
    last: int | None


def lifetimes_of(commits: Commits, unknown_at: Callable[[int], Collection[Identity]], key: str) -> list[Lifetime]:
    """Tell what agents had.

    Args:
        commits: All records of a journal, by commits.
        unknown_at: Tells which values are not known at a commit.
        key: The session and root, for errors.

    Returns:
        For each agent first its messages, so that those of one step are in their order, and then the rest, in the order
        in which it came.

    Raises:
        DamagedDataError: What is recorded is not what agents record.
    """
    view = View(keep_dropped=True)
    agents: dict[str, _Agent] = {}
    for number, records in commits:
        for record in records:
            _watch(record, view, agents, number, key)
        unknown = unknown_at(number)
        for path in dict.fromkeys((*agents, *view.scopes)):
            if not is_stash(path):
                agents.setdefault(path, _Agent()).look(view.scope(path), number, unknown)
    return [each for path, agent in agents.items() for each in agent.lifetimes(path, view.bodies or {}, key)]


def _watch(record: Record, view: View, agents: dict[str, _Agent], number: int, key: str) -> None:
    """Apply a record, and follow the messages that it adds and drops."""
    if isinstance(record, Spliced) and not is_stash(record.scope):
        agent = agents.setdefault(record.scope, _Agent())
        dropped = view.scope(record.scope).ordinals[record.at : record.at + record.drop]
        view.apply(record, key=key)
        live = view.scope(record.scope).ordinals
        agent.splice(live, record.at, len(record.bodies), number)
        agent.drop(dropped, number)
        return
    before = dict(view.scopes)
    view.apply(record, key=key)
    for path in before.keys() - view.scopes.keys():
        if path in agents:
            agents[path].drop(before[path].ordinals, number)


class _Agent:
    """Follows what one agent has."""

    def __init__(self) -> None:
        self._order: list[int] = []
        self._born: dict[int, int] = {}
        self._dropped: dict[int, int] = {}
        self._has: dict[tuple[LifetimeKind, str], tuple[bytes, int]] = {}
        self._had: list[tuple[LifetimeKind, bytes, int, int | None]] = []

    def splice(self, live: Any, at: int, count: int, number: int) -> None:
        """Put new messages where they stand among all that were there at any time."""
        new = list(live[at : at + count])
        place = len(self._order)
        if at + count < len(live):
            place = self._order.index(live[at + count])
        self._order[place:place] = new
        self._born.update(dict.fromkeys(new, number))

    def drop(self, ordinals: Any, number: int) -> None:
        """Say that messages are gone."""
        self._dropped.update(dict.fromkeys(ordinals, number))

    def look(self, scope: ScopeView, number: int, unknown: Collection[Identity]) -> None:
        """See what else it has after a commit."""
        has: dict[tuple[LifetimeKind, str], bytes] = {("tool_result", name): r for name, r in scope.results.items()}
        for name in STATES:
            if (DocumentSet, scope.path, name) in unknown:
                has[name, ""] = b""
            elif name in scope.documents:
                has[name, ""] = scope.documents[name]
        for what, (packed, since) in list(self._has.items()):
            if has.get(what) != packed:
                self._had.append((what[0], packed, since, number - 1))
                del self._has[what]
        for what, packed in has.items():
            self._has.setdefault(what, (packed, number))

    def lifetimes(self, path: str, bodies: dict[int, bytes], key: str) -> Iterator[Lifetime]:
        """Tell all of it."""
        lasts = {ordinal: number - 1 for ordinal, number in self._dropped.items()}
        seen = [each for each in self._order if lasts.get(each, self._born[each]) >= self._born[each]]
        messages = unpack_values([bodies[ordinal] for ordinal in seen], key=key)
        check_messages(messages, key=key)
        for ordinal, message in zip(seen, messages, strict=True):
            yield Lifetime(path, "message", message, self._born[ordinal], lasts.get(ordinal))
        still = [(kind, packed, since, None) for (kind, _), (packed, since) in self._has.items()]
        rest = sorted([*self._had, *still], key=lambda each: each[2])
        values = iter(unpack_values([packed for _, packed, _, _ in rest if packed], key=key))
        for kind, packed, first, last in rest:
            value = next(values) if packed else None
            if kind == "tool_result":
                check_tool_results([value], key=key)
            yield Lifetime(path, kind, value, first, last)
