"""A key that is the same however often a tool call is repeated."""

from __future__ import annotations

import contextvars
import hashlib
from typing import Final

_KEY_BYTES: Final = 16
"""128 bits, as in a UUID: what services that take idempotency keys are built for."""

_current: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "strands_dapr_session_idempotency_key", default=None
)


def idempotency_key() -> str | None:
    """Read the idempotency key of the tool call that runs now.

    It stays the same when the call is repeated after a crash, and differs between calls. Pass it to the service that
    the tool calls, so that the service can tell a repetition from a new request. Works in sync and async tools, and in
    threads and tasks that inherit their context.

    Returns:
        32 hexadecimal digits; None outside a tool call of an agent with a `DaprSessionManager`.
    """
    return _current.get()


def set_key(*parts: str) -> None:
    """Set the key for the current task from what identifies the call."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    _current.set(digest.hexdigest())


def clear_key() -> None:
    """Forget the key, so that nothing after the tool call takes it for its own."""
    _current.set(None)
