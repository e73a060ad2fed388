"""What must hold after any crash: the rules by which a run that was killed is compared with one that was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from strands_dapr_session.testing.plain import difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from strands_dapr_session.testing.ledger import Entry

_ABOUT_RESULTS = ("stop_reason", "message", "structured_output", "result")


@dataclass(frozen=True)
class Life:
    """One process of a run.

    Attributes:
        role: What it did: "run" or "look".
        status: Its exit status, or the signal that ended it, negative.
        entries: What it wrote down.
    """

    role: str
    status: int
    entries: tuple[Entry, ...]

    def of(self, *kinds: str) -> list[Entry]:
        """Get its entries of some kinds."""
        return [entry for entry in self.entries if entry.kind in kinds]

    def first(self, kind: str) -> Entry | None:
        """Get its first entry of a kind."""
        return next(iter(self.of(kind)), None)

    def attempts(self) -> list[Life]:
        """Cut it in parts wherever it looked at what the store holds."""
        cuts = [index for index, entry in enumerate(self.entries) if entry.kind == "found"][1:]
        parts = [self.entries[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
        return [Life(self.role, self.status, part) for part in parts]

    def found(self, what: str) -> list[Any]:
        """Get what it found in the store before it did anything."""
        entry = self.first("found")
        return [] if entry is None else list(entry[what])


@dataclass(frozen=True)
class Run:
    """A program from its first process to its last.

    Attributes:
        session_id: Its session.
        lives: Its processes, in order; the last one only looked at what the others left.
    """

    session_id: str
    lives: tuple[Life, ...]

    @property
    def working(self) -> list[Life]:
        """The processes that ran the program; one that went on after an exception counts once for each attempt."""
        return [part for life in self.lives if life.role == "run" for part in life.attempts()]

    @property
    def successions(self) -> list[tuple[Life, Life]]:
        """Every process that was not the last, and the next one that lived to see what it left."""
        lives = self.working
        later = (next((life for life in lives[index:] if life.first("found")), None) for index in range(1, len(lives)))
        return [(life, after) for life, after in zip(lives, later, strict=False) if after is not None]

    def of(self, *kinds: str) -> list[Entry]:
        """Get the entries of some kinds of all processes that ran the program."""
        return [entry for life in self.working for entry in life.of(*kinds)]


Rule: TypeAlias = Callable[[Run, Run], Iterator[str]]
"""Compares an uninterrupted run with another, and tells what is wrong with that."""


def it_finishes(reference: Run, run: Run) -> Iterator[str]:
    """The last process ends as that of the uninterrupted run did."""
    expected = reference.working[-1].status
    life = run.working[-1]
    if life.status != expected:
        why = life.first("failed")
        yield f"the last process ended with {life.status}" + (f": {why['error']}" if why else "")


def tools_start_on_record(_: Run, run: Run) -> Iterator[str]:
    """A tool starts only when the message that asks for it is recorded."""
    for life, after in run.successions:
        last: dict[str, list[Entry]] = {}
        for entry in life.of("model-end", "tool-start", "tool-end"):
            if entry.kind == "model-end":
                last[entry["agent"]] = []
            elif entry.kind == "tool-end":
                # It may have been an agent, whose own calls go when the call of it has a result.
                used = f"{entry['agent']}/{entry['name']}"
                last = {name: calls for name, calls in last.items() if not f"{name}/".startswith(f"{used}/")}
            else:
                last.setdefault(entry["agent"], []).append(entry)
        for entry in (entry for entries in last.values() for entry in entries):
            if entry["id"] not in after.found("asked"):
                yield f"tool {entry['name']} ({entry['id']}) had started, and that it was asked for was not recorded"


def recorded_tools_rest(reference: Run, run: Run) -> Iterator[str]:
    """A tool whose result was recorded never runs again."""
    expected = _calls(reference.of("tool-start"))
    for life in run.working:
        for id_, calls in _calls(life.of("tool-start")).items():
            recorded = life.found("results").count(id_)
            if recorded and calls > expected[id_] - recorded:
                yield f"tool {id_} ran again though its result was recorded"


def tools_run_as_often(reference: Run, run: Run) -> Iterator[str]:
    """Every tool runs, with the same input and key, and again at most for every process that died in doubt of it."""
    expected, seen = _by_input(reference.of("tool-start")), _by_input(run.of("tool-start"))
    doubts, before = _doubts(run), _doubts(reference)
    for call in [*expected, *(call for call in seen if call not in expected)]:
        id_, input_ = call
        once, often = expected.get(call, []), seen.get(call, [])
        if not len(once) - before[id_] <= len(often) <= len(once) * (1 + doubts[id_]):
            yield (
                f"tool {id_} with {input_} ran {len(often)} times, expected {len(once)}; "
                f"{doubts[id_]} times it was in doubt"
            )
        if once and len({entry["key"] for entry in often}) > len({entry["key"] for entry in once}):
            yield f"tool {id_} ran with different idempotency keys"


def models_go_on(reference: Run, run: Run) -> Iterator[str]:
    """The model is asked what it was asked in the uninterrupted run, and again only for a lost answer."""
    for agent in {entry["agent"] for entry in [*reference.of("model-start"), *run.of("model-start")]}:
        yield from _models_of(agent, reference, run)


def results_are_equal(reference: Run, run: Run) -> Iterator[str]:
    """Every call returns what it returned in the uninterrupted run, in whichever process."""
    expected = {_name_of(entry): entry for entry in reference.of("returned")}
    for name in expected.keys() - {_name_of(entry) for entry in run.of("returned")}:
        yield f"call {name} never returned"
    for entry in (entry for life in run.lives for entry in life.of("returned")):
        name = _name_of(entry)
        if name not in expected:
            yield f"call {name} returned, and never did in the uninterrupted run"
            continue
        one, other = ({name: each.details.get(name) for name in _ABOUT_RESULTS} for each in (expected[name], entry))
        if what := difference(one, other):
            yield f"call {name}, {what}"


def tokens_are_equal(reference: Run, run: Run) -> Iterator[str]:
    """Every call reports the tokens that it took in all processes together.

    Compared only where nothing but kills come between: Strands counts them for each call, and a call that raises or
    waits for answers is made in several.
    """
    if reference.of("raised", "interrupted") or run.of("raised", "interrupted", "answered"):
        return
    expected = {_name_of(entry): entry["usage"] for entry in reference.of("returned")}
    for life in run.lives:
        for entry in life.of("returned"):
            name = _name_of(entry)
            # Without a model call nothing can have been finished here: the last commit of a process that was killed
            # arrived after this one had looked.
            is_replay = entry["id"] in life.found("finished") or not life.of("model-start")
            if not is_replay and name in expected and (what := difference(expected[name], entry["usage"])):
                yield f"tokens of call {name}: {what}"


def endings_are_equal(reference: Run, run: Run) -> Iterator[str]:
    """Messages, state and everything else are in the end what they are after the uninterrupted run."""
    expected, found = reference.working[-1].first("end"), run.working[-1].first("end")
    if expected is not None and found is not None and (what := difference(expected.details, found.details)):
        yield f"at the end, {what}"


def others_see_the_same(_: Run, run: Run) -> Iterator[str]:
    """Another process that opens the session finds what the last one left; asking again runs nothing."""
    for life in run.lives:
        if life.role != "look":
            continue
        left, looked, after = run.working[-1].first("end"), life.first("look"), life.first("end")
        if life.status or looked is None or after is None:
            why = life.first("failed")
            yield f"the session cannot be used afterwards: {why['error'] if why else life.status}"
            return
        if left is not None and (what := difference(left.details, looked.details)):
            yield f"loaded again, {what}"
        if what := difference(looked.details, after.details):
            yield f"asked again, {what}"
        for entry in life.of("tool-start", "model-start"):
            yield f"asked again, something ran: {entry}"


RULES: tuple[Rule, ...] = (
    it_finishes,
    tools_start_on_record,
    recorded_tools_rest,
    tools_run_as_often,
    models_go_on,
    results_are_equal,
    tokens_are_equal,
    endings_are_equal,
    others_see_the_same,
)


def problems(reference: Run, run: Run, rules: Iterable[Rule] = RULES) -> list[str]:
    """List all that is wrong with a run."""
    return [problem for rule in rules for problem in rule(reference, run)]


def _name_of(entry: Entry) -> str:
    """Name a call: by its id, or by its prompt if it has none."""
    return str(entry["id"] or entry["prompt"])


def _by_input(entries: Iterable[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Group tool runs by what was asked. Some models use an id again in their next answer, or in the same one."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry["id"], f"{entry['name']}({entry['input']})"), []).append(entry)
    return found


def _calls(entries: Iterable[Entry]) -> Counter[str]:
    """Count the calls by tool use id. However often one is run, its idempotency key stays the same."""
    return Counter(id_ for id_, _ in {(entry["id"], entry["key"]) for entry in entries})


def _doubts(run: Run) -> Counter[str]:
    """Count by tool use id how many calls began in a process that left no result of them."""
    doubts: Counter[str] = Counter()
    for life, after in run.successions:
        for id_, calls in _calls(life.of("tool-start")).items():
            gained = after.found("results").count(id_) - life.found("results").count(id_)
            doubts[id_] += min(calls, max(0, calls - gained))
    return doubts


@dataclass(frozen=True)
class _Asked:
    """A call of a model, and what it answered; None if it did not."""

    entry: Entry
    answer: str | None


def _calls_of(agent: str, life: Life) -> list[_Asked]:
    """List the calls of an agent's model; of those that were repeated for want of an answer, only the last."""
    calls: list[_Asked] = []
    for entry in life.of("model-start", "model-end"):
        if entry["agent"] != agent:
            continue
        if entry.kind == "model-end":
            calls[-1] = _Asked(calls[-1].entry, entry["answer"])
            continue
        if calls and calls[-1].answer is None and calls[-1].entry["asked"] == entry["asked"]:
            calls.pop()
        calls.append(_Asked(entry, None))
    return calls


def _models_of(agent: str, reference: Run, run: Run) -> Iterator[str]:
    expected = _calls_of(agent, Life("run", 0, tuple(reference.of("model-start", "model-end"))))
    position = 0
    for number, life in enumerate(run.working, 1):
        calls = _calls_of(agent, life)
        if not calls:
            continue
        start = next((at for at in range(position, -1, -1) if _matches(expected[at:], calls)), None)
        if start is None:
            yield f"process {number}, agent {agent}: {_explain(expected[max(position - 1, 0) :], calls)}"
            return
        for index in range(start, position):
            if _is_recorded(agent, [call.answer for call in expected], index, life):
                yield f"process {number}: model call {index + 1} of {agent} was repeated though its answer was recorded"
        position = start + len(calls)
    if position < len(expected):
        yield f"the model of {agent} was asked {position} times, expected {len(expected)}"


def _matches(expected: Sequence[_Asked], calls: Sequence[_Asked]) -> bool:
    pairs = zip(expected, calls, strict=False)
    return len(calls) <= len(expected) and all(one.entry["asked"] == other.entry["asked"] for one, other in pairs)


def _explain(expected: Sequence[_Asked], calls: Sequence[_Asked]) -> str:
    pairs = zip(expected, calls, strict=False)
    where = [difference(one.entry["messages"], other.entry["messages"]) for one, other in pairs]
    first = next((what for what in where if what), None)
    return f"the model was asked something else ({len(calls)} calls, expected {len(expected)}): {first}"


def _is_recorded(agent: str, outcomes: Sequence[str | None], index: int, life: Life) -> bool:
    answer = outcomes[index] if index < len(outcomes) else None
    entry = life.first("found")
    if answer is None or entry is None:
        return False
    return list(entry["answers"].get(agent, ())).count(answer) >= outcomes[: index + 1].count(answer)
