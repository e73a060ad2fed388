"""Graphs and swarms that wait for a person: what others see of them, and that no answer is asked for twice."""

from __future__ import annotations

import itertools
from typing import Any
from unittest import mock

import pytest
from strands import Agent, ToolContext, tool
from strands.agent import AgentResult
from strands.hooks import BeforeMultiAgentInvocationEvent, BeforeNodeCallEvent
from strands.interrupt import Interrupt
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status
from strands.telemetry.metrics import EventLoopMetrics

from strands_dapr_session import (
    DaprSessionManager,
    InvocationConflictError,
    StoreUnavailableError,
    UnfinishedRunError,
    strands_compat,
)
from strands_dapr_session.journal import committer
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Fault, FaultyStore, LoseReply, LoseRequest, Plan
from strands_dapr_session.testing.model import ScriptedModel


class World:
    """What survives a process: a store that keeps what it held after each write, and what really ran."""

    def __init__(self, frame: dict[str, Any] | None = None) -> None:
        self.inner = MemoryStore()
        self.inner._entries.update(frame or {})
        self.frames: list[dict[str, Any]] = []
        self.store = FaultyStore(self.inner, on_applied=lambda _: self.frames.append(dict(self.inner._entries)))
        self.answers: list[str] = []

    def agent(self, name: str, *turns: Any) -> Agent:
        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person."""
            answer = str(tool_context.interrupt("may I"))
            self.answers.append(answer)
            return answer

        model = ScriptedModel([*turns, f"done {name}"])
        return Agent(name=name, model=model, tools=[ask], callback_handler=None, state={"name": name})

    def build(self, kind: str) -> Any:
        manager = DaprSessionManager("s", store=self.store, on_busy="steal")
        if kind == "swarm":
            over: Any = [("handoff_to_agent", {"agent_name": "b", "message": "over", "context": {"found": 1}})]
            nodes = [self.agent("a", over), self.agent("b", [("ask", {})])]
            return Swarm(nodes, id="g", session_manager=manager)
        builder = GraphBuilder()
        for name in "abc":
            builder.add_node(self.agent(name, *([[("ask", {})]] if name == "b" else [])), name)
        for one, other in itertools.pairwise("abc"):
            builder.add_edge(one, other)
        if kind == "nested":
            inner = builder.set_graph_id("inner").set_max_node_executions(9).build()
            builder = GraphBuilder()
            builder.add_node(inner, "n")
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()

    def view(self) -> Any:
        return Journal(self.inner, "s", "g").load_sync()


def said_yes(result: Any) -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]


def of_graph(graph: Any) -> dict[str, Any]:
    state = graph.state
    return {
        "status": state.status,
        "task": state.task,
        "order": [node.node_id for node in state.execution_order],
        "completed": {node.node_id for node in state.completed_nodes},
        "interrupted": {node.node_id for node in state.interrupted_nodes},
        "failed": {node.node_id for node in state.failed_nodes},
        "statuses": {name: node.execution_status for name, node in graph.nodes.items()},
        "results": {name: str(each.result) for name, each in state.results.items() if name != "b"},
        "usage": state.accumulated_usage,
        "metrics": state.accumulated_metrics,
        "count": state.execution_count,
        "time": state.execution_time,
        "total": state.total_nodes,
        "edges": [(one.node_id, other.node_id) for one, other in state.edges],
        "entry": [node.node_id for node in state.entry_points],
    }


def of_swarm(swarm: Any) -> dict[str, Any]:
    state = swarm.state
    return {
        "status": state.completion_status,
        "task": state.task,
        "history": [node.node_id for node in state.node_history],
        "usage": state.accumulated_usage,
        "metrics": state.accumulated_metrics,
        "time": state.execution_time,
        "shared": swarm.shared_context.context,
        "is shared": state.shared_context is swarm.shared_context,
    }


@pytest.mark.parametrize(("kind", "of"), [("graph", of_graph), ("swarm", of_swarm)], ids=["graph", "swarm"])
def test_another_process_sees_the_same(kind: str, of: Any) -> None:
    world = World()
    orchestrator = world.build(kind)
    assert orchestrator("T").status == Status.INTERRUPTED

    other = world.build(kind)

    assert of(other) == of(orchestrator)
    assert [each.executor.messages for each in other.nodes.values() if each.node_id != "b"] == [
        each.executor.messages for each in orchestrator.nodes.values() if each.node_id != "b"
    ]


@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
def test_conversations_of_agents_are_recorded_once(kind: str) -> None:
    """Strands keeps those of interrupted agents in the orchestrator's state as well."""
    world = World()
    world.build(kind)("T")

    scope = world.view().scope("n" if kind == "nested" else "")

    noted = unpack_value(scope.notes["interrupts"])["state"]
    assert noted["activated"]
    assert "messages" not in noted["context"]["b"]


@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
def test_a_cut_after_the_answers_does_not_ask_again(kind: str) -> None:
    """Nor does it count anything twice: Strands counts the tokens of a swarm's interrupted node when it waits, too."""
    world = World()
    waiting = world.build(kind)("T")
    asked = len(world.frames)
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        expected = world.build(kind)(said_yes(waiting))
    assert expected.status == Status.COMPLETED
    assert len(world.frames) > asked + 4
    tried = 0
    for number, frame in enumerate(world.frames[asked:-1], asked):
        cut = World(frame)
        notes = cut.view().scope("").notes
        if unpack_value(notes["status"])["state"] == "interrupted":
            continue  # the answers were not accepted yet
        tried += 1
        found = cut.build(kind)(None)
        assert found.status == Status.COMPLETED, f"cut after write {number}"
        assert found.accumulated_usage == expected.accumulated_usage, f"cut after write {number}"
        assert found.accumulated_metrics == expected.accumulated_metrics, f"cut after write {number}"
        assert found.execution_count == expected.execution_count, f"cut after write {number}"
        assert set(cut.answers) <= {"yes"}
    assert tried > 2


@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
def test_answers_that_are_given_again_go_on_wherever_it_was_cut(kind: str) -> None:
    """Also behind the nodes that had asked, and when all is finished: as a worker does that takes a run over."""
    world = World()
    mine = {"invocation_id": "mine"}
    waiting = world.build(kind)("T", invocation_state=mine)
    asked = len(world.frames)
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        expected = world.build(kind)(said_yes(waiting), invocation_state=mine)
    for number, frame in enumerate(world.frames[asked:], asked):
        cut = World(frame)
        found = cut.build(kind)(said_yes(waiting), invocation_state=mine)
        assert found.status == Status.COMPLETED, f"cut after write {number}"
        assert found.accumulated_usage == expected.accumulated_usage, f"cut after write {number}"
        assert set(cut.answers) <= {"yes"}
    with pytest.raises(InvocationConflictError, match="has finished the task 'T'"):
        World(world.frames[-1]).build(kind)("U", invocation_state=mine)


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_who_answers_after_somebody_else_has_is_told(kind: str) -> None:
    world = World()
    waiting = world.build(kind)("T")
    slow, ends = world.build(kind), list[bytes]()

    def overtake(_: Any) -> None:
        if not world.answers:
            assert world.build(kind)(said_yes(waiting)).status == Status.COMPLETED
            ends.append(world.view().scope("").notes["status"])

    slow.add_hook(overtake, BeforeMultiAgentInvocationEvent, order=1000)
    with pytest.raises(InvocationConflictError, match="answered by somebody else"):
        slow(said_yes(waiting))

    assert world.answers == ["yes"]
    assert [world.view().scope("").notes["status"]] == ends
    assert world.view().owner is None
    assert world.view().scope("").invocation.finished
    assert world.build(kind)("T").status == Status.INTERRUPTED  # a new run


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_answers_to_what_has_finished_meanwhile_are_no_task(kind: str) -> None:
    world = World()
    waiting = world.build(kind)("T")
    slow = world.build(kind)
    world.build(kind)(said_yes(waiting))
    finished = world.view().scope("").invocation

    with pytest.raises(InvocationConflictError, match="answered by somebody else"):
        slow(said_yes(waiting))

    assert world.view().owner is None
    assert world.view().scope("").invocation == finished
    assert slow("U").status == Status.INTERRUPTED  # a new run


def outage_from(start: int, fault: Fault) -> Plan:
    return lambda call: fault if call.number > start else None


@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
@pytest.mark.parametrize("fault", [LoseRequest(), LoseReply()], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("key", ["mine", None])
def test_answers_are_taken_again_wherever_the_store_went_away(kind: str, fault: Fault, key: str | None) -> None:
    """To a live graph or swarm, whose call with them failed."""
    state = {"invocation_id": key} if key else {}
    for number in itertools.count():
        world = World()
        orchestrator = world.build(kind)
        answers = said_yes(orchestrator("T", invocation_state=state))
        start = len(world.store.calls) + number
        world.store.plan = outage_from(start, fault)
        try:
            orchestrator(answers, invocation_state=state)
        except StoreUnavailableError:
            world.store.plan = lambda _: None
        else:
            assert number > 6  # it makes no more calls of the store
            return
        if key is None and world.view().scope("").invocation.finished:
            with pytest.raises(InvocationConflictError, match="in a call that failed before it could tell"):
                orchestrator(answers)
            continue
        result = orchestrator(answers, invocation_state=state)
        assert result.status == Status.COMPLETED, f"away from call {number} on"
        assert world.view().scope("").invocation.finished
        assert set(world.answers) == {"yes"}


@pytest.mark.newest_dependencies  # before 1.5x Strands demands answers before it tells us of the call
@pytest.mark.parametrize("kind", ["graph", "swarm", "nested"])
@pytest.mark.parametrize("fault", [LoseRequest(), LoseReply()], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("says", ["the task", "nothing", "the answers first"])
def test_a_question_is_asked_again_unless_it_was_recorded_wherever_the_store_went_away(
    kind: str, fault: Fault, says: str
) -> None:
    """By a live graph or swarm, whose call failed."""
    for number in itertools.count():
        world = World()
        orchestrator = world.build(kind)
        world.store.plan = outage_from(len(world.store.calls) + number, fault)
        try:
            orchestrator("T")
        except StoreUnavailableError:
            world.store.plan = lambda _: None
        else:
            assert number > 6  # it makes no more calls of the store
            return
        scope = world.view().scope("")
        if scope.invocation is None and says == "nothing":
            continue
        is_recorded = bool(scope.notes) and unpack_value(scope.notes["status"])["state"] == "interrupted"
        if says == "the answers first" and not is_recorded and answers_seen(orchestrator):
            with pytest.raises(UnfinishedRunError, match="has not finished the task 'T'"):
                orchestrator(answers_seen(orchestrator))
        if is_recorded:
            if says != "the answers first":
                with pytest.raises(TypeError, match="must resume from interrupt"):
                    orchestrator(None if says == "nothing" else "T")
            answers = answers_seen(orchestrator)
        else:
            answers = said_yes(orchestrator(None if says == "nothing" else "T"))
        assert orchestrator(answers).status == Status.COMPLETED, f"away from call {number} on"
        assert world.answers == ["yes"]


def answers_seen(orchestrator: Any) -> Any:
    """Answer what a graph or swarm shows to wait for, without having asked its caller."""
    waits = strands_compat.orchestrator_interrupts(orchestrator)
    ids = waits["interrupts"] if waits["activated"] else []
    return [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in ids]


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_questions_of_an_earlier_run_are_not_those_of_the_next(kind: str) -> None:
    world = World()
    orchestrator = world.build(kind)
    orchestrator(said_yes(orchestrator("T")))
    whole = len(world.frames)
    orchestrator("U")
    frame = next(
        frame
        for frame in world.frames[whole:]
        if (found := World(frame).view().scope("")).invocation and not found.invocation.finished
    )
    cut = World(frame)

    again = cut.build(kind)
    status = again.state.completion_status if kind == "swarm" else again.state.status
    result = again(None)

    assert status != Status.INTERRUPTED
    assert result.status == Status.INTERRUPTED
    assert cut.answers == []
    assert len(result.interrupts) == 1


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_what_was_given_up_while_it_waited_waits_no_more(kind: str, *, same_process: bool) -> None:
    world = World()
    orchestrator = world.build(kind)
    orchestrator("T")
    orchestrator.session_manager.abandon(orchestrator)
    if not same_process:
        orchestrator = world.build(kind)
        assert not strands_compat.orchestrator_interrupts(orchestrator)["activated"]

    waiting = orchestrator("U")

    assert waiting.status == Status.INTERRUPTED
    assert orchestrator(said_yes(waiting)).status == Status.COMPLETED
    assert world.answers == ["yes"]


def test_a_question_about_a_node_that_has_not_run_leaves_its_agent_as_it_was_made() -> None:
    world = World()

    def build() -> Any:
        builder = GraphBuilder()
        node = world.agent("a")
        node.messages.append({"role": "user", "content": [{"text": "Earlier."}]})
        builder.add_node(node, "a")
        manager = DaprSessionManager("s", store=world.store, on_busy="steal")
        graph = builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()

        def ask(event: BeforeNodeCallEvent) -> None:
            event.interrupt("may it", reason=event.node_id)

        graph.add_hook(ask, BeforeNodeCallEvent)
        return graph

    waiting = build()("T")
    assert waiting.status == Status.INTERRUPTED
    other = build()

    assert other(said_yes(waiting)).status == Status.COMPLETED

    messages = other.nodes["a"].executor.messages
    assert [block["text"] for message in messages for block in message["content"]] == ["Earlier.", "T", "done a"]
    assert other.nodes["a"].executor.state.get() == {"name": "a"}


class Clerk(MultiAgentBase):
    """A node of the user's: asks a person as often as it was told to, and remembers nothing between two calls."""

    def __init__(self, world: World, questions: int) -> None:
        super().__init__()
        self.id = "clerk"
        self.world = world
        self.questions = questions

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        given = [each["interruptResponse"] for each in task if "interruptResponse" in each]
        number = int(given[0]["interruptId"]) if given else 0
        self.world.answers.append(f"{number}: {given[0]['response']}" if given else "asks")
        if number < self.questions:
            question = Interrupt(str(number + 1), "may I")
            return MultiAgentResult(Status.INTERRUPTED, interrupts=[question])
        said = AgentResult("end_turn", {"role": "assistant", "content": [{"text": "stamped"}]}, EventLoopMetrics(), {})
        return MultiAgentResult(Status.COMPLETED, {"clerk": NodeResult(said, status=Status.COMPLETED)})


def office(world: World, kind: str, questions: int) -> Any:
    builder = GraphBuilder()
    builder.add_node(Clerk(world, questions), "clerk")
    builder.add_node(world.agent("beside"), "beside")
    builder.add_node(world.agent("after"), "after")
    builder.add_edge("clerk", "after")
    if kind == "nested":
        inner = builder.set_graph_id("inner").set_max_node_executions(9).build()
        builder = GraphBuilder()
        builder.add_node(inner, "n")
    manager = DaprSessionManager("s", store=world.store, on_busy="steal")
    return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()


@pytest.mark.parametrize("questions", [1, 2])
@pytest.mark.parametrize("kind", ["graph", "nested"])
@pytest.mark.parametrize("says", ["nothing", "the answers"])
def test_a_node_of_the_users_that_was_answered_is_called_with_the_answers_again(
    kind: str, questions: int, says: str
) -> None:
    world = World()
    mine = {"invocation_id": "mine"}
    waiting = office(world, kind, questions)("T", invocation_state=mine)
    for _ in range(questions - 1):
        waiting = office(world, kind, questions)(said_yes(waiting), invocation_state=mine)
    asked = len(world.frames)
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        whole = office(world, kind, questions)(said_yes(waiting), invocation_state=mine)
    assert whole.status == Status.COMPLETED
    tried = 0
    for number, frame in enumerate(world.frames[asked:], asked):
        cut = World(frame)
        if says == "nothing" and unpack_value(cut.view().scope("").notes["status"])["state"] == "interrupted":
            continue  # the answers were not accepted yet
        tried += 1
        graph = office(cut, kind, questions)
        found = graph(said_yes(waiting) if says == "the answers" else None, invocation_state=mine)
        assert found.status == Status.COMPLETED, f"cut after write {number}"
        assert set(cut.answers) <= {f"{questions}: yes"}, f"cut after write {number}"
        nodes = graph.nodes["n"].executor.nodes if kind == "nested" else graph.nodes
        assert "stream_async" not in vars(nodes["clerk"].executor)
    assert tried > 3
    again = office(World(world.frames[-1]), kind, questions)("U")  # of another run, nothing is known
    assert again.status == Status.INTERRUPTED


def test_what_was_answered_in_an_earlier_visit_is_asked_again_in_the_next() -> None:
    def build(world: World) -> Any:
        builder = GraphBuilder()
        builder.add_node(Clerk(world, 1), "clerk")
        builder.add_node(world.agent("after"), "after")
        builder.add_edge("clerk", "after")
        builder.add_edge("after", "clerk", lambda state: len(state.execution_order) < 3)
        builder.set_entry_point("clerk")
        builder.set_graph_id("g").set_max_node_executions(9).reset_on_revisit()
        return builder.set_session_manager(DaprSessionManager("s", store=world.store, on_busy="steal")).build()

    world = World()
    waiting = build(world)("T")
    asked = len(world.frames)
    with mock.patch.object(committer, "_TOGETHER", 0):  # every step is a commit of its own
        assert build(world)(said_yes(waiting)).status == Status.INTERRUPTED
    tried = 0
    for number, frame in enumerate(world.frames[asked:], asked):
        cut = World(frame)
        notes = {kind: unpack_value(note) for kind, note in cut.view().scope("").notes.items()}
        if notes["status"]["state"] == "interrupted" or not notes["batch"]["visits"].get("clerk"):
            continue  # it waits, or the first visit is not over
        tried += 1
        assert build(cut)(None).status == Status.INTERRUPTED
        assert cut.answers == ["asks"], f"cut after write {number}"
    assert tried > 1
