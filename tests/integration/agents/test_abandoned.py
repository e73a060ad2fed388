"""Runs whose worker is dead are found and finished; all others are left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder

from strands_dapr_session import DamagedDataError, DaprSessionManager, resume_abandoned
from strands_dapr_session.journal import committer
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents import suicidal_program
from tests.integration.agents.film import Film, live

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool(context=True)
async def step(name: str, tool_context: ToolContext) -> str:
    """Make a step."""
    ran.append(f"{tool_context.agent.agent_id}:{name}")
    return f"{name} made"


@tool(context=True)
async def ask(tool_context: ToolContext) -> str:
    """Ask a person."""
    return str(tool_context.interrupt("may I"))


SCRIPT: Any = {
    "go": [[("step", {"name": "a"})], [("step", {"name": "b"}), ("step", {"name": "c"})], "went"],
    "ask": [[("ask", {})], "asked"],
    "fail": [ValueError("not today")],
}


def builder(store: StateStore, **options: Any) -> Callable[[str], Agent]:
    def build(session_id: str) -> Agent:
        return Agent(
            model=ScriptedModel(SCRIPT),
            tools=[step, ask],
            session_manager=DaprSessionManager(session_id, store=store, **{"lease": 0.3, **options}),
            callback_handler=None,
            retry_strategy=None,
        )

    return build


def killed(prompt: str = "go") -> list[MemoryStore]:
    """What stores hold when an agent of the session "s" is killed after each write of its run."""
    film = Film()
    life = live(
        film,
        lambda manager: Agent(
            model=ScriptedModel(SCRIPT), tools=[step, ask], session_manager=manager, callback_handler=None
        ),
        [prompt],
    )
    return [Film.at(frame).inner for frame in film.frames[: life.frames[0] - 1]]


def outcomes(found: list[Any]) -> list[tuple[str, str]]:
    return [(each.session_id, each.outcome) for each in found]


def test_a_run_killed_anywhere_is_finished() -> None:
    stores = killed()
    assert len(stores) > 5
    found: list[Any] = []
    for store in stores:
        found = resume_abandoned(builder(store), store=store)
        if not found:
            continue  # it was killed before it had written that it began
        assert outcomes(found) == [("s", "finished")]
        assert str(found[0].result).strip() == "went"
        assert resume_abandoned(builder(store), store=store) == []
    assert found


def test_what_is_not_abandoned_is_left_alone() -> None:
    store = MemoryStore()
    build = builder(store)
    assert build("asks")("ask").stop_reason == "interrupt"
    assert str(build("done")("go")).strip() == "went"
    build("shown")
    with pytest.raises(ValueError, match="not today"):
        build("failed")("fail")
    ran.clear()
    assert resume_abandoned(build, store=store) == []
    assert ran == []
    found = resume_abandoned(build, store=store, failed=True)
    assert outcomes(found) == [("failed", "failed")]
    assert "not today" in str(found[0].error)


def test_a_live_run_of_this_process() -> None:
    store = MemoryStore()
    begun, go = threading.Event(), threading.Event()

    @tool(name="step")
    def waiting(name: str) -> str:  # noqa: ARG001 - it is called with it
        """Wait."""
        begun.set()
        go.wait(30)
        return "x"

    agent = builder(store)("s")
    agent.tool_registry.registry["step"] = waiting
    thread = threading.Thread(target=agent, args=("go",))
    thread.start()
    assert begun.wait(30)
    assert resume_abandoned(builder(store), store=store) == []
    go.set()
    thread.join(60)
    assert resume_abandoned(builder(store), store=store) == []


def test_several_at_once_finish_each_run_once() -> None:
    store = killed()[-1]
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.extend(resume_abandoned(builder(store), store=store))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [each.outcome for each in found].count("finished") == 1
    assert {each.outcome for each in found} <= {"finished", "gone", "busy"}
    assert len(builder(store)("s").messages) == 6


def test_tools_may_call_other_durable_agents() -> None:
    """Only the call itself must not begin anything."""
    store = next(store for store in killed() if len(builder(store)("s").messages) == 1)
    ran.clear()
    other = MemoryStore()

    @tool(name="step")
    def delegating(name: str) -> str:
        """Ask another agent."""
        return str(builder(other)(f"other-{name}")("go"))

    def build(session_id: str) -> Agent:
        agent = builder(store)(session_id)
        agent.tool_registry.registry["step"] = delegating
        return agent

    assert outcomes(resume_abandoned(build, store=store)) == [("s", "finished")]
    assert ran[:3] == ["default:a", "default:b", "default:c"]


def test_a_graph_is_finished() -> None:
    film = Film()

    def build(session_id: str, store: StateStore) -> Any:
        graph = GraphBuilder()
        for name in ("a", "b"):
            script = [[("step", {"name": "x"})], [("step", {"name": "y"})], f"{name} is done"]
            node = Agent(model=ScriptedModel(script), tools=[step], name=name, callback_handler=None)
            graph.add_node(node, name)
        graph.add_edge("a", "b")
        graph.set_execution_timeout(60)
        return graph.set_session_manager(DaprSessionManager(session_id, store=store, lease=0.3)).build()

    with mock.patch.object(committer, "_TOGETHER", 0):  # each step is a commit of its own, however busy the machine is
        build("s", film.store)("go")
    assert len(film.frames) > 8
    for frame in film.frames[3:-1]:
        store = Film.at(frame).inner
        found = resume_abandoned(lambda session_id, store=store: build(session_id, store), store=store)  # type: ignore[misc]
        assert outcomes(found) in ([("s", "finished")], []), found
        if found:
            assert found[0].result.completed_nodes == 2


def test_a_damaged_session_does_not_stop_the_others() -> None:
    store = killed()[-1]
    builder(store)("damaged")("go")
    for key, entry in store._entries.items():
        if "{damaged:" in key:
            store._entries[key] = replace(entry, value=b"junk")
    assert outcomes(resume_abandoned(builder(store), store=store)) == [("s", "finished")]
    with pytest.raises(DamagedDataError):
        resume_abandoned(builder(store), store=store, sessions=["damaged"])


def test_the_command_line_after_a_real_kill(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    environment = {
        **os.environ,
        "LEDGER": str(ledger),
        "STRANDS_DAPR_SESSION_STORE": f"sqlite:///{tmp_path / 'runs.db'}",
    }

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    killed = subprocess.run(command(suicidal_program.__name__), env=environment, check=False, timeout=60)
    assert killed.returncode == -9
    ledger.with_suffix(".mended").touch()
    resume = command("strands_dapr_session", "resume", f"{suicidal_program.__name__}:build", "--json")
    both = [subprocess.Popen(resume, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(line) for each in both for line in each.communicate(timeout=60)[0].splitlines()]
    assert [each.returncode for each in both] == [0, 0]
    assert [each["outcome"] for each in said].count("finished") == 1
    assert ledger.read_text().count("boom") == 2
