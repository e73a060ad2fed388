"""The journal in a world: its real coroutines over a store whose every verb is a step, and what must hold.

What really happened is kept beside the store: the log of an incarnation grows by a slot when that slot is created just
above its end. Everything that anybody believes is compared with it:

* an acknowledged commit is in the log, at its slot;
* an owner's view is the log up to its acquisition, folded;
* nobody is told that it was fenced by its own commit;
* if all died now, whoever loads the journal would see the whole log, folded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from strands_dapr_session.errors import FencedError, SessionDeletedError, StoredDataError
from strands_dapr_session.journal import load, purge, tidying
from strands_dapr_session.journal.acquire import Claim, Position, Wish, acquire
from strands_dapr_session.journal.commit import read_records
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.delete import delete_journal, fence_off
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.fold import fold
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.load import Log
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.journal.reading import read_journal
from strands_dapr_session.journal.registry import Place, Sessions, _write_shard, place_in
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.records import Acquired, Record, Released, SegmentsPlanned, Spliced
from strands_dapr_session.records.view import View
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.base import Entry, KeyConflict, OutcomeUnknown, StateStore, StoreCapabilities
from strands_dapr_session.stores.retry import RetryPolicy
from tests.model.explorer import Actor, Op, ViolationError, World

SESSION, ROOT = "s", "r"
SETTINGS = JournalSettings(on_busy="steal")
_SLOT = re.compile(r"strands:\{s:r\}:([^:]+):(\d+)")


class StepStore(StateStore):
    """A store whose verbs wait until the explorer carries them out."""

    name = "model"

    def __init__(self, read_order: str) -> None:
        self.capabilities = StoreCapabilities()
        self._read_order = read_order

    async def open(self) -> None:
        pass

    async def get(self, key: str) -> Entry | None:
        found: dict[str, Entry] = await Op("get", ((key,),))
        return found.get(key)

    async def get_many(self, keys: Sequence[str], *, sizes: Mapping[str, int] | None = None) -> dict[str, Entry]:  # noqa: ARG002
        if self._read_order == "at once":
            found: dict[str, Entry] = await Op("get", (tuple(keys),))
            return found
        found = {}
        for key in keys if self._read_order == "forward" else reversed(keys):
            found.update(await Op("get", ((key,),)))
        return found

    async def create(self, key: str, value: bytes) -> None:
        await Op("create", (key, value))

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        await Op("replace", (key, value, etag))

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            await Op("delete", (key,))

    async def close(self) -> None:
        pass


class EverybodyMayBeDead:
    """Workers of whom nothing is known: anybody may take over from anybody at any time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def is_alive(self, owner: Acquired) -> bool | None:  # noqa: ARG002
        return False

    def heartbeat_key(self, owner: Acquired) -> str | None:  # noqa: ARG002
        return None

    def has_given_up(self, owner: Acquired, heartbeat: bytes | None) -> bool:  # noqa: ARG002
        return False


async def _no_sleep(seconds: float) -> None:
    pass


async def _sleep(seconds: float) -> None:
    await Op("sleep", (seconds,))


@dataclass
class JournalWorld(World):
    """A store of which the truth is known."""

    read_order: str = "at once"
    faults: int = 0
    now: float = 0.0
    moves: int = 0
    compactions: int = 0
    revives: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    late: list[tuple[str, bytes]] = field(default_factory=list)
    truth: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    checked: set[Hashable] = field(default_factory=set)

    def context(self, name: str) -> Context:
        retry = RetryPolicy(clock=lambda: 0.0, sleep=_no_sleep, chance=lambda: 0.0)
        return Context(
            StepStore(self.read_order),
            EverybodyMayBeDead(name),
            retry=retry,
            clock=lambda: 0.0,
            seconds=lambda: self.now,
            sleep=_sleep,
        )

    # -- the store -----------------------------------------------------------------------------------------------

    def ways(self, op: Op) -> list[str]:
        if op.verb not in ("create", "replace") or not self.faults:
            return [""]
        # The reply is lost; the request is lost, or comes through later (see `choices`).
        return ["", "reply lost", "request late"]

    def choices(self) -> list[tuple[int, str]]:
        return super().choices() + [(-1, str(index)) for index in range(len(self.late))]

    def step(self, choice: tuple[int, str]) -> None:
        if choice[0] >= 0:
            return super().step(choice)
        key, value = self.late.pop(int(choice[1]))
        if key not in self.entries:
            self._write("late", key, value)
        return None

    def perform(self, actor: Actor, op: Op, way: str) -> Any:
        if way:
            self.faults -= 1
        match op.verb:
            case "get":
                return {key: self.entries[key] for key in op.args[0] if key in self.entries}
            case "delete":
                self.entries.pop(op.args[0], None)
            case "sleep":
                self.now += op.args[0] * 1.01
            case _:
                self._perform_write(actor, op, way)
        return None

    def _perform_write(self, actor: Actor, op: Op, way: str) -> None:
        key, value = op.args[:2]
        if way == "request late":
            if op.verb == "create":
                self.late.append((key, value))
            raise OutcomeUnknown(key, way)
        current = self.entries.get(key)
        if op.verb == "create":
            refused = current is not None
        else:
            refused = (current is None and not self.revives) or (current is not None and current.etag != op.args[2])
        if not refused:
            self._write(actor.name, key, value)
        if way:
            raise OutcomeUnknown(key, way)
        if refused:
            raise KeyConflict(key)

    def _write(self, who: str, key: str, value: bytes) -> None:
        version = self.versions.get(key, 0) + 1
        if self.revives and key not in self.entries:
            version = 1
        self.versions[key] = version
        self.entries[key] = Entry(value, str(version))
        self.moves += key.endswith(":head")
        slot = _SLOT.fullmatch(key)
        if slot:
            log = self.truth.setdefault(slot[1], [])
            if int(slot[2]) == len(log) + 1:
                log.append((who, value))

    def contents(self) -> Hashable:
        return (
            tuple(sorted((key, entry.value, entry.etag) for key, entry in self.entries.items())),
            tuple(self.late),
            self.faults,
            self.now,
        )

    def token_bytes(self, size: int = 32) -> bytes:
        """Stands in for randomness: every actor draws the same numbers in every run, and no two the same."""
        actor = self.running
        if actor is None:
            return bytes(size)
        actor.drawn += 1
        return hashlib.shake_128(f"{actor.name} {actor.drawn}".encode()).digest(size)

    # -- what must hold ------------------------------------------------------------------------------------------

    def acknowledged(self, layout: Layout, number: int, value: bytes) -> None:
        log = self.truth.get(layout.incarnation, [])
        if len(log) < number or log[number - 1][1] != value:
            raise ViolationError(f"slot {number} was acknowledged, but the log has something else there")

    def fenced(self, layout: Layout, number: int, who: str) -> None:
        log = self.truth.get(layout.incarnation, [])
        if len(log) >= number and log[number - 1][0] == who:
            raise ViolationError(f"{who} was told that it was fenced at slot {number}, by its own commit")

    def true_view(self, layout: Layout, through: int) -> View:
        view = View()
        for number, (_, value) in enumerate(self.truth.get(layout.incarnation, [])[:through], 1):
            for record in read_records(layout, number, Entry(value, ""), {}):
                view.apply(record)
        return view

    def same(self, view: View, layout: Layout, through: int) -> bool:
        return summary(view) == summary(self.true_view(layout, through))

    def check(self) -> None:
        """If all died here: would whoever loads the journal see all of it?"""
        state = tuple(sorted((key, entry.value) for key, entry in self.entries.items()))
        if all(actor.op is None for actor in self.actors) and not self.late:
            self.check_end()
        key = hash(state)
        if key in self.checked:
            return
        self.checked.add(key)
        try:
            log: Log | None = self.run_alone(lambda context: read_journal(context, SESSION, ROOT))
            view = log and fold(log)
        except StoredDataError as error:
            raise ViolationError(f"whoever loads the journal now gets {error!r}") from error
        if log and view and not self.same(view, log.layout, len(self.truth.get(log.layout.incarnation, []))):
            raise ViolationError("whoever loads the journal now does not see the whole log")

    def check_end(self) -> None:
        """When all have ended: is anything left of a journal that was deleted?"""
        if not any(actor.name == "D" for actor in self.actors):
            return
        registry = shard_key(SESSION)
        place = place_in(registry, self.entries.get(registry), SESSION, ROOT)
        if place.dead:
            raise ViolationError("the registry still names a dead journal")
        live = f":{place.live}:" if place.live else "nothing"
        if left := [key for key in self.entries if key != registry and live not in key]:
            raise ViolationError(f"left behind: {left}")

    def run_alone(self, make: Callable[[Context], Coroutine[Op, Any, Any]]) -> Any:
        """Run something to its end that only reads, while nothing else happens."""
        actor = Actor("alone", make(self.context("alone")))
        before, self.running = self.running, actor
        result: Any = None
        try:
            while True:
                op = actor.coro.send(result)
                result = self.perform(actor, op, "")
        except StopIteration as end:
            return end.value
        finally:
            self.running = before


def summary(view: View) -> Hashable:
    """Sum up what a view says."""
    return (
        view.owner,
        view.next_ordinal,
        tuple(
            (path, tuple(scope.messages), tuple(sorted(scope.documents.items())), scope.invocation)
            for path, scope in sorted(view.scopes.items())
            if scope.messages or scope.documents
        ),
    )


# -- what actors do ------------------------------------------------------------------------------------------------


async def worker(world: JournalWorld, name: str, *scripts: str) -> None:
    """Own the journal once for each script, and do in it what its letters say.

    ``c`` commits a message, ``p`` packs the log, ``P`` packs it beside what follows, ``r`` releases.
    """
    context = world.context(name)
    known: Position | None = None
    for round_number, script in enumerate(scripts):
        claim = await acquire(context, Wish(SESSION, ROOT, SETTINGS, f"{name}{round_number}"), known)
        known = await _own(world, context, name, claim, script)


async def _own(world: JournalWorld, context: Context, name: str, claim: Claim, script: str) -> Position | None:
    layout, log = claim.layout, LogWriter(context, claim)
    world.acknowledged(layout, claim.slot.number, claim.slot.value)
    if claim.view is not None and not world.same(claim.view, layout, claim.slot.number):
        raise ViolationError(f"{name} owns the journal from slot {claim.slot.number}, but its view is not the log")
    for letter in script:
        plan = f"plan-{name}{log.sequence}"
        if letter in "pP":
            records: list[Record] = [SegmentsPlanned((plan,))]
        elif letter == "c":
            records = [Spliced("", 0, 0, (f"{name}{log.sequence}".encode(),))]
        else:
            records = [Released(claim.record.acquisition)]
        try:
            slot = await log.write([encode_record(record) for record in records])
        except FencedError:
            world.fenced(layout, log.sequence + 1, name)
            return None
        except SessionDeletedError:
            return None
        world.acknowledged(layout, slot.number, slot.value)
        world.compactions += letter in "pP"
        if letter == "p":
            await compact(context, layout, plan, slot.number)
        elif letter == "P":
            world.spawn(f"{name}'s packer", _ignore(compact(context, layout, plan, slot.number)))
    if not script.endswith("r"):
        return None  # as if it crashed; what it knows is gone
    return Position(layout, log.sequence, claim.stamp, None, own=True)


async def _ignore(coro: Coroutine[Op, Any, object]) -> None:
    await coro


async def reader(world: JournalWorld, name: str) -> None:
    """Load the journal, while others write and pack."""
    await Op("get", ((),))  # so that it may begin at any time
    before, moves = {name: len(log) for name, log in world.truth.items()}, world.moves
    log = await read_journal(world.context(name), SESSION, ROOT)
    if log is None:
        return
    if world.moves > moves and world.compactions > 1:
        return  # packed again while many keys were read: only an owner can be sure, by looking again
    view, incarnation = fold(log), log.layout.incarnation
    ends = range(before.get(incarnation, 0), len(world.truth.get(incarnation, [])) + 1)
    if not any(world.same(view, log.layout, end) for end in ends):
        raise ViolationError(f"{name} sees what the log has never been since it began to read")


async def deleter(world: JournalWorld, name: str) -> None:
    """Delete the journal."""
    context = world.context(name)
    wish = Wish(SESSION, ROOT, SETTINGS, name, (encode_record(DELETION),), understand=None)
    await delete_journal(context, wish, await fence_off(context, wish))


def seed(world: JournalWorld, incarnation: str = "i") -> None:
    """Enter the journal into the registry, to save the actors the steps."""
    sessions: Sessions = {SESSION: {ROOT: Place(incarnation, [])}}
    key = shard_key(SESSION)
    world._write("seed", key, _write_shard(key, sessions))


@contextmanager
def small_pages() -> Iterator[None]:
    """Let reads look ahead by few keys, so that there are few interleavings of them."""
    with (
        mock.patch.object(load, "FIRST_LOOK", 2),
        mock.patch.object(load, "LOOK_AHEAD", 2),
        mock.patch.object(load, "LOOK_FURTHER", 2),
        mock.patch.object(purge, "_PAGE", 2),
        mock.patch.object(tidying, "_PROBED", 2),
    ):
        yield
