"""What recording promises, each promise in the moment that counts: what the store has, seen from inside of a tool."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent
from strands.tools.executors import ConcurrentToolExecutor, SequentialToolExecutor

from strands_dapr_session import DaprSessionManager, idempotency_key, io_thread
from strands_dapr_session.errors import (
    DamagedDataError,
    DriftError,
    FencedError,
    InvocationConflictError,
    StoreUnavailableError,
    UnencodableValueError,
)
from strands_dapr_session.hooks.in_doubt import UNKNOWN_OUTCOME
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Spliced
from strands_dapr_session.records.view import ScopeView
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.testing.faults import Delay, FaultyStore, outage
from strands_dapr_session.testing.model import ScriptedModel

Tools = list[Any]


@pytest.fixture
def store() -> FaultyStore:
    """A store whose every write takes its time, so that whoever does not wait for it is found out."""
    return FaultyStore(MemoryStore(), lambda call: Delay(0.03) if call.writes else None)


def build(store: FaultyStore, script: Any, tools: Tools, **options: Any) -> Agent:
    settings = {name: options.pop(name) for name in ("in_doubt", "drift") if name in options}
    return Agent(
        model=ScriptedModel(script),
        tools=list(tools),
        session_manager=DaprSessionManager("s", store=store, on_busy="steal", **settings),
        callback_handler=None,
        **{"tool_executor": SequentialToolExecutor(), **options},
    )


def recorded(store: FaultyStore) -> ScopeView:
    """What whoever took over now would find."""
    return Journal(store.inner, "s", "default").load_sync().scope("")


Frame = dict[str, Any]


def frame_of(store: FaultyStore) -> Frame:
    """What the store holds now."""
    assert isinstance(store.inner, MemoryStore)
    return dict(store.inner._entries)


def at(frame: Frame) -> FaultyStore:
    """A store that holds what another one held then."""
    store = MemoryStore()
    store._entries.update(frame)
    return FaultyStore(store)


def filmed(store: FaultyStore) -> list[Frame]:
    """What the store holds after each commit from now on."""
    frames: list[Frame] = []
    store.on_applied = lambda call: frames.append(frame_of(store)) if call.verb == "create" else None
    return frames


def cut_off(store: FaultyStore, script: list[Any], tools: Tools, **options: Any) -> tuple[FaultyStore, Any, Tools]:
    """Cut a run off inside of a tool that comes after a script, with everything before that recorded.

    Returns:
        What another process finds, and the script and tools with which it is to go on.
    """
    left: list[Frame] = []

    @tool
    def stop() -> str:
        """Stop here."""
        left.append(frame_of(store))
        return "stopped"

    whole: list[Any] = [*script, [("stop", {})], "done"]
    all_of_them: Tools = [*tools, stop]
    build(store, whole, all_of_them, **options)("go")
    return at(left[0]), whole, all_of_them


def steal(store: FaultyStore) -> Journal:
    thief = Journal(store.inner, "s", "default", settings=JournalSettings(on_busy="steal"))
    io_thread.run_sync(thief.acquire())
    return thief


def results_in(agent: Agent) -> list[Any]:
    return [block["toolResult"] for m in agent.messages for block in m["content"] if "toolResult" in block]


class Crash:
    """Ends a run as a crash does, once: what was to be recorded after it is not."""

    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self.armed = True

    def __call__(self) -> None:
        if self.armed:
            self.armed = False
            self.store.plan = outage(0, 10**9)

    def over(self) -> None:
        self.store.plan = lambda _: None


@pytest.fixture
def crash(store: FaultyStore) -> Crash:
    return Crash(store)


def test_a_tool_starts_when_the_message_that_asks_for_it_and_all_results_before_it_are_recorded(
    store: FaultyStore,
) -> None:
    seen: list[tuple[str, set[str]]] = []

    @tool
    def look() -> str:
        """Look at what is recorded."""
        scope = recorded(store)
        seen.append((unpack_value(scope.messages[-1])["role"], set(scope.results)))
        return "looked"

    build(store, [[("look", {}), ("look", {})], [("look", {})], "done"], [look])("go")
    assert seen == [("assistant", set()), ("assistant", {"v1c0t0"}), ("assistant", set())]


@pytest.mark.parametrize(("policy", "marked"), [("rerun", {}), ("never_twice", {"v1c0t0": "look"})])
def test_a_tool_that_must_not_run_twice_starts_when_its_mark_is_recorded(
    store: FaultyStore, policy: str, marked: dict[str, str]
) -> None:
    seen: list[dict[str, str]] = []

    @tool
    def look() -> str:
        """Look at what is recorded."""
        seen.append(dict(recorded(store).started))
        return "looked"

    build(store, [[("look", {})], "done"], [look], in_doubt=policy)("go")
    assert seen == [marked]
    assert recorded(store).started == {}


def test_a_result_is_returned_when_it_is_recorded(store: FaultyStore) -> None:
    agent = build(store, ["done"], [])
    agent("go")
    journal = Journal(store.inner, "s", "default").load_sync()
    assert journal.owner is None
    scope = journal.scope("")
    assert scope.invocation is not None
    assert scope.invocation.finished
    assert len(scope.messages) == 2


def test_a_final_answer_and_the_end_are_in_one_commit(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._TOGETHER", 0)  # each step is a commit of its own
    frames = filmed(store)
    build(store, ["done"], [])("go")
    assert len(frames) >= 3
    for scope in map(recorded, map(at, frames[1:])):
        roles = [unpack_value(body)["role"] for body in scope.messages]
        assert ("assistant" in roles) == bool(scope.invocation and scope.invocation.finished)


def test_a_run_that_was_taken_over_stops_before_its_next_tool(store: FaultyStore) -> None:
    ran: list[str] = []
    thieves: list[Journal] = []

    @tool
    def work(name: str) -> str:
        """Work."""
        ran.append(name)
        if name == "first":
            thieves.append(steal(store))
        return name

    agent = build(store, [[("work", {"name": "first"}), ("work", {"name": "second"})], "done"], [work])
    with pytest.raises(FencedError):
        agent("go")
    assert ran == ["first"]
    assert recorded(store).results == {}
    thieves[0].abandon()


@pytest.mark.parametrize("is_same_process", [False, True])
def test_a_run_that_cannot_be_recorded_stops_before_its_next_tool(
    store: FaultyStore,
    crash: Crash,
    is_same_process: bool,  # noqa: FBT001
) -> None:
    ran: list[str] = []

    @tool
    def work(name: str) -> str:
        """Work."""
        ran.append(name)
        if name == "second":
            crash()
        return name

    turns = [[("work", {"name": name}) for name in ("first", "second", "third")], "done"]
    agent = build(store, turns, [work])
    recording = agent._session_manager._recordings.find(agent)  # type: ignore[union-attr]
    assert recording is not None
    context = recording.journal._context
    object.__setattr__(context, "retry", RetryPolicy(budget=0.05, first_delay=0.01))
    with pytest.raises(StoreUnavailableError):
        agent("go")
    assert ran == ["first", "second"]
    crash.over()

    again = agent if is_same_process else build(store, turns, [work])
    again("go")
    assert ran == ["first", "second", "second", "third"]
    assert [each["content"][0]["text"] for each in results_in(again)] == ["first", "second", "third"]


def test_the_result_that_is_recorded_is_the_one_after_every_hook(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._TOGETHER", 0)  # each step is a commit of its own
    frames = filmed(store)

    @tool
    def work() -> str:
        """Work."""
        return "raw"

    def rewrite(event: AfterToolCallEvent) -> None:
        event.result["content"] = [{"text": "rewritten"}]

    agent = build(store, [[("work", {})], "done"], [work])
    agent.add_hook(rewrite, AfterToolCallEvent, order=1_000_000)
    agent("go")
    results = [unpack_value(packed) for frame in frames[1:] for packed in recorded(at(frame)).results.values()]
    assert results
    assert all(each["content"] == [{"text": "rewritten"}] for each in results)
    assert results_in(agent)[0] == results[0]


def test_a_result_that_is_thrown_away_for_a_retry_is_not_recorded(store: FaultyStore) -> None:
    seen: list[dict[str, bytes]] = []
    runs: list[int] = []

    @tool
    def work() -> str:
        """Work."""
        runs.append(1)
        seen.append(dict(recorded(store).results))
        return f"try {len(runs)}"

    def again(event: AfterToolCallEvent) -> None:
        event.retry = len(runs) < 3

    agent = build(store, [[("work", {})], "done"], [work])
    agent.add_hook(again, AfterToolCallEvent)
    agent("go")
    assert seen == [{}, {}, {}]
    assert results_in(agent)[0]["content"] == [{"text": "try 3"}]


def test_what_a_tool_changed_in_the_state_is_recorded_with_its_result(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strands_dapr_session.journal.committer._TOGETHER", 0)  # each step is a commit of its own
    frames = filmed(store)

    @tool(context=True)
    def work(number: int, tool_context: ToolContext) -> str:
        """Work."""
        tool_context.agent.state.set("number", number)
        return "worked"

    agent = build(store, [[("work", {"number": 1})], [("work", {"number": 2})], "done"], [work], state={"number": 0})
    agent("go")
    for call, number in (("v1c0t0", 1), ("v1c1t0", 2)):
        with_result = [scope for scope in map(recorded, map(at, frames[1:])) if call in scope.results]
        assert with_result
        assert all(unpack_value(scope.documents["state"]) == {"number": number} for scope in with_result)


DOUBTS: list[tuple[str, int, str]] = [("rerun", 2, "worked"), ("never_twice", 1, UNKNOWN_OUTCOME)]


@pytest.mark.parametrize(("policy", "runs", "said"), DOUBTS)
def test_a_tool_that_may_have_run_is_treated_as_its_policy_says(
    store: FaultyStore, policy: str, runs: int, said: str
) -> None:
    keys: list[str | None] = []
    left: list[Frame] = []

    @tool
    def work() -> str:
        """Work."""
        keys.append(idempotency_key())
        left.append(frame_of(store))
        return "worked"

    script: Any = [[("work", {})], "done"]
    build(store, script, [work], in_doubt=policy)("go")
    again = build(at(left[0]), script, [work], in_doubt=policy)  # as if the process had died inside of the tool
    again("go")
    assert len(keys) == runs
    assert len(set(keys)) == 1
    assert said in str(results_in(again)[0]["content"])


def test_a_tool_that_never_started_runs_under_every_policy(store: FaultyStore) -> None:
    left: list[Frame] = []
    ran: list[int] = []

    @tool
    def work() -> str:
        """Work."""
        ran.append(1)
        return "worked"

    def before(event: BeforeToolCallEvent) -> None:  # noqa: ARG001
        left.append(frame_of(store))

    script: Any = [[("work", {})], "done"]
    agent = build(store, script, [work], in_doubt="never_twice")
    agent.add_hook(before, BeforeToolCallEvent)
    agent("go")
    again = build(at(left[0]), script, [work], in_doubt="never_twice")
    again("go")
    assert len(ran) == 2
    assert results_in(again)[0]["content"] == [{"text": "worked"}]


@pytest.mark.parametrize("mode", ["refuse", "warn", "ignore"])
def test_another_agent_does_not_go_on_unnoticed(
    store: FaultyStore, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    @tool
    def work() -> str:
        """Work."""
        ran.append("work")
        return "worked"

    rest, script, tools = cut_off(store, [[("work", {})]], [work], system_prompt="be brief")
    other = build(rest, script, tools, system_prompt="be lavish", drift=mode)
    if mode == "refuse":
        with pytest.raises(DriftError, match="system prompt changed"):
            other("go")
        other = build(rest, script, tools, system_prompt="be brief", drift=mode)
    with caplog.at_level(logging.WARNING):
        other("go")
    assert ran == ["work"]
    assert ("system prompt changed" in caplog.text) == (mode == "warn")


def test_a_finished_invocation_is_handed_out_again_by_its_id(store: FaultyStore) -> None:
    agent = build(store, {"one": ["first"], "two": ["second"]}, [])
    first = agent("one", invocation_state={"invocation_id": "a"})
    agent("two", invocation_state={"invocation_id": "b"})
    other = build(store, {}, [])
    again = other("one", invocation_state={"invocation_id": "a"})
    assert str(again) == str(first)
    assert again.stop_reason == first.stop_reason
    assert [m["content"] for m in other.messages] == [m["content"] for m in agent.messages]
    with pytest.raises(InvocationConflictError, match="'a' has finished with another prompt"):
        other("two", invocation_state={"invocation_id": "a"})
    assert recorded(store).invocation is not None


@pytest.mark.parametrize("outcome", ["completed", "cancelled"])
def test_how_an_invocation_ended_is_recorded(store: FaultyStore, outcome: str) -> None:
    def turn(_: Any) -> Any:
        if outcome == "cancelled":
            agent.cancel()
        return [("work", {})]

    @tool
    def work() -> str:
        """Work."""
        return "worked"

    agent = build(store, [turn, "done"], [work])
    agent("go")
    invocation = recorded(store).invocation
    assert invocation is not None
    assert (invocation.finished, invocation.outcome) == (True, outcome)


def test_a_result_that_cannot_be_recorded_is_an_error_of_the_call_and_others_may_go_on(store: FaultyStore) -> None:
    values: list[Any] = [object(), 1]

    @tool
    def work() -> dict[str, Any]:
        """Work."""
        return {"status": "success", "content": [{"json": {"value": values.pop(0)}}]}

    agent = build(store, [[("work", {})], "done"], [work])
    with pytest.raises(UnencodableValueError, match="value"):
        agent("go")
    assert Journal(store.inner, "s", "default").load_sync().owner is None
    again = build(store, [[("work", {})], "done"], [work])
    again("go")
    assert results_in(again)[0]["content"] == [{"json": {"value": 1}}]


def test_tokens_of_all_attempts_are_reported(store: FaultyStore) -> None:
    @tool
    def work() -> str:
        """Work."""
        return "worked"

    rest, script, tools = cut_off(store, [[("work", {})]], [work])
    result = build(rest, script, tools)("go")
    assert result.metrics.accumulated_usage["totalTokens"] == 33


def test_messages_that_were_changed_in_place_are_recorded_as_they_are(store: FaultyStore) -> None:
    agent = build(store, {"one": ["first"], "two": ["second"]}, [])
    agent("one")
    agent.messages[0]["content"][0]["text"] = "changed"
    agent("two")
    assert unpack_value(recorded(store).messages[0])["content"] == [{"text": "changed"}]
    other = build(store, {}, [])
    assert [m["content"] for m in other.messages] == [m["content"] for m in agent.messages]


def test_recorded_results_reach_the_model_in_their_places(store: FaultyStore) -> None:
    """The second of three calls has a result; the others run again, or for the first time."""
    left: list[Frame] = []

    @tool
    async def work(name: str) -> str:
        """Work."""
        if name == "b":
            return name
        while "v1c0t1" not in await results_of(store):  # noqa: ASYNC110 - recording it is no event
            await asyncio.sleep(0.01)
        left.append(frame_of(store))
        return name

    script: Any = [[("work", {"name": name}) for name in "abc"], "done"]
    build(store, script, [work], tool_executor=ConcurrentToolExecutor())("go")
    seen: list[Any] = []

    def last(messages: Any) -> str:
        seen.extend(block["toolResult"]["content"][0]["text"] for block in messages[-1]["content"])
        return "done"

    ran: list[str] = []

    @tool(name="work")
    def work_again(name: str) -> str:
        """Work."""
        ran.append(name)
        return name

    build(at(left[0]), [script[0], last], [work_again])("go")
    assert seen == ["a", "b", "c"]
    assert ran == ["a", "c"]


async def results_of(store: FaultyStore) -> dict[str, bytes]:
    return (await Journal(store.inner, "s", "default").load()).scope("").results


def test_forged_messages_are_refused_by_the_name_of_their_journal(store: FaultyStore) -> None:
    async def forge() -> None:
        journal = Journal(store.inner, "s", "default")
        await journal.acquire()
        await journal.release(Spliced("", 0, 0, (b"\xc1",)))

    io_thread.run_sync(forge())
    with pytest.raises(DamagedDataError, match="not a value") as refused:
        build(store, ["done"], [])
    assert refused.value.key == "s/default"
