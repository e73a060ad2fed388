"""A worker with the agents of these tests. What its tools do, they write down in a ledger, and wait for files."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder
from strands.multiagent.graph import Graph

from strands_dapr_session import AgentWorker, DaprSessionManager, Deadlines
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.model import ScriptedModel

PLACE = Path()
LEDGER = Ledger(PLACE)


async def gate(name: str) -> None:
    """Wait until a test opens a gate."""
    while not (PLACE / f"open-{name}").exists():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.01)


@tool
async def step(run: str, n: int) -> str:
    """Do a step."""
    LEDGER.note("start", run=run, n=n)
    LEDGER.note("end", run=run, n=n)
    return f"step {n}"


@tool
async def gated(run: str, n: int) -> str:
    """Do a step, when the test says so."""
    LEDGER.note("start", run=run, n=n)
    await gate(run)
    LEDGER.note("end", run=run, n=n)
    return f"gated {n}"


@tool
def blocked(run: str) -> str:
    """Do a step that cannot be stopped: it is no coroutine."""
    LEDGER.note("start", run=run, n=1)
    while not (PLACE / f"open-{run}").exists():
        time.sleep(0.01)
    LEDGER.note("end", run=run, n=1)
    return "blocked"


@tool
def deadly(run: str) -> str:
    """Kill the process, until the test says otherwise."""
    LEDGER.note("start", run=run, n=1)
    if not (PLACE / f"open-{run}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@tool(context=True)
def ask(question: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    answer: str = tool_context.interrupt("question", reason=question)
    LEDGER.note("answered", run=question, answer=answer)
    return f"they said {answer}"


def batch(run: str) -> list[Any]:
    """Three tools at once, the last of which waits for its gate."""
    return [[("step", {"run": run, "n": 1}), ("step", {"run": run, "n": 2}), ("gated", {"run": run, "n": 3})], "done"]


class Script(dict[str, Any]):
    """Turns for any prompt: ``"batch <run>"``, ``"say <text>"``."""

    def __missing__(self, prompt: str) -> Any:
        kind, _, rest = prompt.partition(" ")
        match kind:
            case "batch":
                return batch(rest)
            case "blocked" | "deadly":
                return [[(kind, {"run": rest})], "done"]
            case "long":
                name, _, count = rest.partition(" ")
                return [*([("step", {"run": name, "n": n})] for n in range(1, int(count) + 1)), "done"]
            case "ask":
                return [[("ask", {"question": rest}), ("step", {"run": rest, "n": 1})], "thanks"]
            case "raise":
                return [RuntimeError(rest)]
            case _:
                return [rest]


TOOLS: list[Any] = [step, gated, blocked, deadly, ask]


def build_agent(session_id: str, session_manager: DaprSessionManager) -> Agent:  # noqa: ARG001 - as users write it
    return Agent(model=ScriptedModel(Script()), tools=TOOLS, session_manager=session_manager, callback_handler=None)


def named(name: str, model_id: str = "scripted") -> Any:
    """Make a builder of an agent that says its name, with a tool called like that of the others."""

    def build(session_id: str, session_manager: DaprSessionManager) -> Agent:  # noqa: ARG001
        @tool(name="who")
        def who() -> str:
            """Say who."""
            return name

        def speak(messages: Any) -> str:
            return f"{name}: {messages[-1]['content'][0]['toolResult']['content'][0]['text']}"

        model = ScriptedModel([[("who", {})], speak], model_id=model_id)
        return Agent(model=model, tools=[who], session_manager=session_manager, agent_id=name, callback_handler=None)

    return build


def upgraded(version: str) -> Any:
    """Make a builder of an agent as it is in some version of the program."""

    def build(session_id: str, session_manager: DaprSessionManager) -> Agent:  # noqa: ARG001
        LEDGER.note("built", run=version)
        return Agent(
            model=ScriptedModel(Script()),
            tools=TOOLS,
            system_prompt=f"You are version {version}.",
            session_manager=session_manager,
            callback_handler=None,
        )

    return build


def build_pair(session_id: str, session_manager: DaprSessionManager) -> Graph:  # noqa: ARG001
    """Make a graph of two agents."""
    first = Agent(name="first", model=ScriptedModel(Script()), tools=TOOLS, callback_handler=None)
    second = Agent(name="second", model=ScriptedModel(["second done"] * 3), callback_handler=None)
    second.model = ScriptedModel([lambda _: "second done"])
    builder = GraphBuilder()
    builder.add_node(first, "first")
    builder.add_node(second, "second")
    builder.add_edge("first", "second")
    builder.set_entry_point("first")
    builder.set_session_manager(session_manager)
    return builder.build()


def build_hasty(session_id: str) -> Agent:
    """Make an agent that is given up on when it is silent; with a session manager of its own."""
    manager = DaprSessionManager(session_id, lease=1.5, max_attempts=5, deadlines=Deadlines(silence=0.5))
    return Agent(model=ScriptedModel(Script()), tools=TOOLS, session_manager=manager, callback_handler=None)


def build_broken(session_id: str) -> Agent:
    raise RuntimeError(f"no agent for {session_id}")


def build_forgetful(session_id: str) -> Agent:  # noqa: ARG001
    return Agent(model=ScriptedModel(Script()), callback_handler=None)


AGENTS: dict[str, Any] = {
    "agent": build_agent,
    "red": named("red"),
    "blue": named("blue"),
    "one": build_agent,
    "two": build_agent,
    "v1": upgraded("1"),
    "v2": upgraded("2"),
    "pair": build_pair,
    "hasty": build_hasty,
    "broken": build_broken,
    "forgetful": build_forgetful,
}
"""Builders by name; ``name=builder`` on the command line registers one under another name."""


def main(given: list[str]) -> None:
    global PLACE, LEDGER  # noqa: PLW0603 - tools are plain functions and find them here
    PLACE = Path(os.environ["WORKFLOW_TEST_PLACE"])
    LEDGER = Ledger(PLACE / "ledger")
    arguments = argparse.ArgumentParser()
    arguments.add_argument("agents", nargs="+")
    arguments.add_argument("--options", type=json.loads, default={})
    options = arguments.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    pairs = [each.partition("=") for each in options.agents]
    worker = AgentWorker({name: AGENTS[builder or name] for name, _, builder in pairs}, **options.options)
    LEDGER.note("worker", agents=options.agents)
    worker.run()
