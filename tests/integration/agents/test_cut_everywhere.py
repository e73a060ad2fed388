"""Runs that are cut after each write, and started again: nothing that the caller or the model sees tells the cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.tools.executors import ConcurrentToolExecutor, SequentialToolExecutor

from strands_dapr_session import DaprSessionManager, idempotency_key
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import Build, Film, check_everywhere, cut_everywhere, live, manager, view

ran: list[str] = []
keys: dict[str, set[str | None]] = {}


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    keys.clear()


def note(context: ToolContext) -> None:
    tool_use_id = context.tool_use["toolUseId"]
    ran.append(tool_use_id)
    keys.setdefault(tool_use_id, set()).add(idempotency_key())


@tool(context=True)
def add(tool_context: ToolContext, number: int) -> str:
    """Add a number."""
    note(tool_context)
    # What a tool writes may be recorded before its result is, with that of another tool: it must bear repetition.
    tool_context.agent.state.set(tool_context.tool_use["toolUseId"], number)
    return f"added {number}"


@tool(context=True)
async def ask(tool_context: ToolContext, question: str) -> dict[str, Any]:
    """Ask somebody."""
    note(tool_context)
    await asyncio.sleep(0)
    return {"status": "success", "content": [{"text": question}, {"json": {"answer": [1, 2.5, None, {"deep": True}]}}]}


@tool(context=True)
def fail(tool_context: ToolContext) -> str:
    """Fail."""
    note(tool_context)
    raise ValueError("no luck")


TWO_BATCHES = [
    [("add", {"number": 1}), ("ask", {"question": "why?"}), ("fail", {})],
    [("add", {"number": 2}), ("unknown", {})],
    "all done",
]


def builder(script: Any = TWO_BATCHES, **options: Any) -> Build:
    def build(manager: DaprSessionManager) -> Agent:
        return Agent(
            model=ScriptedModel(script),
            tools=[add, ask, fail],
            session_manager=manager,
            callback_handler=None,
            **{name: make() for name, make in options.items()},
        )

    return build


@pytest.mark.parametrize("executor", [SequentialToolExecutor, ConcurrentToolExecutor])
@pytest.mark.parametrize("again", [lambda prompt: prompt, lambda _: None], ids=["same prompt", "no prompt"])
def test_a_cut_makes_no_difference(executor: type, again: Callable[[Any], Any]) -> None:
    cuts = check_everywhere(builder(tool_executor=executor), ["first", "second"], ran=ran, again=again)
    assert len(cuts) > 10


PROMPTS: dict[str, Any] = {
    "text": "hello",
    "blocks": [{"text": "look"}, {"document": {"name": "d", "format": "txt", "source": {"bytes": b"\x00\xff"}}}],
    "messages": [
        {"role": "user", "content": [{"text": "before"}]},
        {"role": "assistant", "content": [{"text": "well"}]},
        {"role": "user", "content": [{"text": "now"}]},
    ],
    "nothing": None,
    "an empty list": [],
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_prompts_of_every_form_are_taken_up_once(prompt: Any) -> None:
    # Without a text, the script hands the same ids out again: no check of what ran.
    check_everywhere(builder(), ["first", prompt], ran=ran if prompt else None)


@pytest.mark.parametrize("prompt", [PROMPTS["blocks"], PROMPTS["messages"]], ids=["blocks", "messages"])
def test_a_prompt_is_the_same_though_strands_has_marked_its_messages(prompt: Any) -> None:
    """Strands writes ids into the messages that it is given; a program may use the same objects again."""
    check_everywhere(builder(), [prompt], ran=ran, again=lambda _: prompt)


def test_a_new_prompt_runs_after_the_owed_one_in_the_same_call() -> None:
    two = cut_everywhere(builder(), ["first", "next"], ran=ran)
    expected = two[0].expected
    cuts = cut_everywhere(builder(), ["first"], ran=ran, again=lambda _: "next")
    tried = 0
    for cut in cuts:
        if cut.found["messages"] == cut.expected["messages"]:
            continue  # it was cut before it began
        tried += 1
        assert cut.found["messages"] == expected["messages"], cut.frame
        assert cut.found["state"] == expected["state"]
        assert not cut.recorded & set(cut.again)
    assert tried > 5


def test_a_run_may_be_cut_twice() -> None:
    build = builder(tool_executor=SequentialToolExecutor)
    for cut in check_everywhere(build, ["first"], ran=ran):
        for number, frame in enumerate(cut.film.frames[:-1], 1):
            again = cut_again(build, frame)
            assert again == cut.expected, f"cut after write {cut.frame}, then after {number}"


def cut_again(build: Build, frame: dict[str, Any]) -> dict[str, Any]:
    return live(Film.at(frame), build, ["first"]).outcome


@pytest.mark.parametrize("executor", [SequentialToolExecutor, ConcurrentToolExecutor])
def test_keys_stay_with_their_calls(executor: type) -> None:
    build = builder(tool_executor=executor)
    film = Film()
    live(film, build, ["first", "second"])
    found = [key for of_one in keys.values() for key in of_one]
    assert len(found) == len(keys) == len(set(found)) == 8
    assert None not in found
    for frame in film.frames:
        cut = Film.at(frame)
        call = view(build(manager(cut))).scope("").invocation
        if call is not None and not call.finished:
            live(cut, build, [None])
    assert all(len(of_one) == 1 for of_one in keys.values())


def test_a_later_call_with_the_same_id_has_another_key() -> None:
    """Some providers number the calls of each answer from one."""
    turns: Any = [[("add", {"number": 1})], [("add", {"number": 2})], "done"]

    class Repetitive(ScriptedModel):
        async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            turn = sum(message["role"] == "assistant" for message in messages)
            async for event in ScriptedModel([turns[turn]]).stream(messages[:1], *args, **kwargs):
                yield event

    def build(manager: DaprSessionManager) -> Agent:
        return Agent(model=Repetitive([]), tools=[add], session_manager=manager, callback_handler=None)

    live(Film(), build, ["first"])
    assert len(keys["v1c0t0"]) == 2
    check_everywhere(build, ["first"])


class Answer(BaseModel):
    """What to answer."""

    number: int


@pytest.mark.parametrize("script", [
    [[("add", {"number": 1})], [("Answer", {"number": 7})]],
    [[("add", {"number": 1})], "seven", [("Answer", {"number": 7})]],
    [[("add", {"number": 1}), ("Answer", {"number": "no"})], [("Answer", {"number": 7})]],
], ids=["asked", "forced", "corrected"])  # fmt: skip
def test_structured_output(script: Any) -> None:
    def build(manager: DaprSessionManager) -> Agent:
        return Agent(
            model=ScriptedModel(_by_results(script)),
            tools=[add],
            session_manager=manager,
            callback_handler=None,
            structured_output_model=Answer,
        )

    check_everywhere(build, ["first", "second"], ran=ran)


def _by_results(script: Any) -> Any:
    """Choose a turn by how many messages followed the prompt, for a prompt of Strands' own comes between."""

    def turn(messages: Any) -> Any:
        start = max(n for n, message in enumerate(messages) if message["content"][0].get("text") in {"first", "second"})
        return script[(len(messages) - start - 1) // 2]

    return [turn] * len(script)


class Stubborn(ScriptedModel):
    """Makes structured output only where it is forced to, and the first time a wrong one."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        said = sum(message["role"] == "assistant" for message in messages)
        is_forced = kwargs.get("tool_choice") is not None
        number: Any = "no" if said == 2 else 7
        turn: Any = [("Answer", {"number": number})] if is_forced else "well" if said else [("add", {"number": 1})]
        async for event in ScriptedModel([turn]).stream([], *args, **kwargs):
            start: Any = event.get("contentBlockStart", {}).get("start", {})
            if "toolUse" in start:
                start["toolUse"]["toolUseId"] = f"t{said}"
            yield event


def test_structured_output_that_is_forced() -> None:
    """Strands remembers in memory that it forces the model to."""

    def build(manager: DaprSessionManager) -> Agent:
        return Agent(
            model=Stubborn([]),
            tools=[add],
            session_manager=manager,
            callback_handler=None,
            structured_output_model=Answer,
        )

    cuts = check_everywhere(build, ["first"], ran=ran)
    assert len(cuts[0].expected["messages"]) == 9


class Naming(ScriptedModel):
    """Gives calls of the same tool one id."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        async for event in super().stream(messages, *args, **kwargs):
            start: Any = event.get("contentBlockStart", {}).get("start", {})
            if start.get("toolUse", {}).get("name") == "ask":
                start["toolUse"]["toolUseId"] = "v1c0t0"
            yield event


@pytest.mark.parametrize("executor", [SequentialToolExecutor, ConcurrentToolExecutor])
@pytest.mark.parametrize("model", [ScriptedModel, Naming], ids=["ids", "shared ids"])
def test_results_are_in_the_order_of_an_undisturbed_run(model: type[ScriptedModel], executor: type) -> None:
    """Strands answers calls first whose names no tool can have."""
    batch = [
        ("ask", {"question": "why?"}),
        ("add", {"number": 1}),
        ("no such name!", {}),
        ("ask", {"question": "how?"}),
    ]

    def build(manager: DaprSessionManager) -> Agent:
        return Agent(
            model=model([batch, "done"]),
            tools=[add, ask],
            session_manager=manager,
            callback_handler=None,
            tool_executor=executor(),
        )

    cuts = check_everywhere(build, ["first"])
    first = cuts[0].expected["messages"][2]["content"][0]["toolResult"]
    assert first["toolUseId"] == "v1c0t2"
    assert first["status"] == "error"
