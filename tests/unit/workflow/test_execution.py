"""One attempt at a run, without a worker: how it ends, and that its session is free when it was cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from strands import Agent
from strands.multiagent import GraphBuilder, Swarm

from strands_dapr_session import DaprSessionManager, RunFailedError, SessionBusyError, UnfinishedRunError
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.workflow.execution import Execution, Finished, Raised, Stopped
from strands_dapr_session.workflow.runs import Claim
from strands_dapr_session.workflow.state import Request, RunState

BEGUN = RunState().begun("worker", "token", 1.0)


class Scene:
    """A store, and a graph or swarm in it that cannot finish while its model is down."""

    def __init__(self, kind: str = "graph") -> None:
        self.kind = kind
        self.store = MemoryStore()
        self.is_down = True

    def speak(self, _: Any) -> str:
        if self.is_down:
            raise RuntimeError("down")
        return "done"

    def build(self, session_id: str) -> Any:
        manager = DaprSessionManager(session_id, store=self.store, on_busy="raise")
        node = Agent(name="a", model=ScriptedModel([self.speak]), callback_handler=None)
        if self.kind == "swarm":
            return Swarm([node], id="g", session_manager=manager)
        inner = Swarm([node], id="inner") if self.kind == "nested" else node
        builder = GraphBuilder()
        builder.add_node(inner, "a")
        builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager)
        return builder.build()

    def execution(self, name: str, state: RunState = BEGUN, build: Callable[[str], Any] | None = None) -> Execution:
        async def prepare(_: Any) -> tuple[()]:
            return ()

        claim = Claim(name, "token", Request("agent", "s", name), state, name)
        return Execution(claim, build or self.build, prepare)

    async def run(self, name: str, state: RunState = BEGUN) -> Any:
        return await self.execution(name, state).run()


# Strands 1.43 takes a node that says that it failed for one that has finished.
NESTED = pytest.param("nested", marks=pytest.mark.newest_dependencies)


@pytest.mark.parametrize("kind", ["graph", "swarm", NESTED])
async def test_what_failed_is_unfinished_and_says_why_however_strands_tells_it(kind: str) -> None:
    scene = Scene(kind)
    for _ in range(2):
        ending = await scene.run("first")
        assert isinstance(ending, Raised)
        assert (type(ending.error), str(ending.error)) == (RuntimeError, "down")
    scene.is_down = False
    refused = await scene.run("second")
    assert isinstance(refused, Raised)
    assert isinstance(refused.error, UnfinishedRunError)
    assert isinstance(await scene.run("first"), Finished)


async def test_a_swarm_that_ends_without_an_exception_has_failed_too() -> None:
    scene = Scene("swarm")
    scene.is_down = False

    def build(session_id: str) -> Any:
        swarm = scene.build(session_id)
        swarm.max_iterations = 0
        return swarm

    ending = await scene.execution("first", build=build).run()
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, RunFailedError)
    assert ending.error.error_type == "FAILED"


@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
async def test_what_is_to_be_cancelled_is_given_up_and_not_called(kind: str) -> None:
    scene = Scene(kind)
    await scene.run("first")
    assert await scene.run("first", BEGUN.to_cancel()) == Stopped("cancel")
    scene.is_down = False
    assert isinstance(await scene.run("second"), Finished)


@pytest.mark.parametrize("is_known", [False, True], ids=["told meanwhile", "known before"])
async def test_what_is_cancelled_while_it_is_built_is_given_up_all_the_same(*, is_known: bool) -> None:
    scene = Scene()
    await scene.run("first")
    is_building, may_be_built = threading.Event(), threading.Event()

    async def build(session_id: str) -> Any:
        is_building.set()
        await asyncio.to_thread(may_be_built.wait)
        return scene.build(session_id)

    execution = scene.execution("first", BEGUN.to_cancel() if is_known else BEGUN, build)
    ending: Awaitable[Any] = asyncio.ensure_future(execution.run())
    await asyncio.to_thread(is_building.wait)
    execution.stop("cancel")
    await asyncio.sleep(0.01)
    may_be_built.set()
    assert await ending == Stopped("cancel")
    scene.is_down = False
    assert isinstance(await scene.run("second"), Finished)


async def test_what_cannot_be_given_up_yet_is_not_over() -> None:
    scene = Scene()
    await scene.run("first")
    journal = Journal(scene.store, "s", "g")
    await journal.acquire()
    ending = await scene.run("first", BEGUN.to_cancel())
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, SessionBusyError)
    await journal.release()
    assert await scene.run("first", BEGUN.to_cancel()) == Stopped("cancel")


async def test_a_cancelled_run_that_never_began_waits_for_no_other() -> None:
    scene = Scene()
    await scene.run("first")
    journal = Journal(scene.store, "s", "g")
    await journal.acquire()
    assert await scene.run("second", BEGUN.to_cancel()) == Stopped("cancel")
    await journal.release()


async def test_what_cannot_be_built_is_not_given_up() -> None:
    def build(session_id: str) -> Any:
        raise RuntimeError(f"no agent for {session_id}")

    execution = Scene().execution("first", BEGUN.to_cancel(), build)
    execution.stop("cancel")
    ending = await execution.run()
    assert isinstance(ending, Raised)
    assert str(ending.error) == "no agent for s"
