"""The invariants, each a function from a case to what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from strands_dapr_session.testing.ledger import Entry
from tests.prove.checker.evidence import Case
from tests.prove.checker.stored import (
    ACQUIRED,
    TOOL_FINISHED,
    TOOL_STARTED,
    Dump,
    keys_of_session,
    registry,
    unexplained,
)

_SLACK = 0.02
"""Seconds in which a process that goes on after a pause may still do what it had been allowed before."""


@dataclass(frozen=True)
class Finding:
    """Something that must not be.

    Attributes:
        invariant: Which invariant it breaks.
        what: What is wrong.
        about: Words that the entries of the history have which tell how it came about.
    """

    invariant: str
    what: str
    about: tuple[str, ...] = ()


Rule: TypeAlias = Callable[[Case], Iterator[Finding]]


def nothing_is_lost(case: Case) -> Iterator[Finding]:
    """The log has no gap, can be read, and adds up: checkpoints say what the records before them say."""
    for problem in (*case.journal.problems, *case.folded.problems):
        yield Finding("no gap", problem)


def no_orphans(case: Case) -> Iterator[Finding]:
    """Every key is there for a reason."""
    late = {entry["key"] for entry in case.history if entry.kind == "applied" and entry.details.get("late")}
    for key in unexplained(case.dump, case.session):
        if key not in late:
            yield Finding("no orphan key", key, (key,))


def one_owner(case: Case) -> Iterator[Finding]:
    """Every commit in the log is of the process that owned the journal there."""
    for number, (_, entry) in case.applied.items():
        owner = case.folded.owner_at.get(number)
        if owner is None or number not in case.journal.commits:
            continue
        if int(owner[1].split("/")[2]) != entry.pid:
            yield Finding("one owner", f"slot {number} is of process {entry.pid}, and the owner was {owner[1]}")


def acknowledged_stays(case: Case) -> Iterator[Finding]:
    """What a process was told to be written is what the log holds."""
    for index, entry in enumerate(case.history):
        if entry.kind != "acknowledged" or (number := case.slot_of(entry["key"])) is None:
            continue
        if number not in case.journal.commits:
            yield Finding("nothing acknowledged is missing", f"slot {number} was acknowledged and is not there")
        elif case.applied[number][1].pid != entry.pid and (what := _acted_upon(case, index, entry)):
            what = f"slot {number}, of another process, was acknowledged to process {entry.pid}, and then: {what}"
            yield Finding("nothing acknowledged is missing", what)


def _acted_upon(case: Case, index: int, acknowledged: Entry) -> str | None:
    """Tell what a process did on the ground of an acknowledgement.

    An acquisition in place of a slot that was packed and deleted does not hold: the process must notice and acquire
    again before it does anything.
    """
    for position, entry in enumerate(case.history[index:], index):
        if entry.pid != acknowledged.pid:
            continue
        if entry.kind == "applied" and any(first == position for first, _ in case.applied.values()):
            return None
        if entry.kind in ("tool-start", "model-start", "returned"):
            return str(entry)
    return None


def results_rest(case: Case) -> Iterator[Finding]:
    """A tool whose result is recorded never runs again."""
    recorded = {record[2]: number for number, record in case.records(TOOL_FINISHED)}
    acknowledged = {
        (entry.pid, entry["key"]): index for index, entry in enumerate(case.history) if entry.kind == "acknowledged"
    }
    for stint in case.stints:
        for index, entry in (*stint.entries, *stint.overtaken):
            if entry.kind != "tool-start" or (slot := recorded.get(entry["id"])) is None:
                continue
            told = acknowledged.get((stint.pid, f"{case.journal.base}{slot}"))
            if slot < stint.slot or (told is not None and told < index):
                what = f"tool {entry['id']} ran in process {stint.pid} though slot {slot} has its result"
                yield Finding("recorded results never run twice", what, (entry["id"],))


def tools_start_on_record(case: Case) -> Iterator[Finding]:
    """A tool starts only when the message that asks for it is acknowledged."""
    asked = case.asked_in()
    for stint in case.stints:
        for index, entry in (*stint.entries, *stint.overtaken):
            if entry.kind != "tool-start":
                continue
            slot = asked.get(entry["id"])
            if slot is None or (slot > stint.slot and case.applied[slot][0] > index):
                what = f"tool {entry['name']} ({entry['id']}) started in process {stint.pid} before it was recorded"
                yield Finding("a tool that starts rests on acknowledged commits", what, (entry["id"],))


def calls_return_on_record(case: Case) -> Iterator[Finding]:
    """A result that a caller gets is recorded."""
    for stint in case.stints:
        for index, entry in stint.entries:
            if entry.kind != "returned" or entry["id"] is None:
                continue
            finished = [
                number for number, records in case.journal.commits.items() for record in records if record[0] == 8
            ]
            if entry["id"] not in case.folded.finished:
                what = f"call {entry['id']} returned in process {stint.pid} and is not recorded as finished"
                yield Finding("a result handed out rests on acknowledged commits", what, (entry["id"],))
            elif not any(case.applied[number][0] < index for number in finished if number in case.applied):
                what = f"call {entry['id']} returned before any invocation was recorded as finished"
                yield Finding("a result handed out rests on acknowledged commits", what, (entry["id"],))


def the_overtaken_stop(case: Case) -> Iterator[Finding]:
    """Who was silent for a lease and was taken over starts no tool: it must prove first that it is still the owner."""
    for stint in case.stints:
        for index, entry in stint.overtaken:
            if entry.kind != "tool-start":
                continue
            proofs = [e.at for i, e in case.applied.values() if e.pid == stint.pid and i < index]
            silence = entry.at - max(proofs, default=0)
            resumed = [e.at for e in case.history[:index] if e.kind == "resumed" and e.pid == stint.pid]
            if silence > case.lease + _SLACK and (not resumed or entry.at - resumed[-1] > _SLACK):
                what = f"process {stint.pid}, taken over, silent for {silence:.2f} s, started tool {entry['id']}"
                yield Finding("the overtaken do nothing", what, (entry["id"],))


def doubts_are_surfaced(case: Case) -> Iterator[Finding]:
    """Calls that are in doubt are treated as their policy says."""
    starts = Counter(e["id"] for e in case.history if e.kind == "tool-start")
    names = {e["id"]: e["name"] for e in case.history if e.kind == "tool-start"}
    marked = {record[2] for _, record in case.records(TOOL_STARTED)}
    for id_, count in starts.items():
        policy = case.policies.get(names[id_], "rerun")
        again = f"tool {names[id_]} ({id_}) ran {count} times under {policy!r}"
        if policy != "rerun" and id_ not in marked:
            yield Finding("in-doubt policies", f"tool {id_} ran under {policy!r} and no mark says so", (id_,))
        if policy == "never_twice" and count > 1:
            yield Finding("in-doubt policies", again, (id_,))
        if policy == "ask" and count > 1 + _count(case, "answered", response="rerun"):
            yield Finding("in-doubt policies", again + " and nobody was asked so often", (id_,))
        if policy == "reconcile" and count > 1 + _count(case, "reconciled", id=id_, ended=False):
            yield Finding("in-doubt policies", again + ", and the function that finds out was not asked", (id_,))


def _count(case: Case, kind: str, **details: object) -> int:
    return sum(
        entry.kind == kind and all(entry.details.get(name) == value for name, value in details.items())
        for entry in case.history
    )


def keys_stay_the_same(case: Case) -> Iterator[Finding]:
    """The idempotency key of a call is the same in every process, and no two calls have the same."""
    keys: dict[str, set[str]] = {}
    for entry in case.history:
        if entry.kind == "tool-start":
            keys.setdefault(entry["id"], set()).add(entry["key"])
    for id_, found in keys.items():
        if len(found) > 1 or None in found:
            yield Finding("idempotency keys", f"tool {id_} ran with the keys {found}", (id_,))
    every = [key for found in keys.values() for key in found]
    if len(set(every)) != len(every):
        yield Finding("idempotency keys", "two calls had the same key")


def unfinished_owners(case: Case) -> Iterator[Finding]:
    """A process that ended in good order has released the journal, or says in which slot it could not."""
    owner = case.folded.owner
    if owner is None:
        return
    pid = int(owner[1].split("/")[2])
    if any(e.pid == pid and e.kind == "end" for e in case.history) and not _count(case, "raised"):
        yield Finding("released at the end", f"process {pid} has ended, and still owns the journal")


RULES: tuple[Rule, ...] = (
    nothing_is_lost,
    no_orphans,
    one_owner,
    acknowledged_stays,
    results_rest,
    tools_start_on_record,
    calls_return_on_record,
    the_overtaken_stop,
    doubts_are_surfaced,
    keys_stay_the_same,
    unfinished_owners,
)


def findings(case: Case) -> list[Finding]:
    """List all that is wrong."""
    return [finding for rule in RULES for finding in rule(case)]


def remains(dump: Dump, session: str, late: set[str] | None = None) -> list[Finding]:
    """List what a deletion has left behind."""
    found = [
        Finding("deletes are complete", f"{key} is left", (key,))
        for key in keys_of_session(dump, session)
        if key not in (late or ())
    ]
    if session in registry(dump):
        found.append(Finding("deletes are complete", f"the registry still names {registry(dump)[session]}"))
    return found


def tell(case: Case, finding: Finding, most: int = 60) -> str:
    """Tell the story of a finding: what is wrong, and what led to it."""
    lives = {"birth", "death", "paused", "resumed", "cut", "call", "raised", "returned", "failed"}
    slots = {
        f"{case.journal.base}{number}": number
        for number, records in case.journal.commits.items()
        if any(record[0] == ACQUIRED for record in records)
    }
    lines = []
    for entry in case.history:
        is_acquisition = entry.kind == "applied" and entry["key"] in slots
        text = str(entry)
        if entry.kind in lives or is_acquisition or any(word in text for word in finding.about):
            lines.append(f"  {entry.at:10.3f} {text[:200]}")
    if len(lines) > most:
        lines = [*lines[: most // 2], f"  … {len(lines) - most} more …", *lines[-most // 2 :]]
    return "\n".join([finding.what, *lines])
