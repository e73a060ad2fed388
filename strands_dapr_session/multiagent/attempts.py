"""Calling what executes a node otherwise than its orchestrator would: once more when it raised, with answers, or later.

Orchestrators call the public `stream_async` of an executor, and look at its type besides: so it is this method that is
wrapped, of this one object.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from strands_dapr_session.multiagent.wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

logger = logging.getLogger(__name__)


def try_again(
    executor: Any, pausing: Callable[[], Awaitable[None]], prepare: Callable[[Exception], Awaitable[bool]]
) -> Callable[[], None]:
    """Make whatever executes a node run again when it raises.

    Args:
        executor: The agent, graph, swarm or custom node.
        pausing: Waits until the first attempt of this process is due.
        prepare: Called when it raised; tells whether to run it again, once it is ready for that.

    Returns:
        Ends that. See `Wrapped.wrap`.
    """

    async def stream_async(run: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        await pausing()
        while True:
            try:
                async for event in run(*args, **kwargs):
                    yield event
            except Exception as error:
                if not await prepare(error):
                    raise
            else:
                return

    return Wrapped.wrap(executor, "stream_async", stream_async)


def answer_again(executor: Any, answers: list[dict[str, Any]]) -> Callable[[], None]:
    """Make a node of the user's run with what people answered it before, instead of with its task.

    Args:
        executor: The custom node.
        answers: What Strands called it with when the answers had come.

    Returns:
        Ends that. See `Wrapped.wrap`.
    """

    async def stream_async(run: Any, _: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for event in run(answers, *args, **kwargs):
            yield event

    return Wrapped.wrap(executor, "stream_async", stream_async)


def let_others_begin(executor: Any) -> Callable[[], None]:
    """Make an executor begin a step of the event loop later.

    Nodes that begin together with it have their prompts by then. It may be done without ever waiting for anything.

    Args:
        executor: The agent, graph, swarm or custom node.

    Returns:
        Ends that. See `Wrapped.wrap`.
    """

    async def stream_async(run: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        async for event in run(*args, **kwargs):
            yield event

    return Wrapped.wrap(executor, "stream_async", stream_async)
