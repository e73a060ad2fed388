"""Load with everything live: `Agent(...)` with a new session manager on a stored session.

Warm: in a process that has loaded other sessions before; "again" if also this one. Fresh: in a new process, the first
connection included (`fresh_load`).
Everybody loads the very same messages; repetitions go round all subjects before the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import floor, timing, wire
from benchmarks.conversation import conversation
from benchmarks.results import Row
from benchmarks.subjects import DAPR_EXT, FILE, OURS, S3, SNAPSHOT, Ours, load, subject

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.places import Addresses
    from benchmarks.subjects import Subject

LENGTHS = (500, 1000, 5000)

_WARM_REPEAT = 9
_FRESH_REPEAT, _FRESH_REPEAT_OF_OTHERS = 5, 2
"""A fresh process takes two seconds to come up. Targets are about one subject and one that it is compared with."""
_LONGEST_ON_S3, _REPEAT_ON_S3 = 500, 2
"""A local S3 server takes 10 ms for each of its messages."""


@dataclass(frozen=True)
class _Case:
    name: str
    store: str
    longest: int = max(LENGTHS)
    again: bool = False

    @property
    def setting(self) -> dict[str, str | int]:
        return {"store": self.store}


_CASES = (
    _Case(OURS, "redis"),
    _Case(OURS, "postgres"),
    _Case(OURS, "sqlite"),
    _Case(SNAPSHOT, "files"),
    _Case(FILE, "files"),
    _Case(DAPR_EXT, "redis"),
    _Case(S3, "moto", _LONGEST_ON_S3),
)
_AIMED_AT = (_Case(OURS, "redis"), _Case(SNAPSHOT, "files"))


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    at, absent = _places(bench)
    cases = [case for case in _CASES if case.name not in absent]
    rows = [Row.missing(name, {}, "load", "ms", why) for name, why in absent.items()]
    for length in bench.sizes(LENGTHS):
        rows += _measure_length(bench, at, [case for case in cases if length <= case.longest], length)
    return rows


def _places(bench: Bench) -> tuple[Addresses, dict[str, str]]:
    at = bench.places.with_dapr()
    absent = {}
    try:
        at = bench.places.with_s3()
    except ImportError as error:
        absent[S3] = f"no local S3 server: {error}"
    return at, absent


def _measure_length(bench: Bench, at: Addresses, cases: list[_Case], length: int) -> list[Row]:
    messages = conversation(length)
    session = f"load-{length}"
    subjects: dict[_Case, Subject] = {case: subject(at, case.name, case.store) for case in cases}
    for case, each in subjects.items():
        bench.say(f"{length} messages: filling {case.name} on {case.store}")
        each.fill(session, messages)
    raw = floor.RawState(at)
    stored = floor.RawConversation.write(raw, session, messages)
    bench.say(f"{length} messages: loading")
    setting: dict[str, str | int] = {"messages": length, "process": "warm"}
    actions = {case: partial(_timed, each, session, length) for case, each in subjects.items()}
    again = _Case(OURS, "redis", again=True)
    actions[again] = partial(_timed, subject(at, OURS, "redis"), session, length, again=True)
    floor_case = _Case(floor.NAME, "redis")
    remote = {case: actions.pop(case) for case in list(actions) if case.name == S3}
    warm = timing.interleaved(actions | {floor_case: partial(timing.timed, stored.read)}, bench.repeat(_WARM_REPEAT))
    warm |= timing.interleaved(remote, _REPEAT_ON_S3)
    raw.close()
    rows = [
        Row.of(
            case.name,
            case.setting | setting | ({"process": "warm, again"} if case.again else {}),
            "load",
            "ms",
            values,
        )
        for case, values in warm.items()
    ]
    for case, each in subjects.items():
        if isinstance(each, Ours) and case.store != "sqlite":
            rows += _count(each, case, session, length)
    return rows + _measure_fresh(bench, at, [case for case in cases if case.name != S3], session, length)


def _timed(each: Subject, session: str, length: int, *, again: bool = False) -> float:
    if isinstance(each, Ours) and not again:
        each.forget(session)
    return timing.timed(partial(load, each, session, length))


def _count(ours: Ours, case: _Case, session: str, length: int) -> list[Row]:
    """Count what one load sends and gets, the first of this session and another one."""
    setting = case.setting | {"messages": length}
    ours.forget(session)
    with wire.counted() as counted:
        load(ours, session, length)
        first = counted.take()
        load(ours, session, length)
        again = counted.take()
    return [
        Row.single(case.name, setting | {"process": "warm"}, "round trips of a load", "", wire.round_trips(first)),
        Row.single(
            case.name, setting | {"process": "warm, again"}, "round trips of a load", "", wire.round_trips(again)
        ),
        Row.single(case.name, setting, "bytes of a load", "B", sum(call.sent + call.received for call in first)),
    ]


def _measure_fresh(bench: Bench, at: Addresses, cases: list[_Case], session: str, length: int) -> list[Row]:
    bench.say(f"{length} messages: loading in fresh processes")
    found: dict[_Case, list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(bench.repeat(_FRESH_REPEAT)):
        for case in cases if number < _FRESH_REPEAT_OF_OTHERS else [case for case in cases if case in _AIMED_AT]:
            wanted = {
                "at": at.plain(),
                "subject": case.name,
                "store": case.store,
                "session": session,
                "messages": length,
            }
            found[case].append(timing.in_fresh_process("fresh_load", wanted))
    rows = []
    for case, runs in found.items():
        setting = case.setting | {"messages": length, "process": "fresh"}
        for key, quantity, unit in (
            ("wall_ms", "load", "ms"),
            ("cpu_ms", "processor time of a load", "ms"),
            ("peak_mib", "memory that a load adds", "MiB"),
        ):
            rows.append(Row.of(case.name, setting, quantity, unit, [run[key] for run in runs]))
    return rows
