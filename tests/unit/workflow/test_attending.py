"""What a worker does about runs that others left, without a sidecar: none is lost, and none goes round for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from strands import Agent

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.errors import SessionBusyError, StoreUnavailableError
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.workflow.attending import Attending
from strands_dapr_session.workflow.crew import Card, Crew
from strands_dapr_session.workflow.endings import Held
from strands_dapr_session.workflow.execution import Asking, Finished, Stopped
from strands_dapr_session.workflow.offers import Offers
from strands_dapr_session.workflow.runs import Claim, Runs
from strands_dapr_session.workflow.settings import WorkerSettings
from strands_dapr_session.workflow.state import Request, RunState

GONE = replace(this_process.identity, token="0" * 16, pid="1", started="1").name
"""A worker of this machine whose process is gone."""


class Engine:
    """Takes what Dapr would be told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def schedule(self, *_: object) -> bool:
        self.told.append("schedule")
        return True

    async def wake(self, *_: object) -> bool:
        self.told.append("wake")
        return True


class Scene:
    """One worker, and what is in its store."""

    def __init__(self, builds: Mapping[str, Callable[[str], Any]], **settings: Any) -> None:
        self.store = MemoryStore()
        self.runs, self.offers, self.engine = Runs(self.store), Offers(self.store), Engine()
        card = Card(this_process.name, "app", tuple(builds), (), 3.0)
        crew = Crew(self.store, lambda: card, 3.0)

        async def prepare(*_: object) -> tuple[()]:
            return ()

        engine: Any = self.engine
        self.attending = Attending(crew, engine, builds, prepare, WorkerSettings(**settings))

    async def run(self, name: str, state: RunState, agent: str = "agent") -> None:
        await self.runs.submit(name, Request(agent, "s", "prompt"))
        await self.runs.change(name, lambda _: state)

    async def settle(self) -> None:
        """Wait for what the worker has begun."""
        while self.attending._adoptions:
            await asyncio.wait(self.attending._adoptions)
            await asyncio.sleep(0)  # they are taken away in the next turn of the loop

    async def laid_out(self, agent: str = "agent") -> dict[str, bool]:
        return {name: offer.at_once for name, offer in (await self.offers.look([agent]))[agent].items()}


def of_the_dead(*runs: str) -> Card:
    return Card(GONE, "app", ("agent",), runs, 3.0)


HELD = RunState().begun(GONE, "claim", 1.0)


async def test_what_nobody_here_can_run_is_laid_out_and_its_dead_worker_forgotten() -> None:
    scene = Scene({})
    await scene.run("run", HELD)
    assert not await scene.attending.look_after(of_the_dead("run"))
    await scene.settle()
    state = await scene.runs.state("run")
    assert (state.holder, state.phase, state.attempts[-1].ended) == ("", "pending", "lost")
    assert await scene.laid_out() == {"run": True}
    for _ in range(3):  # and no more is to be done, nor told to Dapr
        assert await scene.attending.look_after(of_the_dead("run"))
        await scene.settle()
    assert scene.engine.told == ["schedule"]


async def test_what_nobody_takes_is_given_up_though_dapr_does_not_bring_it_again() -> None:
    scene = Scene({}, misfit_timeout=0)
    await scene.run("run", HELD)
    await scene.attending.look_after(of_the_dead("run"))
    await scene.settle()
    assert (await scene.runs.state("run")).phase == "pending"
    await scene.attending.look_around()
    await scene.settle()
    state = await scene.runs.state("run")
    assert (state.phase, state.error[0]) == ("failed", "UnknownAgentError")
    assert scene.attending._look_again == {}


async def test_what_nobody_has_taken_yet_is_not_looked_at_before_its_time() -> None:
    scene = Scene({}, misfit_timeout=600)
    await scene.run("run", HELD)
    await scene.attending.look_after(of_the_dead("run"))
    await scene.settle()
    told = list(scene.engine.told)
    before = await scene.runs.state("run")
    await scene.attending.look_around()
    await scene.settle()
    assert scene.engine.told == told
    assert await scene.runs.state("run") == before
    assert set(scene.attending._look_again) == {"run"}


async def test_a_run_that_asks_a_person_is_not_looked_at_again_and_again() -> None:
    scene = Scene({}, misfit_timeout=0)
    await scene.run("run", HELD.asking(({"id": "i"},)))
    assert await scene.attending.adopt("run") == "later"  # Dapr brought it to one that does not know its agent
    assert scene.attending._look_again == {}


async def test_what_a_dead_worker_had_let_go_of_and_this_one_refused_is_laid_out_again() -> None:
    scene = Scene({})
    await scene.run("run", HELD)
    await scene.attending.look_after(of_the_dead("run"))
    await scene.settle()
    await scene.offers.forget(["agent"], "run")  # somebody else took it, let go of it and died
    assert await scene.attending.look_after(of_the_dead("run"))
    assert await scene.laid_out() == {"run": True}


async def test_an_offer_stays_while_there_is_no_place_for_it() -> None:
    scene = Scene({"agent": print}, max_concurrent_runs=1)
    await scene.run("run", HELD)
    await scene.offers.lay_out("agent", "run", at_once=True)
    async with scene.attending._places:
        await scene.attending.look_around()
        await scene.settle()
    assert await scene.laid_out() == {"run": True}
    assert await scene.runs.state("run") == HELD


async def test_dapr_gets_the_time_to_bring_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())
    await scene.offers.lay_out("agent", "run")
    adopted: list[str] = []
    monkeypatch.setattr(scene.attending, "adopt_soon", adopted.append)
    now = 100.0
    monkeypatch.setattr("strands_dapr_session.workflow.attending.time.monotonic", lambda: now)
    await scene.attending.look_around()
    now += 0.9
    await scene.attending.look_around()
    assert adopted == []
    await scene.offers.lay_out("agent", "run")  # it became due once more: the time begins anew
    now += 0.2
    await scene.attending.look_around()
    assert adopted == []
    now += 1.0
    await scene.attending.look_around()
    assert adopted == ["run"]


async def test_offers_of_what_is_held_waits_or_is_over_are_taken_away() -> None:
    scene = Scene({"agent": print})
    mine = RunState().begun(this_process.name, "claim", 1.0)
    alive = RunState().begun(replace(this_process.identity, token="1" * 16).name, "claim", 1.0)
    states = {"held": alive, "over": mine.over("completed"), "asks": mine.asking(({"id": "i"},))}
    for name, state in states.items():
        await scene.run(name, state)
        await scene.offers.lay_out("agent", name, at_once=True)
    await scene.attending.look_around()
    await scene.settle()
    assert await scene.laid_out() == {}
    assert {name: await scene.runs.state(name) for name in states} == states


async def test_who_followed_a_run_goes_on_though_its_worker_died_before_it_could_say_so() -> None:
    scene = Scene({"agent": print})
    await scene.run("first", HELD.followed_by("second").over("completed"))
    await scene.run("second", HELD.put_off("first", "busy"))
    assert await scene.attending.look_after(of_the_dead("first"))
    assert (await scene.runs.state("second")).is_due
    assert await scene.laid_out() == {"second": True}


def busy_with(other: str | None) -> Callable[[str], Any]:
    def build(_: str) -> Any:
        raise SessionBusyError("somebody runs the session", other)

    return build


ALIVE = replace(this_process.identity, token="1" * 16).name
RUNS = RunState().begun(ALIVE, "claim", 1.0)


async def test_a_run_waits_without_a_place_until_the_run_of_its_session_is_over() -> None:
    scene = Scene({"agent": busy_with("first")}, max_concurrent_runs=1)
    await scene.run("first", RUNS)
    await scene.run("second", RunState())
    assert await scene.attending.adopt("second") == "later"
    second = await scene.runs.state("second")
    assert (second.phase, second.behind, second.attempts[-1].ended) == ("pending", "first", "put off")
    assert await scene.laid_out() == {}
    assert not scene.attending._places.locked()
    assert await scene.attending.adopt("second") == "later"
    assert await scene.runs.state("second") == second  # nobody tries meanwhile
    await scene.runs.change("first", lambda now: now.over("completed"))
    await scene.attending.look_after(of_the_dead("first"))
    assert (await scene.runs.state("second")).is_due
    assert await scene.laid_out() == {"second": True}


@pytest.mark.parametrize(
    ("other", "state"),
    [
        (None, RUNS),
        ("second", RUNS),
        ("unknown", RUNS),
        ("first", RUNS.over("failed")),
        ("first", RUNS.put_off("second", "finished by somebody else")),
        ("first", RUNS.asking(({"id": "i"},))),
    ],
)
async def test_what_is_not_to_be_waited_for_is_tried_again(other: str | None, state: RunState) -> None:
    scene = Scene({"agent": busy_with(other)})
    await scene.run("first", state)
    await scene.run("second", RunState())
    assert await scene.attending.adopt("second") == "later"
    second = await scene.runs.state("second")
    assert (second.phase, second.behind, second.attempts[-1].ended) == ("pending", "", "busy")
    assert await scene.laid_out() == {"second": False}
    assert await scene.runs.state("first") == state


async def test_a_run_that_begins_to_wait_when_the_other_is_just_over_is_not_left_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene({"agent": busy_with("first")})
    await scene.run("first", RUNS)
    await scene.run("second", RunState())
    conclude = scene.attending._runs.conclude

    async def slowly(*arguments: Any) -> RunState:
        first, _ = await scene.runs.change("first", lambda now: now.over("completed"))
        await scene.attending._endings.let_others_go_on("first", first)
        await scene.attending.look_around()  # which takes away the offers of what waits
        return await conclude(*arguments)

    monkeypatch.setattr(scene.attending._runs, "conclude", slowly)
    assert await scene.attending.adopt("second") == "later"
    assert (await scene.runs.state("second")).is_due
    assert await scene.laid_out() == {"second": True}


async def test_a_run_that_was_purged_is_forgotten() -> None:
    scene = Scene({"agent": print})
    await scene.offers.lay_out("agent", "run", at_once=True)
    await scene.attending.look_around()
    await scene.settle()
    assert await scene.laid_out() == {}


async def test_a_state_that_is_damaged_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene({})
    await scene.run("bad", HELD)
    await scene.run("good", HELD)
    key = "strands:run:{bad}:state"
    entry = await scene.store.get(key)
    assert entry is not None
    await scene.store.replace(key, entry.value[:-1] + b"?", entry.etag)
    assert set(await scene.runs.states(["bad", "good"])) == {"good"}
    assert "how a run stands cannot be read" in caplog.text


# -- queues ---------------------------------------------------------------------------------------------------------


async def test_the_tries_of_a_queue_grow_no_faster_than_the_queue() -> None:
    length, tries, begun, gate = 12, 0, threading.Event(), threading.Event()

    def speak(_: Any) -> str:
        begun.set()
        assert gate.wait(60)
        return "done"

    def build(session_id: str) -> Agent:
        nonlocal tries
        tries += 1
        manager = DaprSessionManager(session_id, store=scene.store, on_busy="raise")
        return Agent(model=ScriptedModel([speak, *["done"] * length]), session_manager=manager, callback_handler=None)

    scene = Scene({"agent": build})
    names = [f"run-{number}" for number in range(length)]
    for name in names:
        await scene.run(name, RunState())
    first = asyncio.create_task(scene.attending.adopt(names[0]))
    assert await asyncio.to_thread(begun.wait, 60)
    assert await asyncio.gather(*map(scene.attending.adopt, names[1:])) == ["later"] * (length - 1)
    assert tries == length
    gate.set()
    assert await first == "done"
    order: list[str] = []
    for _ in names[1:]:
        due = [name for name, state in (await scene.runs.states(names)).items() if state.is_due]
        assert len(due) == 1
        assert [name for name in await scene.laid_out() if name not in order] == due
        assert await asyncio.gather(*map(scene.attending.adopt, set(names[1:]) - {*order, *due})) == ["later"] * (
            length - 2 - len(order)
        )  # Dapr offers them now and then
        order += due
        await scene.attending.look_around()
        await scene.settle()
    states = (await scene.runs.states(names)).values()
    assert {state.phase for state in states} == {"completed"}
    assert [each.ended for state in states for each in state.attempts].count("put off") == length - 1
    assert tries == 2 * length - 1


def queue() -> dict[str, RunState]:
    """A run that is over, and two that wait for it."""
    return {
        "first": HELD.followed_by("second", "third").over("completed"),
        "second": HELD.put_off("first", "busy"),
        "third": HELD.put_off("first", "busy"),
    }


async def test_one_is_told_and_the_others_wait_for_that_one() -> None:
    scene = Scene({"agent": print})
    for name, state in queue().items():
        await scene.run(name, state)
    await scene.attending.look_after(of_the_dead("first"))
    second, third = await scene.runs.state("second"), await scene.runs.state("third")
    assert (second.behind, second.followers, third.behind) == ("", ("third",), "second")
    assert await scene.laid_out() == {"second": True}
    before = await scene.runs.states(["first", "second", "third"])
    await scene.attending.look_after(of_the_dead("first"))  # whoever does it again
    assert await scene.runs.states(["first", "second", "third"]) == before
    assert await scene.laid_out() == {"second": True}


async def test_who_was_told_by_one_that_died_before_it_laid_it_out_is_laid_out() -> None:
    scene = Scene({"agent": print})
    states = queue()
    states["second"] = states["second"].followed_by("third").its_turn("first")
    states["third"] = states["third"].to_follow("second", "first")
    for name, state in states.items():
        await scene.run(name, state)
    await scene.attending.look_after(of_the_dead("first"))
    assert await scene.laid_out() == {"second": True}
    assert (await scene.runs.state("third")).behind == "second"


async def test_what_a_dead_one_had_half_handed_over_is_handed_over() -> None:
    scene = Scene({"agent": print})
    states = queue()
    states["second"] = states["second"].followed_by("third")
    for name, state in states.items():
        await scene.run(name, state)
    await scene.attending.look_after(of_the_dead("first"))
    assert (await scene.runs.state("third")).behind == "second"
    assert await scene.laid_out() == {"second": True}


async def test_the_next_in_line_is_over_and_the_one_behind_it_is_told() -> None:
    scene = Scene({"agent": print})
    states = queue()
    states["second"] = states["second"].over("cancelled")
    for name, state in states.items():
        await scene.run(name, state)
    await scene.attending.look_after(of_the_dead("first"))
    assert await scene.laid_out() == {"third": True}
    assert (await scene.runs.state("third")).behind == ""


async def test_the_next_in_line_cannot_be_run_and_does_not_keep_the_others_waiting() -> None:
    scene = Scene({"agent": print})
    for name, state in queue().items():
        await scene.run(name, state, "unknown" if name == "second" else "agent")
    await scene.attending.look_after(of_the_dead("first"))
    assert (await scene.runs.state("third")).behind == "second"
    assert await scene.attending.adopt("second") == "later"  # Dapr brought it to one that does not know its agent
    assert (await scene.runs.state("third")).behind == ""
    assert await scene.laid_out() == {"third": True}
    assert await scene.laid_out("unknown") == {"second": True}


async def test_the_next_in_line_is_parked_and_the_one_behind_it_is_told() -> None:
    scene = Scene({"agent": print}, max_attempts=1)
    states = queue()
    states["second"] = replace(states["second"].followed_by("third"), behind="", failures=1)
    states["third"] = states["third"].to_follow("second", "first")
    for name, state in states.items():
        await scene.run(name, state)
    assert await scene.attending.adopt("second") == "done"
    assert (await scene.runs.state("second")).error[0] == "ParkedError"
    assert await scene.laid_out() == {"third": True}


@pytest.mark.parametrize(
    "before",
    [RUNS.over("failed"), RunState(), HELD.put_off("second", "busy")],
    ids=["over", "purged", "waiting for it"],
)
async def test_who_was_never_told_goes_on_when_dapr_offers_it(before: RunState) -> None:
    scene = Scene({"agent": busy_with(None)})
    await scene.run("first", before)
    await scene.run("second", HELD.put_off("first", "busy"))
    assert await scene.attending.adopt("second") == "later"
    assert (await scene.runs.state("second")).attempts[-1].ended == "busy"  # it was tried


@pytest.mark.parametrize(
    "before", [RUNS, RUNS.asking(({"id": "i"},)), HELD.put_off("another", "busy")], ids=["runs", "asks", "waits"]
)
async def test_who_waits_for_what_is_not_over_is_not_tried(before: RunState) -> None:
    scene = Scene({"agent": busy_with(None)})
    await scene.run("first", before)
    await scene.run("second", HELD.put_off("first", "busy"))
    assert await scene.attending.adopt("second") == "later"
    assert (await scene.runs.state("second")).attempts[-1].ended == "put off"


# -- attempts under way -----------------------------------------------------------------------------------------------


class Attempts:
    """Takes the place of what runs agents: each attempt ends when a test says so, or when it is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[Attempt] = []
        monkeypatch.setattr("strands_dapr_session.workflow.attending.Execution", self._begin)

    def _begin(self, claim: Claim, *_: object) -> Attempt:
        self.begun.append(Attempt(claim))
        return self.begun[-1]

    async def wait(self, count: int = 1) -> list[Attempt]:
        """Wait until so many have begun."""
        for _ in range(200):
            if len(self.begun) >= count:
                break
            await asyncio.sleep(0)
        assert len(self.begun) == count
        return self.begun


class Attempt:
    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.reasons: list[str] = []
        self.minds = True
        self.ending: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def stop(self, reason: Any) -> None:
        self.reasons.append(reason)
        if self.minds and not self.ending.done():
            self.ending.set_result(Stopped(reason))

    async def run(self) -> Any:
        return await self.ending


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return Attempts(monkeypatch)


async def test_however_often_a_run_is_offered_it_is_worked_on_once(attempts: Attempts) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())
    offers: list[asyncio.Future[Any]] = [asyncio.ensure_future(scene.attending.attend("run")) for _ in range(2)]
    (attempt,) = await attempts.wait()
    assert list(scene.attending.in_hand) == ["run"]
    assert (await scene.runs.state("run")).claim == attempt.claim.token
    offers.append(asyncio.ensure_future(scene.attending.adopt("run")))
    offers[0].cancel()  # Dapr's connection broke
    await asyncio.sleep(0)
    attempt.ending.set_result(Finished({"x": 1}))
    assert await asyncio.gather(*offers[1:]) == ["done", "done"]
    assert len(attempts.begun) == 1
    assert not scene.attending.in_hand
    assert await scene.runs.result("run") == {"x": 1}
    assert await scene.attending.adopt("run") == "done"


async def test_the_card_names_a_run_before_it_is_claimed(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())
    seen: list[tuple[tuple[str, ...], str]] = []

    async def announce() -> None:
        seen.append((scene.attending.in_hand, (await scene.runs.state("run")).claim))

    monkeypatch.setattr(scene.attending._crew, "announce", announce)
    working = asyncio.ensure_future(scene.attending.adopt("run"))
    (attempt,) = await attempts.wait()
    attempt.ending.set_result(Finished({}))
    await working
    assert seen == [(("run",), "")]


async def test_a_run_that_could_not_be_claimed_is_in_nobodys_hand(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())

    async def fail(*_: object) -> None:
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(scene.attending._runs, "claim", fail)
    with pytest.raises(StoreUnavailableError):
        await scene.attending.adopt("run")
    await asyncio.sleep(0)
    assert scene.attending.in_hand == ()
    assert not scene.attending._tasks
    assert not scene.attending._places.locked()
    assert "a run was not attended to" in caplog.text
    scene.attending.adopt_soon("run")
    await scene.settle()
    assert "could not be taken over yet" in caplog.text


async def test_a_run_that_another_worker_has_is_waited_for(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RUNS)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            await scene.runs.change("run", lambda now: now.over("completed"))

    monkeypatch.setattr("strands_dapr_session.workflow.attending.sleep", sleep)
    assert isinstance(await scene.attending.adopt("run"), Held)
    before = await scene.runs.state("run")
    assert before == RUNS
    assert await scene.attending.attend("run") == "done"
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.25, 0.25]
    assert not attempts.begun
    assert not scene.attending._seen_held


async def test_a_run_that_its_live_worker_has_let_go_of_is_taken(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RUNS)
    let_go = False
    crew = scene.attending._crew
    monkeypatch.setattr(crew, "is_dead", lambda _: False)
    monkeypatch.setattr(crew, "has_let_go", lambda *_: let_go)
    for _ in range(2):
        assert isinstance(await scene.attending.adopt("run"), Held)
    let_go = True
    working = asyncio.ensure_future(scene.attending.adopt("run"))
    (attempt,) = await attempts.wait()
    attempt.ending.set_result(Finished({}))
    assert await working == "done"
    assert [each.ended for each in (await scene.runs.state("run")).attempts] == ["lost", "completed"]


async def test_another_claim_of_the_same_worker_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RUNS)
    crew = scene.attending._crew
    monkeypatch.setattr(crew, "is_dead", lambda _: False)
    monkeypatch.setattr(crew, "has_let_go", lambda *_: True)
    assert isinstance(await scene.attending.adopt("run"), Held)
    await scene.runs.change("run", lambda now: now.let_go("failed").begun(ALIVE, "another claim", 2.0))
    assert isinstance(await scene.attending.adopt("run"), Held)  # its card may not name this one yet


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (Finished({}), ["wake"]),
        (Asking(({"id": "i"},)), ["schedule", "wake"]),
        (Stopped("drain"), ["schedule"]),
    ],
    ids=["over", "asks", "due"],
)
async def test_the_workflow_of_a_run_that_came_without_it_is_to_stand_like_the_run(
    attempts: Attempts, ending: Any, told: list[str]
) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())
    scene.attending.adopt_soon("run")
    (attempt,) = await attempts.wait()
    attempt.ending.set_result(ending)
    await scene.settle()
    assert scene.engine.told == told


async def test_what_is_no_longer_this_workers_is_stopped(attempts: Attempts) -> None:
    scene = Scene({"agent": print})
    for name in ("mine", "lost", "cancelled"):
        await scene.run(name, RunState())
    working = {name: asyncio.ensure_future(scene.attending.adopt(name)) for name in ("mine", "lost", "cancelled")}
    begun = {each.claim.invocation_id: each for each in await attempts.wait(3)}
    await scene.runs.change("lost", lambda now: now.lost().begun(ALIVE, "theirs", 2.0))
    await scene.runs.change("cancelled", lambda now: now.to_cancel())
    scene.attending.check(await scene.runs.states([*begun, "not in hand"]))
    assert {name: each.reasons for name, each in begun.items()} == {
        "mine": [],
        "lost": ["lost"],
        "cancelled": ["cancel"],
    }
    assert isinstance(await working["lost"], Held)
    assert await working["cancelled"] == "done"
    assert (await scene.runs.state("cancelled")).phase == "cancelled"
    assert (await scene.runs.state("lost")).claim == "theirs"
    scene.attending.stop("mine", "cancel")
    scene.attending.stop("nobody's", "cancel")
    assert await working["mine"] == "done"


async def test_a_worker_that_is_to_end_lets_finish_what_is_about_to_and_stops_the_rest(attempts: Attempts) -> None:
    scene = Scene({"agent": print}, max_concurrent_runs=2)
    for name in ("quick", "slow", "waits"):
        await scene.run(name, RunState())
    working = {name: asyncio.ensure_future(scene.attending.adopt(name)) for name in ("quick", "slow")}
    begun = {each.claim.invocation_id: each for each in await attempts.wait(2)}
    working["waits"] = asyncio.ensure_future(scene.attending.adopt("waits"))
    draining = asyncio.ensure_future(scene.attending.drain(0.05))
    await asyncio.sleep(0)
    assert not begun["quick"].reasons  # it has the time to finish
    begun["quick"].ending.set_result(Finished({}))
    assert await working["quick"] == "done"
    assert not begun["slow"].reasons
    await draining
    assert begun["slow"].reasons == ["drain"]
    assert await working["slow"] == "later"
    assert (await scene.runs.state("slow")).attempts[-1].ended == "drained"
    assert await working["waits"] == "later"  # it had no place yet, and gets none
    assert (await scene.runs.state("waits")).attempts == ()
    assert await scene.attending.adopt("waits") == "later"
    assert len(attempts.begun) == 2
    await Scene({}).attending.drain(0.0)  # nothing is under way


async def test_who_drains_waits_for_what_does_not_stop_at_once(attempts: Attempts) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())
    working = asyncio.ensure_future(scene.attending.adopt("run"))
    (attempt,) = await attempts.wait()
    attempt.minds = False
    draining = asyncio.ensure_future(scene.attending.drain(0.0))
    await asyncio.sleep(0.02)
    assert attempt.reasons == ["drain"]
    assert not draining.done()
    attempt.ending.set_result(Stopped("drain"))
    await draining
    assert await working == "later"


async def test_what_was_claimed_when_the_worker_is_to_end_is_stopped_before_it_begins(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene({"agent": print})
    await scene.run("run", RunState())
    prompt = scene.attending._runs.prompt

    async def late(*arguments: Any) -> Any:
        scene.attending._draining = True
        return await prompt(*arguments)

    monkeypatch.setattr(scene.attending._runs, "prompt", late)
    assert await scene.attending.adopt("run") == "later"
    assert [each.reasons for each in attempts.begun] == [["drain"]]
