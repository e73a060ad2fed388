"""When the nodes of a batch begin, so that each is told the same as in a run without interruption."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Starts:
    """Lets the nodes of a batch begin together.

    Strands makes the prompt of a node when our hook is done, of the results that are there then. Those of nodes that
    begin together with it are not to be among them, however quickly one is done, or is replayed. A node before which a
    hook asked a person has begun after the others had ended, and is told of them.

    Only nodes that are being prepared are waited for, which ends by itself. One that has not come here yet may itself
    wait for another to end: a program may hold nodes back, as one does that runs them one by one.
    """

    def __init__(self) -> None:
        self._preparing: set[str] = set()
        self._replaying: set[str] = set()
        self._late: Collection[str] = ()
        self._are_prepared = asyncio.Event()
        self._are_replayed = asyncio.Event()

    def expect(self, *, replayed: Iterable[str] = (), late: Collection[str] = ()) -> None:
        """Another batch begins.

        Args:
            replayed: The nodes whose results are recorded.
            late: The nodes that begin when the replayed ones have ended.
        """
        self._replaying, self._late = set(replayed), late
        self._are_replayed.clear()
        self._look()

    def prepare(self, node_id: str) -> None:
        """Let others that begin wait for a node."""
        self._preparing.add(node_id)
        self._are_prepared.clear()

    def has_prepared(self, node_id: str) -> None:
        """Take a node for prepared, or for one that cannot be."""
        self._preparing.discard(node_id)
        self._look()

    def has_ended(self, node_id: str) -> None:
        """Notice the end of a node."""
        self._replaying.discard(node_id)
        self._look()

    def _look(self) -> None:
        if not self._preparing:
            self._are_prepared.set()
        if not self._replaying:
            self._are_replayed.set()

    async def wait(self, node_id: str) -> None:
        """Wait until a node may begin."""
        await self._are_prepared.wait()
        if node_id in self._late:
            await self._are_replayed.wait()
