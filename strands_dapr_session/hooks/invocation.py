"""One invocation as this process runs it: an accepted prompt until its final result."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import strands_compat
from strands_dapr_session.records.codec import pack_value, unpack_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from strands import Agent
    from strands.agent import AgentResult
    from strands.hooks import BeforeInvocationEvent
    from strands.types.content import Message, Messages

INVOCATION_ID: Final = "invocation_id"
"""Name in Strands' ``invocation_state`` under which a caller may give the invocation an id of its own."""

STATUS: Final = "status"
"""Kind of the note that says why an invocation that has no result is not running."""

_BATCHES: Final = "batches"

_DEEPEST_EDIT: Final = 8
"""Levels of a message that are copied: down to the items of a tool's result. A value may hold itself."""

RUNNING: Final = "running"
INTERRUPTED: Final = "interrupted"
FAILED: Final = "failed"
PARKED: Final = "parked"


@dataclass(slots=True)
class Progress:
    """How far an invocation has come, recorded with each of its messages.

    Attributes:
        messages: How many messages were appended since it began. Its prompt is complete once there are as many as the
            prompt has.
        batches: How many assistant messages asked for tools; part of the idempotency key.
        usage: Token counts of its model calls so far.
        latency: Milliseconds that they took.
        asked: What of `usage` and `batches` had been counted when a person was last asked. That ended a call, and the
            call that brought the answers counts its own, as Strands does.
    """

    messages: int = 0
    batches: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    latency: int = 0
    asked: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, document: Mapping[str, Any] | None) -> Progress:
        """Read the recorded document."""
        if document is None:
            return cls()
        return cls(
            document["messages"],
            document["batches"],
            dict(document["usage"]),
            document["latency"],
            dict(document.get("asked", {})),
        )

    def document(self) -> dict[str, Any]:
        """Write the document to record."""
        document = {"messages": self.messages, "batches": self.batches, "usage": self.usage, "latency": self.latency}
        return {**document, "asked": self.asked} if self.asked else document

    def end_call(self, *, is_open: bool) -> None:
        """Begin to count for the next call, which will first finish the batch that is open, if one is."""
        self.asked = {**self.usage, _BATCHES: self.batches - is_open}

    def count_discarded(self, usage: Mapping[str, int]) -> None:
        """Count the tokens of answers that became no message, since a hook had the model asked again.

        Args:
            usage: What Strands has counted in this call so far, if it counts such answers: not before 1.6x.
        """
        known = self.usage_of_call
        for name, count in usage.items():
            self.usage[name] = self.usage.get(name, 0) + max(0, count - known.get(name, 0))

    @property
    def usage_of_call(self) -> dict[str, int]:
        """Token counts since a person was last asked."""
        return {name: count - self.asked.get(name, 0) for name, count in self.usage.items()}

    @property
    def batches_of_call(self) -> int:
        """How many assistant messages asked for tools since a person was last asked."""
        return self.batches - self.asked.get(_BATCHES, 0)

    def count(self, message: Message) -> None:
        """Count a message that was appended."""
        self.messages += 1
        if message["role"] != "assistant":
            return
        if tool_use_ids(message):
            self.batches += 1
        # Strands appends a message before it counts its tokens, so the message is where they can be read in time.
        metadata = message.get("metadata") or {}
        for name, count in metadata.get("usage", {}).items():
            if isinstance(count, int):
                self.usage[name] = self.usage.get(name, 0) + count
        self.latency += metadata.get("metrics", {}).get("latencyMs", 0)


@dataclass(slots=True)
class Invocation:
    """The invocation that an agent runs now.

    Attributes:
        id: Ours, random; the same from the first attempt to the last.
        key: The id that the caller gave, if any.
        attempt: 1 for the first process or call that works on it.
        tries: How many tries have ended where this one began; see `parking`.
        place: Where that is.
        began: When it began, or was last answered by a person; seconds since the epoch.
        overdue: It took longer than it may.
        progress: How far it has come.
        prompt: The messages that are to be appended, after hooks changed them.
        asked: What the caller asked for, to compare with: roles and contents.
        resumed: It was begun earlier, and is unfinished.
        next_prompt: What the caller really asked for, to be run when this one has finished.
        answered: It waited for answers of a person, and now has them.
        answers: The interrupts that were answered so far.
        settled: Tool calls of the open batch that had results when it last asked a person. Strands puts these first.
        reinjected: Its half-finished batch was handed to Strands, and its results are not yet a message.
        asking: Tool calls of the open batch that stopped to ask a person: if they started, they are not in doubt.
        opening: The event of the call that began it, until it was set up to go on.
        stop: A tool of the open batch asked to stop when the batch is done; see `strands_compat.will_stop`.
        ends: A hook said that the turn ends with the batch that is done.
        is_cut_off: The model's last answer was cut off at the limit of its tokens.
        is_over: Nothing follows the model's last answer, whatever it holds: Strands runs no tools for one that a filter
            has stopped, for example. Were it recorded before the end, the next process would run them.
        result: What its caller is about to get.
        calls: The `invocation_state` of each call of the agent that is under way. Strands allows more than one at a
            time on request; they run as one invocation, from the beginning of the first to the end of the last.
    """

    key: str | None
    prompt: Messages
    asked: list[Any] = field(default_factory=list)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    attempt: int = 1
    tries: int = 0
    place: list[int] = field(default_factory=lambda: [0, 0, 0])
    began: float = field(default_factory=time.time)
    overdue: bool = False
    progress: Progress = field(default_factory=Progress)
    resumed: bool = False
    next_prompt: Messages | None = None
    answered: bool = False
    answers: list[str] = field(default_factory=list)
    settled: tuple[str, ...] = ()
    reinjected: bool = False
    asking: list[str] = field(default_factory=list)
    opening: BeforeInvocationEvent | None = None
    stop: dict[str, Any] | None = None
    ends: bool = False
    is_cut_off: bool = False
    is_over: bool = False
    result: AgentResult | None = None
    calls: list[Any] = field(default_factory=list)

    def status(self, state: str, **details: Any) -> bytes:
        """Write the note that tells later readers how it stands."""
        if self.answers:
            details["answers"] = list(self.answers)
        if self.settled:
            details["settled"] = list(self.settled)
        if self.is_cut_off:
            details["cut_off"] = True
        if self.is_over:
            details["over"] = True
        if self.asking:
            details["asking"] = list(self.asking)
        if self.stop is not None:
            details["stop"] = self.stop
        where = {"attempt": self.attempt, "tries": self.tries, "place": self.place, "began": self.began}
        return pack_value({"invocation": self.id, "state": state, **where, **details}, path=STATUS)

    def go_on_with(self, prompt: Messages) -> None:
        """Take another prompt, which a hook gave to the same call."""
        self.prompt = prompt
        self.progress.messages = 0
        self.result = None  # it was that of the prompt before: a hook may yet raise where no event tells of it
        self.settled = ()
        self.asking.clear()
        self.stop, self.ends, self.is_over = None, False, False

    def in_order(self, batch: list[str]) -> list[str]:
        """Sort the tool calls of the open batch as an uninterrupted run has their results in its message.

        Args:
            batch: The calls, those first that Strands answers before any tool runs; see `Recording.batch_as_answered`.
        """
        first = [tool_use_id for tool_use_id in self.settled if tool_use_id in batch]
        return [*first, *(tool_use_id for tool_use_id in batch if tool_use_id not in first)]


@dataclass(frozen=True, slots=True)
class ToContinue:
    """An invocation whose call goes on with another prompt.

    Attributes:
        invocation: The invocation.
        call: What stands for the call; see `strands_compat.call_of`.
    """

    invocation: Invocation
    call: object

    def is_same_call(self, agent: Agent) -> bool:
        """Tell whether the agent still runs that call."""
        return strands_compat.call_of(agent) is self.call


def as_messages(prompt: Any) -> Messages | None:
    """Make messages of what a caller says, as Strands does; None if Strands would not either."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": [{"text": prompt}]}]
    if not isinstance(prompt, list) or not all(isinstance(each, dict) for each in prompt):
        return None
    if all("role" in each and "content" in each for each in prompt):
        return prompt
    return [{"role": "user", "content": prompt}]


def copy_messages(messages: Messages) -> Messages:
    """Copy messages as far as anybody may edit them where they are: their lists and dictionaries."""
    return [_copy(message, _DEEPEST_EDIT) for message in messages]


def _copy(value: Any, levels: int) -> Any:
    if levels and type(value) is dict:
        return {name: _copy(item, levels - 1) for name, item in value.items()}
    if levels and type(value) is list:
        return [_copy(item, levels - 1) for item in value]
    return value


def pack_prompt(asked: list[Any], effective: Messages) -> bytes:
    """Pack what the caller asked for, and what hooks made of it when that is different."""
    after_hooks = plain_prompt(effective)
    return pack_value([asked, None if after_hooks == asked else after_hooks], path="prompt")


def unpack_prompt(packed: bytes) -> tuple[list[Any], Messages]:
    """Read a recorded prompt: what was asked, to compare with; and the messages to append."""
    asked, after_hooks = unpack_value(packed)
    effective = asked if after_hooks is None else after_hooks
    messages: list[Any] = [{"role": role, "content": content, **rest} for role, content, rest in effective]
    return asked, messages


def digest_of(asked: list[Any]) -> bytes:
    """Name what a caller asked for, briefly. Others may have said it, so the name is one that nobody can forge."""
    return hashlib.blake2b(pack_value(asked, path="prompt"), digest_size=16).digest()


def same_prompt(asked: list[Any], given: Messages) -> bool:
    """Tell whether a caller asks again for what was recorded, whatever ids the messages were given meanwhile."""
    return pack_value(asked, path="prompt") == pack_value(plain_prompt(given), path="prompt")


def answered_so_far(before: Iterable[str], interrupts: Mapping[str, Any]) -> list[str]:
    """List interrupts that were answered: those of before, and those of which the state of an agent or graph tells."""
    now = [id_ for id_, each in interrupts.items() if each.get("response") is not None]
    return list(dict.fromkeys([*before, *now]))


def tool_use_ids(message: Message) -> list[str]:
    """List the tool calls that a message asks for."""
    return [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]


def calls_in(messages: Messages, further: Iterable[Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Find the calls of tools that have ended.

    Args:
        messages: What asks for them, and answers.
        further: Results that are in no message yet. What is damaged among them somebody else complains about.

    Yields:
        Each call, and whether it succeeded.
    """
    blocks = [block for message in messages for block in message["content"]]
    asked = {block["toolUse"]["toolUseId"]: block["toolUse"] for block in blocks if "toolUse" in block}
    results = [*(block["toolResult"] for block in blocks if "toolResult" in block), *further]
    for result in results:
        if isinstance(result, dict) and result.get("toolUseId") in asked:
            yield asked[result["toolUseId"]], result.get("status") == "success"


def plain_prompt(messages: Messages) -> list[Any]:
    """Take messages apart, leaving out the ids that Strands writes into them."""
    return [
        [
            message["role"],
            message["content"],
            {name: value for name, value in message.items() if name not in {"role", "content", "tracking_id"}},
        ]
        for message in messages
    ]
