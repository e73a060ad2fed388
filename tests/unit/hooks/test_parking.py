"""Which tries count, which runs are let go on by hand, and which are given up."""

from __future__ import annotations

from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import DaprSessionManager, ParkedError, io_thread
from strands_dapr_session.hooks.parking import restart
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Noted
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.unit.hooks.conversation import said

SCRIPT: Any = {
    "go": [[("look", {"name": name}) for name in "abcd"], "went"],
    "ask": [[("ask", {})], "asked"],
    "then": ["then it was"],
}


class World:
    """What survives a process, and what really ran.

    Attributes:
        down: The tool calls before which a hook fails.
        left: What the store held when the first tool ran.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.down: set[str] = set()
        self.ran: list[str] = []
        self.left: dict[str, Any] = {}

    def agent(self, **options: Any) -> Agent:
        @tool
        def look(name: str) -> str:
            """Look."""
            self.ran.append(name)
            self.left = self.left or dict(self.store._entries)
            return name

        @tool(context=True)
        def ask(tool_context: ToolContext) -> str:
            """Ask a person."""
            return str(tool_context.interrupt("may I"))

        agent = Agent(
            model=ScriptedModel(SCRIPT),
            tools=[look, ask],
            session_manager=DaprSessionManager("s", store=self.store, on_busy="steal", **options),
            callback_handler=None,
            tool_executor=SequentialToolExecutor(),
        )

        def stop(event: BeforeToolCallEvent) -> None:
            if event.tool_use["input"].get("name") in self.down:
                raise ConnectionError("down")

        agent.add_hook(stop, BeforeToolCallEvent)
        return agent

    def fail(self, at: str, **options: Any) -> Agent:
        """Call an agent that fails before a tool."""
        agent = self.agent(**options)
        self.down = {at}
        with pytest.raises(Exception, match="down"):
            agent("go")
        self.down = set()
        return agent

    def go_back(self) -> None:
        """Make the store what a process leaves that is killed in the first tool."""
        self.store._entries.clear()
        self.store._entries.update(self.left)
        self.ran.clear()

    def journal(self) -> Journal:
        return Journal(self.store, "s", "default", settings=JournalSettings(on_busy="steal"))


@pytest.fixture
def world() -> World:
    return World()


def said_yes(result: Any) -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_so_many_tries_at_one_place_and_no_more(world: World, limit: int) -> None:
    for _ in range(limit):
        world.fail("b", max_attempts=limit)

    for _ in range(2):
        with pytest.raises(ParkedError, match=f"its tries ended {limit} times at the same place"):
            world.agent(max_attempts=limit)("go")

    assert world.ran == ["a"]


def test_a_result_of_a_tool_is_progress(world: World) -> None:
    for place in "bbccdd":
        world.fail(place, max_attempts=3)

    assert str(world.agent(max_attempts=3)("go")).strip() == "went"
    assert world.ran == ["a", "b", "c", "d"]


def test_without_progress_they_are_counted_on_after_progress(world: World) -> None:
    for place in "bbccc":
        world.fail(place, max_attempts=3)

    with pytest.raises(ParkedError, match="3 times"):
        world.agent(max_attempts=3)("go")


def test_what_is_parked_is_restarted_and_nothing_else(world: World) -> None:
    world.fail("b", max_attempts=1)
    with pytest.raises(ParkedError):
        world.agent(max_attempts=1)("go")

    assert io_thread.run_sync(restart(world.journal())) == [""]
    assert io_thread.run_sync(restart(world.journal())) == []

    assert world.journal().load_sync().owner is None
    assert str(world.agent(max_attempts=1)("go")).strip() == "went"


def test_a_restart_leaves_what_waits_for_a_person_waiting(world: World) -> None:
    result = world.agent()("ask")

    assert io_thread.run_sync(restart(world.journal())) == []

    assert str(world.agent()(said_yes(result))).strip() == "asked"


def test_a_restart_passes_over_places_without_a_run(world: World) -> None:
    journal = world.journal()

    async def note() -> None:
        await journal.acquire()
        await journal.release(Noted("node", "shared", pack_value({})))

    io_thread.run_sync(note())

    assert io_thread.run_sync(restart(world.journal())) == []


# -- giving up ---------------------------------------------------------------------------------------------------------


def abandon(agent: Agent, *arguments: Any) -> None:
    agent._session_manager.abandon(agent, *arguments)  # type: ignore[union-attr]


def test_what_is_given_up_is_not_finished_before_the_next_prompt(world: World) -> None:
    world.agent()("go")
    world.go_back()
    agent = world.agent()

    abandon(agent)

    assert world.journal().load_sync().owner is None
    assert str(agent("then")).strip() == "then it was"
    assert world.ran == []
    assert said(agent) == ["go", "then"]


@pytest.mark.parametrize(("key", "ran"), [("mine", []), ("another", ["a", "b", "c", "d"])])
def test_only_what_was_begun_under_the_id_is_given_up(world: World, key: str, ran: list[str]) -> None:
    world.agent()("go", invocation_state={"invocation_id": "mine"})
    world.go_back()
    agent = world.agent()

    abandon(agent, key)

    assert str(agent("then")).strip() == "then it was"
    assert world.ran == ran


def test_what_others_began_in_that_moment_is_not_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.agent()("go", invocation_state={"invocation_id": "mine"})
    world.go_back()
    agent, load = world.agent(), Journal.load_sync
    asked: list[Any] = []

    def let_others_go_on(journal: Journal) -> Any:
        view = load(journal)
        monkeypatch.setattr(Journal, "load_sync", load)
        asked.append(world.agent()("ask", invocation_state={"invocation_id": "another"}))
        return view

    monkeypatch.setattr(Journal, "load_sync", let_others_go_on)
    abandon(agent, "mine")

    assert str(world.agent()(said_yes(asked[0]))).strip() == "asked"


def test_where_nothing_is_unfinished_nothing_is_given_up(world: World) -> None:
    agent = world.agent()
    abandon(agent)
    agent("then", invocation_state={"invocation_id": "mine"})
    before = world.journal().load_sync().scope("")

    abandon(agent)

    after = world.journal().load_sync()
    assert after.owner is None
    assert (after.scope("").invocation, after.scope("").notes) == (before.invocation, before.notes)
    assert str(agent("then", invocation_state={"invocation_id": "mine"})).strip() == "then it was"
    assert said(agent) == ["then"]


def test_a_question_that_is_given_up_is_not_waited_for(world: World) -> None:
    agent = world.agent()
    assert agent("ask").stop_reason == "interrupt"

    abandon(agent)

    assert str(agent("then")).strip() == "then it was"
    assert said(world.agent()) == ["ask", "then"]
