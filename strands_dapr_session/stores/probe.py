"""The quick check of a store, made once by each process that uses it: six round trips."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NoReturn

from strands_dapr_session.errors import StoreUnavailableError, UnsafeStoreError
from strands_dapr_session.stores.bench import Bench, bench, race

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands_dapr_session.stores.base import StateStore
    from strands_dapr_session.stores.retry import RetryPolicy

_RACERS = 4

_trusted: weakref.WeakSet[StateStore] = weakref.WeakSet()


async def check_store(store: StateStore, retry: RetryPolicy | None = None, keys: Sequence[str] = ()) -> None:
    """Open a store, and refuse it if sessions would not be safe in it. Remembers the stores that passed.

    Args:
        store: The store.
        retry: How long to go on while it gives no answer.
        keys: What to try it on. A process that is killed here leaves one of them behind, where whoever chose them finds
            it. When all of them are there already, or are deleted meanwhile, one with a name like no other is used.

    Raises:
        StoreError: It cannot be opened.
        UnsafeStoreError: It does not create or replace atomically, or does not give back the bytes it was given.
        StoreUnavailableError: It gives no answer.
    """
    if store in _trusted:
        return
    await store.open()
    async with bench(store, retry) as at:
        try:
            await _check(at, keys)
        except StoreUnavailableError as error:
            if await _holds_only_text(at):
                _refuse(at, f"it does not take values that are no text ({error})")
            raise
    _trusted.add(store)


async def _check(at: Bench, keys: Sequence[str]) -> None:
    for key in keys:
        try:
            if await at.store.get(key) is None:
                at.adopt(key)
                await _try(at, key)
                return
        except UnsafeStoreError:
            pass  # perhaps another process did the same, or deleted the session
    await _try(at, at.key("probe"))


async def _try(at: Bench, key: str) -> None:
    first = [at.value() for _ in range(_RACERS)]
    won, seen = await race(at.create(key, value) for value in first)
    if any(entry is not None and entry.value not in first for entry in seen):
        _refuse(at, "the bytes that it returns are not those that were written")
    if len(won) != 1 or any(entry is None or entry.value != first[won[0]] for entry in seen):
        _refuse(at, f"of {_RACERS} that created the same key at the same time, {len(won)} were told that they had")

    etag = next(entry.etag for entry in seen if entry is not None)
    second = [at.value() for _ in range(_RACERS)]
    won, seen = await race(at.replace(key, value, etag) for value in second)
    if len(won) != 1 or any(entry is None or entry.value != second[won[0]] for entry in seen):
        _refuse(at, f"of {_RACERS} that replaced the same value at the same time, {len(won)} were told that they had")


async def _holds_only_text(at: Bench) -> bool:
    """Whether the store is there, but only for text: otherwise it just did not answer for a while."""
    try:
        await at.create(at.key("text"), b"text")
    except StoreUnavailableError:
        return False
    try:
        await at.create(at.key("bytes"), at.value())
    except StoreUnavailableError:
        return True
    return False


def _refuse(at: Bench, reason: str) -> NoReturn:
    raise UnsafeStoreError(
        f"{at.store.name}: {reason}. Sessions would be lost or mixed up in it, so it is refused. Known to be safe are "
        "Redis, PostgreSQL (v2), SQLite and, for tests, the in-memory component."
    )
