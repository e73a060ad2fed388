"""What happened in a session, step by step: records as people would tell them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from strands_dapr_session.hooks.checks import read_prompt, read_status
from strands_dapr_session.hooks.invocation import FAILED, INTERRUPTED, PARKED, RUNNING, STATUS
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.journal.fork import FORK
from strands_dapr_session.journal.worker import describe
from strands_dapr_session.multiagent.run import node_of_result
from strands_dapr_session.readable import as_json
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.derived import is_from_assistant
from strands_dapr_session.records.records import (
    Acquired,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Spliced,
    ToolFinished,
    Tried,
)
from strands_dapr_session.records.view import ScopeView
from strands_dapr_session.timeline.lifetimes import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import View

EventKind: TypeAlias = Literal[
    "forked",
    "taken_over",
    "started",
    "continued",
    "resumed",
    "messages",
    "edited",
    "tool_result",
    "attempt_failed",
    "node_finished",
    "state",
    "interrupted",
    "failed",
    "parked",
    "finished",
]
"""What happened, and what the text of such an event is:

* ``forked``: the session began as a fork (of which session, agent and step)
* ``taken_over``: a worker went on where another one had died, or was silent (which worker)
* ``started`` (the prompt); ``continued``: a hook let the same call go on (with which prompt)
* ``resumed``: an unfinished invocation goes on (which attempt that is)
* ``messages`` were added (their roles); ``edited``: messages were replaced or removed (how many)
* ``tool_result`` (the id of the tool call); ``attempt_failed``, and is repeated or not (what, and why)
* ``node_finished``: a node that is neither an agent nor an orchestrator (its name)
* ``state`` was changed (which)
* ``interrupted``: it waits for a person; ``failed``, ``parked`` (why, where that is known); ``finished`` (how)
"""

_ENDS: Final[dict[str, EventKind]] = {INTERRUPTED: "interrupted", FAILED: "failed", PARKED: "parked"}


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One thing that happened.

    Attributes:
        kind: What; see `EventKind`.
        path: To whom: empty for the agent, graph or swarm itself, ``"node"`` or ``"node/tool call/agent"`` below it.
        text: See `EventKind`.
        when: Seconds since the epoch by the clock of the worker, where that is recorded: of invocations of agents that
            start, and of failed attempts.
    """

    kind: EventKind
    path: str
    text: str = ""
    when: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What was recorded in one commit. Its number is its name, and never changes.

    Attributes:
        number: The commit. Numbers grow; some are no steps.
        invocation: Which invocation of the agent, graph or swarm it belongs to, counted from 1; 0 for none.
        key: The id that the caller gave the invocation, if any.
        events: What happened.
        messages: How many messages were live afterwards; of a graph or swarm, those of all agents.
        can_fork: Whether a session can begin here: an invocation ended, or waits for a person.
    """

    number: int
    invocation: int
    key: str | None
    events: tuple[StepEvent, ...]
    messages: int
    can_fork: bool


def events_of(records: Sequence[Record], view: View, key: str) -> Iterator[StepEvent]:
    """Tell what a commit did. Each record is applied to the view, too.

    Args:
        records: Its records.
        view: The view before it; afterwards, the one after it.
        key: The session and root, for errors.

    Raises:
        DamagedDataError: A record cannot follow those before it, or is none of an agent or orchestrator.
    """
    finished = {record.scope for record in records if isinstance(record, InvocationFinished)}
    began = dict(_beginnings(records, key))
    for record in records:
        event = _event(record, view, key)
        view.apply(record, key=key)
        if event is None or is_stash(event.path):
            continue
        if event.kind == "started":
            event = replace(event, when=began.get(event.path))
        if event.kind == "node_finished":
            node = event.text
            if any(path == f"{event.path}/{node}".lstrip("/") for path in finished):
                continue  # it is told already
        yield event


def _event(record: Record, view: View, key: str) -> StepEvent | None:
    event = None
    match record:
        case Acquired(takeover=True):
            event = StepEvent("taken_over", "", describe(record.worker))
        case InvocationStarted():
            now = view.scope(record.scope).invocation
            same = now is not None and now.id == record.invocation_id and not now.finished
            event = StepEvent("continued" if same else "started", record.scope, _prompt(record.prompt, key))
        case Spliced():
            event = _spliced(record, view.scope(record.scope))
        case ToolFinished():
            event = StepEvent("tool_result", record.scope, record.tool_use_id)
        case Tried():
            text = f"{record.what}, attempt {record.attempt}: {_texts(record.error, key, ': ')}"
            event = StepEvent("attempt_failed", record.scope, text, record.at)
        case DocumentSet() if record.name in STATES:
            event = StepEvent("state", record.scope, record.name)
        case Noted():
            event = _noted(record, key)
        case InvocationFinished():
            event = StepEvent("finished", record.scope, record.outcome)
        case _:
            pass
    return event


def _spliced(record: Spliced, scope: ScopeView) -> StepEvent | None:
    if not record.drop and not record.bodies:
        return None
    if record.at < len(scope.ordinals):
        return StepEvent("edited", record.scope, f"{record.drop} of them became {len(record.bodies)}")
    roles = ["assistant" if isinstance(b, bytes) and is_from_assistant(b) else "user" for b in record.bodies]
    return StepEvent("messages", record.scope, ", ".join(roles))


def _noted(record: Noted, key: str) -> StepEvent | None:
    if record.kind == FORK and not record.scope:
        return StepEvent("forked", "", _texts(record.value, key, ", "))
    node = node_of_result(record.kind)
    if node is not None:
        return StepEvent("node_finished", record.scope, node)
    if record.kind != STATUS or not record.value:
        return None
    status = _status(record, key)
    if status.get("state") == RUNNING:
        attempt = status.get("attempt", 1)
        return StepEvent("resumed", record.scope, f"attempt {attempt}") if attempt > 1 else None
    return StepEvent(_ENDS[status["state"]], record.scope, _text(status.get("error") or ""))


def _beginnings(records: Sequence[Record], key: str) -> Iterator[tuple[str, float | None]]:
    """Find when invocations of agents began, by their scopes."""
    for record in records:
        if isinstance(record, Noted) and record.kind == STATUS and record.value:
            yield record.scope, _status(record, key).get("began")


def _status(record: Noted, key: str) -> dict[str, Any]:
    scope = ScopeView(record.scope, None)
    scope.notes[STATUS] = record.value
    return read_status(scope, key=key)


def _prompt(packed: bytes, key: str) -> str:
    """Read what was asked, as text. In a fork, nothing is left of the long prompts that had been answered before."""
    if not packed:
        return "…"
    prompt = unpack_value(packed, key=key)
    if not isinstance(prompt, list) or len(prompt) != len(("asked", "after hooks")) or not _is_asked(prompt[0]):
        return _text(prompt)  # the task of an orchestrator
    _, messages = read_prompt(packed, key=key)
    return "\n".join(_said(block) for message in messages for block in _blocks(message))


def _is_asked(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, list) for each in value)


def _blocks(message: Any) -> list[Any]:
    content = message["content"]
    return [content] if isinstance(content, str) else content


def _said(block: Any) -> str:
    """Read a block of a message; models of users' own may take texts for blocks."""
    return _text(block.get("text", block) if isinstance(block, dict) else block)


def _texts(packed: bytes, key: str, between: str) -> str:
    value = unpack_value(packed, key=key)
    return between.join(map(_text, value)) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)
