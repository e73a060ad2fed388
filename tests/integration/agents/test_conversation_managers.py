"""Whatever a conversation manager does to the messages: a restored agent has what the live one had.

A log of messages that were appended gets every one of these wrong.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.hooks import BeforeInvocationEvent, BeforeModelCallEvent, MessageAddedEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.tools.executors import SequentialToolExecutor
from strands.types.content import Messages
from strands.types.exceptions import ContextWindowOverflowException

from strands_dapr_session import DaprSessionManager, StoreUnavailableError, strands_compat
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Fault, FaultyStore, LoseRequest
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.agents.film import (
    Build,
    Film,
    check_everywhere,
    cut_everywhere,
    everything,
    live,
    manager,
    plain,
)

LONG = "0123456789" * 100


@tool
async def fetch(page: int) -> dict[str, Any]:
    """Fetch a page."""
    image = {"image": {"format": "png", "source": {"bytes": bytes([page]) * 50}}}
    return {"status": "success", "content": [{"text": f"page {page} {LONG}"}, image]}


class Narrow(ScriptedModel):
    """A model whose context is full when the messages are too many, or too long."""

    def __init__(self, *, messages: int = 1000, characters: int = 10**9) -> None:
        super().__init__([])
        self._limits = (messages, characters)

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if len(messages) > self._limits[0] or len(str(messages)) > self._limits[1]:
            raise ContextWindowOverflowException("full")
        last = messages[-1]["content"][0]
        seen = last.get("toolResult", {}).get("toolUseId", "0")
        page = int(seen.rpartition("t")[2])
        turn: Any = [("fetch", {"page": page + 1})] if page < 4 else f"read {page} pages"
        async for event in ScriptedModel([turn]).stream([], *args, **kwargs):
            start: Any = event.get("contentBlockStart", {}).get("start", {})
            if "toolUse" in start:
                start["toolUse"]["toolUseId"] = f"t{page + 1}"
            yield event


class Digest(ScriptedModel):
    """A model that makes summaries."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        async for event in ScriptedModel([f"summary of {len(messages)}"]).stream([], *args, **kwargs):
            yield event


class Rewriting(ConversationManager):
    """Rewrites in the middle, drops from the middle, and reorders, at the end of each call."""

    def apply_management(self, agent: Agent, **_: Any) -> None:
        messages = agent.messages
        self.removed_message_count += 1
        if len(messages) > 6:
            messages[2] = {"role": "user", "content": [{"text": f"rewritten, {len(messages)} messages"}]}
            del messages[3:5]
            messages[0]["content"].append({"text": "seen"})
            messages.insert(1, messages.pop(2))

    def reduce_context(self, agent: Agent, e: Exception | None = None, **_: Any) -> None:  # noqa: ARG002
        del agent.messages[1:3]

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "note": ("exact", {"bytes": b"\x00", "number": 1.0, 3: {4}})}


MANAGERS: dict[str, tuple[Any, Any]] = {
    "null": (NullConversationManager, Narrow),
    "sliding window": (lambda: SlidingWindowConversationManager(window_size=5), Narrow),
    "of three": (lambda: SlidingWindowConversationManager(window_size=3), Narrow),
    "per turn": (lambda: SlidingWindowConversationManager(window_size=4, per_turn=True), Narrow),
    "every second turn": (lambda: SlidingWindowConversationManager(window_size=4, per_turn=2), Narrow),
    "pinned": (lambda: SlidingWindowConversationManager(window_size=6, pin_first=2), Narrow),
    "pinned per turn": (lambda: SlidingWindowConversationManager(window_size=6, pin_first=1, per_turn=True), Narrow),
    "results cut short": (
        lambda: SlidingWindowConversationManager(window_size=50, should_truncate_results=True),
        lambda: Narrow(characters=4000),
    ),
    "overflow": (
        lambda: SlidingWindowConversationManager(window_size=50, should_truncate_results=False),
        lambda: Narrow(messages=6),
    ),
    "summarizing": (
        lambda: SummarizingConversationManager(
            summary_ratio=0.5,
            preserve_recent_messages=2,
            summarization_agent=Agent(model=Digest([]), callback_handler=None),
        ),
        lambda: Narrow(messages=6),
    ),
    "summarizing, pinned": (
        lambda: SummarizingConversationManager(
            summary_ratio=0.5,
            preserve_recent_messages=2,
            summarization_agent=Agent(model=Digest([]), callback_handler=None),
            pin_first=1,
        ),
        lambda: Narrow(messages=6),
    ),
    "rewriting": (Rewriting, Narrow),
    "rewriting when full": (Rewriting, lambda: Narrow(messages=6)),
}


def build_with(name: str) -> Build:
    make_manager, make_model = MANAGERS[name]

    def build(session_manager: DaprSessionManager) -> Agent:
        return Agent(
            model=make_model(),
            tools=[fetch],
            conversation_manager=make_manager(),
            session_manager=session_manager,
            callback_handler=None,
        )

    return build


@pytest.mark.parametrize("name", MANAGERS)
def test_a_cut_makes_no_difference(name: str) -> None:
    cuts = check_everywhere(build_with(name), ["one", "two", "three"])
    assert len(cuts) > 30


@pytest.mark.parametrize("name", MANAGERS)
def test_it_does_something(name: str) -> None:
    """The scenarios above are what they say."""
    agent = live(Film(), build_with(name), ["one", "two", "three"]).agent
    plainly = live(Film(), build_with("null"), ["one", "two", "three"]).agent
    assert (plain(agent.messages) == plain(plainly.messages)) == (name == "null")


@pytest.mark.newest_dependencies  # before 1.5x there is no count of tokens to go by
@pytest.mark.parametrize("make", [
    lambda: SlidingWindowConversationManager(window_size=4, proactive_compression={"compression_threshold": 0.001}),
    lambda: SummarizingConversationManager(
        summary_ratio=0.5,
        preserve_recent_messages=2,
        summarization_agent=Agent(model=Digest([]), callback_handler=None),
        proactive_compression={"compression_threshold": 0.001},
    ),
], ids=["sliding window", "summarizing"])  # fmt: skip
def test_compression_before_the_context_is_full(make: Any) -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        model = Narrow()
        model.update_config(context_window_limit=1000)
        return Agent(
            model=model,
            tools=[fetch],
            conversation_manager=make(),
            session_manager=session_manager,
            callback_handler=None,
        )

    check_everywhere(build, ["one", "two", "three"])
    assert len(live(Film(), build, ["one", "two", "three"]).agent.messages) < 20


def test_summaries_are_not_made_again_when_they_are_recorded() -> None:
    made: list[int] = []

    class Counting(Digest):
        async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            made.append(len(messages))
            async for event in super().stream(messages, *args, **kwargs):
                yield event

    def build(session_manager: DaprSessionManager) -> Agent:
        return Agent(
            model=Narrow(messages=6),
            tools=[fetch],
            conversation_manager=SummarizingConversationManager(
                summary_ratio=0.5,
                preserve_recent_messages=2,
                summarization_agent=Agent(model=Counting([]), callback_handler=None),
            ),
            session_manager=session_manager,
            callback_handler=None,
        )

    film = Film()
    live(film, build, ["one", "two"])
    whole = len(made)
    assert whole > 1
    counts = set()
    for frame in film.frames[:-1]:
        made.clear()
        cut = Film.at(frame)
        recorded = str(build(manager(cut)).messages).count("summary of")
        live(cut, build, [None] if build(manager(cut)).messages else ["one"])
        counts.add((recorded, len(made)))
    assert max(count for _, count in counts) <= whole


def test_another_manager_after_a_restart_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    film = Film()
    live(film, build_with("sliding window"), ["one", "two"])
    with caplog.at_level("WARNING", "strands_dapr_session"):
        agent = build_with("null")(manager(film))
    assert "another conversation manager" in caplog.text
    assert isinstance(agent.conversation_manager, NullConversationManager)
    agent("three")
    assert everything(build_with("null")(manager(film))) == everything(agent)


# -- guardrails ------------------------------------------------------------------------------------------------------


class Guarded(ScriptedModel):
    """Has what the user said, or what a tool returned, taken out."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if "secret" in str(messages[-1]["content"]):
            yield {
                "redactContent": {
                    "redactUserContentMessage": "[taken out]",
                    "redactAssistantContentMessage": "[refused]",
                }
            }
            yield {"messageStart": {"role": "assistant"}}
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "I cannot."}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "guardrail_intervened"}}
            usage: Any = {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11}
            yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}
            return
        async for event in super().stream(messages, *args, **kwargs):
            yield event


@tool
async def tell() -> str:
    """Tell a secret."""
    return "the secret word"


def guarded(session_manager: DaprSessionManager) -> Agent:
    # After a cut, the model is asked with what is left, and sees no secret.
    script: Any = {"harmless": "fine", "tell me": [[("tell", {})], "[refused]"], "[taken out]": ["[refused]"]}
    return Agent(model=Guarded(script), tools=[tell], session_manager=session_manager, callback_handler=None)


@pytest.mark.parametrize("prompt", ["a secret", "tell me"], ids=["what the user said", "what a tool returned"])
def test_what_a_guardrail_takes_out_stays_out(prompt: str) -> None:
    film = Film()
    agent = live(film, guarded, ["harmless", prompt, "harmless"]).agent
    assert "secret" not in str(agent.messages)
    assert "[taken out]" in str(agent.messages)
    assert everything(guarded(manager(film))) == everything(agent)
    assert "secret" not in str(guarded(manager(film)).messages)
    for cut in cut_everywhere(guarded, ["harmless", prompt, "harmless"]):
        assert cut.found["messages"] == cut.expected["messages"], cut.frame


# -- a model that keeps the conversation itself ------------------------------------------------------------------------


class Stateful(ScriptedModel):
    """Remembers on its side; Strands sends only what is new, and clears its messages after each call."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.known: list[str | None] = []

    @property
    def stateful(self) -> bool:
        return True

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        state = kwargs.get("model_state")
        assert state is not None
        self.known.append(state.get("response_id"))
        state["seen"] = state.get("seen", 0) + 1
        state["response_id"] = f"r{state['seen']}"
        async for event in super().stream(messages, *args, **kwargs):
            yield event


def stateful(session_manager: DaprSessionManager) -> Agent:
    script = {"one": [[("fetch", {"page": 1})], "read"], "two": "also read"}
    return Agent(model=Stateful(script), tools=[fetch], session_manager=session_manager, callback_handler=None)


def test_a_model_that_keeps_the_conversation() -> None:
    film = Film()
    agent = live(film, stateful, ["one", "two"]).agent
    assert agent.messages == []
    assert agent._model_state == {"seen": 3, "response_id": "r3"}
    assert everything(stateful(manager(film))) == everything(agent)
    check_everywhere(stateful, ["one", "two"])


END_OF_SCOPE = {"root": "", "graph": "a", "swarm": "a", "tool": "t0"}


def build_around(agent: Agent, place: str, manager: DaprSessionManager) -> Any:
    if place == "graph":
        builder = GraphBuilder()
        builder.add_node(agent, "a")
        return builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()
    if place == "swarm":
        return Swarm([agent], id="g", session_manager=manager)
    options: dict[str, Any] = {"agent_id": "g", "session_manager": manager, "callback_handler": None}
    if place == "tool":
        tools: list[Any] = [agent.as_tool(preserve_context=True)]
        return Agent(model=ScriptedModel([[("a", {"input": "go"})], "done"]), tools=tools, **options)
    return Agent(model=agent.model, tools=[fetch], **options)


@dataclass(frozen=True)
class LoseWhenAnswered(Fault):
    """The call never arrives, and that is not heard of before a model has answered."""

    messages: Messages

    async def around(self, call: Any, apply: Any, store: FaultyStore) -> Any:
        while not self.messages[1:]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return await LoseRequest().around(call, apply, store)


@pytest.mark.parametrize(
    ("place", "is_begun"),
    [("root", True), *((place, is_begun) for place in ("graph", "swarm", "tool") for is_begun in (True, False))],
)
def test_what_a_model_keeps_of_an_answer_that_was_lost_is_forgotten(place: str, *, is_begun: bool) -> None:
    """With the beginning of the call or behind it: asked anew, it would know of tool calls that have no results."""
    store = FaultyStore(MemoryStore())
    reader = Journal(store.inner, "s", "g")

    async def lose_all(event: BeforeInvocationEvent) -> None:
        """Lose whatever is to be recorded from here on, but let nobody know before the model has answered."""
        if not is_begun and not model.calls:
            fault = LoseWhenAnswered(event.agent.messages)
            store.plan = lambda _: fault

    async def lose_the_answer(event: MessageAddedEvent) -> None:
        """Wait until the beginning is recorded; the model takes the store away."""
        if is_begun and not event.agent.messages[1:]:
            while not any(path.endswith(END_OF_SCOPE[place]) for path in (await reader.load()).scopes):  # noqa: ASYNC110
                await asyncio.sleep(0)

    def go_away(_: Any) -> None:
        if is_begun and not model.calls[1:]:
            store.plan = lambda _: LoseRequest()

    model = Stateful([[("fetch", {"page": 1})], "read"], on_call=go_away)
    agent = Agent(name="a", model=model, tools=[fetch], callback_handler=None)
    called = build_around(agent, place, DaprSessionManager("s", store=store, on_busy="steal"))
    hooks = called.hooks if place == "root" else agent.hooks
    hooks.add_callback(BeforeInvocationEvent, lose_all)
    hooks.add_callback(MessageAddedEvent, lose_the_answer)
    with pytest.raises(StoreUnavailableError):
        called("go")
    store.plan = lambda _: None
    called("go")
    assert model.known == [None, None, "r1"]


def test_what_a_model_kept_before_a_call_that_was_lost_is_kept() -> None:
    """Wherever the store went away, perhaps before anything was recorded."""
    for number in itertools.count():
        store, model = FaultyStore(MemoryStore()), Stateful(["read"])
        agent = build_around(Agent(model=model), "root", DaprSessionManager("s", store=store, on_busy="steal"))
        strands_compat.load(agent, {"model_state": {"response_id": "r0"}})
        store.plan = lambda call, number=number: LoseRequest() if call.number > number else None  # type: ignore[misc]
        try:
            agent("go")
        except StoreUnavailableError:
            store.plan = lambda _: None
        else:
            assert number > 3  # it makes no more calls of the store
            return
        agent("go")
        assert set(model.known) == {"r0"}, f"away from call {number} on"


def test_what_a_model_keeps_of_an_earlier_visit_is_forgotten() -> None:
    """As in a process that did not see it."""
    model = Stateful(["read"])
    agent = Agent(model=model, callback_handler=None)
    manager = DaprSessionManager("s", store=MemoryStore())
    manager.attach(agent, "reader")

    @tool
    async def look() -> str:
        """Look."""
        return str(await agent.invoke_async("look"))

    script: list[Any] = [[("look", {})], [("look", {})], "done"]
    Agent(model=ScriptedModel(script), tools=[look], session_manager=manager, callback_handler=None)("go")
    assert model.known == [None, None]


# -- what callers do to the messages -----------------------------------------------------------------------------------


def simple(store: MemoryStore, **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel({"go": "went", "on": "onward"}),
        session_manager=DaprSessionManager("s", store=store),
        callback_handler=None,
        **options,
    )


def edit_in_place(agent: Agent) -> None:
    agent.messages[1]["content"][0]["text"] = "edited"


def edit_the_first(agent: Agent) -> None:
    agent.messages[0]["content"] = [{"text": "go"}, {"text": "edited"}]


def edit_invisibly(agent: Agent) -> None:
    agent.messages[0]["content"].append({"json": {"n": 1}})  # type: ignore[typeddict-unknown-key]
    agent.messages[1]["content"].append({"json": {"n": True}})  # type: ignore[typeddict-unknown-key]


def replace(agent: Agent) -> None:
    agent.messages = [{"role": "user", "content": [{"text": "new"}]}, {"role": "assistant", "content": [{"text": "x"}]}]


def clear(agent: Agent) -> None:
    agent.messages.clear()


def clear_by_assignment(agent: Agent) -> None:
    agent.messages = []


def append(agent: Agent) -> None:
    agent.messages.append({"role": "user", "content": [{"text": "by the way"}]})
    agent.messages.append({"role": "assistant", "content": [{"text": "yes?"}]})


def shorten(agent: Agent) -> None:
    del agent.messages[1:]


def same_but_anew(agent: Agent) -> None:
    agent.messages = [dict(message) for message in agent.messages]  # type: ignore[misc]


EDITS: list[Any] = [
    edit_in_place,
    edit_the_first,
    edit_invisibly,
    replace,
    clear,
    clear_by_assignment,
    append,
    shorten,
    same_but_anew,
]


@pytest.mark.parametrize("edit", EDITS, ids=[edit.__name__ for edit in EDITS])
def test_messages_that_the_caller_edits_between_calls(edit: Any) -> None:
    store = MemoryStore()
    agent = simple(store)
    agent("go")
    edit(agent)
    agent("on")
    assert repr(simple(store).messages) == repr(agent.messages)
    edit(agent)
    agent._session_manager.sync_agent(agent)  # type: ignore[union-attr]
    assert repr(simple(store).messages) == repr(agent.messages)


@pytest.mark.parametrize("edit", EDITS, ids=[edit.__name__ for edit in EDITS])
def test_an_edit_is_not_lost_with_the_next_call(edit: Any) -> None:
    """It counts from the beginning of the call: that is what the model is asked with."""
    film = Film()

    def build(session_manager: DaprSessionManager) -> Agent:
        return Agent(
            model=ScriptedModel({"go": "went", "on": "onward", "new": "x", "by the way": "yes?"}),
            session_manager=session_manager,
            callback_handler=None,
        )

    agent = build(manager(film))
    agent("go")
    before = len(film.frames)
    edit(agent)
    agent("on")
    for frame in film.frames[before + 1 : -1]:
        other = build(manager(Film.at(frame)))
        if other._session_manager._recordings.find(other).owed:  # type: ignore[union-attr]
            other("on")
            assert repr(plain(other.messages)) == repr(plain(agent.messages))


def test_messages_and_state_given_to_the_constructor() -> None:
    store = MemoryStore()
    given: Any = [
        {"role": "user", "content": [{"text": "before"}]},
        {"role": "assistant", "content": [{"text": "well"}]},
    ]
    agent = simple(store, messages=given, state={"a": 1})
    assert simple(store).messages == []  # reading disturbs nobody: nothing was recorded yet
    agent("go")
    assert len(agent.messages) == 4
    assert everything(simple(store)) == everything(agent)


def test_what_is_recorded_counts_more_than_what_is_given_later(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    agent = simple(store, state={"a": 1})
    agent("go")
    given: Any = [{"role": "user", "content": [{"text": "before"}]}]
    with caplog.at_level("WARNING", "strands_dapr_session"):
        other = simple(store, messages=given, state={"b": 2})
    assert everything(other) == everything(agent)
    assert "replaced by those of its session" in caplog.text


# -- what tools and hooks do to the messages in the middle of a run ----------------------------------------------------


@tool(context=True)
def forget(tool_context: ToolContext) -> str:
    """Forget how it began."""
    del tool_context.agent.messages[:2]
    return "forgotten"


@tool(context=True)
def strike(tool_context: ToolContext) -> str:
    """Strike out what was said first, where it is."""
    tool_context.agent.messages[1]["content"] = [{"text": "struck out"}]
    return "struck out"


@tool(context=True)
def rewrite(tool_context: ToolContext) -> str:
    """Rewrite what it was asked for, and put something in before it."""
    messages = tool_context.agent.messages
    messages[-1]["content"].insert(0, {"text": "rewritten"})
    messages.insert(-1, {"role": "user", "content": [{"text": "put in"}], "tracking_id": "another"})
    return "rewritten"


def strike_once(agent: Agent) -> None:
    def strike(event: BeforeModelCallEvent) -> None:
        if len(event.agent.messages) >= 5 and not event.agent.state.get("is_struck"):
            event.agent.messages[1]["content"] = [{"text": "struck out"}]
            event.agent.state.set("is_struck", value=True)

    agent.add_hook(strike, BeforeModelCallEvent)


@pytest.mark.parametrize("edit", [forget, strike, rewrite, strike_once], ids=lambda edit: str(edit.__name__))
def test_what_is_edited_in_the_middle_of_a_run_stays_edited(edit: Any) -> None:
    """By a tool whose result is recorded, or by a hook that remembers it in the agent's state."""
    own: list[Any] = [] if edit is strike_once else [(edit.tool_name, {})]
    first, second = [("fetch", {"page": 1}), *own, ("fetch", {"page": 2})], [("fetch", {"page": 3})]
    script: Any = {"one": "said", "two": [first, second, "done"], "put in": [first, second, "done"]}

    def build(session_manager: DaprSessionManager) -> Agent:
        agent = Agent(
            model=Prompted(script),
            tools=[fetch, forget, strike, rewrite],
            session_manager=session_manager,
            callback_handler=None,
            tool_executor=SequentialToolExecutor(),
        )
        if edit is strike_once:
            strike_once(agent)
        return agent

    cuts = check_everywhere(build, ["one", "two"])
    assert any(word in str(cuts[0].expected) for word in ("forgotten", "struck out", "put in"))


class Prompted(ScriptedModel):
    """Begins with the first turn where it is given a prompt, however many there were."""

    @staticmethod
    def _position(messages: Any) -> tuple[str, int, int]:
        prompt, visit, turn = ScriptedModel._position(messages)
        return prompt, visit if turn else {"one": 1, "two": 2}[prompt], turn


class Roomy(ScriptedModel):
    """A model that tells how much it can take."""

    @property
    def context_window_limit(self) -> int:
        return 100_000


@pytest.mark.newest_dependencies  # the context managers came with 1.6x
def test_messages_that_the_model_pins_stay_pinned() -> None:
    def build(session_manager: DaprSessionManager) -> Agent:
        pages = [("fetch", {"page": 1}), ("pin_context", {"select": [0]}), ("fetch", {"page": 2})]
        return Agent(
            model=Roomy([pages, [("fetch", {"page": 3})], "done"]),
            tools=[fetch],
            session_manager=session_manager,
            callback_handler=None,
            context_manager="agentic",
        )

    cuts = check_everywhere(build, ["go"])
    assert "pinned" in str(cuts[0].expected["messages"][0])


def test_compression_in_the_midst_that_keeps_the_first_and_the_last() -> None:
    """Of a manager that looks before each model call; as many messages as before, and only one of them another."""
    manager = SummarizingConversationManager(proactive_compression=True)
    agent = Agent(model=ScriptedModel(["done"]), callback_handler=None, conversation_manager=manager)
    assert strands_compat.edits_history_midway(agent)
    plain_one = Agent(model=ScriptedModel(["done"]), tools=[fetch], callback_handler=None)
    assert not strands_compat.edits_history_midway(plain_one)  # else a step costs the more the longer a session is


def test_a_summary_is_made_of_what_there_is_now() -> None:
    """The agent that makes it has a session too, was killed in it, and gets other messages, without its old prompt."""

    def build(session_manager: DaprSessionManager) -> Agent:
        helper = Agent(model=Digest([]), agent_id="helper", session_manager=session_manager, callback_handler=None)
        return Agent(
            model=Narrow(messages=6),
            tools=[fetch],
            conversation_manager=SummarizingConversationManager(
                summary_ratio=0.5, preserve_recent_messages=2, summarization_agent=helper
            ),
            session_manager=session_manager,
            callback_handler=None,
        )

    check_everywhere(build, ["one"])


@pytest.mark.parametrize("take_back", [list.clear, list.pop], ids=["all", "the last"])
def test_a_run_whose_messages_are_taken_back_begins_anew(take_back: Any) -> None:
    film = Film()
    build = build_with("null")
    live(film, build, ["one"])
    tried = 0
    for frame in film.frames[:-1]:
        agent = build(manager(Film.at(frame)))
        if not agent.messages:
            continue
        tried += 1
        take_back(agent.messages)
        assert str(agent("one")).strip() == "read 4 pages"
        assert [block for message in agent.messages for block in message["content"]].count({"text": "one"}) >= 1
    assert tried > 5
