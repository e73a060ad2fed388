"""Writes whose outcome is certain: what was refused or got no answer is read back and compared.

The bytes that this package writes carry a unique id, so a key that holds exactly the bytes that were to be written
holds *this* write, whichever of its copies arrived. A write that was sent is never changed when it is sent again, so
a copy that arrives late finds its own bytes, or a conflict, and does no harm.
"""

from __future__ import annotations

import logging

from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown, StateStore
from strands_dapr_session.stores.retry import Backoff, RetryPolicy

logger = logging.getLogger(__name__)

_DEFAULT_POLICY = RetryPolicy()


async def settle_create(store: StateStore, key: str, value: bytes, policy: RetryPolicy = _DEFAULT_POLICY) -> None:
    """Create a key, for sure: when this returns, the key held exactly this value.

    Args:
        store: The store.
        key: The key.
        value: The bytes, unique to this write.
        policy: How long to go on while the store gives no answer.

    Raises:
        KeyConflict: Settled: the key holds other bytes, which it carries. This write is not applied and never will be,
            as long as nobody deletes the key.
        StoreUnavailableError: Nothing could be found out within the budget. The write may be applied, also later.
    """
    backoff = Backoff(policy)
    while True:
        try:
            await store.create(key, value)
        except (KeyConflict, OutcomeUnknown) as failure:
            problem = failure
        else:
            return
        found = await store.get(key)
        if found is not None:
            if found.value == value:
                return
            raise KeyConflict(key, found, settled=True) from problem
        await _wait(backoff, store, key, problem)


async def settle_replace(
    store: StateStore, key: str, value: bytes, etag: str, policy: RetryPolicy = _DEFAULT_POLICY
) -> None:
    """Replace the value of a key, for sure: when this returns, the key held exactly this value.

    Args:
        store: The store.
        key: The key.
        value: The bytes, unique to this write.
        etag: The ETag under which the value to be replaced was read.
        policy: How long to go on while the store gives no answer.

    Raises:
        KeyConflict: Settled: the key holds other bytes under another ETag, which it carries, or is gone. When several
            may replace the key, this write may have been applied and replaced in its turn.
        StoreUnavailableError: Nothing could be found out within the budget. The write may be applied, also later.

    A store with ``capabilities.replace_revives`` writes the key also when it is gone. Never delete a key there that is
    compared by ETag, unless nobody will write it again.
    """
    backoff = Backoff(policy)
    while True:
        try:
            await store.replace(key, value, etag)
        except (KeyConflict, OutcomeUnknown) as failure:
            problem = failure
        else:
            return
        found = await store.get(key)
        if found is not None and found.value == value:
            return
        if found is None or found.etag != etag:
            raise KeyConflict(key, found, settled=True) from problem
        await _wait(backoff, store, key, problem)


async def etag_of(store: StateStore, key: str, value: bytes) -> str:
    """Read the ETag under which a value that was just written is stored. Stores do not return it from a write.

    Raises:
        KeyConflict: Settled: the key does not hold this value any more.
    """
    found = await store.get(key)
    if found is None or found.value != value:
        raise KeyConflict(key, found, settled=True)
    return found.etag


async def _wait(backoff: Backoff, store: StateStore, key: str, problem: KeyConflict | OutcomeUnknown) -> None:
    """Pause before the same bytes are sent again."""
    logger.debug("store=<%s>, key=<%s>, problem=<%s> | sending the same bytes again", store.name, key, problem)
    if not await backoff.pause():
        cause = problem.cause if isinstance(problem, OutcomeUnknown) else problem
        raise StoreUnavailableError(
            f"{store.name}: key {key!r} could not be written, and whether it will be is unknown ({cause}). "
            "What was acknowledged before is safe; run again when the store answers."
        ) from problem
