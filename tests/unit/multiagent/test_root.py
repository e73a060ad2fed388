"""The root of a run: what it owns and lets go of, what others find, and what of an earlier run counts for nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from strands import Agent, tool
from strands.hooks import AfterModelCallEvent, BeforeMultiAgentInvocationEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, Status

from strands_dapr_session import (
    ConfigurationError,
    DamagedDataError,
    DaprSessionManager,
    FencedError,
    InvocationConflictError,
    StoreError,
    UnfinishedRunError,
    io_thread,
)
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.records import DocumentSet, Noted
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore, outage
from strands_dapr_session.testing.model import ScriptedModel


class World:
    """What survives a process, and what really ran.

    Attributes:
        down: The agents whose model fails when it is to say its last word.
        steals: Somebody takes the run over inside of the next tool.
    """

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.ran: list[str] = []
        self.down: set[str] = set()
        self.steals = False

    def journal(self) -> Journal:
        return Journal(self.store.inner, "s", "g", settings=JournalSettings(on_busy="steal"))

    def view(self) -> Any:
        return self.journal().load_sync()

    def manager(self) -> DaprSessionManager:
        return DaprSessionManager("s", store=self.store)

    def agent(self, name: str, *turns: Any, **options: Any) -> Agent:
        @tool
        async def work() -> str:
            """Work."""
            self.ran.append(name)
            if self.steals:
                self.steals = False
                thief = self.journal()
                await thief.acquire()
                await thief.release()
            return "worked"

        def last(_: Any) -> str:
            if name in self.down:
                raise ConnectionError("down")
            return f"done {name}"

        model = ScriptedModel([*(turns or ([("work", {})],)), last])
        return Agent(name=name, model=model, tools=[work], callback_handler=None, **options)

    def graph(self, names: str = "ab", **options: Any) -> Any:
        builder = GraphBuilder()
        for name in names:
            builder.add_node(self.agent(name, **options), name)
        for one, other in itertools.pairwise(names):
            builder.add_edge(one, other)
        builder.set_graph_id("g").set_max_node_executions(9)
        return builder.set_session_manager(self.manager()).build()

    def fail(self, graph: Any, at: str, task: str = "T", **state: Any) -> None:
        self.down = {at}
        with pytest.raises(Exception, match="down"):
            graph(task, state)
        self.down = set()
        self.ran.clear()


@pytest.fixture
def world() -> World:
    return World()


def messages(graph: Any) -> Any:
    return {
        name: [(message["role"], message["content"]) for message in node.executor.messages]
        for name, node in graph.nodes.items()
    }


def test_only_graphs_and_swarms_tell_what_their_nodes_do(world: World) -> None:
    class Own(MultiAgentBase):
        id = "own"

        async def invoke_async(self, *_: Any, **__: Any) -> MultiAgentResult:
            return MultiAgentResult(Status.COMPLETED)

    with pytest.raises(ConfigurationError, match="Own 'own' is not supported"):
        world.manager().initialize_multi_agent(Own())


def test_places_are_named_after_the_nodes_on_the_way_to_them(world: World) -> None:
    def inside(executor: Any, name: str) -> Any:
        builder = GraphBuilder()
        builder.add_node(executor, name)
        return builder.set_max_node_executions(9)

    innermost = inside(world.agent("a"), "a").build()
    middle = inside(innermost, "m/1").build()
    graph = inside(middle, "o").set_graph_id("g").set_session_manager(world.manager()).build()
    world.fail(graph, "a")

    places = set(world.view().scopes)

    assert {"", "o"} < places
    assert len(places) == 4
    assert sorted(place.count("/") for place in places) == [0, 0, 1, 2]
    assert all(place.startswith("o") for place in places - {""})


def test_a_graph_inside_that_has_a_session_manager_is_left_to_it(world: World) -> None:
    builder = GraphBuilder()
    builder.add_node(world.agent("a"), "a")
    own = DaprSessionManager("own", store=world.store)
    inner = builder.set_graph_id("inner").set_max_node_executions(9).set_session_manager(own).build()
    builder = GraphBuilder()
    builder.add_node(inner, "n")
    graph = builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(world.manager()).build()

    graph("T")

    assert set(world.view().scopes) == {""}
    assert "a" in Journal(world.store, "own", "inner").load_sync().scopes


@pytest.mark.parametrize("how", ["failed", "completed"])
def test_what_does_not_wait_for_a_person_looks_new_to_another_process(world: World, how: str) -> None:
    graph = world.graph()
    if how == "failed":
        world.fail(graph, "b")
    else:
        graph("T")

    other = world.graph()

    assert other.state.status == Status.PENDING
    assert {node.execution_status for node in other.nodes.values()} == {Status.PENDING}
    assert len(other.nodes["a"].executor.messages) == 4
    # What an unfinished visit took was in its metrics too when it failed.
    assert other.nodes["b"].executor.event_loop_metrics.accumulated_usage["totalTokens"] == (
        11 if how == "failed" else 22
    )


def test_what_a_swarm_shares_is_there_before_it_is_called(world: World) -> None:
    over: Any = [("handoff_to_agent", {"agent_name": "b", "message": "over", "context": {"found": 1}})]

    def build() -> Any:
        nodes = [world.agent("a", over), world.agent("b")]
        return Swarm(nodes, id="g", session_manager=world.manager())

    swarm = build()
    swarm("T")
    assert swarm.shared_context.context == {"a": {"found": 1}}

    other = build()

    assert other.shared_context.context == {"a": {"found": 1}}
    other("U")
    assert other.shared_context.context == build().shared_context.context == {"a": {"found": 1}}


def test_what_was_lost_on_the_way_to_the_store_is_begun_anew(world: World) -> None:
    graph = world.graph(messages=[{"role": "user", "content": [{"text": "Earlier."}]}], state={"kept": 1})
    alone = World().graph(messages=[{"role": "user", "content": [{"text": "Earlier."}]}], state={"kept": 1})
    alone("T")
    world.store.plan = outage(len(world.store.calls) + 4, 10**9)
    with pytest.raises(StoreError):
        graph("T")
    world.store.plan = lambda _: None
    graph.nodes["a"].executor.state.set("lost", 1)

    assert graph("T").status == Status.COMPLETED

    assert messages(graph) == messages(alone)


def test_agents_begin_anew_wherever_the_store_went_away() -> None:
    """Without tools, for which they wait until all is recorded, they may be through before anything is."""

    def build(world: World) -> Any:
        builder = GraphBuilder()
        for name in "ab":
            earlier: Any = [{"role": "user", "content": [{"text": "Earlier."}]}]
            model = ScriptedModel([f"done {name}"])
            agent = Agent(name=name, model=model, messages=earlier, state={"kept": 1}, callback_handler=None)
            agent.add_hook(
                lambda event: event.agent.state.set("kept", event.agent.state.get("kept") + 1), AfterModelCallEvent
            )
            builder.add_node(agent, name)
        builder.add_edge("a", "b")
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(world.manager()).build()

    alone = build(World())
    alone("T")
    for number in itertools.count(1):
        world = World()
        graph = build(world)
        world.store.plan = outage(len(world.store.calls) + number, 10**9)
        try:
            graph("T")
        except StoreError:
            world.store.plan = lambda _: None
        else:
            assert number > 4  # it makes no more calls of the store
            return
        assert graph("T").status == Status.COMPLETED
        assert messages(graph) == messages(alone), f"away from call {number} on"
        assert [node.executor.state.get() for node in graph.nodes.values()] == [{"kept": 2}] * 2


def test_what_users_told_an_agent_beforehand_is_kept_though_others_went_on_meanwhile(world: World) -> None:
    graph = world.graph()
    graph.nodes["b"].executor.messages = [{"role": "user", "content": [{"text": "Earlier."}]}]
    graph.nodes["b"].executor.state.set("told", 1)
    world.fail(world.graph(), "a")

    assert graph("T").status == Status.COMPLETED

    agent = graph.nodes["b"].executor
    assert agent.model.calls[0][0]["content"] == [{"text": "Earlier."}]
    assert agent.state.get() == {"told": 1}


def test_whoever_is_taken_over_stops_and_may_go_on_later(world: World) -> None:
    graph = world.graph()
    world.steals = True
    with pytest.raises(FencedError):
        graph("T")
    assert world.ran == ["a"]

    assert graph("T").status == Status.COMPLETED
    assert world.view().owner is None


def test_a_call_that_a_hook_refuses_does_not_keep_the_run(world: World) -> None:
    graph = world.graph()
    refusing = [True]

    def refuse(_: Any) -> None:
        if refusing:
            raise PermissionError("not now")

    graph.add_hook(refuse, BeforeMultiAgentInvocationEvent, order=1000)
    with pytest.raises(PermissionError):
        graph("T")
    refusing.clear()

    assert graph("T").status == Status.COMPLETED
    assert world.view().owner is None


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_refused_task_leaves_the_run_to_others(world: World) -> None:
    world.fail(world.graph(), "b")
    graph = world.graph()

    with pytest.raises(UnfinishedRunError):
        graph("another")

    assert world.view().owner is None
    assert graph("T").status == Status.COMPLETED


def test_a_refused_id_leaves_the_run_to_others(world: World) -> None:
    state = {"invocation_id": "one"}
    world.graph()("T", dict(state))
    graph = world.graph()

    with pytest.raises(InvocationConflictError, match="has finished the task 'T'"):
        graph("another", dict(state))

    assert world.view().owner is None
    assert graph("T", dict(state)).status == Status.COMPLETED
    assert world.ran == ["a", "b"]


# -- giving up ---------------------------------------------------------------------------------------------------------


def test_only_what_was_begun_under_the_id_is_given_up(world: World) -> None:
    graph = world.graph()
    world.fail(graph, "b", invocation_id="mine")

    graph.session_manager.abandon(graph, "another")
    assert world.view().owner is None
    assert not world.view().scope("").invocation.finished

    graph.session_manager.abandon(graph, "mine")
    assert world.view().owner is None
    assert world.view().scope("").invocation.outcome == "abandoned"


def test_what_others_began_in_that_moment_is_not_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, other, load = world.graph(), world.graph(), Journal.load_sync
    world.fail(other, "b", invocation_id="mine")

    def let_others_go_on(journal: Journal) -> Any:
        view = load(journal)
        monkeypatch.setattr(Journal, "load_sync", load)
        other("T")
        world.fail(other, "b", "U", invocation_id="another")
        return view

    monkeypatch.setattr(Journal, "load_sync", let_others_go_on)
    graph.session_manager.abandon(graph, "mine")

    assert world.view().owner is None
    assert world.view().scope("").invocation.key == "another"
    assert not world.view().scope("").invocation.finished


def test_whatever_its_id_it_is_given_up_by_who_names_none(world: World) -> None:
    graph = world.graph()
    world.fail(graph, "b", invocation_id="mine")

    graph.session_manager.abandon(graph)

    assert world.view().scope("").invocation.outcome == "abandoned"


def test_where_nothing_is_unfinished_nothing_is_given_up(world: World) -> None:
    graph = world.graph()
    graph.session_manager.abandon(graph)
    assert world.view().owner is None
    graph("T")

    graph.session_manager.abandon(graph)

    assert world.view().owner is None
    assert world.view().scope("").invocation.outcome == "completed"


# -- earlier runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["a", "b"])
def test_results_of_an_earlier_run_are_none_of_the_next(world: World, at: str) -> None:
    graph = world.graph()
    graph("T")
    world.fail(graph, at, "U")
    other = world.graph()

    result = other("U")

    assert result.status == Status.COMPLETED
    assert result.execution_count == 2
    assert str(result.results["b"].result).strip() == "done b"
    asked = {name: len(node.executor.model.calls) for name, node in other.nodes.items()}
    assert asked == ({"a": 1, "b": 2} if at == "a" else {"a": 0, "b": 1})


@pytest.mark.parametrize("forged", [{}, [], {"number": 1, "nodes": ["a"], "visits": {}, "state": {"usage": {}}}])
@pytest.mark.parametrize("kind", ["batch", "status"])
def test_notes_that_describe_no_run_are_damage(world: World, kind: str, forged: Any) -> None:
    world.fail(world.graph(), "b")

    async def forge() -> None:
        journal = world.journal()
        await journal.acquire()
        await journal.release(Noted("", kind, pack_value(forged)))

    io_thread.run_sync(forge())

    with pytest.raises(DamagedDataError, match="s/g"):
        world.graph()("T")


@pytest.mark.parametrize(
    ("kind", "path", "forged"),
    [
        ("batch", ("state", "usage", "inputTokens"), "many"),
        ("batch", ("state", "usage", "outputTokens"), "many"),
        ("batch", ("state", "usage", "totalTokens"), "many"),
        ("batch", ("state", "metrics", "latencyMs"), "long"),
        ("batch", ("state", "order"), [9]),
        ("batch", ("visits",), []),
        ("result:1:a", ("result", "status"), "odd"),
    ],
    ids=str,
)
def test_parts_of_notes_that_make_no_sense_are_damage(
    world: World, kind: str, path: tuple[str, ...], forged: Any
) -> None:
    world.fail(world.graph(), "b")
    note = unpack_value(world.view().scope("").notes[kind])
    part = note
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = forged

    async def forge() -> None:
        journal = world.journal()
        await journal.acquire()
        await journal.release(Noted("", kind, pack_value(note)))

    io_thread.run_sync(forge())

    with pytest.raises(DamagedDataError, match=r"s/g.*do not describe a run"):
        world.graph()("T")


def test_what_cannot_be_read_leaves_the_run_to_others(world: World) -> None:
    graph = world.graph()
    world.fail(world.graph(), "b")

    async def forge() -> None:
        journal = world.journal()
        await journal.acquire()
        await journal.release(DocumentSet("a", "state", pack_value([1])))

    io_thread.run_sync(forge())

    with pytest.raises(DamagedDataError, match="s/g"):
        graph("T")
    assert world.view().owner is None
