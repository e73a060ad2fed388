"""The checks, one for each promise. Each returns what it saw, or raises a `Violation`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from strands_dapr_session.errors import InvalidIdentifierError, TooLargeError
from strands_dapr_session.stores.base import MAX_KEY_LENGTH, KeyConflict, OutcomeUnknown, StateStore
from strands_dapr_session.stores.bench import EVERY_BYTE, Bench, bench, race
from strands_dapr_session.stores.settle import etag_of
from strands_dapr_session.testing.faults import ArriveLate, FaultyStore, LoseReply, RefuseOwn, scripted

if TYPE_CHECKING:
    from strands_dapr_session.stores.retry import RetryPolicy

Check: TypeAlias = Callable[[Bench], Awaitable[str]]

_RACERS = 64
_ROUNDS = 4
_MANY = 300


class Violation(Exception):  # noqa: N818 - the word for a broken promise
    """The store breaks a promise; the message says how."""


def name_of(check: Check) -> str:
    """Return the name of a check."""
    return str(getattr(check, "__name__", check))


async def run_check(store: StateStore, check: Check, retry: RetryPolicy | None = None) -> str:
    """Run one check on an open store, and delete its keys.

    Returns:
        What was seen.

    Raises:
        Violation: The store breaks the promise.
    """
    async with bench(store, retry) as at:
        return await check(at)


def _expect(truth: bool, otherwise: str) -> None:  # noqa: FBT001 - the one argument that it is about
    if not truth:
        raise Violation(otherwise)


async def one_creator_wins(at: Bench) -> str:
    """Of many that create the same key at the same time exactly one succeeds, and all others see what it wrote."""
    for number in range(_ROUNDS):
        key, values = at.key(f"race{number}"), [at.value() for _ in range(_RACERS)]
        won, found = await race(at.create(key, value) for value in values)
        _expect(len(won) == 1, f"{len(won)} of {_RACERS} created the same key")
        _expect(all(e is not None and e.value == values[won[0]] for e in found), "a loser saw something else")
    return f"{_ROUNDS} times one of {_RACERS}"


async def one_replacer_wins(at: Bench) -> str:
    """Of many that replace the same value at the same time exactly one succeeds."""
    key = at.key("race")
    await at.create(key, at.value())
    for _ in range(_ROUNDS):
        etag, values = await at.etag(key), [at.value() for _ in range(_RACERS)]
        won, found = await race(at.replace(key, value, etag) for value in values)
        _expect(len(won) == 1, f"{len(won)} of {_RACERS} replaced the same value")
        _expect(all(e is not None and e.value == values[won[0]] for e in found), "a loser saw something else")
    return f"{_ROUNDS} times one of {_RACERS}"


async def existing_key_is_not_created(at: Bench) -> str:
    """A key that exists is left as it is."""
    key, value = at.key("k"), at.value()
    await at.create(key, value)
    answers = set()
    for _ in range(3):
        try:
            await at.store.create(key, at.value())
        except (KeyConflict, OutcomeUnknown) as refusal:
            answers.add(type(refusal).__name__)
        else:
            raise Violation("the key was created again")
    entry = await at.store.get(key)
    _expect(entry is not None and entry.value == value, "the first value is gone")
    return f"answers {', '.join(sorted(answers))}"


async def etag_is_compared(at: Bench) -> str:
    """Only the ETag of the current value replaces it, and each write makes a new one."""
    key, second = at.key("k"), at.value()
    await at.create(key, at.value())
    old = await at.etag(key)
    await at.replace(key, second, old)
    new = await etag_of(at.store, key, second)
    _expect(new != old, "a write kept the ETag")
    for etag in (old, "12345678", "no-etag-of-this-store"):
        try:
            await at.replace(key, at.value(), etag)
        except KeyConflict as conflict:
            _expect(conflict.found is not None and conflict.found.value == second, "the value has changed")
        else:
            raise Violation(f"a value was replaced under the ETag {etag!r}, which is not its own")
    return f"ETags like {new!r}"


async def absent_key_is_not_replaced(at: Bench) -> str:
    """A key that is gone is not replaced, unless the store says so of itself."""
    key = at.key("k")
    await at.create(key, at.value())
    etag = await at.etag(key)
    await at.store.delete_many([key])
    try:
        await at.replace(key, at.value(), etag)
    except KeyConflict:
        return "refused"
    _expect(at.store.capabilities.replace_revives, "a key that was gone was written")
    return "written, as announced: such a key must never be deleted and created again"


async def bytes_come_back(at: Bench) -> str:
    """Values come back byte for byte, whatever they look like."""
    values = [
        EVERY_BYTE,
        b"\x00",
        b"\xff\xfe",
        b"null",
        b'"text"',
        b'{"a": 1}',
        b"123",
        b"AAEC",
        b" \r\n",
        b"\x00" * 99,
    ]
    keys = [at.key(f"k{number}") for number in range(len(values))]
    for key, value in zip(keys, values, strict=True):
        await at.create(key, value)
    together = await at.store.get_many(keys)
    for key, value in zip(keys, values, strict=True):
        alone = await at.store.get(key)
        _expect(alone is not None and alone.value == value, f"{value!r} came back as {alone}")
        _expect(key in together and together[key].value == value, f"{value!r} came back otherwise in get_many")
    return f"{len(values)} kinds"


async def empty_value_is_refused(at: Bench) -> str:
    """An empty value is refused before it is sent: not every store can hold one."""
    key = at.key("k")
    try:
        await at.store.create(key, b"")
    except ValueError:
        _expect(await at.store.get(key) is None, "it was written nevertheless")
        return "refused"
    raise Violation("an empty value was taken")


async def largest_value_fits(at: Bench) -> str:
    """A value of exactly the size that the store announces is kept; one byte more is refused before it is sent."""
    limit = at.store.capabilities.max_value_bytes
    key, value = at.key("k"), at.value(limit)
    await at.create(key, value)
    entry = await at.store.get(key)
    _expect(entry is not None and entry.value == value, "it came back changed")
    try:
        await at.store.create(at.key("larger"), value + b"+")
    except TooLargeError:
        return f"{limit:,} bytes"
    raise Violation("a larger value was taken")


async def keys_are_kept_apart(at: Bench) -> str:
    """Keys of all allowed characters and of full length work, and differ when a letter's case does."""
    start = at.key("")
    fill = "0123456789.-_:{}abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" * 2
    longest = (start + fill)[:MAX_KEY_LENGTH]
    keys = [longest, longest[:-1], at.key("a"), at.key("A"), at.key("{a}"), at.key("a:"), at.key("a."), at.key("a_")]
    values = {key: at.value() for key in keys}
    for key in (longest, longest[:-1]):
        at.adopt(key)
    await asyncio.gather(*(at.create(key, value) for key, value in values.items()))
    found = await at.store.get_many(keys)
    _expect({key: entry.value for key, entry in found.items()} == values, "some were taken for each other")
    for key in ("", longest + "+", "a||b", "a b", "ä", "a/b", "x" * (MAX_KEY_LENGTH + 1)):
        try:
            await at.store.get(key)
        except InvalidIdentifierError:
            continue
        raise Violation(f"the key {key!r} was taken")
    return f"up to {MAX_KEY_LENGTH} characters"


async def many_keys_are_read(at: Bench) -> str:
    """Many keys are read at a time, absent and repeated ones among them, and more bytes than one message holds."""
    store = at.store
    small = {at.key(f"small{number}"): at.value() for number in range(_MANY)}
    large = {at.key(f"large{number}"): at.value(store.capabilities.max_value_bytes) for number in range(6)}
    await asyncio.gather(*(at.create(key, value) for key, value in small.items()))
    for key, value in large.items():
        await at.create(key, value)
    written = {**small, **large}
    absent = [at.key(f"absent{number}") for number in range(_MANY)]
    found = await store.get_many([*large, *absent, *small, *absent, *small])
    _expect(found.keys() == written.keys(), f"{len(found)} of {len(written)} keys were found")
    _expect(all(found[key].value == value for key, value in written.items()), "values came back changed")
    _expect(await store.get_many(absent) == {} == await store.get_many([]), "absent keys were found")
    some = next(iter(small))
    _expect(found[some] == await store.get(some), "get_many and get do not agree on an ETag")
    return f"{len(written)} keys, {sum(map(len, written.values())):,} bytes"


async def writes_are_seen_at_once(at: Bench) -> str:
    """What was acknowledged is read, one by one and together."""
    for number in range(40):
        key, value = at.key(f"k{number}"), at.value()
        await at.create(key, value)
        together = await at.store.get_many([key, at.key("absent")])
        alone = await at.store.get(key)
        _expect(key in together and alone == together[key], "a write was not seen at once")
    return "40 times"


async def deleting_is_idempotent(at: Bench) -> str:
    """Keys can be deleted whether they exist or not, and be created again."""
    keys = [at.key(f"k{number}") for number in range(_MANY)]
    await asyncio.gather(*(at.create(key, at.value()) for key in keys[::2]))
    for _ in range(2):
        await at.store.delete_many(keys)
        _expect(await at.store.get_many(keys) == {}, "a deleted key is still there")
    await at.store.delete_many([])
    value = at.value()
    await at.create(keys[0], value)
    entry = await at.store.get(keys[0])
    _expect(entry is not None and entry.value == value, "a deleted key could not be created again")
    return f"{len(keys)} keys"


async def lost_answers_are_settled(at: Bench) -> str:
    """A write whose answer is lost, or is a conflict with itself, is settled, and no late copy of it does harm."""
    faults = (LoseReply(), RefuseOwn(), ArriveLate(1), ArriveLate(2), ArriveLate(99))
    for number, fault in enumerate(faults):
        faulty = FaultyStore(at.store, scripted({1: fault}))
        through = at.through(faulty)
        key, first, second, third = at.key(f"k{number}"), at.value(), at.value(), at.value()
        await through.create(key, first)
        etag = await etag_of(at.store, key, first)
        faulty.plan = scripted({len(faulty.calls) + 1: fault})
        await through.replace(key, second, etag)
        await at.replace(key, third, await etag_of(at.store, key, second))
        await faulty.deliver_postponed()
        entry = await at.store.get(key)
        _expect(entry is not None and entry.value == third, f"{fault}: a copy that came late was applied")
    return f"{len(faults)} ways"


CHECKS: tuple[Check, ...] = (
    one_creator_wins,
    one_replacer_wins,
    existing_key_is_not_created,
    etag_is_compared,
    absent_key_is_not_replaced,
    bytes_come_back,
    empty_value_is_refused,
    largest_value_fits,
    keys_are_kept_apart,
    many_keys_are_read,
    writes_are_seen_at_once,
    deleting_is_idempotent,
    lost_answers_are_settled,
)
