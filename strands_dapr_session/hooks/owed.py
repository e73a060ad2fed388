"""Calls that are only to finish what is unfinished, and must never begin anything."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from strands_dapr_session.errors import NothingUnfinishedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_is_wanted: Final[ContextVar[bool]] = ContextVar("strands_dapr_session_only_owed", default=False)


@contextmanager
def only_what_is_owed() -> Iterator[None]:
    """Let the calls inside go on with what is unfinished, or raise `NothingUnfinishedError`."""
    token = _is_wanted.set(True)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def refuse_new(name: str) -> None:
    """Refuse to begin something in a call that is only to go on.

    Raises:
        NothingUnfinishedError: It is such a call.
    """
    if _is_wanted.get():
        raise NothingUnfinishedError(f"nothing of {name} is unfinished (any more): another worker was faster")


def found() -> None:
    """Say that such a call has found what it is for: what its tools call from here on is their own business."""
    _is_wanted.set(False)
