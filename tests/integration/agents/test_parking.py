"""A run that gets nowhere is tried so often and no more, until somebody says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder

from strands_dapr_session import ConfigurationError, DaprSessionManager, ParkedError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.strands_compat import interrupt_state
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents import suicidal_program
from tests.integration.agents.film import assert_free

calls: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    calls.clear()


@tool
async def step() -> str:
    """Make a step."""
    return "made"


@tool(context=True)
async def ask(tool_context: ToolContext) -> str:
    """Ask a person."""
    return str(tool_context.interrupt("may I"))


def fail(_: Any) -> Any:
    calls.append("fail")
    raise ValueError("not today")


def agent_on(store: MemoryStore, script: Any = None, **options: Any) -> Agent:
    script = script or {"go": [[("step", {})], fail, "went"], "other": ["other it is"]}
    return Agent(
        agent_id="default",
        model=ScriptedModel(script),
        tools=[step, ask],
        session_manager=DaprSessionManager("s", store=store, **{"max_attempts": 3, **options}),
        callback_handler=None,
    )


def fail_until_parked(agent: Agent, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Exception, match="not today"):
            agent("go")
    for _ in range(2):
        with pytest.raises(ParkedError, match="restart"):
            agent("go")


@pytest.mark.parametrize("is_another", [False, True], ids=["same object", "another one"])
def test_parked_after_so_many_failures(*, is_another: bool) -> None:
    store = MemoryStore()
    agent = agent_on(store)
    for number in range(1, 4):
        with pytest.raises(Exception, match="not today"):
            agent("go")
        assert len(calls) == number
        agent = agent_on(store) if is_another else agent
    with pytest.raises(ParkedError, match="restart"):
        agent("go")
    with pytest.raises(ParkedError, match="restart"):
        agent()
    assert len(calls) == 3
    assert_free(store)


def test_restarted_by_hand() -> None:
    store = MemoryStore()
    agent = agent_on(store)
    fail_until_parked(agent, 3)
    agent._session_manager.restart(agent)  # type: ignore[union-attr]
    fail_until_parked(agent, 3)
    other = agent_on(store, {"go": [[("step", {})], "went"]})
    other._session_manager.restart(other)  # type: ignore[union-attr]
    assert str(other("go")).strip() == "went"
    assert str(agent("other")).strip() == "other it is"


def test_another_prompt_gives_a_parked_run_up() -> None:
    store = MemoryStore()
    fail_until_parked(agent_on(store), 3)
    assert str(agent_on(store)("other")).strip() == "other it is"


def test_a_run_that_gets_further_is_never_parked() -> None:
    store = MemoryStore()

    def fail_once(messages: Any) -> Any:
        calls.append("")
        if len(calls) % 2:
            raise ValueError("not today")
        return [("step", {})] if len(messages) < 12 else "went"

    agent = agent_on(store, [fail_once] * 20, max_attempts=2)
    for _ in range(7):
        with pytest.raises(Exception, match="not today"):
            agent("go")
    assert str(agent("go")).strip() == "went"


def test_waiting_for_a_person_is_no_failure() -> None:
    store = MemoryStore()
    assert agent_on(store, [[("ask", {})], "asked"], max_attempts=1)("go").stop_reason == "interrupt"
    agent = agent_on(store, [[("ask", {})], "asked"], max_attempts=1)
    interrupts = interrupt_state(agent)["interrupts"]
    answers: Any = [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in interrupts]
    assert str(agent(answers)).strip() == "asked"


def test_a_graph_whose_node_gets_nowhere() -> None:
    store = MemoryStore()

    def build() -> Any:
        builder = GraphBuilder()
        node = Agent(model=ScriptedModel([[("step", {})], fail]), tools=[step], name="a", callback_handler=None)
        builder.add_node(node, "a")
        builder.set_execution_timeout(60)
        return builder.set_session_manager(DaprSessionManager("s", store=store, max_attempts=2)).build()

    for _ in range(2):
        with pytest.raises(Exception, match="not today"):
            build()("go")
    with pytest.raises(ParkedError):
        build()("go")
    graph = build()
    graph.session_manager.restart(graph)
    with pytest.raises(Exception, match="not today"):
        graph("go")
    assert len(calls) == 3


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_what_is_no_number_of_attempts(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_attempts"):
        DaprSessionManager("s", store="memory://", max_attempts=value)


def test_a_tool_that_kills_its_process_every_time(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    environment = {
        **os.environ,
        "LEDGER": str(ledger),
        "STRANDS_DAPR_SESSION_STORE": f"sqlite:///{tmp_path / 'runs.db'}",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", suicidal_program.__name__, *arguments]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)

    assert [run().returncode for _ in range(2)] == [-9, -9]
    parked = run()
    assert parked.returncode == 1
    assert "ParkedError" in parked.stderr
    assert ledger.read_text().count("boom") == 2
    assert run("restart").returncode == -9
    ledger.with_suffix(".mended").touch()
    assert run().stdout.strip() == "Gone."
    assert ledger.read_text().count("boom") == 4
