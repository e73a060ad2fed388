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

from pydantic import BaseModel, Field
from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.graph import Graph

from strands_dapr_session import AgentWorker, DaprSessionManager, Deadlines, RetryPolicy
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


def begin_hanging(run: str) -> int:
    """Say that something begins which may hang; give how often it has.

    Counted first: a test may freeze the process as soon as it reads that this one has begun, and others begin then.
    """
    number: int = sum(entry["run"] == run for entry in LEDGER.entries("start")) + 1
    LEDGER.note("start", run=run, n=1)
    return number


@tool
async def hang(run: str, times: int) -> str:
    """Wait for a gate the first few times."""
    number = begin_hanging(run)
    if number <= times:
        await gate(run)
        LEDGER.note("late", run=run)
    return f"answer {number}"


@tool
def hang_thread(run: str, times: int) -> str:
    """Wait for a gate the first few times, in a thread, which nobody can stop."""
    number = begin_hanging(run)
    if number <= times:
        while not (PLACE / f"open-{run}").exists():
            time.sleep(0.01)
        LEDGER.note("late", run=run)
    return f"answer {number}"


@tool
def fail() -> str:
    """Fail."""
    raise ValueError("no")


@tool
def flaky(run: str, times: int) -> str:
    """Lose the connection the first few times."""
    number = begin_hanging(run)
    if number <= times:
        raise ConnectionError(f"failure {number}")
    return f"answer {number}"


class HangingModel(ScriptedModel):
    """Waits for a gate in the middle of an answer, the first few times that it is asked to: "hang model <run> <n>"."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Stream the turn that the messages ask for."""
        prompt, *_ = self._position(messages)
        if not prompt.startswith(("hang model", "flaky model")):
            async for event in super().stream(messages, *args, **kwargs):
                yield event
            return
        kind, _, run, times = prompt.split()
        number = begin_hanging(run)
        if kind == "flaky" and number <= int(times):
            raise ConnectionError(f"failure {number}")
        async for event in ScriptedModel([f"answer {number}"]).stream(messages):
            yield event
            if "messageStart" in event and number <= int(times):
                await gate(run)
                LEDGER.note("late", run=run)


def echo(messages: Any) -> Any:
    """Say what the last tool said."""
    return messages[-1]["content"][0]["toolResult"]["content"][0]["text"]


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

    def __missing__(self, prompt: str) -> Any:  # noqa: PLR0911 - one for each kind
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
            case "hang" | "flaky":
                name, run, times = rest.split()
                return [[(name, {"run": run, "times": int(times)})], echo]
            case "raise":
                return [RuntimeError(rest)]
            case _:
                return [rest]


TOOLS: list[Any] = [step, gated, blocked, deadly, hang, hang_thread, flaky, fail, ask]


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


def build_pair(session_id: str, session_manager: DaprSessionManager | None) -> Graph:  # noqa: ARG001
    """Make a graph of two agents."""
    first = Agent(name="first", model=ScriptedModel(Script()), tools=TOOLS, callback_handler=None)
    second = Agent(name="second", model=ScriptedModel(["second done"] * 3), callback_handler=None)
    second.model = ScriptedModel([lambda _: "second done"])
    builder = GraphBuilder()
    builder.add_node(first, "first")
    builder.add_node(second, "second")
    builder.add_edge("first", "second")
    builder.set_entry_point("first")
    builder.set_max_node_executions(10)
    if session_manager is not None:
        builder.set_session_manager(session_manager)
    return builder.build()


def build_relay(session_id: str, session_manager: DaprSessionManager) -> Graph:
    """Make a graph whose first agent does what it is told, and whose second one waits for the gate of the session."""
    first = Agent(name="first", model=ScriptedModel(Script()), tools=TOOLS, callback_handler=None)
    turns = [[("gated", {"run": session_id, "n": 2})], "second done"]
    second = Agent(name="second", model=ScriptedModel(turns), tools=TOOLS, callback_handler=None)
    builder = GraphBuilder()
    builder.add_node(first, "first")
    builder.add_node(second, "second")
    builder.add_edge("first", "second")
    builder.set_max_node_executions(10)
    builder.set_session_manager(session_manager)
    return builder.build()


def build_team(session_id: str, session_manager: DaprSessionManager) -> Swarm:  # noqa: ARG001
    """Make a swarm of one agent, which is told more than its prompt."""

    def speak(messages: Any) -> str:
        said = messages[-1]["content"][0]["text"]
        if "raise" in said:
            raise RuntimeError(said)
        return str(said)

    member = Agent(name="member", model=ScriptedModel([speak]), callback_handler=None)
    return Swarm([member], id="team", session_manager=session_manager)


class Offer(BaseModel):
    """An offer."""

    price: int = Field(alias="inCents")


def build_offering(session_id: str, session_manager: DaprSessionManager | None) -> Agent:  # noqa: ARG001
    """Make an agent that ends with structured output, after the batch that its prompt names."""

    def go_on(messages: Any) -> Any:
        return [("step", {"run": messages[0]["content"][0]["text"], "n": 4}), ("fail", {})]

    def begin(messages: Any) -> Any:
        return batch(messages[0]["content"][0]["text"])[0]

    return Agent(
        model=ScriptedModel([begin, go_on, [("Offer", {"inCents": 3})]]),
        tools=TOOLS,
        session_manager=session_manager,
        structured_output_model=Offer,
        callback_handler=None,
    )


def build_hasty(session_id: str) -> Agent:
    """Make an agent that is given up on when it is silent; with a session manager of its own."""
    manager = DaprSessionManager(session_id, lease=1.5, max_attempts=5, deadlines=Deadlines(silence=0.5))
    return Agent(model=ScriptedModel(Script()), tools=TOOLS, session_manager=manager, callback_handler=None)


LIMIT = 3.0
"""Seconds that things may take here which hang: long enough for what does not, on a busy machine."""


def limited(retry: RetryPolicy | None = None, **limits: Any) -> Any:
    """Make a builder of an agent with deadlines."""

    def build(session_id: str) -> Agent:
        deadlines = Deadlines(**limits)
        manager = DaprSessionManager(session_id, lease=1.5, max_attempts=5, deadlines=deadlines, retry=retry)
        return Agent(model=HangingModel(Script()), tools=TOOLS, session_manager=manager, callback_handler=None)

    return build


AT_ONCE = RetryPolicy(first_delay=0)
LIMITED: dict[str, Any] = {
    "tool": limited(tool=600, tools={"hang": LIMIT, "hang_thread": LIMIT}),
    "tool-again": limited(AT_ONCE, tool=LIMIT),
    "model": limited(model=LIMIT),
    "model-again": limited(AT_ONCE, model=LIMIT),
    "invocation": limited(invocation=2 * LIMIT),
    "silence": limited(silence=LIMIT),
    "model-twice": limited(RetryPolicy(max_attempts=2, first_delay=0), model=LIMIT / 2),
}
"""Builders of agents that may not hang, by what is limited."""


def build_persistent(session_id: str) -> Agent:
    """Make an agent that tries everything four times, and may lose its worker once at the same place."""
    retry = RetryPolicy(max_attempts=4, first_delay=LIMIT, factor=1, jitter=0)
    manager = DaprSessionManager(session_id, lease=1.5, max_attempts=2, retry=retry)
    return Agent(model=HangingModel(Script()), tools=TOOLS, session_manager=manager, callback_handler=None)


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
    "relay": build_relay,
    "team": build_team,
    "hasty": build_hasty,
    "offering": build_offering,
    "persistent": build_persistent,
    "broken": build_broken,
    "forgetful": build_forgetful,
    **LIMITED,
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
