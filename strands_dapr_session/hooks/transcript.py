"""What is recorded of an agent's message list, and the edits that bring it up to date."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Derived, Spliced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from strands.types.content import Message, Messages

_digest: Callable[[bytes], int] = hash
"""Sees whether a packed message has changed. Python's own hash of bytes is SipHash with 64 bits and a key that the
process draws at random, so a change goes unseen once in 10^19. A cryptographic one took a third of a load."""


class Transcript:
    """Shadow of a live message list: a digest for each message that is recorded.

    Live lists are compared, never replayed: conversation managers trim, summarise, truncate in place and pin, and a
    log of appended messages gets every one of them wrong. A digest of the packed message sees what ``==`` does not
    (``True`` turned ``1``, another order of keys) and keeps no copy in memory.
    """

    def __init__(self, scope: str) -> None:
        """Begin with an empty list for the agent at the path `scope`."""
        self._scope = scope
        self._messages: list[Message] = []
        self._digests: list[int] = []

    def reset(self, messages: Messages, packed: Iterable[bytes]) -> None:
        """Take `messages`, whose packed forms are `packed`, as what is recorded."""
        self._messages = list(messages)
        self._digests = [_digest(body) for body in packed]

    def __len__(self) -> int:
        """Count the recorded messages."""
        return len(self._digests)

    @property
    def last(self) -> Message | None:
        """The last recorded message."""
        return self._messages[-1] if self._messages else None

    def appended(self, live: Messages, results: Mapping[str, bytes]) -> list[Spliced]:
        """Record what was appended since, and what became of the message before.

        The rest is trusted where its first and last message are still in place, so it costs the same at any length.
        What else may have changed is found by `changed`, once an invocation.

        Args:
            live: The agent's message list.
            results: Recorded tool results that are not yet part of a message, packed, by tool use id.

        Raises:
            UnencodableValueError: A message holds a value that would not survive; nothing is recorded.
        """
        known = len(self._messages)
        if len(live) < known or (
            known and not (live[0] is self._messages[0] and live[known - 1] is self._messages[-1])
        ):
            return self.changed(live, results)
        edits, packed = self._amendments(live)
        if len(live) > known:
            edits.append((known, known, known, len(live)))
        return self._splice(live, edits, results, packed)

    def amended(self, live: Messages) -> list[Spliced]:
        """Record the last message anew if it was changed in place: hooks rewrite what a tool is given, or add a note.

        Raises:
            UnencodableValueError: As with `appended`.
        """
        edits, packed = self._amendments(live)
        return self._splice(live, edits, {}, packed)

    def _amendments(self, live: Messages) -> tuple[list[tuple[int, int, int, int]], dict[int, bytes]]:
        """Get the edit of the last message, if it is another now, and what it was packed to."""
        at = len(self._messages) - 1
        if not 0 <= at < len(live) or live[at] is not self._messages[at]:
            return [], {}
        packed = pack_value(live[at], path=f"messages[{at}]")
        return ([] if _digest(packed) == self._digests[at] else [(at, at + 1, at, at + 1)]), {at: packed}

    def edited(self, live: Messages) -> list[Spliced]:
        """Record what became of all messages up to the last recorded one, which asks for the tools that run.

        What was added behind it is recorded with their results; and so is all of it if that message is gone.

        Raises:
            UnencodableValueError: As with `appended`.
        """
        last = self._place_of_last(live)
        if last is None:
            return []
        live = live[: last + 1]
        edits, packed = self._compare(live)
        return self._splice(live, edits, {}, packed)

    def changed(self, live: Messages, results: Mapping[str, bytes]) -> list[Spliced]:
        """Record every difference, comparing each live message with what is recorded of it. See `appended`."""
        live = list(live)  # it may grow meanwhile
        last = self._place_of_last(live)
        edits, packed = self._compare(live if last is None else live[: last + 1])
        if last is not None and last + 1 < len(live):
            edits.append((len(self._messages), len(self._messages), last + 1, len(live)))
        if not edits:
            self._messages = live
        return self._splice(live, edits, results, packed)

    def is_missing(self, at: int, live: Messages) -> bool:
        """Tell whether a message list has neither a recorded message nor one that says the same."""
        known, digest = self._messages[at], self._digests[at]
        if any(message is known for message in live):
            return False
        return all(_digest(pack_value(message, path=f"messages[{n}]")) != digest for n, message in enumerate(live))

    def behind(self, live: Messages) -> Messages:
        """List the messages behind the last recorded one; all of them if it is not there any more."""
        last = self._place_of_last(live)
        return live[0 if last is None else last + 1 :]

    def _place_of_last(self, live: Messages) -> int | None:
        """Find the last recorded message in the live list; None if it is not there any more."""
        return next((at for at in range(len(live) - 1, -1, -1) if live[at] is self.last), None)

    def _compare(self, live: Messages) -> tuple[list[tuple[int, int, int, int]], dict[int, bytes]]:
        """Get the edits that make the recorded list this one, and what its messages were packed to.

        A last message that is the same, whatever became of it, is an edit of its own: to readers, a message that opens
        a batch of tools ends the one before, and must not be taken for a new one.
        """
        packed = [pack_value(message, path=f"messages[{index}]") for index, message in enumerate(live)]
        digests = [_digest(body) for body in packed]
        if digests == self._digests:
            return [], dict(enumerate(packed))
        known, amendment = self._digests, []
        if live and live[-1] is self.last:
            if digests[-1] != known[-1]:
                amendment = [(len(known) - 1, len(known), len(live) - 1, len(live))]
            known, digests = known[:-1], digests[:-1]
        return _differences(known, digests) + amendment, dict(enumerate(packed))

    def _splice(
        self,
        live: Messages,
        edits: list[tuple[int, int, int, int]],
        results: Mapping[str, bytes],
        packed: dict[int, bytes],
    ) -> list[Spliced]:
        """Turn (recorded from, to, live from, to) into records, and take them as recorded."""
        edits.reverse()  # from the end, so that earlier positions hold
        bodies: list[list[bytes]] = []
        stored: list[tuple[bytes | Derived, ...]] = []
        open_results = dict(results)
        for _, _, start, end in edits:
            for index in range(start, end):
                if index not in packed:
                    packed[index] = pack_value(live[index], path=f"messages[{index}]")
            bodies.append([packed[index] for index in range(start, end)])
            stored.append(tuple(_derived(live[n], open_results) or packed[n] for n in range(start, end)))
        # Nothing fails from here on. In place: a copy of the lists would cost the more the longer they are.
        for (at, to, start, end), each in zip(edits, bodies, strict=True):
            self._messages[at:to] = live[start:end]
            self._digests[at:to] = map(_digest, each)
        return [Spliced(self._scope, at, to - at, each) for (at, to, _, _), each in zip(edits, stored, strict=True)]


def _differences(known: list[int], digests: list[int]) -> list[tuple[int, int, int, int]]:
    """List where two lists differ: (from, to) in the one, (from, to) in the other."""
    shorter = min(len(known), len(digests))
    start = next((n for n in range(shorter) if known[n] != digests[n]), shorter)
    # What both begin and end with, which is nearly all of them, the matcher need not look at.
    end = next((n for n in range(shorter - start) if known[-1 - n] != digests[-1 - n]), shorter - start)
    before, after = known[start : len(known) - end], digests[start : len(digests) - end]
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [
        (start + i1, start + i2, start + j1, start + j2)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        if tag != "equal"
    ]


def _derived(message: Message, results: dict[str, bytes]) -> Derived | None:
    """Write a message of nothing but recorded tool results as a reference to them, which costs no bytes.

    What it refers to is taken out of `results`: a result is consumed by the first message that holds it.
    """
    if not results or message["role"] != "user" or not message["content"]:
        return None
    ids: list[str] = []
    for block in message["content"]:
        result = block.get("toolResult")
        if result is None or len(block) != 1:
            return None
        recorded = results.get(result.get("toolUseId", ""))
        if recorded is None or recorded != pack_value(result, path="toolResult"):
            return None
        ids.append(result["toolUseId"])
    if len(set(ids)) < len(ids):
        return None
    for used in ids:
        del results[used]
    template: dict[str, Any] = {**message, "content": None}
    return Derived(pack_value(template, path="message"), tuple(ids))
