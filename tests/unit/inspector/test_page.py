"""The page shows what a session was at every step, and whatever is stored is no more than text in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager

from strands_dapr_session import DaprSessionManager, read_timeline
from strands_dapr_session.cli import main
from strands_dapr_session.inspector.page import LONGEST, Inspected, _blocks, render_page
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.timeline.lifetimes import Lifetime

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
NODE = shutil.which("node")


@tool
async def look(at: str) -> str:
    """Look."""
    if at == "nothing":
        raise ValueError("there is nothing")
    return f"seen {at}"


def live(store: Any, session_id: str = "s", agent_id: str = "default") -> Agent:
    """Let an agent call tools in two invocations, the first of whose messages are trimmed."""
    script: Any = [[("look", {"at": EVIL}), ("look", {"at": "nothing"})], f"done {EVIL}"]
    agent = Agent(
        agent_id=agent_id,
        model=ScriptedModel(script),
        tools=[look],
        state={"evil": EVIL},
        session_manager=DaprSessionManager(session_id, store=store),
        conversation_manager=SlidingWindowConversationManager(4),
        callback_handler=None,
    )
    agent(f"go {EVIL}", invocation_state={"invocation_id": f"req-{EVIL}"})
    agent("again")
    return agent


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.articles: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "article":
            self.articles.append({**dict(attrs), "texts": []})
        if tag not in {"meta", "img"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        self.texts[inside] = self.texts.get(inside, "") + data
        if inside == "pre":
            self.articles[-1]["texts"].append(data)

    def messages_at(self, step: int) -> list[list[str]]:
        return [
            each["texts"]
            for each in self.articles
            if each["class"].startswith("message ")
            and int(each["data-first"]) <= step
            and (not each["data-last"] or step <= int(each["data-last"]))
        ]


def texts_of(message: Any) -> list[str]:
    def text(block: Any) -> str:
        if "toolResult" in block:
            return "\n".join(part["text"] for part in block["toolResult"]["content"])
        return str(block["text"]) if "text" in block else json.dumps(block["toolUse"]["input"])

    return [text(block) for block in message["content"]]


def test_every_step_is_shown_as_it_was() -> None:
    store = MemoryStore()
    agent = live(store)
    timeline = read_timeline("s", store=store)
    page = Page(render_page("s", "here", [Inspected(timeline, "well")]))
    buttons = [int(each["data-step"] or "") for _, each in page.tags if "data-step" in each]
    assert buttons == [step.number for step in timeline.steps]
    for step in buttons:
        assert page.messages_at(step) == [texts_of(each) for each in timeline.at(step).agent.messages]
    shown = [each["texts"] for each in page.articles if "hidden" not in each]
    assert shown[: len(agent.messages)] == [texts_of(message) for message in agent.messages]
    assert sum("hidden" in each for each in page.articles) > 0
    assert "invocation 1" in page.texts["h3"]
    assert "invocation 2" in page.texts["h3"]
    current = [each for _, each in page.tags if "aria-current" in each]
    assert [each["data-step"] for each in current] == [str(buttons[-1])]


def test_what_is_stored_is_only_text() -> None:
    store = MemoryStore()
    live(store)
    page = render_page(EVIL, EVIL, [Inspected(read_timeline("s", store=store), EVIL)])
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "h4", "h5", "p", "main", "nav",
        "ol", "li", "button", "span", "b", "i", "code", "div", "section", "article", "small", "pre", "script",
    }  # fmt: skip
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert parsed.texts["pre"].count(EVIL) >= 4
    assert EVIL in parsed.texts["code"]
    for tag in ("h1", "p", "title"):
        assert EVIL in parsed.texts[tag]


def test_the_browser_may_use_only_what_is_in_the_page() -> None:
    store = MemoryStore()
    live(store)
    page = render_page("s", "here", [Inspected(read_timeline("s", store=store), "")])
    (policy,) = [each["content"] or "" for tag, each in Page(page).tags if tag == "meta" and "http-equiv" in each]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed.pop("default-src") == "'none'"
    for kind in ("style", "script"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        expected = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed.pop(f"{kind}-src") == f"'sha256-{expected}'"
    assert not allowed


def test_a_long_value_is_cut() -> None:
    message = {"role": "user", "content": [{"text": "x" * (LONGEST + 7)}]}
    (block,) = _blocks(Lifetime("", "message", message, 1, None))
    assert block.text == "x" * LONGEST + "\n… and 7 characters more"


SHOWN: list[tuple[str, Any, tuple[str, str, str]]] = [
    ("message", "plain", ("text", "", "plain")),
    ("message", ["plain"], ("text", "", "plain")),
    ("message", [7], ("other", "", "7")),
    ("message", [{"cachePoint": 1}], ("other", "cachePoint", '{"cachePoint": 1}')),
    ("message", [{"reasoningContent": {"reasoningText": {"text": "hm"}}}], ("reasoning", "reasoning", "hm")),
    ("tool_result", {"content": [{"text": "a"}, {"text": "b"}]}, ("result", "result of t: success", "a\nb")),
    ("tool_result", {"content": [{"text": "no"}], "status": "error"}, ("result", "result of t: error", "no")),
    ("tool_result", {"content": [{"json": 1}]}, ("result", "result of t: success", '[{"json": 1}]')),
    ("tool_result", {}, ("result", "result of t: success", "null")),
    ("state", {"a": (1,)}, ("state", "", '{"a": [1]}')),
    ("state", {"a": "x" * 80}, ("state", "", '{\n  "a": "' + "x" * 80 + '"\n}')),
    ("state", None, ("state", "", "not kept")),
]


@pytest.mark.parametrize(("kind", "value", "expected"), SHOWN, ids=[str(number) for number in range(len(SHOWN))])
def test_whatever_there_is_is_shown(kind: Any, value: Any, expected: tuple[str, str, str]) -> None:
    if kind == "message":
        value = {"role": "user", "content": value}
    if kind == "tool_result":
        value = {"toolUseId": "t", **value}
    (block,) = _blocks(Lifetime("", kind, value, 1, None))
    assert (block.kind, block.title, block.text) == expected
    assert block.is_error == ("error" in block.title)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> str:
    return f"memory://{secrets.token_hex(4)}"


def test_the_command_writes_all_of_a_session(
    shared: str, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    live(shared)
    live(shared, agent_id="other")
    assert main(["inspect", "s", "--store", shared]) == 0
    page = capsysbinary.readouterr().out
    parsed = Page(page.decode())
    assert parsed.texts["h2"] == "defaultother"
    assert "s default finished" in parsed.texts["p"]
    file = tmp_path / "page.html"
    assert main(["inspect", "s", "--store", shared, "--output", str(file)]) == 0
    assert file.read_bytes() == page
    assert str(file) in capsysbinary.readouterr().out.decode()
    assert main(["inspect", "s", "--store", shared, "--root", "other"]) == 0
    assert Page(capsysbinary.readouterr().out.decode()).texts["h2"] == "other"


def test_halves_of_characters_are_written(shared: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    agent = Agent(
        model=ScriptedModel(["half \ud800"]),
        session_manager=DaprSessionManager("s", store=shared),
        callback_handler=None,
    )
    agent("go")
    assert main(["inspect", "s", "--store", shared]) == 0
    assert rb"half \ud800" in capsysbinary.readouterr().out


def test_the_command_says_what_is_wrong(
    shared: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["inspect", "nobody", "--store", shared]) == 1
    assert "no session 'nobody'" in capsys.readouterr().err
    live(shared)
    assert main(["inspect", "s", "--store", shared, "--output", str(tmp_path / "none" / "page.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "strands_dapr_session.inspector.page", None)
    assert main(["inspect", "s", "--store", shared]) == 1
    assert "strands-dapr-session[inspector]" in capsys.readouterr().err


# -- in a browser ------------------------------------------------------------------------------------------------------

DOCUMENT = """
const make = (dataset) => ({
  dataset, hidden: false, attributes: {}, listeners: {}, focused: 0,
  addEventListener(kind, listener) { this.listeners[kind] = listener; },
  setAttribute(name, value) { this.attributes[name] = value; },
  removeAttribute(name) { delete this.attributes[name]; },
  focus() { this.focused += 1; },
});
const lives = [["1", ""], ["2", "3"], ["4", "4"]].map(([first, last]) => make({ first, last }));
const buttons = ["1", "2", "4"].map((step) => make({ step }));
const root = { querySelectorAll: (what) => ({ "[data-first]": lives, "[data-step]": buttons })[what] };
globalThis.document = { querySelectorAll: () => [root] };
const key = (button, name) => button.listeners.keydown({ key: name, preventDefault() {} });
const say = () => console.log(JSON.stringify([
  lives.map((each) => each.hidden), buttons.map((each) => each.attributes["aria-current"] ?? ""),
]));
"""


@pytest.mark.skipif(NODE is None, reason="there is no Node.js to run the page's script")
def test_choosing_a_step_shows_what_was_there_then() -> None:
    script = (Path(sys.modules[render_page.__module__].__file__ or "").parent / "page.js").read_text()
    choices = ["buttons[0].listeners.click()", 'key(buttons[0], "ArrowDown")', 'key(buttons[1], "ArrowDown")',
               'key(buttons[2], "ArrowDown")', 'key(buttons[2], "a")', 'key(buttons[2], "ArrowUp")']  # fmt: skip
    program = DOCUMENT + script + "".join(f"\n{choice}; say();" for choice in choices)
    ran = subprocess.run([str(NODE), "-e", program], capture_output=True, text=True, check=True, timeout=60)
    one, two, three = (
        [[False, True, True], ["step", "", ""]],
        [[False, False, True], ["", "step", ""]],
        [[False, True, False], ["", "", "step"]],
    )
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [one, two, three, three, three, two]
