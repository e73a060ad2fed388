"""The past of agents, graphs and swarms is told as it was, however it is packed, and sessions begin in it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.multiagent import GraphBuilder
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, Status

from strands_dapr_session import (
    AgentMoment,
    ConfigurationError,
    DamagedDataError,
    DaprSessionManager,
    InvalidIdentifierError,
    NotForkableError,
    SessionExistsError,
    SessionNotFoundError,
    Step,
    StepNotFoundError,
    Timeline,
    io_thread,
    read_timeline,
)
from strands_dapr_session.journal import history
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.load import read_log
from strands_dapr_session.journal.registry import place_of
from strands_dapr_session.journal.sessions import list_sessions
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import DocumentSet, InvocationStarted, Noted, Record, Spliced, Tried
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@tool(context=True)
async def count(tool_context: ToolContext) -> str:
    """Count in the agent's state."""
    ran.append(tool_context.tool_use["toolUseId"])
    number = (tool_context.agent.state.get("count") or 0) + 1
    tool_context.agent.state.set("count", number)
    return f"counted to {number}"


@tool(context=True)
async def ask(tool_context: ToolContext) -> str:
    """Ask somebody."""
    answer = tool_context.interrupt("really")
    ran.append(tool_context.tool_use["toolUseId"])
    return f"heard {answer}"


THREE: Any = [[("count", {})], [("count", {}), ("count", {})], "done"]


def agent_on(store: MemoryStore, session_id: str = "s", script: Any = THREE, slots: int = 32, **options: Any) -> Agent:
    manager = DaprSessionManager(session_id, store=store)
    manager._journal_settings = replace(manager._journal_settings, compact_slots=slots)
    options = {"agent_id": "default", **options}
    return Agent(
        model=ScriptedModel(script), tools=[count, ask], session_manager=manager, callback_handler=None, **options
    )


def settle(agent: Agent) -> None:
    """Wait until the journal is packed."""
    journal = agent._session_manager._recordings.find(agent).journal  # type: ignore[union-attr]
    io_thread.run_sync(journal._packer.finished())


def look(agent: Agent) -> Any:
    """What an agent is, as far as a moment tells."""
    manager = agent.conversation_manager.get_state()
    return copy.deepcopy((agent.messages, agent.state.get(), manager))


def told(timeline: Timeline, number: int) -> Any:
    agent = timeline.at(number).agent
    return agent.messages, agent.state, agent.conversation_manager_state


def pack(store: MemoryStore, every: int, root: str = "default") -> None:
    """Pack a journal that was not packed yet, so many slots at a time."""

    async def compact_all() -> None:
        context = Context(store, this_process)
        place = await place_of(context, "s", root)
        layout = Layout("s", root, place.live or "")
        end = (await read_log(context, layout)).end
        for through in [*range(every, end, every), end]:
            assert await compact(context, layout, f"p{through}", through)

    io_thread.run_sync(compact_all())


def forge(store: MemoryStore, *records: Record, root: str = "default") -> None:
    """Record something that no agent would."""

    async def write() -> None:
        journal = Journal(store, "s", root)
        await journal.acquire()
        await journal.release(*records)

    io_thread.run_sync(write())


def long_life(store: MemoryStore, slots: int, calls: int = 6) -> list[Any]:
    """Let an agent work, pack often, trim, and change its state; what it was after each call."""
    agent = agent_on(store, slots=slots, conversation_manager=SlidingWindowConversationManager(8))
    seen = []
    for number in range(calls):
        agent.state.set("call", number)
        agent("go")
        seen.append(look(agent))
        settle(agent)
    return seen


# -- steps -------------------------------------------------------------------------------------------------------------


def test_steps_say_what_happened(store: MemoryStore) -> None:
    agent = agent_on(store)
    agent("go", invocation_state={"invocation_id": "req-7"})
    agent.state.set("noted", 1)
    agent._session_manager.sync_agent(agent)  # type: ignore[union-attr]

    timeline = read_timeline("s", store=store)

    events = [event for step in timeline.steps for event in step.events]
    assert [event.kind for event in events if event.kind != "state"] == [
        "started", "messages", "messages", "tool_result", "messages", "messages", "tool_result", "tool_result",
        "messages", "messages", "finished",
    ]  # fmt: skip
    assert events[0].text == "go"
    assert events[0].when is not None
    assert events[-2].text == "completed"
    assert [step.messages for step in timeline.steps][-1] == 6
    assert [step.invocation for step in timeline.steps[:-1]] == [1] * (len(timeline.steps) - 1)
    assert {step.key for step in timeline.steps[:-1]} == {"req-7"}
    assert (timeline.steps[-1].invocation, timeline.steps[-1].key) == (0, None)
    assert [event.text for event in timeline.steps[-1].events] == ["state"]
    assert [step.number for step in timeline.steps if step.can_fork] == [step.number for step in timeline.steps[-2:]]


@pytest.mark.parametrize("slots", [1, 3, 32])
def test_invocations_are_counted(store: MemoryStore, slots: int) -> None:
    long_life(store, slots)
    timeline = read_timeline("s", store=store)
    ends = [step.invocation for step in timeline.steps if any(event.kind == "finished" for event in step.events)]
    assert ends == [1, 2, 3, 4, 5, 6]
    assert [step.number for step in timeline.steps] == sorted({step.number for step in timeline.steps})


@pytest.mark.parametrize("every", [1, 2, 5, 9])
def test_steps_are_the_same_however_they_are_packed(store: MemoryStore, every: int) -> None:
    long_life(store, 1000)
    before = read_timeline("s", store=store).steps
    pack(store, every)
    after = read_timeline("s", store=store).steps
    assert [without_states(step) for step in after] == [without_states(step) for step in before]


def without_states(step: Step) -> Step:
    """Leave out that states changed: of several changes in one invocation some are not told."""
    return replace(step, events=tuple(event for event in step.events if event.kind != "state"))


def test_a_failure_and_a_takeover_are_steps(store: MemoryStore) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        agent_on(store, script=[fail])("go")
    owner = Journal(store, "s", "default")
    io_thread.run_sync(owner.acquire())
    owner.abandon()
    agent_on(store, script=["done"])("go")

    steps = read_timeline("s", store=store).steps

    happened = [event.kind for step in steps for event in step.events]
    assert happened[-6:-2] == ["messages", "failed", "taken_over", "resumed"]
    assert happened[-1] == "finished"
    assert {step.invocation for step in steps} == {1}


def test_a_failed_attempt_is_a_step(store: MemoryStore) -> None:
    agent_on(store)("go")
    forge(store, Tried("", "model", 2, pack_value(["Throttled", "slow down"]), 17.5, 1.0))

    (event,) = read_timeline("s", store=store).steps[-1].events

    assert (event.kind, event.text, event.when) == ("attempt_failed", "model, attempt 2: Throttled: slow down", 17.5)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("do it", "do it"),
        ([{"text": "look"}, {"text": "again"}], '[{"text": "look"}, {"text": "again"}]'),
        ([[["user", [{"text": "look"}, {"json": {"a": 1}}], {}]], None], 'look\n{"json": {"a": 1}}'),
        ([[["user", "look", {}]], None], "look"),
        ({b"key": 1}, "{\"b'key'\": 1}"),
        (None, "null"),
    ],
    ids=repr,
)
def test_prompts_of_every_form_are_told(store: MemoryStore, prompt: Any, text: str) -> None:
    agent_on(store)("go")
    forge(store, InvocationStarted("", "i", None, pack_value(prompt), pack_value(None), 1))
    (event,) = read_timeline("s", store=store).steps[-1].events
    assert (event.kind, event.text) == ("started", text)


def test_what_was_edited_is_said(store: MemoryStore) -> None:
    agent_on(store, script=["done"])("go")
    forge(store, Spliced("", 0, 2, (pack_value({"role": "user", "content": []}),)))
    assert [event.kind for event in read_timeline("s", store=store).steps[-1].events] == ["edited"]


# -- moments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 32])
def test_every_end_of_an_invocation_is_told_exactly(store: MemoryStore, slots: int) -> None:
    seen = long_life(store, slots)
    timeline = read_timeline("s", store=store)
    assert [told(timeline, step.number) for step in timeline.steps if step.can_fork] == seen


@pytest.mark.parametrize("every", [1, 2, 3, 5, 1000])
def test_every_moment_is_told_as_before_it_was_packed_or_is_unknown(store: MemoryStore, every: int) -> None:
    long_life(store, 1000)
    before = read_timeline("s", store=store)
    pack(store, every)
    after = read_timeline("s", store=store)
    numbers = [step.number for step in before.steps]
    expected = [before.at(number).agent for number in numbers]
    found = [after.at(number).agent for number in numbers]
    assert [agent.messages for agent in found] == [agent.messages for agent in expected]
    assert [agent.tool_results for agent in found] == [agent.tool_results for agent in expected]
    assert any(agent.tool_results for agent in found)
    for state, other in zip(map(states, found), map(states, expected), strict=True):
        assert all(mine in (None, its) and its is not None for mine, its in zip(state, other, strict=True))
    unknown = [None in states(agent) for agent in found]
    if every in {1, 1000}:  # otherwise it depends on what got into one commit
        assert any(unknown) is (every == 1000)


def answers(interrupts: Any, response: str) -> Any:
    (interrupt,) = interrupts
    return [{"interruptResponse": {"interruptId": interrupt.id, "response": response}}]


def states(agent: AgentMoment) -> list[dict[str, Any] | None]:
    return [agent.state, agent.conversation_manager_state]


def test_a_step_that_is_none(store: MemoryStore) -> None:
    agent_on(store)("go")
    timeline = read_timeline("s", store=store)
    for number in (0, timeline.steps[-1].number + 1):
        with pytest.raises(StepNotFoundError, match="no step"):
            timeline.at(number)
        with pytest.raises(StepNotFoundError, match="no step"):
            timeline.fork("f", number)


def test_what_is_not_there_is_said(store: MemoryStore) -> None:
    with pytest.raises(SessionNotFoundError, match="session 's'"):
        read_timeline("s", store=store)
    agent_on(store)("go")
    agent_on(store, agent_id="other")("go")
    with pytest.raises(SessionNotFoundError, match="'nobody'"):
        read_timeline("s", "nobody", store=store)
    with pytest.raises(ConfigurationError, match="default, other"):
        read_timeline("s", store=store)
    assert read_timeline("s", "other", store=store).root_id == "other"


def test_reading_the_past_changes_nothing(store: MemoryStore) -> None:
    long_life(store, 3)
    before = dict(store._entries)
    timeline = read_timeline("s", store=store)
    timeline.at(timeline.steps[2].number)
    assert store._entries == before


# -- what older packings left ------------------------------------------------------------------------------------------


@pytest.fixture
def packed_before() -> Iterator[None]:
    """What is packed leaves values out as older versions did: but for the last, and without a trace."""

    def without_older_values(slots: list[tuple[int, list[Record]]]) -> dict[int, list[Record]]:
        newest: set[Any] = set()
        kept: dict[int, list[Record]] = {}
        for number, records in reversed(slots):
            kept[number] = []
            for record in reversed(records):
                if isinstance(record, (DocumentSet, Noted)):
                    if history.identity_of(record) in newest:
                        continue
                    newest.add(history.identity_of(record))
                kept[number].insert(0, record)
        return dict(reversed(kept.items()))

    with mock.patch.object(history, "_without_older_values", without_older_values):
        yield


@pytest.mark.parametrize("every", [5, 9, 1000])
@pytest.mark.usefixtures("packed_before")
def test_what_older_packings_left_out_is_never_made_up(
    store: MemoryStore, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any other record that says nothing: there was none where values were left out.
    monkeypatch.setattr(history, "CANDID", Noted("", "nothing", b"\xc0"))
    long_life(store, 1000)
    before = read_timeline("s", store=store)
    pack(store, every)
    after = read_timeline("s", store=store)
    expected = [states(before.at(step.number).agent) for step in before.steps]
    found = [states(after.at(step.number).agent) for step in before.steps]
    for mine, its in zip(found, expected, strict=True):
        assert all(one in (None, other) for one, other in zip(mine, its, strict=True))
    assert any(None in each for each in found)
    can_fork = [step.number for step in after.steps if step.can_fork]
    assert set(can_fork) < {step.number for step in before.steps if step.can_fork}
    assert can_fork[-1] == before.steps[-1].number


# -- forks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [2, 32])
def test_a_session_begins_where_another_one_was(store: MemoryStore, slots: int) -> None:
    seen = long_life(store, slots)
    timeline = read_timeline("s", store=store)
    before = dict(store._entries)
    ends = [step.number for step in timeline.steps if step.can_fork]

    for index, number in enumerate(ends):
        assert timeline.fork(f"f{index}", number).number == number
        fork = agent_on(store, f"f{index}", conversation_manager=SlidingWindowConversationManager(8))
        assert look(fork) == seen[index]
        fork("go")
        assert look(agent_on(store, f"f{index}", conversation_manager=SlidingWindowConversationManager(8))) == look(
            fork
        )

    assert {key: entry for key, entry in store._entries.items() if "{s:" in key} == {
        key: entry for key, entry in before.items() if "{s:" in key
    }


def test_without_a_step_it_is_the_last_that_will_do(store: MemoryStore) -> None:
    agent = agent_on(store, script=["done"])
    agent("go")
    owner = Journal(store, "s", "default")
    io_thread.run_sync(owner.acquire([InvocationStarted("", "i", None, pack_value([[], None]), pack_value(None), 1)]))

    step = read_timeline("s", store=store).fork("f")

    assert step.events[-1].kind == "finished"
    assert agent_on(store, "f").messages == agent.messages
    io_thread.run_sync(owner.release())


def test_a_fork_has_steps_of_its_own_and_can_be_forked(store: MemoryStore) -> None:
    agent_on(store)("go")
    step = read_timeline("s", store=store).fork("f")
    fork = agent_on(store, "f", slots=2)
    fork("go", invocation_state={"invocation_id": "req-8"})
    settle(fork)

    timeline = read_timeline("f", store=store)

    first, *others = timeline.steps
    assert [(event.kind, event.text) for event in first.events] == [("forked", f"s, default, {step.number}")]
    assert (first.invocation, first.messages, first.can_fork) == (0, step.messages, True)
    assert {each.invocation for each in others} == {1}
    assert told(timeline, first.number) == told(read_timeline("s", store=store), step.number)
    timeline.fork("g")
    timeline.fork("h", first.number)
    assert look(agent_on(store, "g")) == look(fork)
    assert told(read_timeline("h", store=store), 1) == told(timeline, first.number)
    assert [event.text for event in read_timeline("h", store=store).steps[0].events] == [f"f, default, {first.number}"]


def test_finished_invocations_are_remembered_by_their_ids(store: MemoryStore) -> None:
    agent = agent_on(store)
    agent("first", invocation_state={"invocation_id": "req-1"})
    agent("second")
    agent("third", invocation_state={"invocation_id": "req-3"})
    agent("long " * 1000, invocation_state={"invocation_id": "req-4"})
    agent("fifth", invocation_state={"invocation_id": "req-5"})
    read_timeline("s", store=store).fork("f")
    fork = agent_on(store, "f", script=[])  # the model would fail
    assert str(fork("first", invocation_state={"invocation_id": "req-1"})) == "done\n"
    assert str(fork("third", invocation_state={"invocation_id": "req-3"})) == "done\n"
    assert str(fork("long " * 1000, invocation_state={"invocation_id": "req-4"})) == "done\n"
    assert look(fork) == look(agent)
    assert [event.kind for event in read_timeline("f", store=store).steps[0].events] == ["forked"]


def test_in_the_middle_of_an_invocation_no_session_can_begin(store: MemoryStore) -> None:
    agent = agent_on(store)
    agent("go")
    agent("go")
    timeline = read_timeline("s", store=store)
    first, second = (step.number for step in timeline.steps if step.can_fork)
    for at, nearest in ((second - 1, first), (timeline.steps[0].number, first)):
        with pytest.raises(NotForkableError, match=f"is {nearest}") as refused:
            timeline.fork("f", at)
        assert refused.value.nearest == nearest
    assert io_thread.run_sync(list_sessions(store)) == ["s"]


def test_while_somebody_owns_the_journal_no_session_can_begin(store: MemoryStore) -> None:
    agent_on(store)("go")
    owner = Journal(store, "s", "default")
    io_thread.run_sync(owner.acquire([DocumentSet("", "state", pack_value({"half": "done"}))]))

    *_, ended, owned = read_timeline("s", store=store).steps

    assert (ended.can_fork, owned.can_fork) == (True, False)
    assert [event.kind for event in owned.events] == ["state"]
    io_thread.run_sync(owner.release())


def test_where_nothing_has_ended_no_session_can_begin(store: MemoryStore) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        agent_on(store, script=[fail])("go")
    with pytest.raises(NotForkableError) as refused:
        read_timeline("s", store=store).fork("f")
    assert refused.value.nearest is None


@pytest.mark.parametrize("slots", [1, 32])
def test_a_question_is_answered_in_another_way(store: MemoryStore, slots: int) -> None:
    script: Any = [[("count", {}), ("ask", {})], "done"]
    agent = agent_on(store, script=script, slots=slots)
    asked_for = agent("go").interrupts
    settle(agent)
    agent(answers(asked_for, "yes"))
    settle(agent)
    timeline = read_timeline("s", store=store)
    (asked,) = [step for step in timeline.steps if any(event.kind == "interrupted" for event in step.events)]
    assert asked.can_fork
    timeline.fork("f", asked.number)
    ran.clear()

    fork = agent_on(store, "f", script=script)
    result = fork(answers(asked_for, "no"))

    assert result.stop_reason == "end_turn"
    assert ran == ["v1c0t1"]  # the other tool has its recorded result
    assert [block["toolResult"]["content"] for block in fork.messages[2]["content"]] == [
        [{"text": "counted to 1"}],
        [{"text": "heard no"}],
    ]
    assert [block["toolResult"]["content"] for block in agent.messages[2]["content"]][1] == [{"text": "heard yes"}]
    assert [step.invocation for step in read_timeline("f", store=store).steps][1:] == [1] * (
        len(read_timeline("f", store=store).steps) - 1
    )


def test_a_name_that_is_taken_or_none(store: MemoryStore) -> None:
    agent_on(store)("go")
    agent_on(store, "t", agent_id="other")("go")
    timeline = read_timeline("s", store=store)
    before = dict(store._entries)
    for taken in ("s", "t"):
        with pytest.raises(SessionExistsError, match="already"):
            timeline.fork(taken)
    with pytest.raises(InvalidIdentifierError):
        timeline.fork("no/slashes")
    assert store._entries == before


def test_of_several_forks_at_once_one_succeeds(store: MemoryStore) -> None:
    agent = agent_on(store)
    agent("go")
    timeline = read_timeline("s", store=store)

    def fork(_: int) -> bool:
        try:
            timeline.fork("f")
        except SessionExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(fork, range(8))) == 1
    assert look(agent_on(store, "f")) == look(agent)
    DaprSessionManager("f", store=store).delete()
    assert not [key for key in store._entries if "{f:" in key]


def test_either_can_be_deleted(store: MemoryStore) -> None:
    long_life(store, 3)
    timeline = read_timeline("s", store=store)
    timeline.fork("f")
    timeline.fork("g")
    DaprSessionManager("f", store=store).delete()
    assert read_timeline("s", store=store).steps == timeline.steps
    DaprSessionManager("s", store=store).delete()
    assert not [key for key in store._entries if "{s:" in key or "{f:" in key]
    assert len(agent_on(store, "g").messages) == timeline.steps[-1].messages


def test_a_long_conversation_is_forked_whole() -> None:
    store = MemoryStore(max_value_bytes=3_000)
    agent = agent_on(store, script=["x" * 5_000])
    agent.state.set("long", list(range(5_000)))
    for _ in range(40):
        agent("go")
    read_timeline("s", store=store).fork("f")
    assert look(agent_on(store, "f")) == look(agent)
    DaprSessionManager("f", store=store).delete()
    assert not [key for key in store._entries if "{f:" in key]


# -- graphs ------------------------------------------------------------------------------------------------------------


class Custom(MultiAgentBase):
    """A node of somebody's own."""

    id = "custom"

    async def invoke_async(self, *_: Any, **__: Any) -> Any:
        return MultiAgentResult(status=Status.COMPLETED, results={})


def graph_on(store: MemoryStore, session_id: str = "s", script: Any = THREE, slots: int = 32) -> Any:
    manager = DaprSessionManager(session_id, store=store)
    manager._journal_settings = replace(manager._journal_settings, compact_slots=slots)
    builder = GraphBuilder()
    for name in ("a", "b"):
        model = ScriptedModel(script, name=name)
        builder.add_node(Agent(model=model, tools=[count, ask], name=name, callback_handler=None), name)
    builder.add_node(Custom(), "own")
    builder.add_edge("a", "b")
    builder.add_edge("b", "own")
    builder.set_graph_id("g")
    builder.set_execution_timeout(60)
    return builder.set_session_manager(manager).build()


@pytest.mark.parametrize("slots", [1, 4, 32])
def test_the_past_of_a_graph(store: MemoryStore, slots: int) -> None:
    graph = graph_on(store, slots=slots)
    graph("go", invocation_state={"invocation_id": "req-9"})
    io_thread.run_sync(graph.session_manager._roots["g"].journal._packer.finished())

    timeline = read_timeline("s", store=store)

    events = [(event.kind, event.path, event.text) for step in timeline.steps for event in step.events]
    marks = [event for event in events if event[0] in {"started", "finished", "node_finished"}]
    assert [(kind, path) for kind, path, _ in marks] == [
        ("started", ""), ("started", "a"), ("finished", "a"), ("started", "b"), ("finished", "b"),
        ("node_finished", ""), ("finished", ""),
    ]  # fmt: skip
    assert marks[0][2] == "go"
    assert marks[-2][2] == "own"
    moment = timeline.at(timeline.steps[-1].number)
    assert moment.agents.keys() == {"a", "b"}
    assert [len(each.messages) for each in moment.agents.values()] == [6, 6]
    assert moment.agents["b"].messages == graph.nodes["b"].executor.messages
    with pytest.raises(KeyError):
        _ = moment.agent


def test_a_graph_that_has_finished_is_forked(store: MemoryStore) -> None:
    graph = graph_on(store)
    result = graph("go", invocation_state={"invocation_id": "req-9"})
    read_timeline("s", store=store).fork("f")
    ran.clear()

    fork = graph_on(store, "f")
    again = fork("go", invocation_state={"invocation_id": "req-9"})

    assert ran == []
    assert [node.node_id for node in again.execution_order] == [node.node_id for node in result.execution_order]
    assert fork("another").status == Status.COMPLETED


def test_a_graph_that_waits_for_a_person_is_forked(store: MemoryStore) -> None:
    script: Any = [[("count", {}), ("ask", {})], "done"]
    graph = graph_on(store, script=script)
    asked_for = graph("go").interrupts
    read_timeline("s", store=store).fork("f")
    ran.clear()

    fork = graph_on(store, "f", script=script)
    second = fork(answers(asked_for, "no"))

    assert second.status == Status.INTERRUPTED  # the next node asks as well
    assert len(ran) == 2  # the rest of the first node, and what the second one did before it asked
    assert "heard no" in str(fork.nodes["a"].executor.messages)
    assert read_timeline("s", store=store).steps[-1].events[-1].kind == "interrupted"


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        Noted("", "status", pack_value([1])),
        Noted("", "status", pack_value({"state": "dancing"})),
        InvocationStarted("", "i", None, pack_value([[[1, 2, 3]], None]), pack_value(None), 1),
        InvocationStarted("", "i", None, b"\xff\xff", pack_value(None), 1),
        Tried("", "model", 1, b"\xc1", 0.0, None),
    ],
    ids=repr,
)
def test_steps_that_are_none_are_damage(record: Record, store: MemoryStore) -> None:
    agent_on(store)("go")
    forge(store, record)
    with pytest.raises(DamagedDataError, match="s/default"):
        read_timeline("s", store=store)


@pytest.mark.parametrize(
    "record",
    [
        DocumentSet("", "state", pack_value([1])),
        DocumentSet("", "conversation_manager_state", b"\xc1"),
        Spliced("", 0, 0, (pack_value({"role": "user"}),)),
    ],
    ids=repr,
)
def test_moments_that_are_none_are_damage(record: Record, store: MemoryStore) -> None:
    agent_on(store)("go")
    forge(store, record)
    timeline = read_timeline("s", store=store)
    assert timeline.at(timeline.steps[-2].number).agent.messages
    with pytest.raises(DamagedDataError, match="s/default"):
        timeline.at(timeline.steps[-1].number)


def test_a_past_that_cannot_have_been_is_damage(store: MemoryStore) -> None:
    agent_on(store)("go")
    with mock.patch.object(View, "apply"):  # so that it can be written
        forge(store, Spliced("", 100, 1, ()))
    with pytest.raises(DamagedDataError, match="messages 100 to 101"):
        read_timeline("s", store=store)


def test_it_may_be_read_from_an_event_loop(store: MemoryStore) -> None:
    agent_on(store)("go")

    async def read() -> Timeline:
        return await asyncio.to_thread(read_timeline, "s", store=store)

    assert asyncio.run(read()).steps


# -- lifetimes ---------------------------------------------------------------------------------------------------------


def alive(timeline: Timeline, number: int) -> dict[str, tuple[Any, ...]]:
    """What agents had at a step, as their lifetimes tell."""
    found: dict[str, tuple[list[Any], list[Any], list[Any], list[Any]]] = {}
    kinds = ("message", "tool_result", "state", "conversation_manager_state")
    for each in timeline.lifetimes():
        if each.first <= number and (each.last is None or number <= each.last):
            had = found.setdefault(each.path, ([], [], [], []))
            had[kinds.index(each.kind)].append(each.value)
    return found


def check_lifetimes(timeline: Timeline) -> None:
    """Check that they tell of each step what is told by `at`."""
    for number in range(timeline.steps[0].number, timeline.steps[-1].number + 1):
        agents = timeline.at(number).agents.values()
        expected = {
            each.path: (each.messages, each.tool_results, [each.state], [each.conversation_manager_state])
            for each in agents
        }
        had = alive(timeline, number).items()
        found = {path: (*rest, state or [{}], manager or [{}]) for path, (*rest, state, manager) in had}
        assert found == expected, number


@pytest.mark.parametrize("every", [0, 1, 3, 1000])
def test_lifetimes_tell_of_every_step_what_was_there(store: MemoryStore, every: int) -> None:
    long_life(store, 1000, calls=2)
    replaced = tuple(pack_value({"role": "user", "content": [{"text": str(n)}]}) for n in range(3))
    forge(store, Spliced("", 1, 2, replaced), Spliced("", 2, 1, ()), Spliced("", 0, 0, replaced[:1]))
    agent_on(store, slots=1000)("go")
    if every:
        pack(store, every)
    timeline = read_timeline("s", store=store)
    check_lifetimes(timeline)
    messages = [each.value for each in timeline.lifetimes() if each.kind == "message"]
    assert len(messages) > len(timeline.at(timeline.steps[-1].number).agent.messages)
    read_timeline("s", store=store).fork("f")
    agent_on(store, "f")("go")
    check_lifetimes(read_timeline("f", store=store))


@pytest.mark.usefixtures("packed_before")
def test_lifetimes_say_what_older_packings_left_out(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "CANDID", Noted("", "nothing", b"\xc0"))
    long_life(store, 1000)
    pack(store, 9)
    timeline = read_timeline("s", store=store)
    check_lifetimes(timeline)
    assert None in [each.value for each in timeline.lifetimes() if each.kind == "state"]


def test_lifetimes_of_a_graph(store: MemoryStore) -> None:
    graph_on(store, slots=4)("go")
    graph_on(store, slots=4)("again")
    timeline = read_timeline("s", store=store)
    check_lifetimes(timeline)
    assert {each.path for each in timeline.lifetimes()} == {"a", "b"}


def test_lifetimes_of_agents_that_are_tools_end_with_their_call(store: MemoryStore) -> None:
    helper = Agent(name="helper", model=ScriptedModel(THREE), tools=[count], callback_handler=None)
    manager = DaprSessionManager("s", store=store)
    script: Any = [[("helper", {"input": "help"})], "done"]
    Agent(model=ScriptedModel(script), tools=[helper], session_manager=manager, callback_handler=None)("go")
    timeline = read_timeline("s", store=store)
    check_lifetimes(timeline)
    assert {each.last is None for each in timeline.lifetimes() if each.path and each.kind == "message"} == {False}
