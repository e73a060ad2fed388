"""What is written down about an attempt that ended, who goes on then, and what its workflow does next."""

from __future__ import annotations

from typing import Any

import pytest

from strands_dapr_session.errors import (
    DriftError,
    FencedError,
    SessionBusyError,
    StoreUnavailableError,
    UnfinishedRunError,
)
from strands_dapr_session.hooks.retrying import _give_up_on
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.workflow.endings import Endings, Held, step_after
from strands_dapr_session.workflow.execution import Asking, Finished, Raised, Stopped
from strands_dapr_session.workflow.offers import Offers
from strands_dapr_session.workflow.runs import Claim, Runs
from strands_dapr_session.workflow.settings import WorkerSettings
from strands_dapr_session.workflow.state import Request, RunState

RUNS = RunState().begun("worker", "token", 1.0)
WAITS = RunState().begun("worker", "before", 0.5).put_off("run", "busy")


class Scene:
    """A run that this worker has, one that waits for it, and what came of an attempt."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.runs, self.offers = Runs(self.store), Offers(self.store)
        self.left: list[tuple[str, ...]] = []
        settings = WorkerSettings(retry_on=(TimeoutError,))
        self.endings = Endings(self.runs, self.offers, settings, self._leave)
        self.request = Request("agent", "s", "prompt")

    async def _leave(self, *what: str) -> Any:
        self.left.append(what)
        return "later"

    async def put(self, name: str, state: RunState) -> None:
        await self.runs.submit(name, self.request)
        await self.runs.change(name, lambda _: state)

    async def end(self, ending: Any, now: RunState | None = None, **others: RunState) -> Any:
        """Let the attempt end; `now` is how the run stands by then."""
        begun = RUNS.followed_by("next")
        for name, state in {"run": now or begun, "next": WAITS, **others}.items():
            await self.put(name, state)
        return await self.endings.conclude(Claim("run", "token", self.request, begun, "prompt"), ending)

    async def state(self, name: str = "run") -> RunState:
        return await self.runs.state(name)

    async def laid_out(self) -> dict[str, bool]:
        return {name: offer.at_once for name, offer in (await self.offers.look(["agent"]))["agent"].items()}


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_result_is_kept_and_the_next_one_goes_on(scene: Scene) -> None:
    assert await scene.end(Finished({"x": 1})) == "done"
    state = await scene.state()
    assert (state.phase, state.holder, state.attempts[-1].ended) == ("completed", "", "completed")
    assert await scene.runs.result("run") == {"x": 1}
    assert await scene.laid_out() == {"next": True}
    assert (await scene.state("next")).behind == ""


async def test_a_result_that_cannot_be_kept_is_a_failure(scene: Scene) -> None:
    assert await scene.end(Finished({"x": object()})) == "done"
    state = await scene.state()
    assert (state.phase, state.error[0]) == ("failed", "UnencodableValueError")
    assert await scene.laid_out() == {"next": True}


async def test_questions_are_asked_without_a_worker(scene: Scene) -> None:
    assert await scene.end(Asking(({"id": "i", "name": "n", "reason": "r"},))) == "waiting"
    state = await scene.state()
    assert (state.phase, state.holder, state.interrupts[0]["id"]) == ("waiting", "", "i")
    assert await scene.laid_out() == {}
    assert (await scene.state("next")).behind == "run"


ENDED: dict[str, tuple[Any, str, str, str]] = {
    "cancelled": (Stopped("cancel"), "cancelled", "RunCancelledError", "cancelled"),
    "raised": (Raised(ValueError("no")), "failed", "ValueError", "no"),
    "given up on": (Raised(TimeoutError("late")), "failed", "TimeoutError", "late"),
    "its own": (Raised(UnfinishedRunError("odd", None, "run")), "failed", "UnfinishedRunError", "odd"),
    "of nobody": (Raised(UnfinishedRunError("odd", None, None)), "failed", "UnfinishedRunError", "odd"),
    "of a call elsewhere": (Raised(UnfinishedRunError("odd", None, "x")), "failed", "UnfinishedRunError", "odd"),
}
_give_up_on(ENDED["given up on"][0].error)


@pytest.mark.parametrize(("ending", "phase", "error", "text"), ENDED.values(), ids=ENDED)
async def test_what_is_over_says_why_and_lets_the_next_one_go_on(
    scene: Scene, ending: Any, phase: str, error: str, text: str
) -> None:
    assert await scene.end(ending) == "done"
    state = await scene.state()
    assert (state.phase, state.error, state.holder) == (phase, (error, text), "")
    assert await scene.laid_out() == {"next": True}


TRIED_AGAIN: dict[str, tuple[Any, str, str, int]] = {
    "drained": (Stopped("drain"), "drained", "its worker was told to end", 0),
    "store": (Raised(StoreUnavailableError("away")), "failed", "StoreUnavailableError: away", 0),
    "retry": (Raised(TimeoutError("late")), "failed", "TimeoutError: late", 1),
    "busy": (Raised(SessionBusyError("busy")), "busy", "busy", 0),
}


@pytest.mark.parametrize(("ending", "ended", "detail", "failures"), TRIED_AGAIN.values(), ids=TRIED_AGAIN)
async def test_what_is_tried_again_is_due_and_laid_out(
    scene: Scene, ending: Any, ended: str, detail: str, failures: int
) -> None:
    assert await scene.end(ending) == "later"
    state = await scene.state()
    assert (state.is_due, state.holder, state.failures) == (True, "", failures)
    assert (state.attempts[-1].ended, state.attempts[-1].detail) == (ended, detail)
    assert await scene.laid_out() == {"run": False}  # Dapr brings it too
    assert (await scene.state("next")).behind == "run"


async def test_another_version_of_the_agent_is_left_to_others(scene: Scene) -> None:
    assert await scene.end(Raised(DriftError("other tools"))) == "later"
    state = await scene.state()
    assert (state.phase, state.attempts[-1].ended, state.attempts[-1].detail) == ("pending", "refused", "other tools")
    assert scene.left == [("run", "agent", "DriftError", "other tools")]


EVERY = {
    "finished": Finished({"x": 1}),
    "asks": Asking(({"id": "i"},)),
    "lost": Stopped("lost"),
    "fenced": Raised(FencedError("taken over")),
    **{name: ending for name, (ending, *_) in {**ENDED, **TRIED_AGAIN}.items()},
    "behind": Raised(UnfinishedRunError("odd", None, "next")),
    "busy with another": Raised(SessionBusyError("busy", "busy with")),
}


@pytest.mark.parametrize("name", [each for each in EVERY if each != "finished"])
async def test_what_another_worker_has_taken_is_left_as_it_is(scene: Scene, name: str) -> None:
    taken = RUNS.followed_by("next").lost().begun("another", "theirs", 2.0)
    step = await scene.end(EVERY[name], now=taken, **{"busy with": RUNS})
    assert isinstance(step, Held)
    assert await scene.state() == taken
    assert await scene.laid_out() == {}


@pytest.mark.parametrize("name", ["drained", "retry", "asks", "raised"])
async def test_what_is_over_by_then_is_done(scene: Scene, name: str) -> None:
    over = RUNS.over("completed")
    assert await scene.end(EVERY[name], now=over) == "done"
    assert await scene.state() == over
    assert await scene.laid_out() == {}


@pytest.mark.parametrize(("name", "unchanged"), [("lost", True), ("fenced", True)])
async def test_what_was_lost_writes_nothing(scene: Scene, name: str, *, unchanged: bool) -> None:
    step = await scene.end(EVERY[name])
    assert isinstance(step, Held)
    assert (await scene.state() == RUNS.followed_by("next")) is unchanged


# -- behind a run that is unfinished ----------------------------------------------------------------------------------

BEHIND = Raised(UnfinishedRunError("another task is unfinished", None, "other"))


@pytest.mark.parametrize(
    "other", [RUNS, RUNS.asking(({"id": "i"},)), RUNS.let_go("drained")], ids=["runs", "asks", "due"]
)
async def test_an_unfinished_run_is_waited_for(scene: Scene, other: RunState) -> None:
    assert await scene.end(BEHIND, other=other) == "later"
    state = await scene.state()
    assert (state.behind, state.attempts[-1].ended) == ("other", "put off")
    assert (await scene.state("other")).followers == ("run",)
    assert await scene.laid_out() == {}


@pytest.mark.parametrize("phase", ["completed", "cancelled"])
async def test_a_run_that_has_just_ended_is_not_waited_for(scene: Scene, phase: Any) -> None:
    assert await scene.end(BEHIND, other=RUNS.over(phase)) == "later"
    state = await scene.state()
    assert (state.is_due, state.behind, state.attempts[-1].ended) == (True, "", "busy")
    assert await scene.laid_out() == {"run": False}


async def test_a_run_that_failed_is_to_be_restarted_or_abandoned_first(scene: Scene) -> None:
    assert await scene.end(BEHIND, other=RUNS.over("failed")) == "done"
    state = await scene.state()
    assert (state.phase, state.error[0]) == ("failed", "UnfinishedRunError")
    assert "It is run 'other', which failed: restart() or abandon()" in state.error[1]
    assert await scene.laid_out() == {"next": True}


def test_what_is_to_be_done_about_a_run_that_this_worker_does_not_have() -> None:
    assert step_after(RUNS.over("failed")) == "done"
    assert step_after(RUNS.asking(({"id": "i"},))) == "waiting"
    assert isinstance(step_after(RUNS), Held)


async def test_a_follower_that_was_purged_hinders_nobody(scene: Scene) -> None:
    for name, state in {"run": RUNS.followed_by("gone", "next").over("completed"), "next": WAITS}.items():
        await scene.put(name, state)
    await scene.endings.let_others_go_on("run", await scene.state())
    assert await scene.laid_out() == {"next": True}
    await scene.endings.lay_out("gone")
    assert await scene.laid_out() == {"next": True}
