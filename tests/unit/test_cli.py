"""The command line says what is there, in text that cannot harm a terminal and in JSON."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import NullConversationManager
from strands.multiagent import GraphBuilder

from strands_dapr_session import DaprSessionManager, io_thread
from strands_dapr_session.abandoned import Resumed
from strands_dapr_session.cli import _load, _short, main, printable, run
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.sessions import list_sessions
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Noted, Record, Spliced, ToolFinished
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.model import ScriptedModel

EVIL = "\x1b]0;owned\x07\u202etxt\ud800"


@tool
async def step() -> str:
    """Make a step."""
    return f"made {EVIL[:-1]}"


def fail(_: Any) -> Any:
    raise ValueError("not today")


@pytest.fixture
def store() -> str:
    """A store that is shared by its URL, for this test alone."""
    return f"memory://{secrets.token_hex(4)}"


def agent_on(store: str, session_id: str, *script: Any, max_attempts: int = 1, **options: Any) -> Agent:
    return Agent(
        agent_id="default",
        model=ScriptedModel(script),
        tools=[step],
        session_manager=DaprSessionManager(session_id, store=store, max_attempts=max_attempts),
        callback_handler=None,
        **options,
    )


def build(session_id: str) -> Agent:
    raise LookupError(session_id)


def forge(store: str, session_id: str, *records: Record) -> None:
    async def write() -> None:
        journal = Journal(open_store(store), session_id, "default")
        await journal.acquire()
        await journal.release(*records)

    io_thread.run_sync(write())


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_sessions_are_listed(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--store", store]) == 0
    assert capsys.readouterr().out == ""
    agent_on(store, "b", "done")("go")
    with pytest.raises(Exception, match="not today"):
        agent_on(store, "a", fail)("go")
    assert main(["list", "--store", store]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("a default failed")
    assert second.startswith("b default finished")
    assert main(["list", "--store", store, "--json"]) == 0
    assert [(each["session_id"], each["state"], each["messages"]) for each in lines(capsys)] == [
        ("a", "failed", 1),
        ("b", "finished", 2),
    ]


def test_a_damaged_session_does_not_hide_the_others(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        agent_on(store, name, "done")("go")
    forge(store, "b", Noted("", "status", pack_value([1])))
    assert main(["list", "--store", store]) == 1
    said = capsys.readouterr()
    first, second, third = said.out.splitlines()
    assert first.startswith("a default finished")
    assert second.startswith("b damaged: key 'b/default'")
    assert third.startswith("c default finished")
    assert said.err == ""
    assert main(["list", "--store", store, "--json"]) == 1
    standings = lines(capsys)
    assert [each["state"] for each in standings] == ["finished", "damaged", "finished"]
    assert standings[1].keys() == {"session_id", "state", "error"}
    assert standings[1]["session_id"] == "b"
    assert standings[1]["error"].startswith("key 'b/default'")
    assert main(["delete", "b", "--store", store]) == 0
    assert main(["list", "--store", store]) == 0


def test_a_session_that_is_deleted_meanwhile_does_not_stop_the_list(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_on(store, "b", "done")("go")
    names = io_thread.run_sync(list_sessions(open_store(store)))

    async def seen_before(_: object) -> list[str]:
        return ["a", *names]

    monkeypatch.setattr("strands_dapr_session.cli.list_sessions", seen_before)
    assert main(["list", "--store", store]) == 0
    assert capsys.readouterr().out.startswith("b default finished")


def test_a_line_says_how_often_it_was_tried_and_who_works_on_it(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(Exception, match=r"not today"):
            agent_on(store, "s", fail, max_attempts=9)("go")
    journal = Journal(open_store(store), "s", "default")
    assert main(["list", "--store", store]) == 0
    io_thread.run_sync(journal.acquire())
    assert main(["list", "--store", store]) == 0
    free, owned = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"s default failed, attempt 2 \(1 messages, \d+ commits\)", free)
    assert f" failed, attempt 2, of process {os.getpid()} on " in owned
    assert main(["list", "--store", store, "--json"]) == 0
    io_thread.run_sync(journal.release())
    assert main(["list", "--store", store, "--json"]) == 0
    assert [each["owner"] for each in lines(capsys)] == [this_process.name, None]


def test_messages_that_are_none_are_told_in_one_line(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    forge(store, "s", Spliced("", 2, 0, (pack_value({"role": "user"}),)))
    assert main(["show", "s", "--store", store]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "key 's/default': a recorded message has no role or no content" in said.err


def test_a_session_is_shown(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent = agent_on(store, "s", [("step", {})], f"done\n{EVIL[:-1]}")
    agent("go")
    assert main(["show", "s", "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "assistant:" in shown
    assert main(["show", "s", "--store", store, "--json"]) == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    only = json.loads(shown)
    assert [each["content"] for each in only["messages"][""]] == [each["content"] for each in agent.messages]


def test_the_history_is_whole_however_it_is_packed(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    script: list[Any] = [*[[("step", {})]] * 30, "done"]
    agent = agent_on(store, "s", *script, conversation_manager=NullConversationManager())
    journal: Journal = agent._session_manager._recordings.find(agent).journal  # type: ignore[union-attr]
    journal.settings = JournalSettings(compact_slots=4)
    journal._packer._settings = journal.settings
    for _ in range(2):
        agent("go")
    assert main(["history", "s", "--records", "--store", store, "--json"]) == 0
    records = lines(capsys)
    commits = [each["commit"] for each in records]
    assert commits == sorted(commits)
    assert [each["record"] for each in records].count("InvocationStarted") == 2
    assert [each["record"] for each in records].count("InvocationFinished") == 2
    assert [each["record"] for each in records].count("ToolFinished") == 60
    said = [body for each in records if each["record"] == "Spliced" for body in each["bodies"]]
    assert len(said) == 2 * (30 + 30 + 2)
    assert said[0]["content"] == [{"text": "go"}]
    asked = [each["content"] for each in agent.messages if each["role"] == "assistant"]
    assert [each["content"] for each in said if each["role"] == "assistant"][-len(asked) :] == asked
    assert all(each["content"] for each in said)
    assert main(["history", "s", "--store", store]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_what_happened_is_told_step_by_step(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent = agent_on(store, "s", [("step", {})], f"done\n{EVIL[:-1]}")
    agent("go\nthere")
    assert main(["history", "s", "--store", store]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    first, *_, last = told.splitlines()
    assert "1   started go\\nthere" in first
    assert "1 *" in last
    assert last.endswith("finished completed (4 messages)")
    assert main(["history", "s", "--root", "default", "--store", store, "--json"]) == 0
    steps = lines(capsys)
    assert [event["kind"] for step in steps for event in step["events"]][-1] == "finished"
    assert {(step["root"], step["invocation"]) for step in steps} == {("default", 1)}


def test_a_step_is_shown_as_it_was(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent = agent_on(store, "s", [("step", {})], f"done\n{EVIL[:-1]}")
    agent.state.set("count", 1)
    agent("go")
    messages = [each["content"] for each in agent.messages]
    agent("again")
    assert main(["history", "s", "--store", store, "--json"]) == 0
    at = next(step["number"] for step in lines(capsys) if step["can_fork"])
    assert main(["show", "s", "--at", str(at), "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.splitlines()[0] == f"s default step {at}"
    assert shown.splitlines()[-1] == '    state: {"count": 1}'
    assert main(["show", "s", "--at", str(at), "--store", store, "--json"]) == 0
    (only,) = lines(capsys)
    assert [each["content"] for each in only["agents"][""]["messages"]] == messages
    assert only["agents"][""]["state"] == {"count": 1}


def test_a_session_is_forked(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent = agent_on(store, "s", "done")
    agent("go")
    messages = list(agent.messages)
    assert main(["fork", "s", "t", "--store", store]) == 0
    agent("go on")
    assert capsys.readouterr().out.startswith("t: begins where s was at step ")
    assert agent_on(store, "t").messages == messages
    assert main(["fork", "s", "u", "--at", "1", "--store", store]) == 1
    assert "The nearest" in capsys.readouterr().err
    assert main(["fork", "s", "u", "--root", "default", "--store", store, "--json"]) == 0
    assert [(each["new"], each["messages"]) for each in lines(capsys)] == [("u", 4)]


def test_only_one_of_several_roots_is_shown(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    other = Agent(
        agent_id="other",
        model=ScriptedModel(["well"]),
        session_manager=DaprSessionManager("s", store=store),
        callback_handler=None,
    )
    other("how")
    where = ["--store", store, "--json"]
    for command in (["list"], ["show", "s"]):
        assert main([*command, *where]) == 0
        assert [(each["root_id"], each["messages"] and each["state"]) for each in lines(capsys)] == [
            ("default", "finished"),
            ("other", "finished"),
        ]
    for options in ([], ["--records"]):
        assert main(["history", "s", *options, *where]) == 0
        assert list(dict.fromkeys(each["root"] for each in lines(capsys))) == ["default", "other"]
    only = ["--root", "other", *where]
    assert main(["show", "s", *only]) == 0
    assert [(each["root_id"], each["messages"][""][0]["content"][0]) for each in lines(capsys)] == [
        ("other", {"text": "how"})
    ]
    assert main(["history", "s", *only]) == 0
    steps = lines(capsys)
    assert {each["root"] for each in steps} == {"other"}
    assert main(["show", "s", "--at", str(steps[-1]["number"]), *only]) == 0
    assert [each["root_id"] for each in lines(capsys)] == ["other"]
    assert main(["fork", "s", "t", *where]) == 1
    assert "default, other" in capsys.readouterr().err
    assert main(["fork", "s", "t", *only]) == 0
    assert lines(capsys) == [{"session": "s", "step": steps[-1]["number"], "new": "t", "messages": 2}]
    assert main(["list", "--store", store]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["s", "default"],
        ["s", "other"],
        ["t", "other"],
    ]


def test_a_step_among_tools_is_shown_with_the_results_that_are_there(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_on(store, "s", "done")("go")
    asking = [{"toolUse": {"toolUseId": id_, "name": "step", "input": {}}} for id_ in "tu"]
    result = {"toolUseId": "t", "status": "success", "content": [{"text": "made"}]}
    forge(
        store,
        "s",
        Spliced("", 2, 0, (pack_value({"role": "assistant", "content": asking}),)),
        ToolFinished("", "t", pack_value(result)),
    )
    assert main(["history", "s", "--store", store]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert main(["show", "s", "--at", last.split()[0], "--store", store]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        f"    assistant: {json.dumps(asking)}",
        f"    t: {json.dumps(result)}",
        "    state: {}",
    ]


def test_what_a_context_manager_put_aside_is_no_conversation(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    forge(store, "s", Spliced("*stash", 0, 0, (pack_value({"reference": "r", "item": "text"}),)))
    assert main(["show", "s", "--store", store, "--json"]) == 0
    assert [list(each["messages"]) for each in lines(capsys)] == [[""]]


def test_what_is_parked_is_restarted(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(Exception, match=r"not today|parked"):
            agent_on(store, "s", fail)("go")
    assert main(["list", "--store", store]) == 0
    assert re.fullmatch(r"s default parked \(1 messages, \d+ commits\): .+\n", capsys.readouterr().out)
    assert main(["restart", "s", "--store", store]) == 0
    assert str(agent_on(store, "s", "done")("go")).strip() == "done"
    assert main(["restart", "s", "--store", store]) == 0
    assert capsys.readouterr().out.endswith("0 parked, now free to go on\n")


def test_agents_of_a_graph_are_shown_below_their_names(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    builder = GraphBuilder()
    for name in "ab":
        builder.add_node(Agent(model=ScriptedModel([f"{name} is done"]), callback_handler=None), name)
    builder.add_edge("a", "b")
    builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(DaprSessionManager("s", store=store))
    builder.build()("go")
    of_a = ["  a:", '    user: [{"text": "go"}]', '    assistant: [{"text": "a is done"}]']
    assert main(["show", "s", "--store", store]) == 0
    first, *of_agents = capsys.readouterr().out.splitlines()
    assert first.startswith("s g finished (4 messages")
    assert of_agents[:4] == [*of_a, "  b:"]
    assert of_agents[5:] == ['    assistant: [{"text": "b is done"}]']
    assert main(["history", "s", "--store", store]) == 0
    told = capsys.readouterr().out.splitlines()
    assert any(" a started go; " in line for line in told)
    assert main(["show", "s", "--at", told[-1].split()[0], "--store", store]) == 0
    _, *then = capsys.readouterr().out.splitlines()
    assert then == [*of_a, "    state: {}", *of_agents[3:], "    state: {}"]


def test_messages_of_every_agent_are_looked_at(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    forge(store, "s", Spliced("b", 0, 0, (pack_value({"role": "user"}),)))
    assert main(["show", "s", "--store", store]) == 1
    assert "a recorded message has no role or no content" in capsys.readouterr().err


def test_what_is_said_in_json(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    for command in ("restart", "delete"):
        assert main([command, "s", "--store", store, "--json"]) == 0
    assert lines(capsys) == [
        {"session": "s", "restarted": {"default": []}},
        {"session": "s", "deleted": True},
    ]


def test_records_are_told_without_what_they_do_not_say(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    assert main(["history", "s", "--records", "--store", store]) == 0
    told = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    started = next(fields for _, kind, fields in told if kind == "InvocationStarted")
    assert "attempt=1" in started
    assert "fingerprint=" not in started
    assert "key=" not in started
    assert "scope=" not in started
    assert main(["history", "s", "--records", "--store", store, "--json"]) == 0
    records = lines(capsys)
    assert {record["root"] for record in records} == {"default"}
    assert [record["record"] for record in records] == [kind for _, kind, _ in told]
    assert [record["commit"] for record in records] == [int(commit) for commit, _, _ in told]


def test_what_json_has_no_words_for_is_told_as_python_writes_it(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    content = [{"json": {b"k": (b"x", None)}}]
    forge(store, "s", Spliced("", 2, 0, (pack_value({"role": "user", "content": content}),)))
    assert main(["show", "s", "--store", store, "--json"]) == 0
    (shown,) = lines(capsys)
    assert shown["messages"][""][2]["content"] == [{"json": {"b'k'": ["b'x'", None]}}]


def test_messages_that_answer_tools_name_the_results(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", [("step", {}), ("step", {})], "done")("go")
    assert main(["history", "s", "--records", "--store", store, "--json"]) == 0
    said = [body for each in lines(capsys) if each["record"] == "Spliced" for body in each["bodies"]]
    assert [each["role"] for each in said] == ["user", "assistant", "user", "assistant"]
    assert said[2]["content"] == {"results": ["v1c0t0", "v1c0t1"]}


def test_a_root_that_a_session_has_not_is_named(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    assert main(["show", "s", "--root", "nobody", "--store", store]) == 1
    assert main(["show", "nobody", "--store", store]) == 1
    one, none = capsys.readouterr().err.splitlines()
    assert "there is no 'nobody' in session 's' in memory://" in one
    assert "there is no session 'nobody' in memory://" in none


def test_a_session_is_deleted(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    agent_on(store, "s", "done")("go")
    assert main(["delete", "s", "--store", store]) == 0
    assert main(["list", "--store", store, "--json"]) == 0
    assert capsys.readouterr().out == "s: deleted\n"


def test_resuming_says_what_became_of_it(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", f"{__name__}:build", "--store", store]) == 0
    with pytest.raises(Exception, match="not today"):
        agent_on(store, "s", fail)("go")
    assert main(["resume", f"{__name__}:build", "--store", store, "--failed"]) == 1
    assert capsys.readouterr().out == "s default failed LookupError: s\n"


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["finished", "interrupted", "busy", "gone"], 0),
        (["finished", "failed"], 1),
        (["parked", "finished"], 1),
        (["unknown"], 1),
    ],
)
def test_resuming_fails_if_a_run_needs_somebody(
    outcomes: list[Any], code: int, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Resumed("s", "r", each, error=KeyError("x") if each == "failed" else None) for each in outcomes]
    asked: list[dict[str, Any]] = []

    def resume(function: Any, **options: Any) -> list[Resumed]:
        assert function is build
        asked.append(options)
        return found

    monkeypatch.setattr("strands_dapr_session.cli.resume_abandoned", resume)
    command = ["resume", f"{__name__}:build", "--store", store]
    assert main(command) == code
    assert capsys.readouterr().out.splitlines() == [
        f"s r {each} KeyError: 'x'" if each == "failed" else f"s r {each}" for each in outcomes
    ]
    assert main([*command, "--json", "--failed", "--session", "a", "--session", "b", "--concurrency", "3"]) == code
    assert lines(capsys) == [
        {"session": "s", "root": "r", "outcome": each, "error": "KeyError: 'x'" if each == "failed" else None}
        for each in outcomes
    ]
    same = {"store": open_store(store)}
    assert asked == [
        {**same, "sessions": None, "failed": False, "concurrency": 1},
        {**same, "sessions": ["a", "b"], "failed": True, "concurrency": 3},
    ]


def test_what_builds_agents_is_found_where_the_command_is_run(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agents_of_this_test.py").write_text("class Agents:\n    @staticmethod\n    def build(name): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["resume", "agents_of_this_test:Agents.build", "--store", store]) == 0
    assert _load("agents_of_this_test:Agents.build").__name__ == "build"


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "nobody"],
        ["history", "nobody"],
        ["history", "nobody", "--root", "r"],
        ["show", "nobody", "--at", "1"],
        ["fork", "nobody", "new"],
        ["delete", "nobody"],
        ["restart", "nobody"],
        ["resume", "nonsense"],
        ["resume", "no.such.module:f"],
        ["resume", ":loads"],
        ["resume", "json:nothing"],
        ["resume", "json:__name__"],
        ["resume", "json:loads", "--concurrency", "0"],
        ["show", "no/slashes"],
    ],
    ids=" ".join,
)
def test_mistakes_are_told_in_one_line(arguments: list[str], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--store", store]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("strands-dapr-session: ")
    assert said.err.count("\n") == 1


def test_a_store_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--store", "nonsense://x"]) == 1
    assert "unknown scheme" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "dance",
        "list --at 1",
        "history s --at 1",
        "show s --at x",
        "show s --records",
        "fork s",
        "delete s --root r",
        "restart s --root r",
        "delete s --at 1",
        "resume",
    ],
)
def test_what_cannot_be_understood(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage: strands-dapr-session ")


def test_what_is_stored_does_not_speak_to_the_terminal() -> None:
    assert printable(EVIL) == "\\x1b]0;owned\\x07\\u202etxt\\ud800"
    assert printable("größer, 大きい") == "größer, 大きい"


def test_long_values_are_cut_and_take_one_line() -> None:
    assert _short("x" * 200) == "x" * 200
    assert _short("x" * 201) == "x" * 200 + "…"
    assert _short("a\nb") == "a\\nb"
    assert _short("\n" * 201) == "\\n" * 200 + "…"
    assert _short({"ö": [{b"k": ({b"l": None}, b"x")}]}) == '{"ö": [{"b\'k\'": [{"b\'l\'": null}, "b\'x\'"]}]}'


def test_a_terminal_that_cannot_show_a_character_gets_its_name(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["strands-dapr-session", "show", "s", "--store", store])
    agent_on(store, "s", "größer")("go")
    with pytest.raises(SystemExit) as stopped:
        run()
    sys.stdout.flush()
    assert stopped.value.code == 0
    assert b"gr\\xf6\\xdfer" in written.getvalue()


def test_output_that_is_no_terminal_needs_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "argv", ["strands-dapr-session", "show", "s", "--store", store])
    agent_on(store, "s", "größer")("go")
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 0
    assert "größer" in written.getvalue()
