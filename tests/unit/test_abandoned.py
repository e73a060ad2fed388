"""Which runs count as abandoned, after how long a look, and what is said to have become of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from strands.multiagent.base import Status

from strands_dapr_session import (
    ConfigurationError,
    DamagedDataError,
    FencedError,
    NothingUnfinishedError,
    ParkedError,
    SessionBusyError,
    abandoned,
    resume_abandoned,
)
from strands_dapr_session.abandoned import find_abandoned
from strands_dapr_session.hooks.owed import refuse_new
from strands_dapr_session.journal.acquire import Wish, acquire, give_back
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.layout import worker_key
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.frames import seal
from strands_dapr_session.records.records import InvocationFinished, InvocationStarted, Noted, Record
from strands_dapr_session.stores.memory import MemoryStore
from tests.unit.journal.journals import Alone

FAR_AWAY = "ab12/elsewhere/1/another-boot/1/1"
LEASE = 7.0


class Other(Alone):
    """Another worker."""

    def __init__(self, name: str) -> None:
        self.name = name


class Scene:
    """A store, and time, which passes only while a run is watched.

    Attributes:
        watched: For how many seconds runs were watched, one after the other.
        meanwhile: What others do at the end of each.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.watched: list[float] = []
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def sleep(self, seconds: float) -> None:
        self.watched.append(seconds)
        if self.meanwhile:
            await self.meanwhile.pop(0)()

    async def own(self, worker: str, session_id: str = "s") -> Any:
        """Let a worker own the run of a session."""
        context = Context(self.store, Other(worker))
        return await acquire(context, Wish(session_id, "r", JournalSettings(lease=LEASE, on_busy="steal"), "theirs"))

    async def write(self, *records: Record, session_id: str = "s") -> None:
        """Let this process write records and let go."""
        journal = Journal(self.store, session_id, "r", settings=JournalSettings(on_busy="steal"))
        await journal.acquire()
        await journal.release(*records)

    async def begin(self, state: str = "running", session_id: str = "s") -> None:
        """Leave a run that nobody owns."""
        status = {"invocation": "i", "state": state, "attempt": 1}
        begun = InvocationStarted("", "i", None, b"p", b"f", 1)
        await self.write(begun, Noted("", "status", pack_value(status)), session_id=session_id)

    async def beat(self, number: int, *given_up: str) -> None:
        key = worker_key("ab12")
        await self.store.delete_many([key])
        await self.store.create(key, seal(key, pack_value([number, list(given_up)])))

    async def find(self, **options: Any) -> list[str]:
        return [each.session_id for each in await find_abandoned(self.store, **options)]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene()
    own = SimpleNamespace(sleep=made.sleep, gather=asyncio.gather, Semaphore=asyncio.Semaphore)
    monkeypatch.setattr(abandoned, "asyncio", own)
    return made


# -- which ------------------------------------------------------------------------------------------------------------


async def test_whose_worker_gives_no_sign_of_life_for_its_lease(scene: Scene) -> None:
    await scene.begin()
    await scene.own(FAR_AWAY)
    await scene.beat(1)
    assert await scene.find() == ["s"]
    assert scene.watched == [LEASE]


async def test_whose_worker_has_no_heartbeat_at_all(scene: Scene) -> None:
    await scene.begin()
    await scene.own("a worker of some other make")
    assert await scene.find() == ["s"]
    assert scene.watched == [LEASE]


async def test_whose_worker_says_that_it_let_go(scene: Scene) -> None:
    await scene.begin()
    await scene.own(FAR_AWAY)
    await scene.beat(1, "theirs")
    assert await scene.find() == ["s"]
    assert scene.watched == []


async def test_whose_worker_is_known_to_be_gone(scene: Scene) -> None:
    await scene.begin()
    await scene.own(replace(this_process.identity, token="ab12", started="0").name)  # noqa: S106
    assert await scene.find() == ["s"]
    assert scene.watched == []


async def test_what_this_process_runs_is_not(scene: Scene) -> None:
    await scene.begin()
    journal = Journal(scene.store, "s", "r")
    await journal.acquire()
    assert await scene.find() == []
    await journal.release()
    assert scene.watched == []


async def test_a_beat_of_its_heart_is_a_sign_of_life(scene: Scene) -> None:
    await scene.begin()
    await scene.own(FAR_AWAY)
    for before, then in [(None, 1), (1, 2)]:
        if before is not None:
            await scene.beat(before)
        scene.meanwhile.append(lambda number=then: scene.beat(number))  # type: ignore[misc]
        assert await scene.find() == []
    assert scene.watched == [LEASE] * 2


@pytest.mark.parametrize("owner", [FAR_AWAY, None])
async def test_a_record_is_a_sign_of_life(scene: Scene, owner: str | None) -> None:
    await scene.begin()
    claim = None if owner is None else await scene.own(owner)

    async def go_on() -> None:
        if claim is None:
            await scene.begin()
        else:
            await give_back(Context(scene.store, Other(FAR_AWAY)), claim)

    scene.meanwhile.append(go_on)
    assert await scene.find() == []


async def test_what_nobody_owns_is_watched_for_a_lease_of_ours(scene: Scene) -> None:
    await scene.begin()
    assert await scene.find() == ["s"]
    assert scene.watched == [JournalSettings().lease]


@pytest.mark.parametrize("state", ["failed", "interrupted", "parked"])
async def test_who_failed_is_asked_for_and_who_waits_is_left_alone(scene: Scene, state: str) -> None:
    await scene.begin(state)
    assert await scene.find() == []
    assert await scene.find(failed=True) == (["s"] if state == "failed" else [])
    assert scene.watched == []


async def test_what_failed_and_is_tried_again_by_somebody_is_watched_as_any_other(scene: Scene) -> None:
    await scene.begin("failed")
    await scene.own(FAR_AWAY)
    assert await scene.find(failed=True) == ["s"]
    assert scene.watched == [LEASE]


async def test_what_has_finished_is_not(scene: Scene) -> None:
    await scene.begin()
    await scene.write(InvocationFinished("", "i", "completed", b""))
    assert await scene.find(failed=True) == []


async def test_only_those_that_are_named_are_looked_at(scene: Scene) -> None:
    for name in ("a", "b", "c"):
        await scene.begin("failed", name)
    assert await scene.find(failed=True, sessions=["c", "a"]) == ["c", "a"]
    assert await scene.find(failed=True, sessions=[]) == []
    assert sorted(await scene.find(failed=True)) == ["a", "b", "c"]


async def test_a_damaged_session_is_passed_over_unless_it_is_named(scene: Scene) -> None:
    for name in ("a", "b"):
        await scene.begin("failed", name)
    await scene.write(Noted("", "status", pack_value([1])), session_id="a")
    assert await scene.find(failed=True) == ["b"]
    with pytest.raises(DamagedDataError):
        await scene.find(failed=True, sessions=["a", "b"])


# -- what became of them ----------------------------------------------------------------------------------------------


class Fake:
    """Stands for an agent, or for a graph."""

    def __init__(self, does: Any, name: str = "agent_id") -> None:
        self._does = does
        setattr(self, name, "r")

    def __call__(self, prompt: object, *, invocation_state: dict[str, Any]) -> Any:
        assert prompt is None
        done = self._does(invocation_state) if callable(self._does) else self._does
        if isinstance(done, Exception):
            raise done
        return done


def resume(scene: Scene, does: Any, name: str = "agent_id", **options: Any) -> list[Any]:
    return resume_abandoned(lambda _: Fake(does, name), store=scene.store, failed=True, **options)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (SimpleNamespace(stop_reason="end_turn"), "finished"),
        (SimpleNamespace(stop_reason="interrupt"), "interrupted"),
        (SimpleNamespace(status=Status.COMPLETED), "finished"),
        (SimpleNamespace(status=Status.INTERRUPTED), "interrupted"),
        (SimpleNamespace(status=Status.FAILED), "failed"),
    ],
    ids=repr,
)
async def test_what_a_result_means(scene: Scene, result: Any, outcome: str) -> None:
    await scene.begin("failed")
    (found,) = await asyncio.to_thread(resume, scene, result, name="id" if hasattr(result, "status") else "agent_id")
    assert (found.session_id, found.root_id, found.outcome) == ("s", "r", outcome)
    assert found.result is result
    assert found.error is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NothingUnfinishedError(), "gone"),
        (SessionBusyError(""), "busy"),
        (FencedError(), "busy"),
        (ParkedError(""), "parked"),
        (ValueError(), "failed"),
    ],
    ids=repr,
)
async def test_what_an_error_means(scene: Scene, error: Exception, outcome: str) -> None:
    await scene.begin("failed")
    (found,) = await asyncio.to_thread(resume, scene, error)
    assert (found.session_id, found.root_id, found.outcome) == ("s", "r", outcome)
    assert found.result is None
    assert found.error is error


@pytest.mark.parametrize(
    "built", [SimpleNamespace(agent_id="another"), SimpleNamespace(id="another"), SimpleNamespace(agent_id="a", id="r")]
)
async def test_what_has_another_name_is_not_called(scene: Scene, built: Any) -> None:
    await scene.begin("failed")
    (found,) = await asyncio.to_thread(resume_abandoned, lambda _: built, store=scene.store, failed=True)
    assert (found.session_id, found.root_id, found.outcome) == ("s", "r", "unknown")


async def test_nothing_new_is_begun(scene: Scene) -> None:
    await scene.begin("failed")
    (found,) = await asyncio.to_thread(resume, scene, lambda _: refuse_new("s/r"))
    assert found.outcome == "gone"


async def test_what_cannot_be_built_does_not_stop_the_others(scene: Scene) -> None:
    for name in ("a", "b"):
        await scene.begin("failed", name)

    def build(session_id: str) -> Fake:
        if session_id == "a":
            raise LookupError("nothing of that name")
        return Fake(SimpleNamespace(stop_reason="end_turn"))

    found = await asyncio.to_thread(resume_abandoned, build, store=scene.store, failed=True)
    assert {each.session_id: each.outcome for each in found} == {"a": "failed", "b": "finished"}


async def test_no_others_are_resumed_than_those_that_are_named(scene: Scene) -> None:
    for name in ("a", "b"):
        await scene.begin("failed", name)
    found = await asyncio.to_thread(resume, scene, SimpleNamespace(stop_reason="end_turn"), sessions=["b"])
    assert [each.session_id for each in found] == ["b"]


async def test_each_call_gets_the_same_state_of_its_own(scene: Scene) -> None:
    for name in ("a", "b"):
        await scene.begin("failed", name)
    seen: list[dict[str, Any]] = []

    def change(state: dict[str, Any]) -> Any:
        seen.append(dict(state))
        state["changed"] = True
        return SimpleNamespace(stop_reason="end_turn")

    given = {"user": 7}
    await asyncio.to_thread(resume, scene, change, invocation_state=given)
    assert seen == [given] * 2 == [{"user": 7}] * 2
    await asyncio.to_thread(resume, scene, change)
    assert seen[2:] == [{}] * 2


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_so_many_run_at_the_same_time(scene: Scene, concurrency: int) -> None:
    for number in range(6):
        await scene.begin("failed", f"s{number}")
    running: set[object] = set()
    most: list[int] = []
    together = threading.Barrier(concurrency)

    def run(_: Any) -> Any:
        me = object()
        running.add(me)
        most.append(len(running))
        together.wait(10)  # breaks where too few come
        time.sleep(0.02)  # for more to come than may
        running.discard(me)
        together.wait(10)
        return SimpleNamespace(stop_reason="end_turn")

    found = await asyncio.to_thread(resume, scene, run, concurrency=concurrency)
    assert {each.outcome for each in found} == {"finished"}
    assert max(most) <= concurrency


def test_at_least_one_has_to_run(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        resume(scene, None, concurrency=0)
