"""What hooks of users do to calls: other prompts, further prompts, refusals; and calls inside of calls."""

from __future__ import annotations

import asyncio
import itertools
import threading
import warnings
from typing import Any

import pytest
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, BeforeInvocationEvent, BeforeModelCallEvent
from strands.hooks.registry import HookOrder
from strands.types.agent import ConcurrentInvocationMode

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.hooks.invocation import tool_use_ids
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.records import Derived, Spliced
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import (
    Film,
    add_hook,
    assert_free,
    check_everywhere,
    cut_everywhere,
    everything,
    live,
    manager,
    plain,
    view,
)

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool(context=True)
async def work(tool_context: ToolContext, number: int) -> str:
    """Work."""
    ran.append(tool_context.tool_use["toolUseId"])
    return f"worked {number}"


SCRIPT: Any = {
    "go": [[("work", {"number": 1})], "went"],
    "then": [[("work", {"number": 2})], "then it was"],
    "more": [[("work", {"number": 3})], "no more"],
    "edited": [[("work", {"number": 4})], "as edited"],
}


def agent_with(session_manager: DaprSessionManager, **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel(SCRIPT), tools=[work], session_manager=session_manager, callback_handler=None, **options
    )


def agent_on(store: MemoryStore, **options: Any) -> Agent:
    return agent_with(DaprSessionManager("s", store=store, busy_timeout=0.2), **options)


def outcome(agent: Agent) -> Any:
    return [(message["role"], message["content"]) for message in plain(agent.messages)]


def texts(agent: Agent) -> list[str]:
    return [block["text"] for message in agent.messages for block in message["content"] if "text" in block]


# -- further prompts -------------------------------------------------------------------------------------------------


def going_on(prompts: list[Any], **options: Any) -> Any:
    """Build agents whose hook gives each call further prompts."""

    def build(session_manager: DaprSessionManager) -> Agent:
        agent = agent_with(session_manager)

        def resume(event: Any) -> None:
            given = texts(event.agent)
            rest = [prompt for prompt in prompts if prompt not in given]
            if event.result is not None and rest:
                event.resume = rest[0] if not options.get("blocks") else [{"text": rest[0]}]

        add_hook(agent, resume, AfterInvocationEvent)
        return agent

    return build


@pytest.mark.parametrize("blocks", [False, True], ids=["text", "blocks"])
@pytest.mark.parametrize("again", [lambda prompt: prompt, lambda _: None], ids=["same prompt", "no prompt"])
def test_further_prompts_belong_to_the_call(blocks: Any, again: Any) -> None:
    """A program that is killed while its second prompt runs gets the answer to that, and the first is not run again."""
    cuts = check_everywhere(going_on(["then", "more"], blocks=blocks), ["go"], ran=ran, again=again)
    assert cuts[0].expected["answer"] == ["no more"]
    assert len(cuts[0].expected["messages"]) == 12


def test_another_prompt_waits_for_the_further_ones() -> None:
    build = going_on(["then"])
    film = Film()
    live(film, build, ["go", "more"])
    expected = outcome(build(manager(film)))
    whole = Film()
    live(whole, build, ["go"])
    tried = 0
    for frame in whole.frames[:-1]:
        cut = Film.at(frame)
        last = view(build(manager(cut))).scope("").invocation
        if last is None or last.finished:
            continue
        assert live(cut, build, ["more"]).answers == ["no more"]
        assert outcome(build(manager(cut))) == expected
        tried += 1
    assert tried > 8


def test_an_id_names_the_call_with_all_its_prompts() -> None:
    store = MemoryStore()
    session_manager = DaprSessionManager("s", store=store)
    agent = going_on(["then"])(session_manager)
    state = {"invocation_id": "call"}
    assert str(agent("go", invocation_state=dict(state))).strip() == "then it was"
    before = everything(agent)
    for again in (agent, agent_on(store)):
        assert str(again("go", invocation_state=dict(state))).strip() == "then it was"
        assert everything(again) == before
    assert len(ran) == 2


def test_a_further_prompt_that_is_no_prompt() -> None:
    store = MemoryStore()
    agent = agent_on(store)
    wrong = [True]

    def resume(event: Any) -> None:
        if wrong and event.result is not None:
            wrong.clear()
            event.resume = 7

    add_hook(agent, resume, AfterInvocationEvent)
    with pytest.raises(ValueError, match="prompt"):
        agent("go")
    assert_free(store)
    assert str(agent("then")).strip() == "then it was"
    assert texts(agent_on(store))[0] == "go"
    assert len(ran) == 2


def test_a_further_prompt_that_a_hook_refuses() -> None:
    store = MemoryStore()
    agent = agent_on(store)
    calls: list[Any] = []

    def resume(event: Any) -> None:
        if len(calls) == 1 and event.result is not None:
            event.resume = "then"

    def refuse(event: Any) -> None:
        calls.append(event.messages)
        if len(calls) == 2:
            event.cancel = "enough"

    add_hook(agent, resume, AfterInvocationEvent)
    add_hook(agent, refuse, BeforeInvocationEvent)
    assert str(agent("go")).strip() == "enough"
    assert_free(store)
    assert str(agent_on(store)("go")).strip() == "then it was"


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [HookOrder.SDK_FIRST, HookOrder.DEFAULT, HookOrder.SDK_LAST, 1000])
def test_a_call_that_a_hook_cancels_leaves_what_strands_leaves(order: float) -> None:
    store = MemoryStore()
    agent = agent_on(store)
    refusing = [True]

    def refuse(event: Any) -> None:
        if refusing:
            event.cancel = "not now"

    add_hook(agent, refuse, BeforeInvocationEvent, order=order)
    assert str(agent("go")).strip() == "not now"
    assert_free(store)
    assert texts(agent) == ["not now"]
    assert everything(agent_on(store)) == everything(agent)
    refusing.clear()
    assert str(agent("go")).strip() == "went"
    assert everything(agent_on(store)) == everything(agent)


@pytest.mark.parametrize("order", [HookOrder.SDK_FIRST, HookOrder.SDK_LAST])
def test_a_call_that_a_hook_cancels_does_not_disturb_what_is_owed(order: float) -> None:
    film = Film()
    whole = live(film, agent_with, ["go"]).outcome
    tried = 0
    for frame in film.frames[:-1]:
        cut = Film.at(frame)
        agent = agent_with(manager(cut))
        last = view(agent).scope("").invocation
        if last is None or last.finished:
            continue
        refusing = [True]

        def refuse(event: Any, refusing: list[bool] = refusing) -> None:
            if refusing:
                event.cancel = "not now"

        add_hook(agent, refuse, BeforeInvocationEvent, order=order)
        for prompt in ("then", "go", None):
            assert str(agent(prompt)).strip() == "not now"
        refusing.clear()
        assert str(agent("go")).strip() == "went"
        assert plain(agent.messages) == whole["messages"]
        assert everything(agent_with(manager(cut))) == everything(agent)
        tried += 1
    assert tried > 3


# -- rewritten prompts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [HookOrder.SDK_FIRST, HookOrder.DEFAULT, HookOrder.SDK_LAST, 1000])
@pytest.mark.parametrize("again", [lambda prompt: prompt, lambda _: None], ids=["same prompt", "no prompt"])
def test_a_rewritten_prompt(order: float, again: Any) -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        agent = agent_with(session_manager)

        def rewrite(event: Any) -> None:
            if event.messages:
                event.messages = [{"role": "user", "content": [{"text": "edited"}]}]

        add_hook(agent, rewrite, BeforeInvocationEvent, order=order)
        return agent

    cuts = check_everywhere(build, ["go"], ran=ran, again=again)
    assert cuts[0].expected["answer"] == ["as edited"]


def test_a_prompt_that_a_hook_rewrites_where_it_is_and_differently_each_time() -> None:
    """As one does that puts the time into it: what the caller said is the same nevertheless."""
    times = itertools.count()

    def build(session_manager: DaprSessionManager) -> Agent:
        agent = agent_with(session_manager)

        def stamp(event: Any) -> None:
            event.messages[-1]["content"].insert(0, {"text": f"at {next(times)}"})

        add_hook(agent, stamp, BeforeInvocationEvent)
        return agent

    for cut in cut_everywhere(build, ["go"], ran=ran):
        assert len(cut.found["messages"]) == len(cut.expected["messages"]) == 4, cut.frame
        assert not cut.recorded & set(cut.again), cut.frame


@pytest.mark.parametrize("prompt", [[{"text": "go"}], [{"role": "user", "content": [{"text": "go"}]}]])
def test_the_same_prompt_is_the_same_though_hooks_have_edited_what_strands_made_of_it(prompt: Any) -> None:
    """Strands makes the caller's own lists and messages a part of the conversation."""
    agent = agent_on(MemoryStore())
    failures = ["hook"]

    def note(event: Any) -> None:
        event.agent.messages[0]["content"].insert(0, {"text": "a note"})
        if len(event.agent.messages) == 3 and failures:
            raise RuntimeError(failures.pop())

    add_hook(agent, note, BeforeModelCallEvent)
    with pytest.raises(Exception, match="hook"):
        agent(prompt)
    assert str(agent(prompt)).strip() == "went"
    assert len(ran) == 1


def test_the_blocks_of_the_caller_stay_what_they_were() -> None:
    blocks: Any = [{"text": "go"}]
    agent = agent_on(MemoryStore())
    agent(blocks)
    agent.messages[0]["content"][0]["text"] = "edited"
    agent.messages[0]["content"].append({"text": "a note"})
    assert blocks == [{"text": "go"}]


def test_a_prompt_that_a_hook_takes_away() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        agent = agent_with(session_manager, messages=[{"role": "user", "content": [{"text": "go"}]}])

        def empty(event: Any) -> None:
            event.messages = []

        add_hook(agent, empty, BeforeInvocationEvent)
        return agent

    cuts = check_everywhere(build, ["unwanted"], ran=ran)
    assert cuts[0].expected["answer"] == ["went"]


def test_messages_that_a_hook_adds_before_the_model_is_asked() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        agent = agent_with(session_manager)

        def remind(event: Any) -> None:
            if not any("remember" in text for text in texts(event.agent)):
                event.agent.messages.insert(0, {"role": "user", "content": [{"text": "remember"}]})

        add_hook(agent, remind, BeforeModelCallEvent)
        return agent

    check_everywhere(build, ["go", "then"])


# -- calls inside of calls -------------------------------------------------------------------------------------------


class Answer(BaseModel):
    """What to answer."""

    number: int


class Structured(ScriptedModel):
    async def structured_output(self, *_: Any, **__: Any) -> Any:
        yield {"output": Answer(number=7)}


def test_structured_output_outside_of_a_run_leaves_nothing_behind() -> None:
    store = MemoryStore()
    agent = agent_on(store)
    agent.model = Structured(SCRIPT)
    agent("go")
    before = everything(agent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert agent.structured_output(Answer, "number?").number == 7
    assert_free(store)
    assert everything(agent) == everything(agent_on(store)) == before


def test_structured_output_inside_of_a_run_does_not_end_it() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        @tool(context=True)
        async def look(tool_context: ToolContext) -> str:
            """Look it up."""
            ran.append(tool_context.tool_use["toolUseId"])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                found = await tool_context.agent.structured_output_async(Answer, "number?")
            return f"found {found.number}"

        return Agent(
            model=Structured([[("look", {})], [("look", {})], "done"]),
            tools=[look],
            session_manager=session_manager,
            callback_handler=None,
        )

    # Strands itself answers the open tool calls with "interrupted" then; so only the ends are compared.
    for cut in cut_everywhere(build, ["go"]):
        assert cut.found["answer"] == cut.expected["answer"] == ["done"], cut.frame


def test_structured_output_while_something_is_owed() -> None:
    film = Film()
    whole = live(film, agent_with, ["go"]).outcome
    for frame in film.frames[:-1]:
        cut = Film.at(frame)
        agent = agent_with(manager(cut))
        agent.model = Structured(SCRIPT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert agent.structured_output(Answer, "number?").number == 7
        assert str(agent("go")).strip() == "went"
        assert plain(agent.messages) == whole["messages"]


async def test_reentrant_calls_share_an_invocation() -> None:
    store = MemoryStore()
    agent = agent_on(store, concurrent_invocation_mode=ConcurrentInvocationMode.UNSAFE_REENTRANT)
    results = await asyncio.gather(*(agent.invoke_async(prompt) for prompt in ("go", "then", "more")))
    assert len(results) == 3
    assert_free(store)
    assert everything(agent_on(store)) == everything(agent)
    await agent.invoke_async("edited")
    assert everything(agent_on(store)) == everything(agent)


async def test_messages_of_reentrant_agents_refer_to_no_results() -> None:
    """An answer of another call, at the same time, ends the batch in the journal, and its results with it."""
    for mode, refer in ((ConcurrentInvocationMode.UNSAFE_REENTRANT, False), (ConcurrentInvocationMode.THROW, True)):
        store = MemoryStore()
        await agent_on(store, concurrent_invocation_mode=mode).invoke_async("go")
        commits = await read_history(store, "s", "default")
        bodies = [
            body for _, records in commits for each in records if isinstance(each, Spliced) for body in each.bodies
        ]
        assert any(isinstance(body, Derived) for body in bodies) is refer


def test_reentrant_calls_from_threads() -> None:
    store = MemoryStore()
    agent = agent_on(store, concurrent_invocation_mode=ConcurrentInvocationMode.UNSAFE_REENTRANT)
    failed: list[BaseException] = []

    def call(prompt: str) -> None:
        for _ in range(5):
            try:
                agent(prompt)
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

    threads = [threading.Thread(target=call, args=(prompt,)) for prompt in ("go", "then", "more", "edited")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert_free(store)
    assert everything(agent_on(store)) == everything(agent)


def test_a_tool_that_calls_its_own_agent() -> None:
    store = MemoryStore()

    @tool(context=True)
    async def ask_again(tool_context: ToolContext) -> str:
        """Ask the same agent."""
        return str(await tool_context.agent.invoke_async("more")).strip()

    agent = Agent(
        model=ScriptedModel({**SCRIPT, "outer": [[("ask_again", {})], "outer done"]}),
        tools=[work, ask_again],
        session_manager=DaprSessionManager("s", store=store),
        callback_handler=None,
        concurrent_invocation_mode=ConcurrentInvocationMode.UNSAFE_REENTRANT,
    )
    agent("outer")
    assert_free(store)
    assert everything(agent_on(store)) == everything(agent)


def test_a_direct_call_is_recorded_with_its_result() -> None:
    """Cut in between, the next prompt would answer it with "Tool was interrupted.", though the tool has run."""
    film = Film()
    agent = agent_with(manager(film))
    agent.tool.work(number=1)
    assert everything(agent_with(manager(film))) == everything(agent)
    for frame in film.frames:
        messages = agent_with(manager(Film.at(frame))).messages
        assert not messages or not tool_use_ids(messages[-1])


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_run_that_reaches_its_limit_goes_on_with_the_next_call() -> None:
    store = MemoryStore()
    agent = agent_on(store)
    assert agent("go", limits={"turns": 1}).stop_reason == "limit_turns"
    assert_free(store)
    other = agent_on(store)
    assert everything(other) == everything(agent)
    assert str(other(None)).strip() == "went"
    assert len(ran) == 1


async def test_turns_before_a_cut_count() -> None:
    film = Film()
    await agent_with(manager(film)).invoke_async("go")
    for frame in film.frames[:-1]:
        agent = agent_with(manager(Film.at(frame)))
        result = await agent.invoke_async("go", limits={"turns": 1})
        assert result.stop_reason == "limit_turns"
        assert sum(message["role"] == "assistant" for message in agent.messages) == 1
