"""Calls to one component, with what is repeated, what is given up, and what an answer proves."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc
from dapr.proto import api_v1, common_v1

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    SidecarNotFoundError,
    StoreError,
    StoreUnavailableError,
    TooLargeError,
    UnknownComponentError,
)
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from strands_dapr_session.stores.dapr.sidecar import CallFailed, Sidecar
from strands_dapr_session.stores.retry import Backoff, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

_READS_AT_ONCE = 32
_Code = grpc.StatusCode


class DaprCalls:
    """Calls to one component."""

    def __init__(self, store: str, component: str, sidecar: Sidecar, retry: RetryPolicy, timeout: float) -> None:
        """Set who is called and how.

        Args:
            store: The store's name, for messages.
            component: The component's name.
            sidecar: The sidecar.
            retry: How long to go on repeating what may be repeated.
            timeout: Seconds after which one call is given up.
        """
        self._store = store
        self._component = component
        self._sidecar = sidecar
        self._retry = retry
        self._timeout = timeout
        self._generation = -1
        self._reading = asyncio.Semaphore()

    async def patiently(self, method: str, request: object, *, announce: bool = False) -> Any:
        """Make a call that may be repeated, until it succeeds, is refused, or the budget is spent.

        Args:
            method: The name of a method of the Dapr service.
            request: Its request.
            announce: Whether to log the first failure as a warning.

        Raises:
            StoreError: It was refused, or nothing answered.
            TooLargeError: The request or its answer is longer than the sidecar allows.
        """
        if self._generation != io_thread.generation():
            self._generation = io_thread.generation()
            self._reading = asyncio.Semaphore(_READS_AT_ONCE)
        backoff = Backoff(self._retry)
        while True:
            try:
                async with self._reading:
                    return await self._sidecar.call(method, request, self._timeout)
            except CallFailed as failure:
                last = failure
            if (refusal := self._refusal(last)) is not None:
                raise refusal from last
            if announce:
                announce = False
                logger.warning("store=<%s>, failure=<%s> | waiting for the Dapr sidecar", self._store, last)
            if not await backoff.pause():
                raise self._unavailable(last) from last

    async def save(self, items: Sequence[common_v1.StateItem]) -> CallFailed | None:
        """Send writes in one call, once; returns why it failed."""
        request = api_v1.SaveStateRequest(store_name=self._component, states=items)
        try:
            await self._sidecar.call("SaveState", request, self._timeout)
        except CallFailed as failure:
            return failure
        return None

    def outcome(self, key: str, failure: CallFailed, *, said_conflict: bool) -> Exception:
        """Say what is known of a write that failed, and no more."""
        if said_conflict:
            return KeyConflict(key)
        return self._refusal(failure) or OutcomeUnknown(key, failure)

    async def close(self) -> None:
        """Drop the connection."""
        await self._sidecar.close()

    def _refusal(self, failure: CallFailed) -> StoreError | TooLargeError | None:
        """Return the error of a call that was refused before it did anything, and would be again."""
        code, details = failure.code, failure.details
        if code in {_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED}:
            return StoreError(f"{self._store}: the sidecar refuses this client ({details}). Check DAPR_API_TOKEN.")
        if code is _Code.UNIMPLEMENTED:
            return StoreError(f"{self._store}: what listens there does not offer Dapr's state API ({details})")
        if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in details:
            return TooLargeError(
                f"{self._store}: longer than the sidecar's limit of one message ({details}). "
                "Start it with a larger --max-body-size, or lower max_value_bytes."
            )
        if code in {_Code.INVALID_ARGUMENT, _Code.FAILED_PRECONDITION} and (
            f"store {self._component} is not" in details  # found, or configured
        ):
            return UnknownComponentError(f"{self._store}: {details}")
        return None

    def _unavailable(self, failure: CallFailed) -> StoreUnavailableError:
        budget = f"{self._retry.budget:g} s"
        if failure.code is _Code.UNAVAILABLE:
            return SidecarNotFoundError(
                f"{self._store}: no Dapr sidecar answered there for {budget} ({failure.details}). Start the program "
                "with `dapr run --app-id NAME -- python ...`, or set DAPR_GRPC_ENDPOINT, or DAPR_GRPC_PORT, to a "
                "sidecar that runs."
            )
        return StoreUnavailableError(
            f"{self._store}: no answer for {budget} ({failure}). What was acknowledged before is safe; try again later."
        )
