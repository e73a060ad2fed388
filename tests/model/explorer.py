"""Runs coroutines step by step through every interleaving of their store calls.

A *world* is a store and some actors: coroutines of the real code, whose every store verb is one step. A state is what
the store holds and what each actor has seen so far; an actor is deterministic, so that is all there is. States are
explored depth first. A coroutine cannot be copied, so going back means running again from the start; what was explored
is known by its fingerprint and never explored twice.

Never scheduling an actor again is the same as killing it or pausing it for ever, so every state is also checked as if
everybody died there (see `World.check`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any


class ViolationError(Exception):
    """An invariant does not hold."""


@dataclass
class Op:
    """A store verb that an actor waits for."""

    verb: str
    args: tuple[Any, ...]

    def __await__(self) -> Generator[Op, Any, Any]:
        return (yield self)


@dataclass
class Actor:
    """A coroutine, the verb that it waits for, and what it has seen."""

    name: str
    coro: Coroutine[Op, Any, None]
    op: Op | None = None
    seen: int = 0
    drawn: int = 0


@dataclass
class World:
    """What one run works on. Subclasses give it a store, actors and invariants."""

    actors: list[Actor] = field(default_factory=list)
    running: Actor | None = None

    def spawn(self, name: str, coro: Coroutine[Op, Any, None]) -> None:
        actor = Actor(name, coro)
        self.actors.append(actor)
        self._resume(actor, None, None)

    def choices(self) -> list[tuple[int, str]]:
        """List what may happen next: an actor's step, with one of the ways in which it may turn out."""
        return [(index, way) for index, a in enumerate(self.actors) if a.op for way in self.ways(a.op)]

    def step(self, choice: tuple[int, str]) -> None:
        index, way = choice
        actor = self.actors[index]
        if actor.op is None:
            raise AssertionError("this actor has ended")
        op, result, error = actor.op, None, None
        try:
            result = self.perform(actor, op, way)
        except ViolationError:
            raise
        except Exception as outcome:  # noqa: BLE001 - it is the actor's business
            error = outcome
        actor.seen = hash((actor.seen, op.verb, op.args, way, _frozen(result), repr(error)))
        self._resume(actor, result, error)

    def _resume(self, actor: Actor, result: Any, error: Exception | None) -> None:
        before, self.running, actor.op = self.running, actor, None
        try:
            actor.op = actor.coro.send(result) if error is None else actor.coro.throw(error)
        except StopIteration:
            pass
        finally:
            self.running = before

    def fingerprint(self) -> Hashable:
        return (self.contents(), tuple((a.name, a.seen, a.op is None) for a in self.actors))

    # -- for subclasses ------------------------------------------------------------------------------------------

    def ways(self, op: Op) -> list[str]:
        """List how a verb may turn out."""
        raise NotImplementedError

    def perform(self, actor: Actor, op: Op, way: str) -> Any:
        """Carry out a verb."""
        raise NotImplementedError

    def contents(self) -> Hashable:
        """Sum up everything but the actors."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `ViolationError` if something is wrong in this state."""
        raise NotImplementedError


def _frozen(result: Any) -> Hashable:
    return tuple(sorted(result.items())) if isinstance(result, dict) else result


def explore(begin: Callable[[], World], *, limit: int | None = None) -> int:
    """Visit every state.

    Args:
        begin: Makes the world at its start; the same every time.
        limit: States after which to stop, None for all.

    Returns:
        The number of states.

    Raises:
        ViolationError: With the steps that lead to it.
    """
    visited: set[Hashable] = set()
    pending: list[list[tuple[int, str]]] = [[]]
    while pending:
        path = pending.pop()
        world = begin()
        try:
            for choice in path:
                world.step(choice)
            while True:
                state = world.fingerprint()
                if state in visited:
                    break
                visited.add(state)
                world.check()
                choices = world.choices()
                if not choices:
                    break
                pending += [[*path, choice] for choice in choices[1:]]
                path = [*path, choices[0]]
                world.step(choices[0])
        except ViolationError as violation:
            raise ViolationError(f"{violation}\n  after: {describe(begin, path)}") from violation
        finally:
            for actor in world.actors:
                actor.coro.close()
        if limit is not None and len(visited) >= limit:
            break
    return len(visited)


def describe(begin: Callable[[], World], path: list[tuple[int, str]]) -> str:
    """Tell the steps of a run."""
    world = begin()
    told = []
    for index, way in path:
        actor = world.actors[index]
        if index < 0 or actor.op is None:
            told.append(f"late {way}")
            world.step((index, way))
            continue
        told.append(f"{actor.name} {actor.op.verb} {actor.op.args[0]} {way}".strip())
        try:
            world.step((index, way))
        except ViolationError:
            break
    for actor in world.actors:
        actor.coro.close()
    return "\n         ".join(told)
