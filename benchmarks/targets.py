"""What this package sets out to reach, as ratios and counts that are worked out from the results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import floor
from benchmarks.measures.imports import MANAGER, PACKAGE, STRANDS
from benchmarks.subjects import DAPR_EXT, FILE, NONE, OURS, SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.results import Results, Row


@dataclass(frozen=True)
class Target:
    """A figure that must not exceed a limit.

    Attributes:
        group: What it is about.
        what: What is compared.
        limit: The most that is aimed at.
        value: Works it out; None where it was not measured.
        unit: Of both; a multiple if empty.
        floor: The limit is the least instead of the most.
    """

    group: str
    what: str
    limit: float
    value: Callable[[Results], float | None]
    unit: str = "times"
    floor: bool = False

    def is_met(self, results: Results) -> bool | None:
        """Tell whether it is reached; None where it was not measured."""
        value = self.value(results)
        if value is None:
            return None
        return value >= self.limit if self.floor else value <= self.limit


def _ratio(
    one: Callable[[Results], Row | None], other: Callable[[Results], Row | None], results: Results
) -> float | None:
    above, below = one(results), other(results)
    if above is None or below is None or above.median is None or not below.median:
        return None
    return above.median / below.median


def _load(subject: str, messages: int, process: str, store: str, results: Results) -> Row | None:
    return results.find("load", subject, "load", messages=messages, process=process, store=store)


def _window(messages: int, results: Results) -> Row | None:
    return results.find("window", OURS, "load", messages=messages)


def _step(subject: str, store: str, results: Results) -> Row | None:
    return results.find("step", subject, "step", store=store)


def _old_step(store: str, results: Results) -> Row | None:
    rows = [row for row in results.rows("step") if row.subject == OURS and row.setting["store"] == store]
    return max(rows, key=lambda row: int(row.setting["messages"]), default=None)


def _p99(store: str, results: Results) -> float | None:
    ours, raw = _step(OURS, store, results), _step(floor.NAME, store, results)
    return ours.p99 / raw.p99 if ours and raw and ours.p99 and raw.p99 else None


def _value(measure: str, subject: str, quantity: str, setting: dict[str, str | int], results: Results) -> float | None:
    row = results.find(measure, subject, quantity, **setting)
    return None if row is None else row.median


def _loads() -> list[Target]:
    stores = {SNAPSHOT: "files", FILE: "files", DAPR_EXT: "redis", floor.NAME: "redis"}
    wanted = [
        *((SNAPSHOT, "warm", messages, limit) for messages, limit in ((500, 0.5), (1000, 0.5), (5000, 0.2))),
        *((FILE, "warm", messages, limit) for messages, limit in ((500, 0.1), (1000, 0.07), (5000, 0.05))),
        *((DAPR_EXT, "warm", messages, 0.2) for messages in (500, 1000, 5000)),
        (floor.NAME, "warm", 5000, 1.25),
        *((SNAPSHOT, "fresh", messages, limit) for messages, limit in ((500, 1.0), (1000, 0.7), (5000, 0.3))),
    ]
    return [
        Target(
            "load, all live",
            f"{messages} messages, {process} process, beside {subject}",
            limit,
            partial(
                _ratio,
                partial(_load, OURS, messages, process, "redis"),
                partial(_load, subject, messages, process, stores[subject]),
            ),
        )
        for subject, process, messages, limit in wanted
    ]


def _trips(quantity: str, results: Results) -> float | None:
    """Get a number of round trips, which were told by the time that they took."""
    value = _value("round_trips", OURS, quantity, {"session": "restored"}, results)
    return None if value is None else round(value)


def _longest_life(quantity: str, results: Results) -> float | None:
    values = [row.median for row in results.rows("bytes") if row.quantity == quantity]
    return max((value for value in values if value is not None), default=None)


def _flood(subject: str, processes: int, results: Results) -> Row | None:
    return results.find("concurrency", subject, "commits", store="redis", processes=processes)


def _memory_of_a_message(results: Results) -> float | None:
    held = _value("memory", NONE, "held for a live message", {}, results)
    added = _value("memory", OURS, "added for a live message", {}, results)
    return added / held if held and added is not None else None


def _import(statement: str, results: Results) -> Row | None:
    return results.find("imports", statement, "import")


WHY_MISSED = {
    "load, all live": "What is read is distrusted: a checksum for each key (6 % of a load of 5000), lengths and types "
    "before anything is built, and the record of each message by itself, so that an edit changes one of them. The bare "
    "API does none of it. With few messages it is round trips that count, each 0.8 ms: the registry says where the "
    "head is, the head where the rest is.",
    "bytes written in a life": "A message is written when it is recorded, again when its slots are packed, and a third "
    "time when eight small segments are made one. Each copy is compressed to between 0.25 and 0.45. Not to pack would "
    "keep it at one copy, and cost a load a key for each turn.",
    "import": "The package itself is imported late. The session manager cannot be: it is made of Strands' hooks.",
    "embedded SQLite": "A step waits until the disk has it. FileSessionManager does not ask the disk, and loses what "
    "it acknowledged with the power.",
    "1000 sessions in a process": "All of them write without a pause, which keeps one processor busy for as long as it "
    "lasts: the bare API holds the event loop up for longer still. Its commits carry no record, no checksum and no "
    "owner. Several processes do better than one.",
    "1000 sessions in 8 processes": "About as many; it was 1.02 in one run and 0.93 in the next one, on a machine "
    "whose two cores the processes share with the sidecar, with Redis and with others.",
    "one step": "The call goes through another thread, so that the caller's event loop is never held up.",
}
"""What stands in the way, by group, for the reader of a target that is missed."""

TARGETS = (
    *_loads(),
    Target(
        "load, 40 live",
        "50,000 messages beside 500",
        1.2,
        partial(_ratio, partial(_window, 50_000), partial(_window, 500)),
    ),
    Target(
        "load, 40 live",
        "round trips, 50,000 messages",
        3,
        partial(_value, "window", OURS, "round trips of a load", {"messages": 50_000}),
        "",
    ),
    Target(
        "load, 40 live",
        "head of a session of 1,000,000 messages",
        32 * 1024,
        partial(_value, "window", OURS, "longest head", {"messages": 1_000_000}),
        "B",
    ),
    Target(
        "one step",
        "median beside a raw SaveState of the same bytes, Redis",
        1.5,
        partial(_ratio, partial(_step, OURS, "redis"), partial(_step, floor.NAME, "redis")),
    ),
    Target("one step", "99th percentile beside the same", 2.0, partial(_p99, "redis")),
    Target(
        "one step",
        "at 10,000 messages beside at 10",
        1.2,
        partial(_ratio, partial(_old_step, "redis"), partial(_step, OURS, "redis")),
    ),
    Target(
        "round trips waited for",
        "in a turn that calls tools",
        1,
        partial(_trips, "waited for in a turn with tools"),
        "",
    ),
    Target(
        "round trips waited for",
        "at start and end of an invocation together",
        4,
        partial(_trips, "waited for at start and end"),
        "",
    ),
    Target(
        "round trips waited for",
        "commits of ten tools that end within 5 ms",
        6,
        partial(_value, "round_trips", OURS, "commits of tools that end within 5 ms", {}),
        "",
    ),
    Target(
        "bytes written in a life",
        "before compression, beside the messages",
        1.3,
        partial(_longest_life, "written beside payload, before compression"),
    ),
    Target(
        "bytes written in a life",
        "compressed, beside the messages",
        0.6,
        partial(_longest_life, "written beside payload"),
    ),
    Target(
        "1000 sessions in a process",
        "throughput beside a raw flood of the same writes, Redis",
        1.0,
        partial(_ratio, partial(_flood, OURS, 1), partial(_flood, floor.NAME, 1)),
        floor=True,
    ),
    Target(
        "1000 sessions in a process",
        "event loop of the caller late, 99th percentile",
        20,
        partial(_value, "concurrency", OURS, "stall of the caller, p99", {"store": "redis", "processes": 1}),
        "ms",
    ),
    Target(
        "1000 sessions in a process",
        "the same while sessions of 5000 messages are loaded",
        20,
        partial(_value, "concurrency", OURS, "stall of the caller, p99", {"meanwhile loaded": 5000}),
        "ms",
    ),
    Target(
        "1000 sessions in 8 processes",
        "throughput beside a raw flood of the same writes, Redis",
        1.0,
        partial(_ratio, partial(_flood, OURS, 8), partial(_flood, floor.NAME, 8)),
        floor=True,
    ),
    Target("memory", "added for a live message, beside what the agent holds", 0.2, _memory_of_a_message),
    Target(
        "memory",
        "added for history outside of the window, 10,000 messages",
        32 * 1024,
        partial(_value, "memory", OURS, "added for history outside the window", {}),
        "B",
    ),
    Target(
        "memory",
        "added by an idle manager",
        50_000,
        partial(_value, "memory", OURS, "added by an idle manager", {}),
        "B",
    ),
    Target(
        "import",
        "of strands and the package, beside strands alone",
        1.15,
        partial(_ratio, partial(_import, PACKAGE), partial(_import, STRANDS)),
    ),
    Target(
        "import",
        "of strands and the session manager, beside strands alone",
        1.15,
        partial(_ratio, partial(_import, MANAGER), partial(_import, STRANDS)),
    ),
    Target(
        "making a session manager",
        "after the first one",
        2,
        partial(_value, "imports", OURS, "making another one", {"store": "redis"}),
        "ms",
    ),
    Target(
        "finding what changed",
        "for each of 5000 live messages",
        10,
        partial(_value, "changes", OURS, "comparing, for each live message", {"messages": 5000}),
        "µs",
    ),
    Target(
        "embedded SQLite",
        "load of 5000 messages beside Snapshot",
        0.25,
        partial(_ratio, partial(_load, OURS, 5000, "warm", "sqlite"), partial(_load, SNAPSHOT, 5000, "warm", "files")),
    ),
    Target(
        "embedded SQLite",
        "load of 5000 messages beside File",
        0.05,
        partial(_ratio, partial(_load, OURS, 5000, "warm", "sqlite"), partial(_load, FILE, 5000, "warm", "files")),
    ),
    Target(
        "embedded SQLite",
        "a durable step beside one of File, which syncs nothing",
        1.0,
        partial(_ratio, partial(_step, OURS, "sqlite"), partial(_step, FILE, "files")),
    ),
)
"""In the order of the measures."""
