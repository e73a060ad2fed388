"""What fails is tried again, so often and no more, whatever happens to the process meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent, tool
from strands.hooks import AfterModelCallEvent, AfterToolCallEvent
from strands.multiagent import GraphBuilder
from strands.tools import PythonAgentTool
from strands.types.exceptions import ModelThrottledException

from strands_dapr_session import DaprSessionManager, Retries, RetryPolicy, in_doubt
from strands_dapr_session.hooks import retrying
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import ToolStarted, Tried
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import Film, add_hook, check_everywhere

QUICK = RetryPolicy(max_attempts=4, first_delay=0.001, longest_delay=0.001)

ran: list[str] = []
trouble: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    trouble.clear()


def stumble(name: str) -> str:
    ran.append(name)
    if trouble:
        problem = trouble.pop(0)
        if isinstance(problem, BaseException):
            raise problem
        return str(problem)
    return "done"


@tool
async def work() -> str:
    """Work."""
    return stumble("work")


@tool
async def other() -> str:
    """Work too."""
    return stumble("other")


@tool
async def report() -> dict[str, Any]:
    """Say how it went."""
    said = stumble("report")
    return {"status": "success" if said == "done" else "error", "content": [{"text": said}]}


@in_doubt("never_twice")
@tool
async def pay() -> str:
    """Pay."""
    return stumble("pay")


def agent_on(store: StateStore, retry: Any, *script: Any, **options: Any) -> Agent:
    return Agent(
        agent_id="default",
        model=ScriptedModel(script),
        tools=[work, other, report, pay],
        session_manager=DaprSessionManager("s", store=store, retry=retry),
        callback_handler=None,
        **options,
    )


def results(agent: Agent) -> list[tuple[str, str]]:
    found = [block["toolResult"] for message in agent.messages for block in message["content"] if "toolResult" in block]
    return [(each["status"], each["content"][0]["text"]) for each in found]


def history(store: StateStore, kind: type[Any] = Tried, root: str = "default") -> list[Any]:
    commits = asyncio.run(read_history(store, "s", root))
    return [record for _, records in commits for record in records if isinstance(record, kind)]


def attempts(store: StateStore, root: str = "default") -> list[tuple[int, str, bool]]:
    return [(each.attempt, unpack_value(each.error)[0], each.delay is not None) for each in history(store, root=root)]


def turn(name: str) -> list[Any]:
    return [[(name, {})], "went"]


# -- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_is_tried_until_it_works() -> None:
    store = MemoryStore()
    agent = agent_on(store, QUICK, *turn("work"))
    trouble.extend([ConnectionError("one"), TimeoutError("two")])
    assert str(agent("go")).strip() == "went"
    assert results(agent) == [("success", "done")]
    assert ran == ["work"] * 3
    assert attempts(store) == [(1, "ConnectionError", True), (2, "TimeoutError", True)]


def test_a_tool_is_tried_so_often_and_no_more() -> None:
    store = MemoryStore()
    agent = agent_on(store, QUICK, *turn("work"))
    trouble.extend([ConnectionError(f"number {number}") for number in range(1, 9)])
    agent("go")
    assert results(agent) == [("error", "Error: ConnectionError - number 4")]
    assert ran == ["work"] * 4


@pytest.mark.parametrize(
    ("retry", "name", "problem", "expected"),
    [
        (QUICK, "work", ValueError("no"), 1),
        (Retries(model=QUICK), "work", ConnectionError("no"), 1),
        (Retries(tool=QUICK, tools={"work": None}), "work", ConnectionError("no"), 1),
        (Retries(tools={"work": QUICK}), "work", ConnectionError("no"), 2),
        (Retries(tools={"work": QUICK}), "other", ConnectionError("no"), 1),
        (QUICK, "report", "no", 1),
        (RetryPolicy(first_delay=0, error_results=True), "report", "no", 2),
        (RetryPolicy(first_delay=0, retry_on=(ValueError,)), "work", ValueError("no"), 2),
        (RetryPolicy(first_delay=0, retry_on=(Exception,), never_on=(LookupError,)), "work", KeyError("no"), 1),
        (QUICK, "pay", ConnectionError("refused"), 2),
        (QUICK, "pay", TimeoutError("who knows"), 1),
        (None, "work", ConnectionError("no"), 1),
    ],
)
def test_which_failures_are_tried_again(retry: Any, name: str, problem: Any, expected: int) -> None:
    store = MemoryStore()
    agent = agent_on(store, retry, *turn(name))
    trouble.append(problem)
    agent("go")
    assert ran == [name] * expected
    assert len(attempts(store)) == expected - 1


def test_every_start_of_a_tool_that_must_not_run_twice_is_marked() -> None:
    store = MemoryStore()
    trouble.extend([ConnectionError("refused"), ConnectionError("refused")])
    agent_on(store, QUICK, *turn("pay"))("go")
    assert len(history(store, ToolStarted)) == len(ran) == 3


def test_known_failures_are_not_in_doubt_after_a_crash() -> None:
    """Killed while it waits, a tool under `never_twice` is tried again; killed while it runs, it is not."""
    film = Film()
    trouble.append(ConnectionError("refused"))
    agent_on(film.store, QUICK, *turn("pay"))("go")
    told = set()
    for frame in film.frames:
        view = Film.at(frame)
        ran.clear()
        agent = agent_on(view.inner, QUICK, *turn("pay"))
        tries = agent._session_manager._recordings.find(agent).tries  # type: ignore[union-attr]
        doubts = agent._session_manager._recordings.find(agent).in_doubt  # type: ignore[union-attr]
        agent("go") if len(agent.messages) < 4 else None
        if doubts:
            assert ran == []
            told.add("in doubt")
        elif tries:
            assert ran == ["pay"]
            assert results(agent) == [("success", "done")]
            told.add("tried again")
    assert told == {"in doubt", "tried again"}


def test_users_hooks_come_first() -> None:
    """One that asks for another attempt itself is not counted; one that makes a success of it is believed."""
    store = MemoryStore()
    agent = agent_on(store, RetryPolicy(max_attempts=2, first_delay=0), [("work", {})], [("work", {})], "went")
    asked: list[str] = []

    def ask_again(event: AfterToolCallEvent) -> None:
        if event.exception is not None and len(asked) < 3:
            asked.append("again")
            event.retry = True
        elif "cured" in str(event.exception):
            event.result = {**event.result, "status": "success"}

    add_hook(agent, ask_again, AfterToolCallEvent)
    trouble.extend([ConnectionError("x")] * 4)
    agent("go")
    assert len(ran) == 3 + 1 + 1 + 1
    assert attempts(store) == [(1, "ConnectionError", True)]
    trouble.append(ConnectionError("cured"))
    agent("go")
    assert attempts(store) == [(1, "ConnectionError", True)]


def test_parallel_tools_are_counted_each_for_itself() -> None:
    store = MemoryStore()
    agent = agent_on(store, QUICK, [("work", {}), ("other", {}), ("work", {})], "went")
    trouble.extend([ConnectionError("x")] * 5)
    agent("go")
    assert {status for status, _ in results(agent)} == {"success"}
    assert len(ran) == 3 + 5


# -- model calls ------------------------------------------------------------------------------------------------------


def throttled(times: int, then: Any) -> Callable[[Any], Any]:
    def say(_: Any) -> Any:
        ran.append("model")
        if len(ran) <= times:
            raise ModelThrottledException("slow down")
        return then

    return say


def test_a_model_is_asked_until_it_answers() -> None:
    store = MemoryStore()
    agent = agent_on(store, QUICK, throttled(3, "went"))
    assert str(agent("go")).strip() == "went"
    assert attempts(store) == [(n, "ModelThrottledException", True) for n in (1, 2, 3)]


def test_a_model_is_asked_so_often_and_no_more() -> None:
    """Strands' own strategy would go on, with pauses of seconds."""
    store = MemoryStore()
    agent = agent_on(store, QUICK, throttled(9, "went"))
    with pytest.raises(ModelThrottledException):
        agent("go")
    assert len(ran) == 4
    assert attempts(store)[-1] == (4, "ModelThrottledException", False)
    with pytest.raises(ModelThrottledException):
        agent("go")  # a person asks again: it is tried as often again
    assert len(ran) == 8
    assert str(agent("go")).strip() == "went"


def test_a_users_hook_may_stop_it() -> None:
    agent = agent_on(MemoryStore(), QUICK, throttled(1, "went"))

    def stop(event: AfterModelCallEvent) -> None:
        event.retry = False

    add_hook(agent, stop, AfterModelCallEvent)
    with pytest.raises(ModelThrottledException):
        agent("go")
    assert len(ran) == 1


def test_other_errors_of_a_model_are_not_tried_again() -> None:
    agent = agent_on(MemoryStore(), QUICK, ValueError("no"))
    with pytest.raises(Exception, match="no"):
        agent("go")


def test_a_result_without_a_status_is_none_of_an_error() -> None:
    """Strands lets tools that are no decorated functions leave it out."""

    def old(tool: Any, **_: Any) -> Any:
        return {"toolUseId": tool["toolUseId"], "content": [{"text": "as of old"}]}

    spec: Any = {"name": "old", "description": "Work.", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    agent = Agent(
        model=ScriptedModel([[("old", {})], "went"]),
        tools=[PythonAgentTool("old", spec, old)],
        session_manager=DaprSessionManager("s", store=MemoryStore(), retry=QUICK),
        callback_handler=None,
    )
    agent("go")
    assert "as of old" in str(agent.messages[2])
    assert "Error" not in str(agent.messages[2])


# -- crashes ----------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        self.slept = 0.0
        monkeypatch.setattr(retrying, "time", self)
        monkeypatch.setattr(retrying, "sleep", self.sleep)

    def time(self) -> float:
        return self.now

    monotonic = time

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds
        await asyncio.sleep(0)


SLOW = RetryPolicy(max_attempts=4, first_delay=1000, longest_delay=4000, jitter=0)


@pytest.mark.parametrize(("later", "left"), [(0, 1000), (400, 600), (5000, 0), (-5000, 1000)])
@pytest.mark.parametrize("what", ["tool", "model"])
def test_who_goes_on_waits_for_what_is_left(
    what: str, later: float, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the clock of its machine is wrong: never longer than was decided."""
    clock, film = Clock(monkeypatch), Film()
    script = turn("work") if what == "tool" else [throttled(1, "went")]
    trouble.append(ConnectionError("x"))
    agent_on(film.store, SLOW, *script)("go")
    assert clock.slept == pytest.approx(1000)
    waiting = next(store for store in (Film.at(frame).inner for frame in film.frames) if history(store))
    ran[:] = ["model"]
    clock.now, clock.slept = 1_000_000 + later, 0
    agent = agent_on(waiting, SLOW, *script)
    assert str(agent("go")).strip() == "went"
    assert clock.slept == pytest.approx(left)
    assert attempts(waiting) == attempts(film.inner)


def test_who_goes_on_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after every write of a run that fails to the end: four attempts in all, but for those cut short."""
    clock, film = Clock(monkeypatch), Film()
    trouble.extend([ConnectionError("x")] * 9)
    agent_on(film.store, SLOW, *turn("work"))("go")
    assert len(ran) == 4
    assert clock.slept == pytest.approx(7000)
    for frame in film.frames:
        store = Film.at(frame).inner
        done = len(history(store))
        ran.clear()
        trouble[:] = [ConnectionError("x")] * 9
        agent = agent_on(store, SLOW, *turn("work"))
        if len(agent.messages) == 4:
            continue  # it had ended
        is_recorded = results(agent) or agent._session_manager._recordings.find(agent).results  # type: ignore[union-attr]
        agent("go")
        assert len(ran) == (0 if is_recorded else 4 - done)
        assert [each.attempt for each in history(store)] == [1, 2, 3]


def test_cut_everywhere() -> None:
    """A tool that works at its third attempt, cut after every write: the run ends as if nothing had happened."""
    stores: list[StateStore] = []

    @tool(name="work")
    async def third_time_lucky() -> str:
        """Work."""
        commits = await read_history(stores[-1], "s", "default")
        if sum(isinstance(record, Tried) for _, records in commits for record in records) < 2:
            raise ConnectionError("not yet")
        return "done"

    def build(manager: DaprSessionManager) -> Agent:
        stores.append(manager._store)
        script: list[Any] = [[("work", {}), ("other", {})], "went"]
        return Agent(
            model=ScriptedModel(script), tools=[third_time_lucky, other], session_manager=manager, callback_handler=None
        )

    assert len(check_everywhere(build, ["go"], retry=QUICK)) > 5


def test_a_pause_ends_when_the_agent_is_cancelled() -> None:
    agent = agent_on(MemoryStore(), SLOW, *turn("work"))
    trouble.append(ConnectionError("x"))
    thread = threading.Timer(0.3, agent.cancel)
    thread.start()
    assert agent("go").stop_reason == "cancelled"
    assert len(ran) == 1


def test_in_a_graph() -> None:
    store = MemoryStore()
    builder = GraphBuilder()
    script: list[Any] = [throttled(2, [("work", {})]), "a is done"]
    builder.add_node(Agent(model=ScriptedModel(script), tools=[work], name="a", callback_handler=None), "a")
    builder.set_execution_timeout(60)
    graph = builder.set_session_manager(DaprSessionManager("s", store=store, retry=QUICK)).set_graph_id("g").build()
    trouble.append(ConnectionError("x"))
    assert graph("go").status.value == "completed"
    assert [name for _, name, _ in attempts(store, root="g")] == ["ModelThrottledException"] * 2 + ["ConnectionError"]
