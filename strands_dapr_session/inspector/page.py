"""A page for a browser: the steps of a session, and what its agents were at each of them.

It is one file that needs nothing else, and may be sent to somebody: whatever is stored is shown as text, and the page
may load and run nothing but what it was made with.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import jinja2
import markupsafe

from strands_dapr_session.readable import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strands_dapr_session.timeline.lifetimes import Lifetime
    from strands_dapr_session.timeline.timeline import Timeline

LONGEST: Final = 20_000
"""Characters of one value that are shown: browsers grow slow with megabytes in one place."""

_ONE_LINE: Final = 80
"""Characters of JSON that are shown on one line."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """An agent, graph or swarm to show.

    Attributes:
        timeline: Its past.
        standing: How it stands now, in words.
    """

    timeline: Timeline
    standing: str


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of a message.

    Attributes:
        kind: What it is.
        title: What to show before it.
        text: What to show.
        is_error: It tells of an error.
    """

    kind: str
    title: str
    text: str
    is_error: bool = False


def render_page(session_id: str, store: str, every: Sequence[Inspected]) -> str:
    """Write a page.

    Args:
        session_id: The session.
        store: The name of the store where it is.
        every: The agents, graphs and swarms of the session.

    Raises:
        DamagedDataError: What is stored is not what agents record.
    """
    return _template().render(
        session_id=session_id,
        store=store,
        roots=[
            {
                "id": each.timeline.root_id,
                "standing": each.standing,
                "invocations": [
                    list(steps) for _, steps in groupby(each.timeline.steps, key=lambda step: step.invocation)
                ],
                "last": each.timeline.steps[-1].number if each.timeline.steps else 0,
                "agents": [
                    (path, list(lifetimes))
                    for path, lifetimes in groupby(each.timeline.lifetimes(), key=lambda lifetime: lifetime.path)
                ],
            }
            for each in every
        ],
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(blocks=_blocks, shown=_shown)
    style, script = _read("page.css"), _read("page.js")
    environment.globals.update(
        style=markupsafe.Markup(style),  # noqa: S704 - our own
        script=markupsafe.Markup(script),  # noqa: S704 - our own
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return environment.from_string(_read("page.html"))


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Name what the browser may use, as a content security policy does."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _shown(value: Any) -> str:
    """Write a value as text, to a length that a browser can take."""
    text = value if isinstance(value, str) else as_json(value)
    if not isinstance(value, str) and len(text) > _ONE_LINE:
        text = as_json(value, indent=2)
    rest = len(text) - LONGEST
    return text if rest <= 0 else f"{text[:LONGEST]}\n… and {rest} characters more"


def _blocks(lifetime: Lifetime) -> Iterator[_Block]:
    """Take a message, or whatever else an agent had, apart."""
    if lifetime.kind == "tool_result":
        yield _result(lifetime.value)
    elif lifetime.kind != "message":
        yield _Block(lifetime.kind, "", "not kept" if lifetime.value is None else _shown(lifetime.value))
    else:
        content = lifetime.value["content"]
        for block in [content] if isinstance(content, str) else content:
            yield _block(block)


def _block(block: Any) -> _Block:
    match block:
        case str(text) | {"text": str(text)}:
            return _Block("text", "", _shown(text))
        case {"reasoningContent": {"reasoningText": {"text": str(text)}}}:
            return _Block("reasoning", "reasoning", _shown(text))
        case {"toolUse": {"name": str(name), "toolUseId": str(tool_use_id), "input": arguments}}:
            return _Block("call", f"{name} {tool_use_id}", _shown(arguments))
        case {"toolResult": {"toolUseId": str(_)} as result}:
            return _result(result)
        case dict():
            return _Block("other", ", ".join(map(str, block)), _shown(block))
        case _:
            return _Block("other", "", _shown(block))


def _result(result: Any) -> _Block:
    status = str(result.get("status", "success"))
    content = result.get("content")
    texts = [part["text"] for part in content if _is_text(part)] if isinstance(content, list) else []
    is_text = isinstance(content, list) and len(texts) == len(content)
    text = _shown("\n".join(texts) if is_text else content)
    return _Block("result", f"result of {result['toolUseId']}: {status}", text, is_error=status == "error")


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() == {"text"} and isinstance(part["text"], str)
