"""Trying nodes again that raised, inside of the one call that their orchestrator makes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

logger = logging.getLogger(__name__)


def try_again(executor: Any, prepare: Callable[[Exception], Awaitable[bool]]) -> None:
    """Make whatever executes a node run again when it raises, until `never_again`.

    Orchestrators call the public `stream_async` of an executor, and look at its type besides: so it is this method that
    is replaced, of this one object.

    Args:
        executor: The agent, graph, swarm or custom node.
        prepare: Called when it raised; tells whether to run it again, once it is ready for that.
    """
    run = executor.stream_async

    async def stream_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        while True:
            try:
                async for event in run(*args, **kwargs):
                    yield event
            except Exception as error:
                if not await prepare(error):
                    raise
            else:
                return

    executor.stream_async = stream_async


def never_again(executor: Any) -> None:
    """Give an executor its own method back."""
    vars(executor).pop("stream_async", None)
