"""Where things are: the keys of a journal, and what may be an id.

A journal lives under ``strands:{session:root}:incarnation:…``. The part in braces keeps its keys together in a Redis
cluster. The incarnation is random, so a worker that still holds on to a deleted session cannot write into a new one of
the same name.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from strands_dapr_session.errors import InvalidIdentifierError

_PREFIX: Final = "strands"
_LONGEST_ID: Final = 255
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,39}")
_SLUG_LENGTH: Final = 14
_SHARDS: Final = 1024
_RANDOM_BYTES: Final = 6
_PROBES: Final = 4


def check_id(kind: str, value: object) -> str:
    """Accept a session or root id, or say what is wrong with it.

    Args:
        kind: What it is, for the message.
        value: The id.

    Raises:
        InvalidIdentifierError: It is no string, blank, too long, or has a slash, a backslash or a control character.
    """
    if not isinstance(value, str):
        raise InvalidIdentifierError(f"{kind} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise InvalidIdentifierError(f"{kind} must not be empty or blank")
    if len(value) > _LONGEST_ID:
        raise InvalidIdentifierError(f"{kind} has {len(value)} characters, more than {_LONGEST_ID}: {value[:40]!r}…")
    for character in value:
        if character in "/\\" or unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidIdentifierError(f"{kind} {value!r} must not contain {character!r}")
    return str.__str__(value)


def quote(value: str) -> str:
    """Turn any id into at most 40 characters of ``A-Z a-z 0-9 . _ -``, different for different ids.

    Ordinary ids stay as they are. Others become a readable hint and a hash, behind a dot that no ordinary one begins
    with.
    """
    if _PLAIN.fullmatch(value):
        return value
    hint = re.sub(r"[^A-Za-z0-9_-]+", "-", value)[:_SLUG_LENGTH]
    return f".{hint}.{_hash(value, 15)}"


def below(scope: str, name: str) -> str:
    """Name the scope of something that runs in another scope; that of the root is empty."""
    return f"{scope}/{quote(name)}" if scope else quote(name)


def random_name() -> str:
    """Make a name that nobody else makes."""
    return base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of one incarnation of a journal.

    Attributes:
        session_id: The session.
        root_id: The root.
        incarnation: Which of the journals that have had these names.
        base: What all its keys begin with.
    """

    session_id: str
    root_id: str
    incarnation: str
    base: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out what all its keys begin with."""
        base = f"{_PREFIX}:{{{quote(self.session_id)}:{quote(self.root_id)}}}:{self.incarnation}"
        object.__setattr__(self, "base", base)

    @property
    def head(self) -> str:
        """The one key that changes."""
        return f"{self.base}:head"

    def slot(self, number: int) -> str:
        """A commit."""
        return f"{self.base}:{number}"

    def part(self, number: int, index: int) -> str:
        """A piece of a commit that is too long for one key."""
        return f"{self.base}:{number}.{index}"

    def piece(self, plan: str, index: int) -> str:
        """One of the immutable values that a compaction wrote."""
        return f"{self.base}:{plan}.{index}"


def session_prefix(session_id: str) -> str:
    """What the keys of all journals of a session begin with, and no others."""
    return f"{_PREFIX}:{{{quote(session_id)}:"


def probe_keys(session_id: str, root_id: str) -> list[str]:
    """Where a store is tried out on behalf of a journal. They go when it is deleted."""
    return [f"{session_prefix(session_id)}{quote(root_id)}}}:probe:{number}" for number in range(_PROBES)]


def worker_key(token: str) -> str:
    """The heartbeat of a process."""
    return f"{_PREFIX}:worker:{token}"


def shard_key(session_id: str) -> str:
    """The part of the registry that knows a session."""
    digest = hashlib.blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return _shard(int.from_bytes(digest, "big") % _SHARDS)


def all_shard_keys() -> list[str]:
    """Every part of the registry."""
    return [_shard(number) for number in range(_SHARDS)]


def _shard(number: int) -> str:
    return f"{_PREFIX}:sessions:{number}"


def _hash(value: str, size: int) -> str:
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()
