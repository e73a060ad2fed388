"""A run goes on by itself when its worker, the sidecar or everything dies."""

from __future__ import annotations

import pytest

from strands_dapr_session import InvocationConflictError, RunEvent, io_thread
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.keys import redis_keys
from strands_dapr_session.workflow.runs import Runs
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


@pytest.fixture(scope="module", autouse=True)
def workers(stage: Stage) -> None:
    stage.start("agent", count=2)


def test_the_same_run_is_had_again_by_its_id(stage: Stage) -> None:
    client = stage.client()
    first = client.submit("agent", session_id="same", prompt="say hello", invocation_id="same-1")
    assert str(first.result(timeout=30)).strip() == "hello"
    again = client.submit("agent", session_id="same", prompt="say hello", invocation_id="same-1")
    assert again.result(timeout=30).message == first.result(timeout=60).message  # type: ignore[union-attr]
    assert len(again.status().attempts) == 1
    with pytest.raises(InvocationConflictError, match="another prompt"):
        client.submit("agent", session_id="same", prompt="say goodbye", invocation_id="same-1")


def test_prompts_and_results_of_any_length_pass(stage: Stage) -> None:
    text = "0123456789abcdef" * 400_000  # longer than what a sidecar puts into one message
    run = stage.client().submit("agent", session_id="long", prompt=f"say {text}")
    assert str(run.result(timeout=30)).strip() == text


def test_another_worker_goes_on_when_one_is_killed(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="killed", prompt="batch killed")
    first = stage.started("killed", 3)
    stage.recorded("killed", 2)
    stage.worker_of(first).kill()
    stage.until(lambda: stage.entries("start", "killed")[-1].pid != first.pid, "the takeover")
    stage.open("killed")
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("killed") == {1: 1, 2: 1, 3: 2}
    assert [attempt.ended for attempt in run.status().attempts] == ["lost", "completed"]
    stage.start("agent")


def test_a_run_that_its_worker_has_lost_goes_on(stage: Stage) -> None:
    """As when a worker could not write down how an attempt ended: it lives, and the run is said to be its own."""
    runs = Runs(open_store(stage.store))
    for number, card in enumerate(stage.cards()):
        name, holder = f"lost-{number}", card.worker
        io_thread.run_sync(runs.change(name, lambda now, holder=holder: now.begun(holder, "nobody", 0.0)))  # type: ignore[misc]
        run = stage.client().submit("agent", session_id=name, prompt="say found", invocation_id=name)
        assert str(run.result(timeout=30)).strip() == "found"


def test_a_run_that_is_delivered_twice_runs_once(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="twice", prompt="batch twice")
    stage.started("twice", 3)
    stage.stack.daprd.kill()
    stage.stack.daprd.start()
    # Only when a worker has taken the second delivery can it be said that it starts nothing.
    other = stage.client().submit("agent", session_id="after", prompt="say after")
    assert str(other.result(timeout=30)).strip() == "after"
    stage.open("twice")
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("twice") == {1: 1, 2: 1, 3: 1}
    assert len(run.status().attempts) == 1


def test_a_run_waits_for_the_next_worker(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="alone", prompt="batch alone")
    stage.started("alone", 3)
    stage.recorded("alone", 2)
    for worker in stage.workers:
        worker.kill()
    stage.open("alone")
    stage.start("agent", count=2, wait=False)
    assert str(run.result(timeout=30)).strip() == "done"
    assert stage.counts("alone") == {1: 1, 2: 1, 3: 2}


def texts(events: list[RunEvent]) -> list[str]:
    """Say what happened, in short."""
    found = []
    for event in events:
        match event.kind:
            case "message":
                content = event.data["content"][0]
                found.append(content.get("text", "").strip() or next(iter(content)))
            case "tool_result":
                found.append(event.data["content"][0]["text"])
            case _:
                found.append(event.kind)
    return found


def test_a_stream_goes_on_after_a_crash_without_gap_or_repetition(stage: Stage) -> None:
    run = stage.client().submit("agent", session_id="stream", prompt="batch stream")
    stage.recorded("stream", 2)
    stream = run.stream()
    before = [next(stream) for _ in range(5)]
    assert sorted(texts(before)) == ["batch stream", "started", "step 1", "step 2", "toolUse"]
    stage.worker_of(stage.started("stream", 3)).kill()
    stage.open("stream")
    rest = list(run.stream(before[-1].offset))
    assert [text for text in texts(rest) if text != "started"] == ["gated 3", "toolResult", "done", "finished"]
    assert list(stream) == rest
    assert list(run.stream()) == [*before, *rest]
    offsets = [event.offset for event in (*before, *rest)]
    assert offsets == sorted(set(offsets))
    stage.start("agent")


def test_a_stream_is_the_same_when_its_steps_have_been_packed(stage: Stage) -> None:
    count = 60  # commits are packed by the dozen
    run = stage.client().submit("agent", session_id="packed", prompt=f"long packed {count}")
    live = list(run.stream())
    run.result(timeout=30)
    assert [text for text in texts(live) if text.startswith("step")] == [f"step {n}" for n in range(1, count + 1)]
    assert texts(live)[-2:] == ["done", "finished"]
    assert any("{packed:default}" in key and key.endswith(":head") for key in redis_keys(stage.redis.url))
    assert list(run.stream()) == live
    middle = live[len(live) // 2]
    assert list(run.stream(middle.offset)) == live[len(live) // 2 + 1 :]
    # The next run of the session has a stream of its own.
    other = stage.client().submit("agent", session_id="packed", prompt="say next")
    assert texts(list(other.stream())) == ["started", "say next", "next", "finished"]
