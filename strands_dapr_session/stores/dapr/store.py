"""A store behind a Dapr sidecar: ``dapr://component``, or ``dapr://component?address=host:port`` for another sidecar.

Without an address it is the one that Dapr's own environment variables name. Options: ``retry_seconds`` (how long an
unreachable sidecar is waited for), ``timeout`` (seconds for one call), ``max_value_bytes``, and ``consistency``
(*strong* unless *eventual* is asked for, which some accounts of Azure Cosmos DB need).

Every write of every key is *first-write*: without an ETag it creates, with one it compares. Nothing else that Dapr
offers is used to change a key: its transactions are neither atomic nor isolated on all stores.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc
from dapr.proto import api_v1, common_v1

from strands_dapr_session.errors import (
    TooLargeError,
    UnknownComponentError,
    UnsafeStoreError,
)
from strands_dapr_session.stores.base import (
    DEFAULT_MAX_VALUE_BYTES,
    Entry,
    StateStore,
    StoreCapabilities,
    check_key,
    check_write,
)
from strands_dapr_session.stores.dapr.calls import DaprCalls
from strands_dapr_session.stores.dapr.components import PLAIN, ComponentTraits, traits_of
from strands_dapr_session.stores.dapr.sidecar import SidecarAddress, sidecar_at
from strands_dapr_session.stores.dapr.writes import DaprWrites
from strands_dapr_session.stores.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strands_dapr_session.stores.url import StoreURL

logger = logging.getLogger(__name__)

_DEFAULT_TIMEOUT = 5.0
_FIRST_PAGE_KEYS = 40
"""As many of the longest slots that a journal writes fit into one message, see `journal.commit`."""

_SHORT = 96 * 1024
"""Bytes that a value of unknown size is taken for."""

_FIRST_PAGE_BYTES = _FIRST_PAGE_KEYS * _SHORT

_LARGEST_PAGE_KEYS = 128
_PAGE_BYTES = 2 * 1024 * 1024
"""Half of what a sidecar puts into one message unless told otherwise, since the values of a page differ in size."""
_DELETE_KEYS = 64

_ABORTED = grpc.StatusCode.ABORTED


def from_url(url: StoreURL) -> DaprStore:
    """Make the store of a ``dapr://component`` URL."""
    store = DaprStore(
        url.host,
        url.text("address"),
        retry=RetryPolicy(budget=url.seconds("retry_seconds", RetryPolicy().budget)),
        timeout=url.seconds("timeout", _DEFAULT_TIMEOUT),
        max_value_bytes=url.size("max_value_bytes"),
        consistency=url.choice("consistency", "strong", "eventual"),
    )
    url.no_more_options()
    if not url.host or url.path not in {"", "/"}:
        raise url.error("expected dapr://component?address=host:port")
    return store


class DaprStore(StateStore):
    """Values in a state component of a Dapr sidecar."""

    def __init__(  # noqa: PLR0913 - each is an option of the URL
        self,
        component: str,
        address: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout: float = _DEFAULT_TIMEOUT,
        max_value_bytes: int | None = None,
        consistency: str = "strong",
    ) -> None:
        """Name the component; nothing is contacted yet.

        Args:
            component: The name of the state component.
            address: Of the sidecar, in any form that the Dapr SDK takes. None: as Dapr's environment variables say.
            retry: How long to go on while the sidecar or its store does not answer.
            timeout: Seconds after which one call is given up.
            max_value_bytes: What one key may hold, if the component can hold less, or the sidecar takes more.
            consistency: "strong" or "eventual".
        """
        self.component = component
        where = SidecarAddress.parse(address) if address else SidecarAddress.from_environment()
        self.name = f"dapr://{component}?address={where}"
        self._calls = DaprCalls(self.name, component, sidecar_at(where), retry or RetryPolicy(), timeout)
        self._max_value_bytes = max_value_bytes
        self._consistency = (
            common_v1.StateOptions.CONSISTENCY_STRONG
            if consistency == "strong"
            else common_v1.StateOptions.CONSISTENCY_EVENTUAL
        )
        self._opened = False
        self._use(PLAIN)

    # -- opening ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See `StateStore.open`; asks the sidecar for the component."""
        if self._opened:
            return
        metadata = await self._calls.patiently("GetMetadata", api_v1.GetMetadataRequest(), announce=True)
        states = {c.name: c for c in metadata.registered_components if c.type.startswith("state.")}
        component = states.get(self.component)
        if component is None:
            known = ", ".join(sorted(states)) or "none"
            raise UnknownComponentError(
                f"{self.name}: this Dapr sidecar (app id {metadata.id!r}) has no state component {self.component!r}. "
                f"Its state components: {known}."
            )
        if component.capabilities and "ETAG" not in component.capabilities:
            raise UnsafeStoreError(
                f"{self.name}: a component of type {component.type} keeps no ETags, so that two processes would "
                "overwrite each other's records. Use another state component."
            )
        self._use(traits_of(component.type, component.version))
        self._opened = True

    def _use(self, traits: ComponentTraits) -> None:
        self._traits = traits
        self._writes = DaprWrites(self._calls, traits)
        self.capabilities = StoreCapabilities(
            max_value_bytes=self._max_value_bytes or traits.max_value_bytes or DEFAULT_MAX_VALUE_BYTES,
            max_batch_keys=_LARGEST_PAGE_KEYS,
            serial_writes=traits.serial_writes,
            replace_revives=traits.replace_revives,
        )

    async def close(self) -> None:
        """See `StateStore.close`. Other stores of the same sidecar share the connection and open it again."""
        await self._calls.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        """See `StateStore.get`."""
        check_key(key)
        request = api_v1.GetStateRequest(store_name=self.component, key=key, consistency=self._consistency)
        answer = await self._calls.patiently("GetState", request)
        # Not by its data: a key may exist and be empty.
        return Entry(answer.data, answer.etag) if answer.etag else None

    async def get_many(self, keys: Sequence[str], *, sizes: Mapping[str, int] | None = None) -> dict[str, Entry]:
        """See `StateStore.get_many`; in pages that stay below what the sidecar puts into one message."""
        for key in keys:
            check_key(key)
        wanted = list(dict.fromkeys(keys))
        if len(wanted) == 1 or not self._traits.bulk_reads:
            return await self._get_each(wanted)
        known = sizes or {}
        rest = [key for key in wanted if key not in known]
        # Of the rest, how long the values are shows only when they are here. One page of it gives the measure.
        first, rest = rest[:_FIRST_PAGE_KEYS], rest[_FIRST_PAGE_KEYS:]
        room = min(_PAGE_BYTES, _FIRST_PAGE_BYTES - len(first) * _SHORT)
        along = _fitting([key for key in wanted if known.get(key, _SHORT + 1) <= _SHORT], known, room)
        apart = [key for key in wanted if key in known and key not in along]
        measured, *others = await asyncio.gather(*map(self._get_page, [[*first, *along], *_pages(apart, known)]))
        page = _page_keys(len(first), sum(len(entry.value) for key, entry in measured.items() if key not in known))
        others += await asyncio.gather(*(self._get_page(rest[at : at + page]) for at in range(0, len(rest), page)))
        for more in others:
            measured |= more
        return measured

    async def _get_page(self, keys: list[str]) -> dict[str, Entry]:
        """Read keys in one call if they fit, else each half of them by itself."""
        if len(keys) <= 1:
            return await self._get_each(keys)
        request = api_v1.GetBulkStateRequest(store_name=self.component, keys=keys, parallelism=0)
        try:
            answer = await self._calls.patiently("GetBulkState", request)
        except TooLargeError:
            half = len(keys) // 2
            one, other = await asyncio.gather(self._get_page(keys[:half]), self._get_page(keys[half:]))
            return one | other
        found = {item.key: Entry(item.data, item.etag) for item in answer.items if item.etag and not item.error}
        # A key that could not be read looks like an absent one, but for its error.
        return found | await self._get_each([item.key for item in answer.items if item.error])

    async def _get_each(self, keys: list[str]) -> dict[str, Entry]:
        entries = await asyncio.gather(*(self.get(key) for key in keys))
        return {key: entry for key, entry in zip(keys, entries, strict=True) if entry is not None}

    # -- writing ------------------------------------------------------------------------------------------------------

    async def create(self, key: str, value: bytes) -> None:
        """See `StateStore.create`."""
        check_write(key, value, self.capabilities.max_value_bytes)
        sent = await self._writes.put(self._item(key, value))
        if sent.failure is not None:
            raise self._calls.outcome(key, sent.failure, said_conflict=sent.alone and sent.failure.code is _ABORTED)

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """See `StateStore.replace`."""
        check_write(key, value, self.capabilities.max_value_bytes)
        item = self._item(key, value)
        item.etag.value = etag
        failure = await self._writes.put_alone(item)
        if failure is not None:
            # ABORTED is no proof: Redis says it of a network error too when an ETag was sent.
            raise self._calls.outcome(key, failure, said_conflict=False)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `StateStore.delete_many`."""
        for key in keys:
            check_key(key)
        for at in range(0, len(keys), _DELETE_KEYS):
            states = [common_v1.StateItem(key=key) for key in keys[at : at + _DELETE_KEYS]]
            request = api_v1.DeleteBulkStateRequest(store_name=self.component, states=states)
            await self._calls.patiently("DeleteBulkState", request)

    def _item(self, key: str, value: bytes) -> common_v1.StateItem:
        options = common_v1.StateOptions(
            concurrency=common_v1.StateOptions.CONCURRENCY_FIRST_WRITE, consistency=self._consistency
        )
        return common_v1.StateItem(key=key, value=value, options=options)


def _fitting(keys: list[str], sizes: Mapping[str, int], room: int) -> dict[str, None]:
    """Choose the first of some keys, whose values fit into some room."""
    chosen: dict[str, None] = {}
    for key in keys[: _LARGEST_PAGE_KEYS - _FIRST_PAGE_KEYS]:
        room -= sizes[key]
        if room < 0:
            break
        chosen[key] = None
    return chosen


def _pages(keys: list[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """Divide keys into pages by the sizes of their values."""
    pages: list[list[str]] = []
    room = 0
    for key in keys:
        room -= sizes[key]
        if not pages or room < 0 or len(pages[-1]) == _LARGEST_PAGE_KEYS:
            pages.append([])
            room = _PAGE_BYTES - sizes[key]
        pages[-1].append(key)
    return pages


def _page_keys(keys: int, size: int) -> int:
    """How many keys to ask for at a time, after so many gave so many bytes."""
    if size == 0:
        return _LARGEST_PAGE_KEYS
    return max(1, min(_LARGEST_PAGE_KEYS, keys * _PAGE_BYTES // size))
