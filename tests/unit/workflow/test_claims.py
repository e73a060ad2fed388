"""Who may work on a run, and what becomes of those who may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from strands_dapr_session.errors import InvocationConflictError, RunNotFoundError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import FaultyStore
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow.keys import RunKeys
from strands_dapr_session.workflow.runs import Claim, Runs
from strands_dapr_session.workflow.state import Request, RunState

REQUEST = Request("agent", "session", "prompt")


def dead(_: RunState) -> bool:
    return True


def alive(_: RunState) -> bool:
    return False


class Scene:
    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.runs = Runs(self.store)

    async def take(self, token: str, is_dead: Callable[[RunState], bool] = alive, attempts: int = 3) -> RunState:
        return await self.runs.claim("r", token, f"worker {token}", is_dead, attempts)

    async def become(self, state: RunState) -> None:
        await self.runs.change("r", lambda _: state)


@pytest.fixture
async def scene() -> Scene:
    scene = Scene()
    await scene.runs.submit("r", REQUEST)
    return scene


async def test_one_worker_has_a_run(scene: Scene) -> None:
    taken = await scene.take("a")
    assert (taken.claim, taken.holder, taken.phase) == ("a", "worker a", "running")
    assert await scene.take("b") == taken
    writes = scene.store.count("create", "replace")
    assert await scene.take("a", dead) == taken  # its own claim, asked for again
    assert scene.store.count("create", "replace") == writes


async def test_a_run_of_a_dead_worker_is_taken_over_and_counted(scene: Scene) -> None:
    await scene.take("a")
    taken = await scene.take("b", dead)
    assert (taken.claim, taken.holder, taken.failures) == ("b", "worker b", 1)
    assert [each.ended for each in taken.attempts] == ["lost", ""]


@pytest.mark.parametrize(("failures", "is_parked"), [(2, False), (3, True), (4, True)])
async def test_a_run_that_kills_its_workers_is_parked(scene: Scene, failures: int, *, is_parked: bool) -> None:
    await scene.become(replace(RunState().begun("w", "c", 1.0).let_go("lost", "it died"), failures=failures))
    state = await scene.take("a")
    assert (state.phase == "failed") is is_parked
    assert (state.claim == "a") is not is_parked
    if is_parked:
        assert state.error[0] == "ParkedError"
        assert "it died" in state.error[1]


@pytest.mark.parametrize("phase", ["completed", "failed", "cancelled"])
async def test_what_is_over_is_nobodys(scene: Scene, phase: str) -> None:
    await scene.become(RunState(phase=phase, cancel=True))  # type: ignore[arg-type]
    assert (await scene.take("a", dead)).claim == ""


@pytest.mark.parametrize("cancel", [True, False])
async def test_what_waits_for_people_is_taken_to_be_cancelled_only(scene: Scene, *, cancel: bool) -> None:
    await scene.become(RunState(phase="waiting", cancel=cancel))
    assert ((await scene.take("a")).claim == "a") is cancel


async def test_only_who_has_a_run_says_what_becomes_of_it(scene: Scene) -> None:
    first = Claim("r", "a", REQUEST, await scene.take("a"), "prompt")
    second = Claim("r", "b", REQUEST, await scene.take("b", dead), "prompt")
    state = await scene.runs.conclude(first, lambda now: now.over("failed"))
    assert (state.phase, state.claim) == ("running", "b")
    state = await scene.runs.complete(second, {"text": "done"})
    assert state.phase == "completed"
    assert await scene.runs.result("r") == {"text": "done"}
    assert await scene.runs.result("other") is None


async def test_the_result_is_there_when_the_run_is_over(scene: Scene) -> None:
    claim = Claim("r", "a", REQUEST, await scene.take("a"), "prompt")
    scene.store.calls.clear()
    await scene.runs.complete(claim, {"text": "done"})
    written = [call.keys[0] for call in scene.store.calls if call.writes]
    assert written == [RunKeys("r").result, RunKeys("r").state]


@pytest.mark.parametrize(
    ("other", "what"),
    [(Request("b", "session", "prompt"), "another agent."), (Request("agent", "t", "prompt"), "another session_id."),
     (Request("agent", "session", "q"), "another prompt."),
     (Request("b", "t", "q"), "agent and session_id and prompt.")],
    ids=repr,
)  # fmt: skip
async def test_an_id_is_for_one_request(scene: Scene, other: Request, what: str) -> None:
    with pytest.raises(InvocationConflictError, match=what):
        await scene.runs.submit("r", other)
    assert await scene.runs.submit("r", REQUEST) == RunState()
    assert await scene.runs.request("r") == REQUEST


async def test_what_was_not_submitted_is_not_found(scene: Scene) -> None:
    with pytest.raises(RunNotFoundError, match="'other'"):
        await scene.runs.request("other")
    assert await scene.runs.state("other") == RunState()
    await scene.take("a")
    states = await scene.runs.states(["r", "other"])
    assert states == {"r": await scene.runs.state("r"), "other": RunState()}
    assert await scene.runs.states([]) == {}


async def test_a_run_is_called_with_the_newest_answers(scene: Scene) -> None:
    assert await scene.runs.prompt("r", REQUEST, RunState()) == "prompt"
    for number in (1, 2):
        await documents.create(scene.store, RunKeys("r").answers(number), f"answer {number}", path="answers")
    for number in (1, 2):
        assert await scene.runs.prompt("r", REQUEST, RunState(answers=number)) == f"answer {number}"


def test_where_a_run_is() -> None:
    keys = RunKeys("r-1")
    assert (keys.request, keys.state, keys.answers(2), keys.result) == (
        "strands:run:{r-1}:request", "strands:run:{r-1}:state", "strands:run:{r-1}:answers.2",
        "strands:run:{r-1}:result",
    )  # fmt: skip
    assert keys.workflow(0) == "strands-run-r-1"
    assert keys.workflow(1) == "strands-run-r-1-again-1"
    odd = [RunKeys(name).workflow(0) for name in ("a.b", "a_b", "a b", "a/b", "ü", "_a_b", ".a")]
    assert len(set(odd)) == len(odd)
    assert all(name.replace("-", "").replace("_", "").isalnum() and name.isascii() for name in odd)
