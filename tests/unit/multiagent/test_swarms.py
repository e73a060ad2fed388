"""What the agents of a swarm share: recorded once, in time, and never taken over from a run that is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent, tool
from strands.multiagent import Swarm
from strands.multiagent.base import Status

from strands_dapr_session import DaprSessionManager, FencedError
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Noted
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


class World:
    """What survives a process.

    Attributes:
        before_answer: Called with the swarm before its agent answers.
        seen: What was recorded as shared when a tool ran.
        is_down: The first agent's model fails when it is to say its last word.
        steals: Somebody takes the run over inside of the next tool.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.before_answer: Callable[[Any], None] = lambda _: None
        self.seen: list[Any] = []
        self.is_down = False
        self.steals = False

    def view(self) -> Any:
        return Journal(self.store, "s", "g").load_sync()

    def shared(self) -> Any:
        note = self.view().scope("").notes.get("shared")
        return None if note is None else unpack_value(note)

    def swarm(self, *, hands_over: bool = False) -> Any:
        @tool
        async def look() -> str:
            """Look at what is recorded."""
            self.seen.append(self.shared())
            if self.steals:
                self.steals = False
                thief = Journal(self.store, "s", "g", settings=JournalSettings(on_busy="steal"))
                await thief.acquire()
                await thief.release()
            return "looked"

        def first(_: Any) -> Any:
            self.before_answer(swarm)
            return [("look", {})]

        def last(_: Any) -> str:
            if self.is_down:
                raise ConnectionError("down")
            return "done a"

        over: Any = [("handoff_to_agent", {"agent_name": "b", "message": "over", "context": {"found": 1}})]
        nodes = [
            Agent(
                name="a",
                model=ScriptedModel([first, *([over] if hands_over else []), last]),
                tools=[look],
                callback_handler=None,
            ),
            Agent(name="b", model=ScriptedModel([[("look", {})], "done b"]), tools=[look], callback_handler=None),
        ]
        swarm = Swarm(nodes, id="g", session_manager=DaprSessionManager("s", store=self.store, on_busy="steal"))
        return swarm


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of all notes, as they are handed over."""
    kinds: list[str] = []

    def watched(append: Any) -> Any:
        def and_note(journal: Journal, *records: Any) -> None:
            kinds.extend(record.kind for record in records if isinstance(record, Noted))
            append(journal, *records)

        return and_note

    for name in ("append", "append_with_next"):
        monkeypatch.setattr(Journal, name, watched(getattr(Journal, name)))
    return kinds


def share(swarm: Any, **values: Any) -> None:
    for key, value in values.items():
        swarm.shared_context.add_context(swarm.nodes["a"], key, value)


def down(swarm: Any) -> None:
    share(swarm, lost=1)
    raise ConnectionError("down")


def test_what_is_shared_is_recorded_once(world: World, noted: list[str]) -> None:
    assert world.swarm(hands_over=True)("T").status == Status.COMPLETED

    assert noted.count("shared") == 1
    assert noted.count("handoff") == 1
    assert world.seen == [None, {"a": {"found": 1}}]
    assert world.shared() == {"a": {"found": 1}}


def test_where_nothing_is_shared_nothing_is_recorded(world: World, noted: list[str]) -> None:
    assert world.swarm()("T").status == Status.COMPLETED

    assert {"shared", "handoff"}.isdisjoint(noted)
    assert world.shared() is None


def test_what_is_not_shared_any_more_is_recorded(world: World) -> None:
    world.swarm(hands_over=True)("T")

    def forget(swarm: Any) -> None:
        swarm.shared_context.context = {}

    world.before_answer = forget
    assert world.swarm()("U").status == Status.COMPLETED

    assert world.shared() == {}
    assert world.swarm().shared_context.context == {}


def test_users_may_have_it_recorded_between_turns(world: World) -> None:
    def share_and_record(swarm: Any) -> None:
        share(swarm, found=2)
        swarm.session_manager.sync_multi_agent(swarm)

    world.before_answer = share_and_record
    swarm = world.swarm()
    swarm.session_manager.sync_multi_agent(swarm)  # nothing runs yet
    assert world.shared() is None

    swarm("T")

    assert world.seen == [{"a": {"found": 2}}]
    share(swarm, late=3)
    swarm.session_manager.sync_multi_agent(swarm)  # nor now
    assert world.shared() == {"a": {"found": 2}}


def test_what_the_user_shares_before_the_first_run_is_there(world: World) -> None:
    swarm = world.swarm()
    share(swarm, given=1)

    swarm("T")

    assert world.shared() == world.swarm().shared_context.context == {"a": {"given": 1}}


@pytest.mark.parametrize("earlier", [False, True], ids=["the first run", "a later run"])
def test_what_was_shared_in_a_run_that_was_given_up_is_forgotten(world: World, *, earlier: bool) -> None:
    """As far as it was not recorded: a process that did not see the run knows nothing of it either."""
    swarm = world.swarm(hands_over=earlier)
    if earlier:
        swarm("T")
    world.before_answer = down
    assert swarm("U").status == Status.FAILED
    world.before_answer = lambda _: None
    swarm.session_manager.abandon(swarm)

    assert swarm("V").status == Status.COMPLETED

    expected = {"a": {"found": 1}} if earlier else {}
    assert swarm.shared_context.context == world.swarm().shared_context.context == expected


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_handoff_is_kept_though_its_agent_fails_after_it(world: World, where: str) -> None:
    """The tool call has its result, and is not repeated."""
    swarm = world.swarm(hands_over=True)
    world.is_down = True
    assert swarm("T").status == Status.FAILED
    world.is_down = False
    assert world.shared() == {"a": {"found": 1}}
    swarm = swarm if where == "here" else world.swarm(hands_over=True)

    result = swarm("T")

    assert result.status == Status.COMPLETED
    assert [node.node_id for node in result.node_history] == ["a", "b"]
    assert "over" in str(swarm.nodes["b"].executor.messages[0])
    assert len(world.seen) == 2  # once each


def test_a_swarm_that_was_taken_over_says_so(world: World) -> None:
    """Strands makes a status of whatever a node raises."""
    world.steals = True
    swarm = world.swarm()

    with pytest.raises(FencedError):
        swarm("T")

    assert swarm("T").status == Status.COMPLETED
    assert world.view().owner is None


def test_every_call_that_goes_on_is_an_attempt(world: World) -> None:
    world.is_down = True
    for _ in range(2):
        assert world.swarm()("T").status == Status.FAILED
    first = world.view().scope("").invocation
    world.is_down = False
    world.swarm()("T")

    scope = world.view().scope("")
    status = unpack_value(scope.notes["status"])
    assert (status["attempt"], status["invocation"]) == (3, first.id)
    assert (scope.invocation.id, scope.invocation.finished) == (first.id, True)
