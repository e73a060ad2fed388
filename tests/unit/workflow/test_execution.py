"""One attempt at a run, without a worker: how it ends, and that its session is free when it was cancelled."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentResult, NodeResult, Status
from strands.session import FileSessionManager

from strands_dapr_session import (
    ConfigurationError,
    DaprSessionManager,
    RunFailedError,
    SessionBusyError,
    UnfinishedRunError,
)
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.workflow.execution import Asking, Execution, Finished, Raised, Stopped, _why_it_failed
from strands_dapr_session.workflow.runs import Claim
from strands_dapr_session.workflow.state import Request, RunState

BEGUN = RunState().begun("worker", "token", 1.0)


class Scene:
    """A store, and a graph or swarm in it that cannot finish while its model is down."""

    def __init__(self, kind: str = "graph") -> None:
        self.kind = kind
        self.store = MemoryStore()
        self.is_down = True
        self.calls = 0

    def speak(self, _: Any) -> str:
        self.calls += 1
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
    assert scene.calls == 1  # it was not called again
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


# -- being stopped ----------------------------------------------------------------------------------------------------


class Agents:
    """Agents whose tool waits, and what became of them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.has_begun, self.may_end, self.left = threading.Event(), threading.Event(), threading.Event()
        self.ran: list[str] = []
        self.in_graph = False

    def build(self, session_id: str) -> Any:
        @tool
        async def work() -> str:
            """Work."""
            self.ran.append("work")
            self.has_begun.set()
            while not self.may_end.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(0.01)
            return "worked"

        @tool
        def labour() -> str:
            """Work in a thread."""
            self.ran.append("labour")
            self.has_begun.set()
            self.may_end.wait(60)
            self.left.set()
            return "laboured"

        @tool
        async def leave() -> str:
            """Leave something running."""

            async def run_on() -> None:
                try:
                    await asyncio.sleep(60)
                finally:
                    self.left.set()

            self.ran.append("leave")
            self.task = asyncio.ensure_future(run_on())
            await asyncio.sleep(0)
            return "left"

        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask."""
            return str(tool_context.interrupt("may I", reason="it is late"))

        @tool(context=True)
        def give_in(tool_context: ToolContext) -> str:
            """Cancel the agent."""
            tool_context.agent.cancel()
            return "given in"

        names = ("work", "labour", "leave", "ask", "give_in")
        script: dict[str, Any] = {name: [[(name, {})], "done"] for name in names} | {"say": ["said"]}
        manager = DaprSessionManager(session_id, store=self.store, on_busy="raise")
        tools = [work, labour, leave, ask, give_in]
        if not self.in_graph:
            return Agent(model=ScriptedModel(script), tools=tools, session_manager=manager, callback_handler=None)
        builder = GraphBuilder()
        builder.add_node(Agent(model=ScriptedModel(script), tools=tools, callback_handler=None), "a")
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()

    def execution(self, prompt: str, name: str | None = None, questions: tuple[Any, ...] = ()) -> Execution:
        async def prepare(_: Any) -> tuple[Any, ...]:
            return questions

        claim = Claim(name or prompt, "token", Request("agent", "s", prompt), BEGUN, prompt)
        return Execution(claim, self.build, prepare)

    async def begin(self, prompt: str) -> tuple[Execution, asyncio.Future[Any]]:
        """Begin with a run, and wait until its tool has begun."""
        execution = self.execution(prompt)
        ending = asyncio.ensure_future(execution.run())
        assert await asyncio.to_thread(self.has_begun.wait, 60)
        return execution, ending


@pytest.fixture
def agents() -> Iterator[Agents]:
    made = Agents()
    yield made
    made.may_end.set()


@pytest.mark.parametrize("reason", ["drain", "lost"])
async def test_who_is_stopped_ends_where_it_is_and_another_attempt_goes_on(agents: Agents, reason: Any) -> None:
    execution, ending = await agents.begin("work")
    execution.stop(reason)
    execution.stop("cancel")  # the first reason counts
    assert await ending == Stopped(reason)
    execution.stop("cancel")
    agents.may_end.set()
    assert isinstance(await agents.execution("work").run(), Finished)
    assert agents.ran == ["work"] * 2
    assert len(Journal(agents.store, "s", "default").load_sync().scope("").ordinals) == 4


async def test_a_tool_in_a_thread_holds_nobody_up(agents: Agents) -> None:
    execution, ending = await agents.begin("labour")
    execution.stop("drain")
    assert await asyncio.wait_for(ending, 30) == Stopped("drain")
    assert not agents.left.is_set()


async def test_a_cancelled_agent_stops_by_itself_and_leaves_its_session_free(agents: Agents) -> None:
    execution, ending = await agents.begin("labour")
    execution.stop("cancel")
    agents.may_end.set()
    assert await ending == Stopped("cancel")
    last = Journal(agents.store, "s", "default").load_sync().scope("").invocation
    assert last is not None
    assert (last.key, last.outcome) == ("labour", "cancelled")
    assert isinstance(await agents.execution("say").run(), Finished)


async def test_who_stopped_by_itself_is_not_given_up_besides(agents: Agents) -> None:
    execution, ending = await agents.begin("labour")

    def abandon(*_: Any) -> None:
        raise SessionBusyError("somebody else goes on already")

    execution._root._session_manager.abandon = abandon
    execution.stop("cancel")
    agents.may_end.set()
    assert await ending == Stopped("cancel")


async def test_an_agent_that_cancelled_itself_has_a_result(agents: Agents) -> None:
    assert isinstance(await agents.execution("give_in").run(), Finished)


async def test_a_cancelled_agent_that_does_not_stop_is_stopped_and_given_up(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strands_dapr_session.workflow.execution._PATIENCE_AFTER_CANCEL", 0.05)
    execution, ending = await agents.begin("work")
    execution.stop("cancel")
    assert await ending == Stopped("cancel")
    assert isinstance(await agents.execution("say").run(), Finished)
    assert agents.ran == ["work"]  # nobody went on with it


async def test_who_is_stopped_before_it_began_is_not_called(agents: Agents) -> None:
    execution = agents.execution("work")
    execution.stop("drain")
    assert await execution.run() == Stopped("drain")
    assert agents.ran == []


async def test_who_has_ended_is_not_stopped_any_more(agents: Agents) -> None:
    execution = agents.execution("say")
    assert isinstance(await execution.run(), Finished)
    cancelled: list[str] = []
    execution._root.cancel = lambda: cancelled.append("the agent")
    execution.stop("cancel")
    execution._stop_here()  # somebody had asked for it in the last moment
    assert cancelled == []


async def test_what_is_not_cancelled_is_stopped_while_it_is_built() -> None:
    is_building = threading.Event()

    async def build(_: str) -> Any:
        is_building.set()
        await asyncio.Event().wait()

    execution = Scene().execution("first", build=build)
    ending = asyncio.ensure_future(execution.run())
    await asyncio.to_thread(is_building.wait)
    execution.stop("drain")
    assert await ending == Stopped("drain")


async def test_a_graph_is_stopped_where_it_is_and_given_up(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.workflow.execution._UNTIL_CANCELLED_AGAIN", 0.05)
    agents.in_graph = True
    execution, ending = await agents.begin("work")
    execution.stop("cancel")
    assert await ending == Stopped("cancel")
    assert isinstance(await agents.execution("say").run(), Finished)
    assert agents.ran == ["work"]


async def test_what_loses_a_cancellation_is_cancelled_again(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.workflow.execution._UNTIL_CANCELLED_AGAIN", 0.01)
    lost: list[str] = []

    async def prepare(_: Any) -> tuple[Any, ...]:
        while True:
            agents.has_begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if len(lost) == 2:
                    raise
                lost.append("as by `asyncio.wait_for` before Python 3.12")

    execution = agents.execution("say")
    execution._prepare = prepare
    ending = asyncio.ensure_future(execution.run())
    await asyncio.to_thread(agents.has_begun.wait, 60)
    execution.stop("drain")
    assert await asyncio.wait_for(ending, 30) == Stopped("drain")
    assert len(lost) == 2


async def test_what_has_its_end_when_it_is_stopped_keeps_it(agents: Agents) -> None:
    async def prepare(_: Any) -> tuple[Any, ...]:
        execution.stop("drain")
        return ({"id": "i"},)

    execution = agents.execution("say")
    execution._prepare = prepare
    assert await execution.run() == Asking(({"id": "i"},))


async def test_a_loop_that_is_closed_before_it_hears_of_it_is_no_error(agents: Agents) -> None:
    execution = agents.execution("say")
    loop = asyncio.new_event_loop()
    loop.close()
    execution._running = loop, cast("Any", None)
    execution.stop("drain")


async def test_what_an_agent_leaves_running_is_cancelled(agents: Agents) -> None:
    assert isinstance(await agents.execution("leave").run(), Finished)
    assert await asyncio.to_thread(agents.left.wait, 30)


# -- what came of it --------------------------------------------------------------------------------------------------


async def test_a_run_goes_by_its_id_in_the_journal(agents: Agents) -> None:
    ending = await agents.execution("say", "run-7").run()
    assert isinstance(ending, Finished)
    assert isinstance(ending.result, dict)
    assert list(Journal(agents.store, "s", "default").load_sync().finished) == ["run-7"]


async def test_questions_are_handed_on(agents: Agents) -> None:
    ending = await agents.execution("ask").run()
    assert isinstance(ending, Asking)
    (question,) = ending.interrupts
    id_, name, reason = question.values()
    assert (name, reason) == ("may I", "it is late")
    assert isinstance(ending.interrupts, tuple)
    assert id_


async def test_an_agent_that_has_questions_already_is_not_called(agents: Agents) -> None:
    ending = await agents.execution("work", questions=({"id": "i"},)).run()
    assert ending == Asking(({"id": "i"},))
    assert agents.ran == []


def of_another_session(agents: Agents) -> Any:
    return agents.build("another")


def of_no_session(_: Agents) -> Any:
    return Agent(model=ScriptedModel(["done"]), callback_handler=None)


def of_strands_own(_: Agents) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        manager = FileSessionManager("s", storage_dir=directory)
        return Agent(model=ScriptedModel(["done"]), session_manager=manager, callback_handler=None)


def of_no_kind(_: Agents) -> Any:
    return "an agent"


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (of_another_session, "one of the session 'another', but was called for 's'"),
        (of_no_session, "without session_manager=DaprSessionManager"),
        (of_strands_own, "without session_manager=DaprSessionManager"),
        (of_no_kind, "returned str: it must return an Agent, a Graph or a Swarm"),
    ],
)
async def test_what_could_not_be_resumed_is_refused(agents: Agents, build: Any, why: str) -> None:
    async def prepare(_: Any) -> tuple[()]:
        raise AssertionError("it is not to be called")

    claim = Claim("run", "token", Request("agent", "s", "say"), BEGUN, "say")
    ending = await Execution(claim, lambda _: build(agents), prepare).run()
    assert isinstance(ending, Raised)
    assert isinstance(ending.error, ConfigurationError)
    assert why in str(ending.error)


def result_of(**nodes: Any) -> MultiAgentResult:
    results = {name: NodeResult(each, status=getattr(each, "status", Status.COMPLETED)) for name, each in nodes.items()}
    return MultiAgentResult(Status.FAILED, results)


def test_why_a_graph_failed_is_its_first_exception_wherever_that_is() -> None:
    error, done = ValueError("no"), MultiAgentResult(Status.COMPLETED, {"x": NodeResult(KeyError("handled"))})
    assert _why_it_failed(result_of(a=done, b=error, c=KeyError("later"))) is error
    assert _why_it_failed(result_of(a=done, b=result_of(c=error))) is error


def test_a_graph_that_failed_without_an_exception_has_failed_too() -> None:
    why = _why_it_failed(result_of(a=MultiAgentResult(Status.COMPLETED, {})))
    assert isinstance(why, RunFailedError)
    assert why.error_type == "FAILED"
