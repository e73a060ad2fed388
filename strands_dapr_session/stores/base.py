"""The contract of a state store: five verbs over bytes.

A store keeps values under keys and can do two things atomically: create a key that does not exist yet, and replace a
value that has not changed since it was read. Everything else of this package is built on those two.

All verbs are called on the I/O loop (see `io_thread`). Reads retry transient failures themselves. Writes do not: a
write that got no clear answer may have been applied, so `create` and `replace` say what they know, in one of three
ways, and `settle` finds out the rest:

* they return: the write was applied, for sure;
* `KeyConflict`: the store said that it refused, because of the key or the ETag that is there. That may still be this
  very write, sent a second time by a layer below after the first answer was lost;
* `OutcomeUnknown`: it may or may not have been applied, or may yet be: a timeout, a cut connection, or a code that
  the store uses for conflicts and failures alike.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strands_dapr_session.errors import InvalidIdentifierError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_KEY_LENGTH = 128
"""What every store that Dapr supports can hold, with room for the application id that Dapr puts in front."""

DEFAULT_MAX_VALUE_BYTES = 1024 * 1024
"""The same for every store unless it can hold less, so that a session can be moved from one store to another."""

_KEY = re.compile(rf"[A-Za-z0-9._:{{}}-]{{1,{MAX_KEY_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key holds: its value, and the ETag that `StateStore.replace` compares."""

    value: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """What callers need to know of a store beyond its verbs.

    Attributes:
        max_value_bytes: The longest value that one key may hold. Callers split longer ones.
        max_batch_keys: How many keys `get_many` asks for at a time; a hint for read-ahead, not a limit.
        serial_writes: Writes gain nothing from being sent at the same time, as with SQLite.
        replace_revives: `replace` succeeds on a key that is gone, and counts ETags from 1 again, as Redis does. A
            key that is compared by ETag must never be deleted and created again there.
    """

    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES
    max_batch_keys: int = 128
    serial_writes: bool = False
    replace_revives: bool = False


class KeyConflict(Exception):  # noqa: N818 - an outcome, told to callers inside this package
    """The store refused a write because of what the key holds. Never seen by users.

    Attributes:
        key: The key.
        found: What the key held when it was read back; None when it has not been read or is absent.
        settled: Whether it has been read back. If so, what it holds is for sure not the value that was to be written.
    """

    def __init__(self, key: str, found: Entry | None = None, *, settled: bool = False) -> None:
        """Tell the key and, once it has been read back, what it holds."""
        super().__init__(f"key {key!r}: refused because of what the key holds")
        self.key = key
        self.found = found
        self.settled = settled


class OutcomeUnknown(Exception):  # noqa: N818 - an outcome, told to callers inside this package
    """A write may or may not have been applied, or may yet be. Never seen by users.

    Attributes:
        key: The key.
        cause: What happened, for messages and logs.
    """

    def __init__(self, key: str, cause: BaseException | str) -> None:
        """Tell the key and what happened."""
        super().__init__(f"key {key!r}: the write was sent and its outcome is unknown: {cause}")
        self.key = key
        self.cause = cause


class StateStore(ABC):
    """Keeps values under keys, for this package. See the module for what its outcomes mean.

    Attributes:
        name: The URL of the store without secrets, for messages.
        capabilities: Complete once `open` has returned.
        is_proven: Whether nothing behind the store could make it unsafe: the conformance tests of this package cover
            it whole. Others are probed before sessions are written to them.
    """

    name: str
    capabilities: StoreCapabilities
    is_proven: bool = False

    @abstractmethod
    async def open(self) -> None:
        """Reach the store and check that it is there. May be called again; does nothing then.

        Raises:
            StoreError: The store cannot be reached or used, and why.
        """

    @abstractmethod
    async def get(self, key: str) -> Entry | None:
        """Read one key, after all writes that were acknowledged before; None when it is absent."""

    @abstractmethod
    async def get_many(self, keys: Sequence[str], *, sizes: Mapping[str, int] | None = None) -> dict[str, Entry]:
        """Read any number of keys of any size. Not a snapshot: keys are read separately.

        Args:
            keys: The keys.
            sizes: About how many bytes long values have, where the caller knows, so that a store which reads in pages
                can choose them. Others are taken for short. A mistake costs time, and nothing else.

        Returns:
            What there is; absent keys are left out.
        """

    @abstractmethod
    async def create(self, key: str, value: bytes) -> None:
        """Write a key that does not exist. Of several at the same time at most one is applied.

        Raises:
            KeyConflict: The store said that the key exists.
            OutcomeUnknown: It may or may not have been applied.
        """

    @abstractmethod
    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """Write a key whose ETag is still the one given.

        Raises:
            KeyConflict: The store said that the ETag is another, or that the key is gone.
            OutcomeUnknown: It may or may not have been applied.
        """

    @abstractmethod
    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete keys, whatever they hold; keys that are absent are no error.

        Raises:
            StoreUnavailableError: Some may not have been deleted. Deleting again is safe.
        """

    @abstractmethod
    async def close(self) -> None:
        """Drop connections. The next verb opens them again, so that a store may be shared."""


def check_key(key: str) -> None:
    """Refuse a key that some store could not hold or keep apart from another.

    Raises:
        InvalidIdentifierError: The key is empty, too long, or holds other characters than ``A-Z a-z 0-9 . _ : { } -``.
    """
    if _KEY.fullmatch(key) is None:
        raise InvalidIdentifierError(
            f"store key {key!r}: must be 1 to {MAX_KEY_LENGTH} characters of A-Z a-z 0-9 . _ : {{ }} -"
        )


def check_write(key: str, value: bytes, max_value_bytes: int) -> None:
    """Refuse, before anything is sent, what a store may not be asked to write.

    Raises:
        InvalidIdentifierError: As `check_key`.
        TooLargeError: The value is longer than one key may hold.
        ValueError: The value is empty. PostgreSQL behind Dapr has no empty values, so nobody may rely on them.
    """
    check_key(key)
    if not value:
        raise ValueError(f"store key {key!r}: an empty value cannot be written, not every store can hold one")
    if len(value) > max_value_bytes:
        raise TooLargeError(
            f"store key {key!r}: {len(value)} bytes are more than the {max_value_bytes} that one key may hold"
        )
