"""A fork is there whole or not at all, wherever it is killed, and nothing of it is left when it is deleted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from strands_dapr_session.errors import SessionDeletedError, SessionExistsError, UnsafeStoreError
from strands_dapr_session.journal.acquire import Wish, acquire, give_back
from strands_dapr_session.journal.delete import delete_journal
from strands_dapr_session.journal.fork import FORK, fork
from strands_dapr_session.journal.registry import all_sessions, roots_of
from strands_dapr_session.records.records import Acquired, DocumentSet, Noted
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.base import Entry, StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, FaultyStore, LoseReply, seeded
from tests.unit.journal.journals import SETTINGS, Script, context_of, keys_of, small_journal

SOURCE = ("s", "r", 7)


class KilledError(BaseException):
    """The process ends here."""


async def source(store: StateStore) -> tuple[Script, View]:
    """Make a session to fork: its messages fill several commits, and its state several parts of one."""
    script = await small_journal(store)
    await script.say(*["long " * 4_000] * 8)
    long = random.Random(1).randbytes(9_000)
    await script.write(DocumentSet("", "a", long))
    script.documents["a"] = long
    await script.release()
    return script, await script.load()


async def view_of(store: StateStore, session_id: str = "f") -> View:
    return await Script(store, session_id).load()


async def delete(store: StateStore) -> None:
    await delete_journal(context_of(store), Wish("f", "r", SETTINGS, "deleter", understand=None), None)


def left(store: StateStore) -> list[str]:
    return [key for key in keys_of(store) if "{f:" in key]


def contents(view: View) -> dict[str, object]:
    return {
        path: (scope.messages, scope.documents, {**scope.notes, FORK: b""}, scope.results, scope.invocation)
        for path, scope in view.scopes.items()
    }


def dying_at(number: int) -> Callable[[Call], None]:
    def die(call: Call) -> None:
        if call.number == number:
            raise KilledError

    return die


@pytest.mark.parametrize("reply", ["no call", "no answer"])
async def test_killed_anywhere_it_is_there_whole_or_not_at_all(reply: str) -> None:
    number, killed, seen = 0, True, set()
    while killed:
        number += 1
        store = FaultyStore(MemoryStore(max_value_bytes=4_000))
        script, view = await source(store)
        store.calls.clear()
        if reply == "no call":
            store.on_call = dying_at(number)
        else:
            store.on_applied = dying_at(number)
        try:
            await fork(context_of(store), view, SOURCE, "f")
            killed = False
        except KilledError:
            pass
        store.on_call = store.on_applied = lambda _: None
        found = await view_of(store)
        seen.add(bool(found.scopes))
        assert contents(found) in ({}, contents(view)), f"killed at call {number}"
        assert not left(store) or "f" in await all_sessions(context_of(store))
        if not found.scopes:
            await fork(context_of(store), view, SOURCE, "f")  # the next try makes it
            assert contents(await view_of(store)) == contents(view)
        await script.check()
        await _delete_live(store)
        assert left(store) == [], f"killed at call {number}"
        assert await all_sessions(context_of(store)) == ["s"]
    assert number > 12
    assert seen == {True, False}


async def _delete_live(store: StateStore) -> None:
    wish = Wish("f", "r", SETTINGS, "deleter", understand=None)
    await delete_journal(context_of(store), wish, await acquire(context_of(store), wish))


async def test_killed_before_it_is_there_it_leaves_nothing_that_is_not_deleted() -> None:
    number, left_behind = 0, 0
    while True:
        number += 1
        store = FaultyStore(MemoryStore(max_value_bytes=4_000))
        _, view = await source(store)
        store.calls.clear()
        store.on_call = dying_at(number)
        try:
            await fork(context_of(store), view, SOURCE, "f")
        except KilledError:
            store.on_call = lambda _: None
            left_behind += len(left(store))
            await delete(store)
            assert left(store) == [], f"killed at call {number}"
            assert await all_sessions(context_of(store)) == ["s"]
        else:
            break
    assert left_behind > 20


async def test_lost_answers_make_no_difference() -> None:
    for seed in range(20):
        store = FaultyStore(MemoryStore(max_value_bytes=4_000))
        _, view = await source(store)
        faults = seeded(seed, 0.3, [LoseReply()])
        store.plan = lambda call, faults=faults: faults(call) if call.writes else None  # type: ignore[misc]
        await fork(context_of(store), view, SOURCE, "f")
        assert contents(await view_of(store)) == contents(view)


async def test_of_two_at_once_one_is_there_and_the_other_leaves_nothing() -> None:
    store = MemoryStore(max_value_bytes=4_000)
    _, view = await source(store)
    other = View()
    other.apply(Acquired("a", "w", takeover=False, lease=3.0))
    other.apply(Noted("", "other", b"1"))

    done = await asyncio.gather(
        *(fork(context_of(store), each, SOURCE, "f") for each in (view, other)), return_exceptions=True
    )

    assert sorted(map(type, done), key=str) == sorted([type(None), SessionExistsError], key=str)
    won = view if done[0] is None else other
    assert contents(await view_of(store)) == contents(won)
    (place,) = (await roots_of(context_of(store), "f")).values()
    assert place.dead == []
    assert all(f":{place.live}:" in key for key in left(store))


class Forgetful(MemoryStore):
    """Creates without looking whether the key is there."""

    is_proven = False

    async def create(self, key: str, value: bytes) -> None:
        await self.delete_many([key])
        await super().create(key, value)


async def test_no_session_is_made_in_a_store_that_is_not_safe() -> None:
    _, view = await source(MemoryStore())
    store = Forgetful()
    with pytest.raises(UnsafeStoreError):
        await fork(context_of(store), view, SOURCE, "f")
    assert keys_of(store) == []


async def test_a_store_is_opened_before_it_is_used() -> None:
    _, view = await source(MemoryStore())

    class Closed(MemoryStore):
        is_open = False

        async def open(self) -> None:
            self.is_open = True

        async def get(self, key: str) -> Entry | None:
            assert self.is_open
            return await super().get(key)

    store = Closed()
    await fork(context_of(store), view, SOURCE, "f")
    assert contents(await view_of(store)) == contents(view)


async def test_a_session_that_is_there_is_left_alone() -> None:
    store = MemoryStore()
    _, view = await source(store)
    await give_back(context_of(store), await acquire(context_of(store), Wish("f", "another", SETTINGS, "x")))
    before = dict(store._entries)
    with pytest.raises(SessionExistsError, match="'f'"):
        await fork(context_of(store), view, SOURCE, "f")
    assert store._entries == before


async def test_a_session_that_comes_meanwhile_is_left_alone() -> None:
    store = FaultyStore(MemoryStore())
    _, view = await source(store)
    inner = store.inner
    came: list[int] = []

    async def come() -> None:
        await give_back(context_of(inner), await acquire(context_of(inner), Wish("f", "r", SETTINGS, "x")))

    class Slow(FaultyStore):
        async def create(self, key: str, value: bytes) -> None:
            if "{f:" in key and not came:
                came.append(1)
                await come()
            await super().create(key, value)

    with pytest.raises(SessionExistsError):
        await fork(context_of(Slow(inner)), view, SOURCE, "f")

    (place,) = (await roots_of(context_of(inner), "f")).values()
    assert place.dead == []
    assert all(f":{place.live}:" in key for key in left(store))


async def test_deleted_while_it_is_made_it_is_never_there() -> None:
    number, deleted = 0, True
    while deleted:
        number += 1
        store = FaultyStore(MemoryStore(max_value_bytes=4_000))
        _, view = await source(store)
        inner = store.inner
        writes = 0

        class Disturbed(FaultyStore):
            async def create(self, key: str, value: bytes) -> None:
                nonlocal writes
                writes += "{f:" in key
                if writes == number:  # noqa: B023
                    await delete(self.inner)
                await super().create(key, value)

        try:
            await fork(context_of(Disturbed(inner)), view, SOURCE, "f")
            deleted = writes >= number
            assert not deleted
        except SessionDeletedError:
            assert left(store) == []
            assert await all_sessions(context_of(store)) == ["s"]
    assert number > 10


async def test_once_its_deletion_has_begun_it_cannot_be_there_any_more() -> None:
    inner = MemoryStore(max_value_bytes=4_000)
    _, view = await source(inner)
    is_written, is_deleted = asyncio.Event(), asyncio.Event()

    class Waiting(FaultyStore):
        """All is written, but that the session is there."""

        async def replace(self, key: str, value: bytes, etag: str) -> None:
            is_written.set()
            await is_deleted.wait()
            await super().replace(key, value, etag)

    class Deleting(FaultyStore):
        """The fork goes on as soon as its keys are about to go."""

        async def get(self, key: str) -> Entry | None:
            if "{f:" in key:
                is_deleted.set()
                await asyncio.wait([task])
            return await super().get(key)

    task = asyncio.ensure_future(fork(context_of(Waiting(inner)), view, SOURCE, "f"))
    await is_written.wait()
    await delete(Deleting(inner))

    with pytest.raises(SessionDeletedError, match="'f'"):
        await task
    assert left(inner) == []
    assert await all_sessions(context_of(inner)) == ["s"]
