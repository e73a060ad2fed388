"""Agents that are tools and ask a person while the store goes away: the same process asks and answers again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import MessageAddedEvent
from strands.multiagent import GraphBuilder, Swarm

from strands_dapr_session import (
    DaprSessionManager,
    InvocationConflictError,
    StoreUnavailableError,
    idempotency_key,
    strands_compat,
)
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Fault, FaultyStore, LoseReply, LoseRequest
from strands_dapr_session.testing.model import ScriptedModel

pytestmark = pytest.mark.newest_dependencies  # Strands passes on what agents ask that are tools since 1.52.


ASKING: Any = [("note", {}), ("ask", {})]


def build(  # noqa: PLR0913
    store: StateStore,
    answers: list[Any],
    kind: str,
    *,
    preserve: bool,
    keys: set[str | None] | None = None,
    turns: Sequence[Any] = (ASKING,),
) -> Any:
    @tool(context=True)
    def ask(tool_context: ToolContext) -> str:
        """Ask a person."""
        answers.append(tool_context.interrupt("may I"))
        tool_context.agent.state.set("asked", (tool_context.agent.state.get("asked") or 0) + 1)
        return str(answers[-1])

    @tool
    def note() -> str:
        """Do something beside it."""
        if keys is not None:
            keys.add(idempotency_key())
        return "noted"

    manager = DaprSessionManager("s", store=store, on_busy="steal")
    helper = Agent(
        name="helper",
        model=ScriptedModel([*turns, "helped"], name="helper"),
        tools=[ask, note],
        callback_handler=None,
    )
    agent = Agent(
        name="a",
        agent_id="g",
        model=ScriptedModel([[("helper", {"input": "help"})], "done"]),
        tools=[helper.as_tool(preserve_context=preserve)],
        session_manager=manager if kind == "agent" else None,
        callback_handler=None,
    )
    if kind == "agent":
        return agent
    if kind == "swarm":
        return Swarm([agent], id="g", session_manager=manager)
    builder = GraphBuilder()
    builder.add_node(agent, "a")
    return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()


def how(result: Any) -> str:
    return str(getattr(result, "stop_reason", None) or result.status.value)


def said_yes(ids: Any) -> Any:
    return [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in ids]


def helper_of(called: Any) -> Any:
    """Find the agent that is a tool."""
    agent = called if isinstance(called, Agent) else called.nodes["a"].executor
    helper: Any = agent.tool_registry.registry["helper"]
    return helper.agent


def begun(called: Any) -> set[int]:
    """List how long the conversation of the helper was whenever it was asked for help."""
    calls = helper_of(called).model.calls
    return {len(messages) for messages in calls if messages[-1]["content"][0].get("text") == "help"}


def finish(called: Any, result: Any) -> str:
    """Say yes to whatever is asked, and tell how it ends."""
    while how(result) in ("interrupt", "interrupted"):
        result = called(said_yes(each.id for each in result.interrupts))
    return how(result)


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
@pytest.mark.parametrize("preserve", [True, False], ids=["preserve_context", "reset"])
def test_answers_that_it_got_before_do_no_harm_to_those_that_it_waits_for(kind: str, *, preserve: bool) -> None:
    answers: list[Any] = []
    called = build(MemoryStore(), answers, kind, preserve=preserve, turns=(ASKING, ASKING))
    first = [each.id for each in called("T").interrupts]
    second = [each.id for each in called(said_yes(first)).interrupts if each.id not in first]
    assert finish(called, called(said_yes([*first, *second]))) in ("end_turn", "completed")
    assert answers == ["yes"] * 2
    agent = called if isinstance(called, Agent) else called.nodes["a"].executor
    assert [block["toolResult"]["status"] for block in agent.messages[2]["content"]] == ["success"]


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
@pytest.mark.parametrize("preserve", [True, False], ids=["preserve_context", "reset"])
def test_what_it_asked_in_one_process_is_answered_in_another(kind: str, *, preserve: bool) -> None:
    store, answers = MemoryStore(), list[Any]()
    asked = build(store, answers, kind, preserve=preserve)("T").interrupts
    other = build(store, answers, kind, preserve=preserve)
    assert finish(other, other(said_yes(each.id for each in asked))) in ("end_turn", "completed")
    assert answers == ["yes"]
    agent = other if isinstance(other, Agent) else other.nodes["a"].executor
    results = [block["toolResult"] for block in agent.messages[2]["content"]]
    assert [(each["status"], each["content"][0]["text"].strip()) for each in results] == [("success", "helped")]


def go_on(called: Any, given: Any) -> str:
    """Call again; answer if that is what is waited for."""
    try:
        return finish(called, called(given))
    except TypeError as error:
        if "must resume from interrupt" not in str(error):
            raise
    is_agent = isinstance(called, Agent)
    state = strands_compat.interrupt_state(called) if is_agent else strands_compat.orchestrator_interrupts(called)
    return finish(called, called(said_yes(state["interrupts"])))


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
@pytest.mark.parametrize("preserve", [True, False], ids=["preserve_context", "reset"])
@pytest.mark.parametrize("fault", [LoseRequest(), LoseReply()], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("away", ["while it asks", "while it is answered"])
def test_it_is_asked_and_answered_wherever_the_store_went_away(
    kind: str, fault: Fault, away: str, *, preserve: bool
) -> None:
    for number in itertools.count():
        store, answers = FaultyStore(MemoryStore()), list[Any]()
        keys: set[str | None] = set()
        called = build(store, answers, kind, preserve=preserve, keys=keys)
        given = "T" if away == "while it asks" else said_yes(each.id for each in called("T").interrupts)
        start = len(store.calls) + number
        store.plan = lambda call, start=start: fault if call.number > start else None  # type: ignore[misc]
        try:
            called(given)
        except StoreUnavailableError:
            store.plan = lambda _: None
        else:
            assert number > 4  # it makes no more calls of the store
            return
        last = Journal(store, "s", "g").load_sync().scope("").invocation
        if kind != "agent" and given != "T" and last is not None and last.finished:
            with pytest.raises(InvocationConflictError):  # it had no id
                called(given)
            continue
        assert go_on(called, given) in ("end_turn", "completed"), f"away from call {number} on"
        assert set(answers) == {"yes"}
        assert len(keys) == 1, f"away from call {number} on"  # what was recorded beside the question stays
        remembered = begun(called), helper_of(called).state.get("asked")
        assert remembered == ({1}, 1), f"away from call {number} on"  # nothing of what is lost


@pytest.mark.parametrize("kind", ["agent", "graph", "swarm"])
def test_it_remembers_nothing_where_only_its_beginning_was_recorded(kind: str) -> None:
    store, answers = FaultyStore(MemoryStore()), list[Any]()
    called = build(store, answers, kind, preserve=True)
    reader = Journal(store.inner, "s", "g")
    stays_away = True

    async def go_away(_: MessageAddedEvent) -> None:
        """Wait until its beginning has travelled alone: on a busy machine what it was asked comes too late for that."""
        if stays_away:
            while not any(path.endswith("t0") for path in (await reader.load()).scopes):  # noqa: ASYNC110
                await asyncio.sleep(0)
            store.plan = lambda _: LoseRequest()

    helper_of(called).hooks.add_callback(MessageAddedEvent, go_away)
    with pytest.raises(StoreUnavailableError):
        called("T")
    assert len(helper_of(called).messages) > 1
    stays_away, store.plan = False, lambda _: None
    assert go_on(called, "T") in ("end_turn", "completed")
    assert answers == ["yes"]
    assert begun(called) == {1}
