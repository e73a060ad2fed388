"""What users and Strands call directly, and that every choice reaches what it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import GraphBuilder
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import (
    DaprSessionManager,
    Deadlines,
    ParkedError,
    RetryPolicy,
    SessionBusyError,
    io_thread,
)
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Acquired
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.strands_compat import DuplicateAgentError
from strands_dapr_session.testing.faults import Delay, FaultyStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import results, said


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def agent_of(manager: DaprSessionManager, script: Any = ("done",), *tools: Any, **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel(script),
        tools=list(tools),
        session_manager=manager,
        callback_handler=None,
        tool_executor=SequentialToolExecutor(),
        **options,
    )


def on(store: Any, script: Any = ("done",), *tools: Any, **options: Any) -> Agent:
    return agent_of(DaprSessionManager("s", store=store, **options), script, *tools)


def user(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def manager_of(agent: Agent) -> DaprSessionManager:
    manager = agent._session_manager
    assert isinstance(manager, DaprSessionManager)
    return manager


def acquired(store: MemoryStore, root: str = "default") -> list[Acquired]:
    commits = io_thread.run_sync(read_history(store, "s", root))
    return [record for _, records in commits for record in records if isinstance(record, Acquired)]


@contextmanager
def owned_elsewhere(store: MemoryStore, root: str = "default") -> Iterator[None]:
    journal = Journal(store, "s", root)
    io_thread.run_sync(journal.acquire())
    yield
    io_thread.run_sync(journal.release())


def test_an_agent_that_is_initialized_is_restored(store: MemoryStore) -> None:
    on(store)("go")
    agent = Agent(model=ScriptedModel([]), callback_handler=None)

    DaprSessionManager("s", store=store).initialize(agent)

    assert said(agent) == ["go"]


# -- messages and state ------------------------------------------------------------------------------------------------


def test_a_message_that_is_appended_is_added_and_recorded(store: MemoryStore) -> None:
    agent = on(store)
    agent.messages.append(user("a"))

    manager_of(agent).append_message(user("a"), agent)  # it says the same and is another one

    assert said(agent) == said(on(store)) == ["a", "a"]


def test_a_message_that_the_agent_has_is_recorded_and_not_added_again(store: MemoryStore) -> None:
    agent = on(store)
    agent.messages += [user("a"), user("b")]

    manager_of(agent).append_message(agent.messages[0], agent)

    assert said(agent) == said(on(store)) == ["a", "b"]


def test_a_redacted_message_takes_the_place_of_the_last_one(store: MemoryStore) -> None:
    agent = on(store)
    agent.messages += [user("first"), user("secret")]

    manager_of(agent).redact_latest_message(user("redacted"), agent)

    assert said(agent) == said(on(store)) == ["first", "redacted"]


def test_a_message_that_was_redacted_in_place_is_recorded(store: MemoryStore) -> None:
    agent = on(store)
    agent.messages += [user("first"), user("secret")]
    manager_of(agent).sync_agent(agent)
    agent.messages[-1]["content"] = [{"text": "redacted"}]

    manager_of(agent).redact_latest_message(agent.messages[-1], agent)

    assert said(agent) == said(on(store)) == ["first", "redacted"]


def test_without_messages_nothing_is_redacted(store: MemoryStore) -> None:
    agent = on(store)

    manager_of(agent).redact_latest_message(user("redacted"), agent)

    assert agent.messages == on(store).messages == []


def test_what_is_synchronized_is_recorded_when_that_returns(store: MemoryStore) -> None:
    agent = on(store)
    agent.state.set("count", 1)

    manager_of(agent).sync_agent(agent)

    assert on(store).state.get("count") == 1
    assert Journal(store, "s", "default").load_sync().owner is None


async def test_what_is_synchronized_on_an_event_loop_is_recorded_when_that_returns(store: MemoryStore) -> None:
    agent = on(store)
    agent.state.set("count", 1)

    manager_of(agent).sync_agent(agent)

    assert on(store).state.get("count") == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_tool_synchronizes_is_recorded_before_it_ends(store: MemoryStore, *, is_async: bool) -> None:
    found: list[Any] = []

    async def sync(agent: Agent) -> None:
        agent.state.set("count", 1)
        manager = manager_of(agent)
        manager.sync_agent(agent)
        recording = manager._recordings.find(agent)
        assert recording is not None
        assert recording.journal.owned
        await recording.journal.barrier()
        found.append(unpack_value((await Journal(store, "s", "default").load()).scope("").documents["state"]))

    @tool(name="work", context=True)
    async def on_the_loop(tool_context: ToolContext) -> str:
        """Work."""
        await sync(tool_context.agent)
        return "worked"

    @tool(name="work", context=True)
    def in_a_thread(tool_context: ToolContext) -> str:
        """Work."""
        asyncio.run(sync(tool_context.agent))
        return "worked"

    agent = on(store, [[("work", {})], "done"], on_the_loop if is_async else in_a_thread)
    agent("go")

    assert results(agent) == ["worked"]
    assert found == [{"count": 1}]


@pytest.mark.timeout(20)
async def test_what_is_synchronized_while_a_call_begins_is_recorded_by_the_call(store: MemoryStore) -> None:
    """Waiting would stop the event loop on which the call begins."""
    slow = FaultyStore(store, lambda call: Delay(0.02) if call.writes else None)
    agent = on(slow)
    agent("first")
    recording = manager_of(agent)._recordings.find(agent)
    assert recording is not None
    call = asyncio.create_task(agent.invoke_async("go"))
    while not recording.gate.is_taken:  # noqa: ASYNC110  (that is no event)
        await asyncio.sleep(0)
    agent.state.set("count", 1)

    manager_of(agent).sync_agent(agent)

    assert recording.gate.is_taken
    await call
    assert on(store).state.get("count") == 1


def test_state_that_cannot_be_recorded_leaves_the_session_free(store: MemoryStore) -> None:
    agent = on(store)
    agent.messages.append({"role": "user", "content": [{"text": object()}]})  # type: ignore[typeddict-item]

    with pytest.raises(TypeError, match="messages"):
        manager_of(agent).sync_agent(agent)

    assert Journal(store, "s", "default").load_sync().owner is None
    agent.messages.clear()
    assert str(agent("go")).strip() == "done"


def test_an_agent_of_another_session_manager_is_left_alone(store: MemoryStore) -> None:
    other = Agent(model=ScriptedModel(["done"]), callback_handler=None)

    DaprSessionManager("s", store=store).sync_agent(other)

    assert store._entries == {}


# -- choices -----------------------------------------------------------------------------------------------------------


def test_agents_own_their_sessions_as_the_session_manager_was_told(store: MemoryStore) -> None:
    on(store, lease=7.0)("go")
    on(store)("go")

    assert [record.lease for record in acquired(store)] == [7.0, 3.0]
    with owned_elsewhere(store), pytest.raises(SessionBusyError):
        on(store, on_busy="raise")("go")
    with owned_elsewhere(store), pytest.raises(SessionBusyError):
        on(store, on_busy="wait", busy_timeout=0)("go")


def graph_of(manager: DaprSessionManager) -> Any:
    builder = GraphBuilder()
    builder.add_node(Agent(name="node", model=ScriptedModel(["done"]), callback_handler=None), "node")
    builder.set_max_node_executions(5)
    builder.set_session_manager(manager)
    return builder.build()


def test_graphs_own_their_sessions_as_the_session_manager_was_told(store: MemoryStore) -> None:
    graph = graph_of(DaprSessionManager("s", store=store, lease=7.0))
    graph("go")

    assert [record.lease for record in acquired(store, graph.id)] == [7.0]
    manager = DaprSessionManager("s", store=store, on_busy="raise")
    graph = graph_of(manager)
    with owned_elsewhere(store, graph.id), pytest.raises(SessionBusyError):
        graph("go")
    with owned_elsewhere(store, graph.id), pytest.raises(SessionBusyError):
        manager.restart(graph)


@pytest.mark.parametrize("what", ["abandon", "restart", "delete", "sync_agent"])
def test_what_is_done_to_a_session_waits_for_its_owner_as_the_session_manager_was_told(
    store: MemoryStore, what: str
) -> None:
    agent = on(store, on_busy="raise")
    agent("go")
    arguments = [] if what == "delete" else [agent]

    with owned_elsewhere(store), pytest.raises(SessionBusyError):
        getattr(manager_of(agent), what)(*arguments)


def test_two_agents_of_one_id_are_refused(store: MemoryStore) -> None:
    manager = DaprSessionManager("s", store=store)
    first = agent_of(manager, agent_id="a")

    with pytest.raises(DuplicateAgentError, match="'a' is taken"):
        agent_of(manager, agent_id="a")

    agent_of(manager, agent_id="b")("go")
    assert str(first("go")).strip() == "done"


def test_two_graphs_of_one_id_are_refused(store: MemoryStore) -> None:
    manager = DaprSessionManager("s", store=store)
    graph_of(manager)

    with pytest.raises(DuplicateAgentError, match="is taken"):
        graph_of(manager)


def test_policies_by_name_are_for_these_tools_and_a_function_is_for_all(store: MemoryStore) -> None:
    def find_out(_: Any) -> None: ...

    by_name = DaprSessionManager("s", store=store, in_doubt={"work": find_out})._settings
    for_all = DaprSessionManager("s", store=store, in_doubt=find_out)._settings

    assert (by_name.in_doubt, by_name.in_doubt_default) == ({"work": find_out}, "rerun")
    assert (for_all.in_doubt, for_all.in_doubt_default) == ({}, find_out)


def test_tools_are_tried_again_as_the_session_manager_was_told(store: MemoryStore) -> None:
    ran: list[int] = []

    @tool
    def work() -> str:
        """Work."""
        ran.append(1)
        if len(ran) < 3:
            raise ConnectionError("down")
        return "worked"

    agent = on(store, [[("work", {})], "done"], work, retry=RetryPolicy(max_attempts=3, first_delay=0.001))
    agent("go")

    assert len(ran) == 3
    assert results(agent) == ["worked"]


@pytest.mark.newest_dependencies  # deadlines need Strands 1.62
def test_tools_are_given_up_on_as_the_session_manager_was_told(store: MemoryStore) -> None:
    @tool
    async def work() -> str:
        """Work."""
        await asyncio.sleep(60)
        return "worked"

    agent = on(store, [[("work", {})], "done"], work, deadlines=Deadlines(tool=0.02))
    agent("go")

    assert "did not answer within 0.02 seconds" in results(agent)[0]


# -- whole sessions ----------------------------------------------------------------------------------------------------


def test_what_is_parked_goes_on_when_it_is_restarted(store: MemoryStore) -> None:
    script = [ConnectionError("down")]
    agent = on(store, script, max_attempts=1)
    with pytest.raises(Exception, match="down"):
        agent("go")
    with pytest.raises(ParkedError):
        agent("go")
    agent.model = ScriptedModel(["done"])

    manager_of(agent).restart(agent)

    assert str(agent("go")).strip() == "done"


def test_nothing_is_left_of_a_deleted_session(store: MemoryStore) -> None:
    agent = on(store)
    agent("go")
    DaprSessionManager("another", store=store).sync_agent(agent)

    manager_of(agent).delete()

    assert not [key for key in store._entries if "{s:" in key]
    assert on(store).messages == []


def test_what_was_not_begun_under_an_id_is_not_abandoned_by_it(store: MemoryStore) -> None:
    agent = on(store)

    manager_of(agent).abandon(agent, "mine")

    assert store._entries == {}
