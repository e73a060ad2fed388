"""Find a store by its URL. There is no fallback: what was asked for is what is used, or an error says why not."""

from __future__ import annotations

import importlib
import os
import threading
from typing import TYPE_CHECKING

from strands_dapr_session import io_thread
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.url import StoreURL

if TYPE_CHECKING:
    from collections.abc import Callable

STORE_VARIABLE = "STRANDS_DAPR_SESSION_STORE"
DEFAULT_STORE = "dapr://statestore"

_MODULES = {
    "dapr": "strands_dapr_session.stores.dapr",
    "sqlite": "strands_dapr_session.stores.sqlite",
    "redis": "strands_dapr_session.stores.redis",
    "rediss": "strands_dapr_session.stores.redis",
    "memory": "strands_dapr_session.stores.memory",
}
"""Imported when the scheme is used, for they import gRPC or Redis. Each has a ``from_url``."""

_shared: dict[tuple[str, str], StateStore] = {}
_lock = threading.Lock()


def open_store(spec: str | StateStore | None = None) -> StateStore:
    """Return the store that a URL names; the same object for the same URL in one process.

    Nothing is contacted: `StateStore.open` does that, on the I/O loop.

    Args:
        spec: A URL (``dapr://component``, ``sqlite:///path``, ``redis://host:port``, ``memory://name``), the bare name
            of a Dapr component, or a store, which is returned as it is. None: the URL in the environment variable
            ``STRANDS_DAPR_SESSION_STORE``, and without one ``dapr://statestore``.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """
    if isinstance(spec, StateStore):
        return spec
    url = spec if spec is not None else os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
    if "://" not in url:
        url = f"dapr://{url}"
    if url == "memory://":
        return _make(url)  # no name, so nothing to share it by
    store = _make(url)
    with _lock:
        # The name has what the URL leaves to the environment: the current directory, the address of the sidecar.
        return _shared.setdefault((url, store.name), store)


def _make(url: str) -> StateStore:
    taken_apart = StoreURL(url)
    module = _MODULES.get(taken_apart.scheme)
    if module is None:
        known = ", ".join(f"{scheme}://" for scheme in _MODULES)
        raise taken_apart.error(
            f"unknown scheme {taken_apart.scheme!r}. Known: {known}; a bare name is a Dapr component."
        )
    from_url: Callable[[StoreURL], StateStore] = importlib.import_module(module).from_url
    return from_url(taken_apart)


async def _close_shared() -> None:
    for store in tuple(_shared.values()):
        await store.close()


def _after_fork_in_child() -> None:
    # Another thread may have held the lock. The stores themselves notice that they are in a child.
    global _lock  # noqa: PLW0603 - one lock a process
    _lock = threading.Lock()


io_thread.close_at_exit(_close_shared)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
