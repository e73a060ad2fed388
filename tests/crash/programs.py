"""The agents that get killed, each with a script that its model follows."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any

from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.hooks import AfterToolCallEvent, BeforeInvocationEvent, BeforeModelCallEvent, BeforeToolCallEvent
from strands.tools.executors import SequentialToolExecutor
from strands.types.exceptions import ContextWindowOverflowException

from strands_dapr_session.hooks.in_doubt import INTERRUPT_NAME
from strands_dapr_session.testing import ledger
from strands_dapr_session.testing.faults import ArriveLate, Delay, Fault, LoseReply, LoseRequest, RefuseOwn
from strands_dapr_session.testing.faults import Call as StoreCall
from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.testing.program import Call, Program

# A takeover that waited for the lease would run into the timeout.
PATIENT = {"lease": 60.0, "busy_timeout": 20.0}


@tool
async def look_up(item: str) -> str:
    """Look something up."""
    return f"{item} costs 3"


@tool
async def add(a: int, b: int) -> str:
    """Add."""
    return str(a + b)


@tool
def send(text: str) -> str:
    """Send something, as a plain function in a thread."""
    return f"sent {text}"


@tool
async def wait(milliseconds: int) -> str:
    """Wait."""
    await asyncio.sleep(milliseconds / 1000)
    return f"waited {milliseconds}"


@tool(context=True)
async def remember(key: str, value: int, tool_context: ToolContext) -> str:
    """Keep a value in the agent's state."""
    state = tool_context.agent.state
    state.set(key, "nearly")
    await asyncio.sleep(0.002)
    state.set(key, value)
    return f"{key} is {value}"


@tool(context=True)
async def count(tool_context: ToolContext) -> str:
    """Count in the agent's state."""
    total = (tool_context.agent.state.get("total") or 0) + 1
    tool_context.agent.state.set("total", total)
    return f"counted to {total}"


@tool
async def long_text(letter: str, length: int) -> str:
    """Return a long text."""
    return letter * length


@tool(context=True)
async def picture(size: int, tool_context: ToolContext) -> dict[str, Any]:
    """Return an image."""
    pixels = bytes(range(256)) * (size // 256)
    return {
        "toolUseId": tool_context.tool_use["toolUseId"],
        "status": "success",
        "content": [{"image": {"format": "png", "source": {"bytes": pixels}}}, {"json": {"size": size, "ok": True}}],
    }


@tool
async def fail(times: int) -> str:
    """Raise as often as it is told."""
    so_far = len(ledger.current().entries("raise"))
    if so_far < times:
        ledger.current().note("raise", tool="fail")
        raise ValueError("not yet")
    return "at last"


@tool
async def always_fail() -> str:
    """Raise."""
    raise ValueError("never")


@tool
async def charge(cents: int) -> str:
    """Charge a card."""
    await asyncio.sleep(0.002)
    return f"charged {cents}"


@tool(context=True)
async def approve(what: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    answer = tool_context.interrupt("approval", reason={"what": what})
    return f"{what}: {answer}"


def agent(session_manager: Any, script: Any, tools: list[Any], **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel(script), tools=tools, session_manager=session_manager, callback_handler=None, **options
    )


# -- tools ------------------------------------------------------------------------------------------------------------


def sequential_agent(session_manager: Any) -> Agent:
    script = [
        [("look_up", {"item": "tea"})],
        [("add", {"a": 3, "b": 4})],
        [("send", {"text": "7"})],
        "That makes 7.",
    ]
    return agent(session_manager, script, [look_up, add, send])


def parallel_agent(session_manager: Any) -> Agent:
    script = [
        [("wait", {"milliseconds": 6}), ("wait", {"milliseconds": 0}), ("wait", {"milliseconds": 3})],
        [("send", {"text": "a"}), ("add", {"a": 1, "b": 2}), ("send", {"text": "b"})],
        "All done.",
    ]
    return agent(session_manager, script, [wait, send, add])


def remembering_agent(session_manager: Any) -> Agent:
    script = [
        [("remember", {"key": "a", "value": 1})],
        [("remember", {"key": "b", "value": 2}), ("remember", {"key": "c", "value": 3}), ("add", {"a": 1, "b": 1})],
        [("count", {})],
        [("count", {})],
        "I shall remember.",
    ]
    return agent(session_manager, script, [remember, add, count], state={"given": {"deep": [1, None, True]}})


sequential = Program(sequential_agent, ["What does tea for two cost?"], PATIENT)
parallel = Program(parallel_agent, ["Do three things at once, twice."], PATIENT)
remembering = Program(remembering_agent, ["Remember a few things."], PATIENT)


def slow_agent(session_manager: Any) -> Agent:
    script = [
        [("wait", {"milliseconds": 400}), ("add", {"a": 1, "b": 1})],
        [("wait", {"milliseconds": 401})],
        [("wait", {"milliseconds": 402})],
        "That took a while.",
    ]
    return agent(session_manager, script, [wait, add])


slow = Program(slow_agent, ["Take your time."], {"lease": 1.5, "busy_timeout": 30.0})
slow_and_impatient = Program(slow_agent, ["Take your time."], {"lease": 1.5, "on_busy": "raise"})
short_of_lease = Program(parallel_agent, ["Do three things at once, twice."], {"lease": 0.4, "busy_timeout": 20.0})


# -- conversation managers --------------------------------------------------------------------------------------------


def _many_turns(session_manager: Any, manager: Any) -> Agent:
    script = [[("add", {"a": number, "b": 0})] for number in range(5)] + ["Five sums."]
    return agent(session_manager, script, [add], conversation_manager=manager)


class NamingModel(ScriptedModel):
    """Numbers its visits by the prompt: those that it sees may be fewer than there were."""

    def _position(self, messages: Any) -> tuple[str, int, int]:  # type: ignore[override]  # there it needs no self
        prompt, visit, number = super()._position(messages)
        return prompt, visit if number else list(self._script).index(prompt) + 1, number


def window_agent(session_manager: Any) -> Agent:
    script: dict[str, list[Any]] = {
        "First": [[("add", {"a": 1, "b": 1})], "One."],
        "Second": [[("add", {"a": 2, "b": 2})], "Two."],
        "Third": [[("add", {"a": 3, "b": 3})], [("look_up", {"item": "tea"})], "Three."],
    }
    return Agent(
        model=NamingModel(script),
        tools=[add, look_up],
        session_manager=session_manager,
        callback_handler=None,
        conversation_manager=SlidingWindowConversationManager(window_size=4),
    )


def window_per_turn_agent(session_manager: Any) -> Agent:
    return _many_turns(session_manager, SlidingWindowConversationManager(window_size=4, per_turn=True))


def window_every_second_turn_agent(session_manager: Any) -> Agent:
    return _many_turns(session_manager, SlidingWindowConversationManager(window_size=4, per_turn=2))


def _too_long(messages: Any, limit: int) -> bool:
    return len(repr(messages)) > limit


def truncating_agent(session_manager: Any) -> Agent:
    def overflow(messages: Any) -> Any:
        if _too_long(messages, 3000):
            return ContextWindowOverflowException("too long")
        return [("add", {"a": 1, "b": 1})]

    script = [
        [("long_text", {"letter": "x", "length": 2000})],
        [("long_text", {"letter": "y", "length": 2000})],
        overflow,
        "It fits.",
    ]
    manager = SlidingWindowConversationManager(window_size=40)
    return agent(session_manager, script, [long_text, add], conversation_manager=manager)


def summarizing_agent(session_manager: Any) -> Agent:
    def overflow(messages: Any) -> Any:
        return ContextWindowOverflowException("too long") if len(messages) > 6 else [("add", {"a": 9, "b": 9})]

    turns: list[Any] = [[("add", {"a": number, "b": 0})] for number in range(3)]
    script = _Summaries({"Sum up": [*turns, overflow, "Done."]})
    manager = SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)
    return agent(session_manager, script, [add], conversation_manager=manager)


class _Summaries(dict[str, Any]):
    """A script that also knows what to say when it is asked for a summary; the prompt may have been summed up."""

    def __missing__(self, prompt: str) -> Any:
        if "summar" in prompt.lower() and not prompt.startswith("SUMMARY"):
            return ["SUMMARY of it all."]
        return self["Sum up"]


window = Program(window_agent, ["First", "Second", "Third"], PATIENT)
window_per_turn = Program(window_per_turn_agent, ["Add up"], PATIENT)
window_every_second_turn = Program(window_every_second_turn_agent, ["Add up"], PATIENT)
truncating = Program(truncating_agent, ["Read a lot"], PATIENT)
summarizing = Program(summarizing_agent, ["Sum up"], PATIENT)


# -- hooks ------------------------------------------------------------------------------------------------------------


def _rewrite(event: AfterToolCallEvent) -> None:
    if event.tool_use["name"] == "add":
        event.result["content"] = [{"text": f"rewritten {event.result['content'][0].get('text')}"}]


def _retry_once(event: AfterToolCallEvent) -> None:
    retried = event.invocation_state.setdefault("retried", set())
    if event.tool_use["toolUseId"] not in retried and event.tool_use["name"] == "look_up":
        retried.add(event.tool_use["toolUseId"])
        event.retry = True


def _greet(event: BeforeInvocationEvent) -> None:
    if event.messages:
        event.messages = [
            *event.messages[:-1],
            {"role": "user", "content": [*event.messages[-1]["content"], {"text": "Hello, please."}]},
        ]


def rewriting_agent(session_manager: Any) -> Agent:
    script = {
        "Hello, please.": [
            [("add", {"a": 1, "b": 2}), ("look_up", {"item": "tea"})],
            [("add", {"a": 3, "b": 4})],
            "Rewritten.",
        ]
    }
    made = agent(session_manager, script, [add, look_up])
    made.add_hook(_rewrite, AfterToolCallEvent)
    made.add_hook(_greet, BeforeInvocationEvent)
    return made


def retrying_agent(session_manager: Any) -> Agent:
    script = [[("add", {"a": 1, "b": 2}), ("look_up", {"item": "tea"})], "Twice looked up."]
    made = agent(session_manager, script, [add, look_up])
    made.add_hook(_retry_once, AfterToolCallEvent)
    return made


def annotating_agent(session_manager: Any) -> Agent:
    """Has hooks that change messages where they are: before the model is asked, and before a tool runs."""
    script = [
        [("add", {"a": 1, "b": 2}), ("send", {"text": "x"})],
        [("look_up", {"item": "tea"})],
        "Noted.",
    ]
    made = agent(session_manager, script, [add, send, look_up])
    made.add_hook(_add_note, BeforeModelCallEvent)
    made.add_hook(_fix_input, BeforeToolCallEvent)
    return made


def _add_note(event: BeforeModelCallEvent) -> None:
    content = event.agent.messages[-1]["content"]
    if not any(block.get("text") == "a note" for block in content):
        content.append({"text": "a note"})


def _fix_input(event: BeforeToolCallEvent) -> None:
    if event.tool_use["name"] == "add":
        event.tool_use["input"]["a"] = 10


rewriting = Program(rewriting_agent, ["Add"], PATIENT)
annotating = Program(annotating_agent, ["Add"], PATIENT)
retrying = Program(retrying_agent, ["Look it up"], PATIENT)


# -- people -----------------------------------------------------------------------------------------------------------


def approving_agent(session_manager: Any) -> Agent:
    script = [
        [("add", {"a": 1, "b": 2}), ("approve", {"what": "payment"}), ("send", {"text": "x"})],
        [("approve", {"what": "shipping"})],
        "Approved twice.",
    ]
    return agent(session_manager, script, [add, approve, send])


def say_yes(name: str, reason: Any) -> str:
    return f"yes to {reason['what']} ({name})"


approving = Program(approving_agent, ["Pay and ship"], PATIENT, answer=say_yes)


# -- tools in doubt ---------------------------------------------------------------------------------------------------


def _careful_agent(session_manager: Any) -> Agent:
    """Charges twice, once alone and once beside something harmless."""
    script = [
        [("charge", {"cents": 5})],
        [("charge", {"cents": 7}), ("add", {"a": 1, "b": 1})],
        [("add", {"a": 2, "b": 2})],
        "Charged.",
    ]
    return agent(session_manager, script, [charge, add])


def _asking_agent(session_manager: Any) -> Agent:
    """Charges twice, never beside anything: after an interrupt Strands gives results in another order."""
    script = [[("charge", {"cents": 5})], [("charge", {"cents": 7})], [("add", {"a": 2, "b": 2})], "Charged."]
    return agent(session_manager, script, [charge, add])


def find_out(tool_use: Any) -> str | None:
    """Ask the one who would know whether a charge took place: the ledger."""
    ended = [entry["id"] for entry in ledger.current().entries("tool-end")]
    return f"charged {tool_use['input']['cents']}" if tool_use["toolUseId"] in ended else None


def run_it_again(name: str, reason: Any) -> str:
    assert (name, reason["tool"]) == (INTERRUPT_NAME, "charge")
    return "rerun"


def skip_it(name: str, reason: Any) -> str:
    assert (name, reason["tool"]) == (INTERRUPT_NAME, "charge")
    return "skip"


never_twice = Program(_careful_agent, ["Charge"], {**PATIENT, "in_doubt": {"charge": "never_twice"}})
reconciled = Program(_careful_agent, ["Charge"], {**PATIENT, "in_doubt": {"charge": find_out}})
asked_to_run = Program(_asking_agent, ["Charge"], {**PATIENT, "in_doubt": {"charge": "ask"}}, answer=run_it_again)
asked_to_skip = Program(_careful_agent, ["Charge"], {**PATIENT, "in_doubt": {"charge": "ask"}}, answer=skip_it)


# -- prompts ----------------------------------------------------------------------------------------------------------


def conversing_agent(session_manager: Any) -> Agent:
    script = {
        "First": [[("add", {"a": 1, "b": 1})], "One."],
        "Second": [[("add", {"a": 2, "b": 2})], [("look_up", {"item": "tea"})], "Two."],
        "Third": [[("send", {"text": "3"})], "Three."],
        "Look at this": [[("add", {"a": 5, "b": 5})], "Seen."],
    }
    return agent(session_manager, script, [add, look_up, send])


BLOCKS = [
    {"document": {"format": "pdf", "name": "paper", "source": {"bytes": b"%PDF\x00\xff" * 50}}},
    {"text": "Look at this"},
]

two_prompts = Program(conversing_agent, ["First", "Second"], PATIENT)
blocks = Program(conversing_agent, ["First", BLOCKS], PATIENT)


def packing_agent(session_manager: Any) -> Agent:
    """Packs its journal after every few commits."""
    session_manager._journal_settings = replace(session_manager._journal_settings, compact_slots=3)
    return conversing_agent(session_manager)


def packing_window_agent(session_manager: Any) -> Agent:
    """Packs messages that are not live any more."""
    session_manager._journal_settings = replace(session_manager._journal_settings, compact_slots=4)
    return window_agent(session_manager)


packing = Program(packing_agent, ["First", "Second", "Third"], PATIENT)
packing_window = Program(packing_window_agent, ["First", "Second", "Third"], PATIENT)
first = Program(conversing_agent, ["First"], PATIENT)
second_only = Program(conversing_agent, [Call("Second", id="call-2")], PATIENT)
nothing_new = Program(conversing_agent, [Call(None, id=None)], PATIENT)
unnamed = Program(conversing_agent, [Call("First", id=None), Call("Second", id=None)], PATIENT)


# -- failures ---------------------------------------------------------------------------------------------------------


class FlakyModel(ScriptedModel):
    """Raises at its second call, once in all processes."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if len(messages) == 3 and not ledger.current().entries("raise"):
            ledger.current().note("raise", model="flaky")
            raise ConnectionError("the model is not there")
        async for event in super().stream(messages, *args, **kwargs):
            yield event


def flaky_agent(session_manager: Any) -> Agent:
    script = [[("add", {"a": 1, "b": 2}), ("send", {"text": "x"})], [("look_up", {"item": "tea"})], "Recovered."]
    return Agent(
        model=FlakyModel(script), tools=[add, send, look_up], session_manager=session_manager, callback_handler=None
    )


def failing_agent(session_manager: Any) -> Agent:
    script = [[("always_fail", {}), ("add", {"a": 1, "b": 2})], [("look_up", {"item": "tea"})], "One failed."]
    return agent(session_manager, script, [always_fail, add, look_up])


flaky = Program(flaky_agent, ["Try"], PATIENT)
flaky_again = Program(flaky_agent, [Call("Try", attempts=2)], PATIENT)
failing = Program(failing_agent, ["Fail"], PATIENT)


@dataclass(frozen=True)
class Outage:
    """The store does not answer from one call to another."""

    first: int
    last: int

    def __call__(self, call: StoreCall) -> Fault | None:
        return LoseRequest() if self.first <= call.number <= self.last else None


class Noise:
    """One write in three fails in some way that leaves it open whether it took place; the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, call: StoreCall) -> Fault | None:
        chance = random.Random(self._seed * 1000 + call.number)
        if not call.writes or chance.random() > 1 / 3:
            return None
        return chance.choice([LoseRequest(), LoseReply(), RefuseOwn(), ArriveLate(1), ArriveLate(3), Delay(0.01)])


def counting_agent(session_manager: Any) -> Agent:
    """Has messages before it has a session, and state only once a tool has run."""
    script = [[("count", {})], [("count", {}), ("add", {"a": 1, "b": 2})], "Counted."]
    before: list[Any] = [
        {"role": "user", "content": [{"text": "Hello"}]},
        {"role": "assistant", "content": [{"text": "Hello to you."}]},
    ]
    return agent(session_manager, script, [count, add], messages=before)


counting = Program(counting_agent, [Call("Count.", attempts=8)], PATIENT)
approving_persistently = Program(approving_agent, [Call("Pay and ship", attempts=8)], PATIENT, answer=say_yes)
remembering_persistently = Program(remembering_agent, [Call("Remember a few things.", attempts=8)], PATIENT)
windowed_persistently = Program(window_every_second_turn_agent, [Call("Add up", attempts=8)], PATIENT)
persistent = Program(parallel_agent, [Call("Do three things at once, twice.", attempts=8)], PATIENT)
slow_and_persistent = Program(slow_agent, [Call("Take your time.", attempts=40)], PATIENT)


# -- ids that models give --------------------------------------------------------------------------------------------


class RepeatingModel(ScriptedModel):
    """Begins to number its tool calls anew in every answer, as some models do; knows its turn from the messages."""

    def _position(self, messages: Any) -> tuple[str, int, int]:  # type: ignore[override]  # there it needs no self
        prompt = max(n for n, message in enumerate(messages) if "text" in message["content"][0] and n % 2 == 0)
        return messages[prompt]["content"][0]["text"], 1, (len(messages) - 1 - prompt) // 2

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        async for event in super().stream(messages, *args, **kwargs):
            call = event.get("contentBlockStart", {}).get("start", {}).get("toolUse")
            if call:
                call["toolUseId"] = self._rename(call["toolUseId"], call["name"])
            yield event

    @staticmethod
    def _rename(tool_use_id: str, _name: str) -> str:
        return tool_use_id.partition("t")[2]


class NamingCallsModel(RepeatingModel):
    """Takes the name of the tool for the id, so that calls of the same answer may share one."""

    @staticmethod
    def _rename(_tool_use_id: str, name: str) -> str:
        return name


@tool
async def pieces(number: int) -> Any:
    """Stream what it finds."""
    for index in range(number):
        await asyncio.sleep(0)
        yield f"piece {index}"
    yield f"{number} pieces"


_REPEATING: list[Any] = [
    [("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}), ("pieces", {"number": 2})],
    [("add", {"a": 3, "b": 3}), ("pieces", {"number": 3})],
    [("add", {"a": 1, "b": 1})],
    "Added.",
]


def repeating_agent(session_manager: Any) -> Agent:
    return Agent(
        model=RepeatingModel(_REPEATING), tools=[add, pieces], session_manager=session_manager, callback_handler=None
    )


def doubling_agent(session_manager: Any) -> Agent:
    return Agent(
        model=NamingCallsModel(_REPEATING), tools=[add, pieces], session_manager=session_manager, callback_handler=None
    )


def one_by_one_agent(session_manager: Any) -> Agent:
    script: list[Any] = [[("add", {"a": 1, "b": 1}), ("send", {"text": "x"}), ("pieces", {"number": 2})], "Added."]
    return agent(session_manager, script, [add, send, pieces], tool_executor=SequentialToolExecutor())


repeating = Program(repeating_agent, ["Add", "Add"], PATIENT)
doubling = Program(doubling_agent, ["Add"], PATIENT)
one_by_one = Program(one_by_one_agent, ["Add"], PATIENT)


# -- sizes ------------------------------------------------------------------------------------------------------------


def large_agent(session_manager: Any) -> Agent:
    script = [
        [
            ("long_text", {"letter": "x", "length": 1_500_000}),
            ("picture", {"size": 1_280_000}),
            ("add", {"a": 1, "b": 1}),
        ],
        [("picture", {"size": 256})],
        "z" * 200_000,
    ]
    return agent(session_manager, script, [long_text, picture, add])


large = Program(
    large_agent, [[{"image": {"format": "png", "source": {"bytes": b"\x00\xff" * 600_000}}}, {"text": "Go"}]], PATIENT
)
