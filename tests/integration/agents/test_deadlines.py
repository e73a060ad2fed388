"""What takes too long is given up on, and whatever it says later counts for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from strands import Agent, tool
from strands.multiagent import GraphBuilder

from strands_dapr_session import (
    DaprSessionManager,
    DeadlineError,
    Deadlines,
    ParkedError,
    Retries,
    RetryPolicy,
)
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import assert_free

pytestmark = pytest.mark.newest_dependencies  # before 1.62 Strands has nothing around tools and models to hook into

SHORT = 1.0
"""Seconds that something may take which takes for ever; and enough for what does not, on a busy machine."""

AMPLE = 30.0

ran: list[str] = []
hang: list[str] = []
gate = threading.Event()
late = threading.Event()


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    ran.clear()
    hang.clear()
    gate.clear()
    late.clear()
    yield
    gate.set()


def is_to_hang(name: str) -> bool:
    ran.append(name)
    if name in hang:
        hang.remove(name)
        return True
    return False


@tool
async def work() -> str:
    """Work."""
    if is_to_hang("work"):
        await asyncio.sleep(AMPLE)
    return "done"


@tool
def labour() -> str:
    """Work in a thread."""
    if is_to_hang("labour"):
        gate.wait(AMPLE)
        late.set()
        return "too late"
    return "done"


@tool
async def stubborn() -> str:
    """Work, whoever tries to stop it."""
    if is_to_hang("stubborn"):
        number = ran.count("stubborn")
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        late.set()
        return f"too late: {number}"
    return "done"


class SlowModel(ScriptedModel):
    """Hangs in the middle of an answer when it is told to."""

    async def stream(self, *args: Any, **kwargs: Any) -> Any:
        async for event in super().stream(*args, **kwargs):
            yield event
            if "messageStart" in event and is_to_hang("model"):
                await asyncio.sleep(AMPLE)


def agent_on(store: StateStore, deadlines: Deadlines | None, *script: Any, **options: Any) -> Agent:
    return Agent(
        agent_id="default",
        model=SlowModel(script),
        tools=[work, labour, stubborn],
        session_manager=DaprSessionManager("s", store=store, deadlines=deadlines, **options),
        callback_handler=None,
    )


def turn(name: str) -> list[Any]:
    return [[(name, {})], "went"]


def results(agent: Agent) -> list[tuple[str, str]]:
    found = [block["toolResult"] for message in agent.messages for block in message["content"] if "toolResult" in block]
    return [(each["status"], each["content"][0]["text"]) for each in found]


QUICK = RetryPolicy(first_delay=0)


# -- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["work", "labour", "stubborn"])
def test_a_tool_that_hangs_is_given_up_on(name: str) -> None:
    agent = agent_on(MemoryStore(), Deadlines(tool=AMPLE, tools={name: SHORT}), *turn(name))
    hang.append(name)
    if name == "stubborn":
        threading.Timer(4, gate.set).start()  # a loop cannot end before its tasks have
    assert str(agent("go")).strip() == "went"
    ((status, text),) = results(agent)
    assert status == "error"
    assert "may or may not have taken effect" in text


@pytest.mark.parametrize("name", ["work", "labour", "stubborn"])
async def test_what_it_says_later_counts_for_nothing(name: str) -> None:
    store = MemoryStore()
    agent = agent_on(store, Deadlines(tool=SHORT), *turn(name), retry=QUICK)
    hang.append(name)
    await agent.invoke_async("go")
    assert results(agent) == [("success", "done")]
    assert ran.count(name) == 2
    gate.set()
    if name != "work":
        assert await asyncio.to_thread(late.wait, AMPLE)
        await asyncio.sleep(0.05)
    assert results(agent_on(store, None)) == [("success", "done")]


def test_a_tool_that_must_not_run_twice_is_not_tried_again() -> None:
    agent = agent_on(MemoryStore(), Deadlines(tool=SHORT), *turn("work"), retry=QUICK, in_doubt="never_twice")
    hang.append("work")
    agent("go")
    assert ran.count("work") == 1
    assert results(agent)[0][0] == "error"


def test_tools_beside_it_are_not_disturbed() -> None:
    agent = agent_on(MemoryStore(), Deadlines(tools={"labour": SHORT}), [("labour", {}), ("work", {})], "went")
    hang.append("labour")
    agent("go")
    assert [status for status, _ in results(agent)] == ["error", "success"]


# -- model calls ------------------------------------------------------------------------------------------------------


def test_a_model_that_hangs_is_asked_again() -> None:
    agent = agent_on(MemoryStore(), Deadlines(model=SHORT), *turn("work"), retry=Retries(model=QUICK))
    hang.append("model")
    assert str(agent("go")).strip() == "went"
    assert ran == ["model", "model", "work", "model"]


def test_a_model_that_hangs_and_is_not_to_be_asked_again() -> None:
    store = MemoryStore()
    agent = agent_on(store, Deadlines(model=SHORT), *turn("work"))
    hang.append("model")
    with pytest.raises(DeadlineError, match="model"):
        agent("go")
    assert_free(store)
    assert str(agent("go")).strip() == "went"


# -- invocations ------------------------------------------------------------------------------------------------------


def test_an_invocation_that_takes_too_long_is_parked() -> None:
    store = MemoryStore()
    hang.append("work")
    with pytest.raises(DeadlineError, match="parked"):
        agent_on(store, Deadlines(invocation=SHORT), *turn("work"))("go")
    assert_free(store)
    for _ in range(2):
        with pytest.raises(ParkedError, match="longer than it may"):
            agent_on(store, Deadlines(invocation=SHORT), *turn("work"))("go")
    agent = agent_on(store, Deadlines(invocation=AMPLE), *turn("work"))
    agent._session_manager.restart(agent)  # type: ignore[union-attr]
    assert str(agent("go")).strip() == "went"
    assert results(agent) == [("success", "done")]


def test_the_time_of_an_invocation_is_that_of_all_who_work_on_it() -> None:
    store = MemoryStore()
    hang.extend(["work"] * 2)
    with pytest.raises(DeadlineError, match="recorded nothing"):
        agent_on(store, Deadlines(invocation=AMPLE, silence=SHORT), *turn("work"))("go")
    with pytest.raises(DeadlineError, match="parked"):
        agent_on(store, Deadlines(invocation=SHORT), *turn("work"))("go")
    assert ran.count("work") == 1


def test_an_invocation_of_which_nothing_is_heard_is_gone_on_with() -> None:
    store = MemoryStore()
    agent = agent_on(store, Deadlines(silence=2 * SHORT), [("work", {}), ("labour", {})], [("work", {})], "went")
    hang.append("work")
    with pytest.raises(DeadlineError, match="recorded nothing"):
        agent("go")
    assert_free(store)
    assert str(agent("go")).strip() == "went"
    assert ran.count("labour") == 1


def test_pauses_are_no_silence() -> None:
    patient = RetryPolicy(first_delay=3 * SHORT, jitter=0, retry_on=(Exception,))
    fails = [True]

    def fail_once(_: Any) -> Any:
        if fails:
            fails.clear()
            raise ValueError("no")
        return "went"

    agent = agent_on(MemoryStore(), Deadlines(silence=2 * SHORT), fail_once, retry=patient)
    assert str(agent("go")).strip() == "went"


def test_a_thread_that_hangs_does_not_hold_the_caller() -> None:
    """It would, for `asyncio.run` waits for the threads of its loop."""
    agent = agent_on(MemoryStore(), Deadlines(tool=SHORT), *turn("labour"))
    hang.append("labour")
    agent("go")
    assert not late.is_set()


def test_a_late_tool_of_an_invocation_that_was_given_up_on() -> None:
    """It ends while the next call runs the same tool again."""

    async def program() -> Agent:
        agent = agent_on(MemoryStore(), Deadlines(silence=2 * SHORT), *turn("stubborn"))
        hang.extend(["stubborn"] * 2)
        with pytest.raises(DeadlineError):
            await agent.invoke_async("go")
        going_on = asyncio.ensure_future(agent.invoke_async("go"))
        while ran.count("stubborn") < 2:  # noqa: ASYNC110 - it is a plain list
            await asyncio.sleep(0.01)
        gate.set()
        await going_on
        return agent

    assert results(asyncio.run(program())) == [("success", "too late: 2")]


def test_in_a_graph() -> None:
    builder = GraphBuilder()
    builder.add_node(Agent(model=SlowModel(turn("work")), tools=[work], name="a", callback_handler=None), "a")
    builder.set_execution_timeout(60)
    manager = DaprSessionManager(
        "s", store=MemoryStore(), deadlines=Deadlines(tool=SHORT, invocation=AMPLE), retry=QUICK
    )
    hang.append("work")
    assert builder.set_session_manager(manager).build()("go").status.value == "completed"
    assert ran.count("work") == 2
