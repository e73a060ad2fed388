"""What is handed out to a caller that asks again for a finished invocation, and calls that end before they are used."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, RootModel
from strands import Agent, ToolContext, tool
from strands.hooks import AfterModelCallEvent, BeforeInvocationEvent

from strands_dapr_session import DaprSessionManager, InvocationConflictError
from strands_dapr_session.hooks.results import RecordedOutput
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import Film, add_hook, everything, manager

ID: Any = {"invocation_id": "req-77"}
SPENT = {"inputTokens": 20, "outputTokens": 2, "totalTokens": 22}

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Offer(BaseModel):
    """An offer."""

    price: int


class Prices(RootModel[list[int]]):
    """Prices."""


@tool
def look() -> str:
    """Look."""
    ran.append("look")
    return "seen"


def build(session_manager: DaprSessionManager, *script: Any, **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel(list(script)),
        tools=[look],
        session_manager=session_manager,
        callback_handler=None,
        **options,
    )


def test_the_tokens_are_those_that_it_took() -> None:
    film = Film()
    script: Any = [[("look", {})], "done"]
    first = build(manager(film), *script)
    assert first("go", invocation_state=ID).metrics.accumulated_usage == SPENT
    same = first("go", invocation_state=ID)
    assert same.metrics.accumulated_usage == SPENT  # it took them once
    assert same.metrics.latest_agent_invocation.usage == SPENT  # type: ignore[union-attr]
    other = build(manager(film), *script)

    for _ in range(2):
        again = other("go", invocation_state=ID)
        assert again.metrics.accumulated_usage == SPENT
        assert again.metrics.latest_agent_invocation.usage == SPENT  # type: ignore[union-attr]
        assert again.metrics.accumulated_metrics["latencyMs"] == 2

    assert len(ran) == 1
    assert everything(other) == everything(first)


def test_long_prompts_do_not_take_the_place_of_results() -> None:
    film = Film()
    agent = build(manager(film), "done")
    images = [{"image": {"format": "png", "source": {"bytes": bytes([number]) * 60_000}}} for number in range(5)]
    prompts: list[Any] = [[{"text": "look"}, image] for image in images]
    for number, prompt in enumerate(prompts):
        agent(prompt, invocation_state={"invocation_id": f"req-{number}"})
    other = build(manager(film), "done")
    for number, prompt in enumerate(prompts):
        for again in (prompt, None):
            other(again, invocation_state={"invocation_id": f"req-{number}"})
        with pytest.raises(InvocationConflictError):
            other(prompts[number - 1], invocation_state={"invocation_id": f"req-{number}"})
    assert other.model.calls == []  # type: ignore[attr-defined]


def test_tokens_of_answers_that_a_hook_refused_count_as_in_the_run_itself() -> None:
    """Strands counts them since 1.6x."""
    film = Film()

    def refusing() -> Agent:
        agent = build(manager(film), [("look", {})], "done")
        refused: list[int] = []

        def refuse(event: AfterModelCallEvent) -> None:
            if len(event.agent.messages) not in refused:
                refused.append(len(event.agent.messages))
                event.retry = True

        agent.add_hook(refuse, AfterModelCallEvent)
        return agent

    spent = refusing()("go", invocation_state=ID).metrics.accumulated_usage
    for _ in range(2):
        again = refusing()("go", invocation_state=ID)
        assert again.metrics.accumulated_usage == spent
        assert again.metrics.latest_agent_invocation.usage == spent  # type: ignore[union-attr]
    assert len(ran) == 1


def test_structured_output_comes_back_as_what_it_was() -> None:
    film = Film()
    script = [("Offer", {"price": 3})]
    build(manager(film), script, structured_output_model=Offer)("go", invocation_state=ID)

    again = build(manager(film), script, structured_output_model=Offer)("go", invocation_state=ID)

    assert again.structured_output == Offer(price=3)


@pytest.mark.parametrize(("model", "arguments", "shown"), [
    (Offer, {"price": 3}, {"price": 3}),
    (Prices, {"root": [3, 4]}, {"root": [3, 4]}),
], ids=["dict", "list"])  # fmt: skip
def test_structured_output_of_a_type_that_only_the_call_knew_still_shows(
    model: Any, arguments: Any, shown: Any
) -> None:
    film = Film()
    agent = build(manager(film), [(model.__name__, arguments)])
    assert agent("go", invocation_state=ID, structured_output_model=model).structured_output is not None

    again = build(manager(film), "")("go", invocation_state=ID)

    assert isinstance(again.structured_output, RecordedOutput)
    assert again.structured_output.model_dump() == shown


def test_the_reason_for_stopping_is_the_recorded_one() -> None:
    film = Film()

    def cancelled(session_manager: DaprSessionManager) -> Agent:
        def turn(_: Any) -> Any:
            agent.cancel()
            return [("look", {})]

        agent = build(session_manager, turn, "done")
        return agent

    first = cancelled(manager(film))("go", invocation_state=ID)
    assert first.stop_reason == "cancelled"

    again = cancelled(manager(film))("go", invocation_state=ID)

    assert again.stop_reason == "cancelled"
    assert again.message["content"] == first.message["content"]


def test_a_call_after_one_that_was_handed_out_gets_its_own_result() -> None:
    film = Film()
    build(manager(film), [("Offer", {"price": 3})], structured_output_model=Offer)("go", invocation_state=ID)
    agent = build(manager(film), lambda _: "plain")
    agent("go", invocation_state=ID)

    result = agent("on")

    assert (result.structured_output, str(result).strip()) == (None, "plain")
    assert result.metrics.latest_agent_invocation.usage["totalTokens"] == 11  # type: ignore[union-attr]


def answers_to(result: Any) -> Any:
    return [{"interruptResponse": {"interruptId": each.id, "response": "yes"}} for each in result.interrupts]


@tool(context=True)
def approved(tool_context: ToolContext) -> str:
    """Ask before anything is done."""
    tool_context.interrupt("really")
    ran.append("approved")
    return "done"


@pytest.mark.parametrize("process", ["same", "new"])
def test_an_approval_is_not_used_up_by_a_call_that_was_cancelled_before_the_tool(process: str) -> None:
    film = Film()

    def approver() -> Agent:
        return Agent(
            model=ScriptedModel([[("approved", {})], "done"]),
            tools=[approved],
            session_manager=manager(film),
            callback_handler=None,
        )

    agent = approver()
    given = answers_to(agent("go"))
    agent.cancel()
    assert agent(given).stop_reason == "cancelled"
    assert ran == []
    if process == "new":
        agent = approver()

    assert agent(given).stop_reason == "end_turn"

    assert ran == ["approved"]


class Silent(ScriptedModel):
    """A model of a user's that has nothing to say of itself."""

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError


def test_a_model_need_not_describe_itself() -> None:
    film = Film()

    def agent(turn: Any) -> Agent:
        return Agent(model=Silent([turn]), session_manager=manager(film), callback_handler=None)

    with pytest.raises(ConnectionError):
        agent(ConnectionError("down"))("go")

    assert str(agent("went")("go")).strip() == "went"


def test_a_hook_that_cancels_a_call_is_told_apart_from_a_result_that_is_handed_out() -> None:
    film = Film()
    agent = build(manager(film), "done")
    agent("go", invocation_state=ID)
    add_hook(agent, lambda event: setattr(event, "cancel", "no"), BeforeInvocationEvent)

    refused = agent("on")

    assert (str(refused).strip(), refused.stop_reason, refused.structured_output) == ("no", "end_turn", None)


@pytest.mark.parametrize(("where", "cycles"), [("elsewhere", 3), ("here", 4)])
def test_what_was_done_before_a_failure_counts_in_the_metrics_once(where: str, cycles: int) -> None:
    film = Film()
    fails = [True]

    def fail_once(_: Any) -> Any:
        if fails:
            fails.clear()
            raise ValueError("no")
        return "done"

    script: Any = [[("look", {})], [("look", {}), ("look", {})], fail_once]
    agent = build(manager(film), *script)
    with pytest.raises(Exception, match="no"):
        agent("go")
    if where == "elsewhere":
        agent = build(manager(film), *script)

    metrics = agent("go").metrics

    counts = metrics.tool_metrics["look"]
    assert (counts.call_count, counts.success_count, counts.error_count) == (3, 3, 0)
    assert metrics.accumulated_usage["inputTokens"] == 30
    assert metrics.cycle_count == cycles  # it was asked in vain here, and nobody else knows
