"""What a context manager took out of the conversation, and keeps in memory in case that the model asks for it again.

Strands' context managers leave a preview and a reference where a long text was, and a tool that finds the text by the
reference. Unless they were given a durable storage, the texts are in a stash in memory. A restored agent would find
the preview there, so what is put into such a stash is recorded like messages are: once, in a scope of its own beside
the agent's.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import strands_compat
from strands_dapr_session.records.codec import pack_value, unpack_values
from strands_dapr_session.records.records import Spliced

if TYPE_CHECKING:
    from strands import Agent
    from strands.types.content import Message

    from strands_dapr_session.records.view import View

_NAME: Final = "*stash"  # no node, tool or agent has such a path: their names are quoted


class Stashed:
    """Shadow of a stash in memory: a digest of each entry that is recorded."""

    def __init__(self, scope: str) -> None:
        """Begin with nothing recorded for the agent at the path `scope`."""
        self._scope = f"{scope}/{_NAME}" if scope else _NAME
        self._digests: dict[str, int] = {}
        self._recorded = 0
        self._new: dict[str, bytes] = {}

    async def look(self, agent: Agent, message: Message | None = None) -> None:
        """Find what was put in since.

        Args:
            agent: The agent.
            message: One that was just added to it: entries of its parts may have replaced others of the same name.

        Raises:
            UnencodableValueError: Something in the stash would not survive storage.
        """
        stash = strands_compat.stash_in_memory(agent)
        if stash is None:
            return
        references = [reference for reference in await stash.list() if reference not in self._digests]
        if message is not None:
            blocks = enumerate(message["content"])
            references += [each for index, block in blocks for each in stash.refs_for(block, message, index)]
        for reference in dict.fromkeys(references):
            item = await stash.retrieve(reference)
            if item is None:
                continue  # not everything is put in
            entry = pack_value({"reference": reference, "item": item}, path=f"stash[{reference!r}]")
            if self._digests.get(reference) != hash(entry):
                self._digests[reference] = hash(entry)
                self._new[reference] = entry

    def changes(self) -> list[Spliced]:
        """List what was found, and take it as recorded."""
        if not self._new:
            return []
        found, self._new = tuple(self._new.values()), {}
        at, self._recorded = self._recorded, self._recorded + len(found)
        return [Spliced(self._scope, at, 0, found)]

    def restore(self, agent: Agent, view: View, name: str) -> None:
        """Put back what is recorded.

        Args:
            agent: The agent.
            view: What the journal says.
            name: The session and root, for errors.

        Raises:
            KeyError: An entry is none.
            TypeError: The same.
        """
        recorded = view.scopes[self._scope].messages if self._scope in view.scopes else []
        entries: dict[str, Any] = {}
        self._digests, self._new, self._recorded = {}, {}, len(recorded)
        for entry, body in zip(unpack_values(recorded, key=name), recorded, strict=True):
            if not isinstance(entry["reference"], str):
                raise TypeError("an entry of a stash has no name")
            entries[entry["reference"]] = entry["item"]
            self._digests[entry["reference"]] = hash(body)
        stash = strands_compat.stash_in_memory(agent) if entries else None
        if stash is not None:
            # Agents are restored by plain code, which may run on an event loop.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, stash.load_snapshot(entries)).result()


def is_stash(path: str) -> bool:
    """Tell whether a scope holds a stash, and no conversation."""
    return path.rpartition("/")[2] == _NAME
