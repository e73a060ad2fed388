"""Every interleaving of the journal's own code is safe; and each rule of the protocol is needed, or this finds out.

The everyday run is bounded to about a minute. ``JOURNAL_MODEL=deep`` explores every scenario to its end, and larger
ones: hours.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest

from strands_dapr_session.journal import (
    acquire,
    commit,
    compaction,
    delete,
    head,
    load,
    log_writer,
    packing,
    registry,
    tidying,
)
from strands_dapr_session.journal.head import Head
from strands_dapr_session.journal.registry import Place
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from tests.model.explorer import ViolationError, explore
from tests.model.journal_world import JournalWorld, deleter, reader, seed, small_pages, worker

DEEP = os.environ.get("JOURNAL_MODEL") == "deep"


@dataclass(frozen=True)
class Scenario:
    """Who does what: letters as in `worker`, rounds apart by commas; ``R`` loads, ``D`` deletes.

    Attributes:
        scripts: One for each actor.
        read_order: Whether a read of many keys is one step, or one a key.
        faults: How many writes may lose their reply, or arrive late.
        revives: The store replaces keys that are gone, as Redis does.
        is_born: The journal is in the registry already.
        limit: States after which the everyday run stops.
    """

    scripts: tuple[str, ...]
    read_order: str = "at once"
    faults: int = 0
    revives: bool = False
    is_born: bool = True
    limit: int | None = None

    def __str__(self) -> str:
        told = [*self.scripts, self.read_order.replace(" ", "-")]
        told += [f"{self.faults}-faults"] * bool(self.faults) + ["revives"] * self.revives
        return "|".join(told + ["unborn"] * (not self.is_born))

    def explore(self) -> int:
        worlds: list[JournalWorld] = []
        checked: set[Any] = set()

        def begin() -> JournalWorld:
            world = JournalWorld(read_order=self.read_order, faults=self.faults, revives=self.revives, checked=checked)
            worlds[:] = [world]
            if self.is_born:
                seed(world)
            for name, script in zip("ABC", self.scripts, strict=False):
                if script == "D":
                    world.spawn("D", deleter(world, "D"))
                elif script == "R":
                    world.spawn(name, reader(world, name))
                else:
                    world.spawn(name, worker(world, name, *script.split(",")))
            return world

        with small_pages(), mock.patch.object(secrets, "token_bytes", lambda size=32: worlds[0].token_bytes(size)):
            return explore(begin, limit=None if DEEP else self.limit)


EVERYDAY = [
    Scenario(("cr", "cr")),
    Scenario(("cr", "cr"), faults=1),
    Scenario(("cr", "cr"), read_order="forward"),
    Scenario(("cr", "cr"), read_order="backward"),
    Scenario(("c", "c"), is_born=False),
    Scenario(("cr,c", "c")),
    Scenario(("r", "r", "r"), limit=8_000),
    Scenario(("cpr", "cr")),
    Scenario(("cpr", "cr"), faults=1, limit=8_000),
    Scenario(("cpr", "cr"), read_order="forward"),
    Scenario(("cpr", "cr"), read_order="backward"),
    Scenario(("cPc", "cr"), limit=5_000),
    Scenario(("cpr", "cpr"), limit=5_000),
    Scenario(("cpcp", "R")),
    Scenario(("cpcp", "R"), read_order="forward"),
    Scenario(("cpcp", "R"), read_order="backward"),
    Scenario(("c", "pr", "r"), limit=5_000),
    Scenario(("c", "D")),
    Scenario(("c", "D"), is_born=False, limit=4_000),
    Scenario(("p", "D"), revives=True, limit=5_000),
]
LARGER = [
    Scenario(("cr", "cr"), faults=2),
    Scenario(("cr,c", "cpr")),
    Scenario(("cpr", "cpr")),
    Scenario(("cpcpr", "cr")),
    Scenario(("cPcPr", "cr")),
    Scenario(("cp", "D"), revives=True),
    Scenario(("cP", "D")),
    Scenario(("c", "D", "D")),
    Scenario(("c", "c", "D")),
    Scenario(("cpr", "R", "cr"), read_order="forward"),
]


@pytest.mark.timeout(0 if DEEP else 120)
@pytest.mark.parametrize("scenario", EVERYDAY + (LARGER if DEEP else []), ids=str)
def test_every_interleaving_is_safe(scenario: Scenario) -> None:
    states = scenario.explore()
    print(f"{scenario}: {states} states")
    assert states > 100


# -- and the check can fail ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """The code with one rule left out, and where that shows."""

    name: str
    change: Callable[[], AbstractContextManager[Any]]
    scenario: Scenario


def skip_second_look() -> AbstractContextManager[Any]:
    """Own the journal without reading the head again."""
    return _changed_head_after_acquisition(lambda _, position: (0, position.stamp))


def skip_reload() -> AbstractContextManager[Any]:
    """Keep what was read though the head has moved since."""
    return _changed_head_after_acquisition(lambda found, position: (found.sequence, position.stamp))


@contextmanager
def _changed_head_after_acquisition(change: Callable[[Head, Any], tuple[int, bytes]]) -> Iterator[None]:
    claim, read_head = acquire._Attempt.claim, head.read_head
    # By the context, which each actor has one of: between two steps of one, others run.
    positions: dict[int, Any] = {}
    running: list[int] = []

    async def claim_remembering(self: Any, position: Any, log: Any) -> Any:
        positions[id(self)] = position
        coro = claim(self, position, log)
        result: Any = None
        error: Exception | None = None
        while True:
            running.append(id(self))
            try:
                op = coro.send(result) if error is None else coro.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                running.pop()
            result, error = None, None
            try:
                result = await op
            except (KeyConflict, OutcomeUnknown) as outcome:
                error = outcome

    def read_changed(layout: Any, entry: Any) -> Head:
        found = read_head(layout, entry)
        if not running:
            return found
        sequence, stamp = change(found, positions[running[-1]])
        return replace(found, sequence=sequence, stamp=stamp)

    with (
        mock.patch.object(acquire._Attempt, "claim", claim_remembering),
        mock.patch.object(acquire, "read_head", read_changed),
    ):
        yield


def delete_takeovers() -> AbstractContextManager[Any]:
    """Delete the slots of takeovers like others."""
    fold = packing._fold
    return mock.patch.object(packing, "_fold", lambda log: replace(fold(log), kept=[]))


def believe_lost_replies() -> AbstractContextManager[Any]:
    """Take a write without an answer for done."""

    async def believe(store: Any, key: str, value: bytes, _: Any) -> None:
        try:
            await store.create(key, value)
        except OutcomeUnknown:
            return
        except KeyConflict as conflict:
            raise KeyConflict(key, await store.get(key)) from conflict

    return mock.patch.object(commit, "settle_create", believe)


def write_anew_on_retry() -> AbstractContextManager[Any]:
    """Give a commit another id when it is sent again."""

    async def write_anew(context: Any, slot: commit.Slot) -> None:
        try:
            await context.store.create(slot.key, slot.value)
        except OutcomeUnknown:
            await context.store.create(slot.key, slot.value[:-1] + b"again")
        except KeyConflict as conflict:
            raise KeyConflict(slot.key, await context.store.get(slot.key)) from conflict

    return mock.patch.object(log_writer, "write", write_anew)


@contextmanager
def withdraw_what_does_not_hold() -> Iterator[None]:
    """Delete the record of an acquisition that does not hold."""
    claim, prepare = acquire._Attempt.claim, acquire._Attempt._prepare

    def remember(self: Any, *args: Any) -> Any:
        self.prepared = prepare(self, *args)
        return self.prepared

    async def withdraw(self: Any, position: Any, log: Any) -> Any:
        held = await claim(self, position, log)
        key = self.prepared[0].key
        found = await self._context.store.get(key)
        if held is None and found is not None and found.value == self.prepared[0].value:
            await self._context.store.delete_many([key])
        return held

    with (
        mock.patch.object(acquire._Attempt, "claim", withdraw),
        mock.patch.object(acquire._Attempt, "_prepare", remember),
    ):
        yield


@contextmanager
def delete_at_once() -> Iterator[None]:
    """Delete what a head replaces as soon as it is written."""
    move = compaction._move

    async def move_and_delete(context: Any, log: Any, new: Head, plan: str) -> bool:
        moved = await move(context, log, new, plan)
        if moved:
            await tidying.tidy(context, log.layout, new)
        return moved

    with mock.patch.object(compaction, "_move", move_and_delete):
        yield


def ignore_registry() -> AbstractContextManager[Any]:
    """Own a journal without asking whether it still exists."""

    def alive(key: str, entry: Any, session_id: str, root_id: str) -> Place:
        place = registry.place_in(key, entry, session_id, root_id)
        return Place(place.live or (place.dead or ["i"])[0], [])

    return mock.patch.object(acquire, "place_in", alive)


def never_verify() -> AbstractContextManager[Any]:
    """Commit after any silence without asking whether the journal still exists."""

    async def nothing(self: Any) -> None:
        pass

    return mock.patch.object(log_writer.LogWriter, "_verify", nothing)


def purge_under_owners() -> AbstractContextManager[Any]:
    """Delete a journal without leaving its fences in place for a lease."""

    async def none(*_: Any) -> bool:
        return False

    return mock.patch.object(delete, "holds_fences", none)


MUTANTS = [
    Mutant("skip_second_look", skip_second_look, Scenario(("cpcpr", "c"))),
    Mutant("delete_takeovers", delete_takeovers, Scenario(("c", "pcp"))),
    Mutant("believe_lost_replies", believe_lost_replies, Scenario(("c", "c"), faults=1)),
    Mutant("write_anew_on_retry", write_anew_on_retry, Scenario(("c", "c"), faults=1)),
    Mutant("withdraw_what_does_not_hold", withdraw_what_does_not_hold, Scenario(("c", "pr", "r"))),
    Mutant("delete_at_once", delete_at_once, Scenario(("cp", "R"), read_order="forward")),
    Mutant("ignore_registry", ignore_registry, Scenario(("c", "D"))),
    Mutant("never_verify", never_verify, Scenario(("c", "D"))),
    Mutant("purge_under_owners", purge_under_owners, Scenario(("c", "D"))),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_rule_that_is_left_out_is_missed(mutant: Mutant) -> None:
    with mutant.change(), pytest.raises(ViolationError):
        mutant.scenario.explore()


def acquire_amid_deletions() -> None:
    """B reads a slot that C wrote where A's was deleted.

    It takes three workers and two compactions, too much for the explorer: so this is the one way in which it happens.
    """
    world = JournalWorld(read_order="forward")

    def slot(number: int) -> str:
        return f"strands:{{s:r}}:i:{number}"

    def advance(name: str, verb: str = "", key: object = None) -> None:
        """Let an actor run until it is about to do something, or to its end."""
        while True:
            index = next(n for n, actor in enumerate(world.actors) if actor.name == name)
            op = world.actors[index].op
            if op is None or (op.verb, op.args[0]) == (verb, key):
                return
            world.step((index, ""))

    with (
        small_pages(),
        mock.patch.object(load, "FIRST_LOOK", 8),
        mock.patch.object(secrets, "token_bytes", world.token_bytes),
    ):
        seed(world)
        world.spawn("A", worker(world, "A", "ccpcp"))
        advance("A", "create", slot(3))
        world.spawn("C", worker(world, "C", "c"))
        advance("C", "create", slot(3))  # where A is about to write
        advance("A", "create", slot(4))
        world.spawn("B", worker(world, "B", "c"))
        advance("B", "get", (slot(3),))  # has read slots 1 and 2, and no head
        advance("A", "delete", slot(4))  # packs for the second time, and has deleted slots 1 to 3
        advance("C", "get", ("strands:{s:r}:i:head",))  # has written slot 3
        advance("B")
        for actor in world.actors:
            actor.coro.close()


def test_a_view_is_read_again_when_the_head_has_moved() -> None:
    acquire_amid_deletions()
    with skip_reload(), pytest.raises(ViolationError, match="its view is not the log"):
        acquire_amid_deletions()
