"""Agents made of what Strands has had since 1.5x and 1.6x: interventions, plugins, routers, context managers."""

from __future__ import annotations

import asyncio
from typing import Any

from strands import Agent, ToolContext, tool
from strands.hooks import AfterInvocationEvent, AfterToolsEvent
from strands.interventions import Confirm, Deny, Guide, InterventionHandler, Proceed, Transform
from strands.middleware import ExecuteToolStage
from strands.models.routing import ModelRouter
from strands.types.exceptions import ModelThrottledException
from strands.vended_plugins.context_injector import ContextInjector
from strands.vended_plugins.goal import GoalLoop, ValidationOutcome
from strands.vended_plugins.skills import AgentSkills, Skill
from strands.vended_tools.stop import stop

from strands_dapr_session.testing.model import ScriptedModel
from strands_dapr_session.testing.program import Program
from tests.crash.programs import PATIENT, add, agent, look_up, send, wait

# -- interventions ----------------------------------------------------------------------------------------------------


class _Rules(InterventionHandler):
    """Denies, guides, transforms and asks, by the tool and what it is given."""

    name = "rules"

    def before_invocation(self, event: Any, **_: Any) -> Any:  # noqa: ARG002
        return Transform(apply=_greet)

    def before_tool_call(self, event: Any, **_: Any) -> Any:
        given = event.tool_use["input"]
        match given.get("text") or given.get("item"):
            case "secret":
                return Deny(reason="no secrets")
            case "rude":
                return Guide(feedback="be polite")
            case "contract":
                return Confirm(prompt="send the contract?")
            case "tea":
                return Transform(apply=_rename)
            case _:
                return Proceed()

    async def after_tool_call(self, event: Any, **_: Any) -> Any:
        if event.tool_use["name"] != "look_up":
            return Proceed()
        return Transform(apply=_sign)


def _greet(event: Any) -> None:
    if event.messages and "text" in event.messages[-1]["content"][0]:
        content = [*event.messages[-1]["content"], {"text": "Be brief."}]
        event.messages = [*event.messages[:-1], {"role": "user", "content": content}]


def _rename(event: Any) -> None:
    event.tool_use["input"].update(item="green tea")


def _sign(event: Any) -> None:
    event.result["content"].append({"text": "checked"})


def _agree(_name: str, _reason: Any) -> str:
    return "yes"


def guarded_agent(session_manager: Any) -> Agent:
    script = [
        [("look_up", {"item": "tea"}), ("send", {"text": "secret"}), ("send", {"text": "a"})],
        [("send", {"text": "rude"}), ("wait", {"milliseconds": 3}), ("send", {"text": "contract"})],
        [("add", {"a": 1, "b": 2})],
        "Sent.",
    ]
    return agent(session_manager, script, [look_up, send, wait, add], interventions=[_Rules()])


class _Coach(InterventionHandler):
    """Says something before a call of the model, and has an answer made again; judges by the messages alone."""

    name = "coach"

    def before_model_call(self, event: Any, **_: Any) -> Any:
        is_told = any("think" in text for text in _texts(event.agent.messages))
        is_answered = any("toolResult" in block for block in event.agent.messages[-1]["content"])
        return Guide(feedback="think twice") if is_answered and not is_told else Proceed()

    def after_model_call(self, event: Any, **_: Any) -> Any:
        response = event.stop_response
        is_short = response is not None and "short" in response.message["content"][0].get("text", "")
        return Guide(feedback="make it longer") if is_short else Proceed()


def _texts(messages: Any) -> list[str]:
    return [block.get("text", "") for message in messages for block in message["content"]]


class _Counting(ScriptedModel):
    """Knows its turn by the results of tools, whatever else was said."""

    @staticmethod
    def _position(messages: Any) -> tuple[str, int, int]:
        return "", 1, sum("toolResult" in block for message in messages for block in message["content"])


def coached_agent(session_manager: Any) -> Agent:
    def last(messages: Any) -> str:
        return "A long answer." if any("longer" in text for text in _texts(messages)) else "short"

    return Agent(
        model=_Counting([[("add", {"a": 1, "b": 2})], [("send", {"text": "x"})], last]),
        tools=[add, send],
        session_manager=session_manager,
        callback_handler=None,
        interventions=[_Coach()],
    )


# -- plugins, middleware, routers -------------------------------------------------------------------------------------


def informed_agent(session_manager: Any) -> Agent:
    """Is told something at every call that is not kept."""
    script = [[("add", {"a": 1, "b": 2}), ("send", {"text": "b"})], [("look_up", {"item": "tea"})], "Told."]
    injectors = [
        ContextInjector(lambda context: f"<n>{len(context.messages)}</n>", name="count", trigger="everyTurn"),
        ContextInjector(lambda _: "<greeting>", name="greet"),
    ]
    return agent(session_manager, script, [add, send, look_up], plugins=injectors)


class _Throttled(ScriptedModel):
    """Answers once, and then no more."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if len(messages) > 1:
            raise ModelThrottledException("slow down")
        async for event in super().stream(messages, *args, **kwargs):
            yield event


def routed_agent(session_manager: Any) -> Agent:
    script = [[("add", {"a": 1, "b": 2}), ("send", {"text": "b"})], [("look_up", {"item": "tea"})], "Routed."]
    router = ModelRouter([_Throttled(script, model_id="first"), ScriptedModel(script, model_id="second")])
    return Agent(
        model=router,
        tools=[add, send, look_up],
        session_manager=session_manager,
        callback_handler=None,
        retry_strategy=None,
    )


def sheltered_agent(session_manager: Any) -> Agent:
    """Has middleware that answers for one of its tools."""
    script = [[("send", {"text": "a"}), ("add", {"a": 1, "b": 2}), ("look_up", {"item": "tea"})], "Done."]
    made = agent(session_manager, script, [add, send, look_up])

    async def stand_in(context: Any, following: Any) -> Any:
        async for event in following(context):
            result = getattr(event, "tool_result", None)
            if result is not None and context.tool_use["name"] == "add":
                result["content"] = [{"text": "many"}]
            yield event

    made.add_middleware(ExecuteToolStage, stand_in)
    return made


def aiming_agent(session_manager: Any) -> Agent:
    """Is asked by a plugin to go on until what it says is good enough."""

    def draft(messages: Any) -> Any:
        return [("send", {"text": f"draft {_drafts(messages) + 1}"})]

    def judge(response: Any, agent: Any, **_: Any) -> ValidationOutcome:  # noqa: ARG001
        return ValidationOutcome(passed="good" in response["content"][0]["text"], feedback="try harder")

    script = [draft, lambda messages: "good" if _drafts(messages) > 1 else "bad"]
    return agent(session_manager, script, [send], plugins=[GoalLoop(goal=judge, max_attempts=3)])


def _drafts(messages: Any) -> int:
    return sum("toolUse" in block for message in messages for block in message["content"])


def skilled_agent(session_manager: Any) -> Agent:
    skill = Skill(name="sums", description="How to add", instructions="Use the tool.")
    script = [[("skills", {"skill_name": "sums"})], [("add", {"a": 1, "b": 2})], "Skilled."]
    return agent(session_manager, script, [add], plugins=[AgentSkills(skills=[skill])])


# -- ends -------------------------------------------------------------------------------------------------------------


def stopping_agent(session_manager: Any) -> Agent:
    """Is told by a tool to stop when the batch is done, and then called again."""
    script = {
        "First": [[("add", {"a": 1, "b": 2})], [("wait", {"milliseconds": 4}), ("stop", {"message": "enough"})], "no"],
        "Second": [[("stop", {}), ("send", {"text": "x"})], "no"],
        "Third": [[("give_up", {}), ("wait", {"milliseconds": 2})], "no"],
        "Fourth": [[("send", {"text": "y"})], "yes"],
    }
    return agent(session_manager, script, [add, send, wait, stop, give_up])


@tool(context=True)
async def give_up(tool_context: ToolContext) -> str:
    """Stop as tools did before 1.6x."""
    tool_context.invocation_state.setdefault("request_state", {})["stop_event_loop"] = True
    return "given up"


def ending_agent(session_manager: Any) -> Agent:
    """Has a hook that ends the turn when something was sent."""
    script = {
        "First": [[("add", {"a": 1, "b": 2})], [("send", {"text": "x"}), ("add", {"a": 2, "b": 2})], "no"],
        "Second": [[("add", {"a": 1, "b": 2})], "yes"],
    }
    made = agent(session_manager, script, [add, send])

    def end(event: AfterToolsEvent) -> None:
        texts = [i.get("text", "") for b in event.message["content"] for i in b["toolResult"]["content"]]
        if any("sent" in text for text in texts):
            event.end_turn = "That was it."

    async def linger(event: AfterInvocationEvent) -> None:  # noqa: ARG001
        await asyncio.sleep(0.02)  # so that what waits for nothing else is recorded

    made.add_hook(end, AfterToolsEvent)
    made.add_hook(linger, AfterInvocationEvent)
    return made


# -- context managers -------------------------------------------------------------------------------------------------


@tool
async def tell(n: int) -> str:
    """Tell a long story."""
    return f"story {n}: " + " ".join(f"word{n}{i}" for i in range(1500))


def stashing_agent(session_manager: Any) -> Agent:
    """Has what its tools say cut short, and asks for the whole again."""

    def ask(messages: Any) -> Any:
        return [("retrieve_context", {"reference": _first_reference(messages)})]

    script = {
        "First": [[("tell", {"n": 1})], [("tell", {"n": 2}), ("add", {"a": 1, "b": 1})], "Told."],
        "Second": [[("tell", {"n": 3})], ask, "Found."],
    }
    return agent(session_manager, script, [tell, add], context_manager="auto")


def _first_reference(messages: Any) -> str:
    results = [b["toolResult"] for message in messages for b in message["content"] if "toolResult" in b]
    texts = [item.get("text", "") for result in results for item in result["content"]]
    cut = next((text for text in texts if "[ref: " in text), "[ref: none]")
    return str(cut.partition("[ref: ")[2].partition("]")[0])


guarded = Program(guarded_agent, ["Do what the rules allow."], PATIENT, answer=_agree)
coached = Program(coached_agent, ["Go"], PATIENT)
informed = Program(informed_agent, ["Tell me"], PATIENT)
routed = Program(routed_agent, ["Go"], PATIENT)
sheltered = Program(sheltered_agent, ["Go"], PATIENT)
aiming = Program(aiming_agent, ["Go"], PATIENT)
skilled = Program(skilled_agent, ["Go"], PATIENT)
stopping = Program(stopping_agent, ["First", "Second", "Third", "Fourth"], PATIENT)
ending = Program(ending_agent, ["First", "Second"], PATIENT)
stashing = Program(stashing_agent, ["First", "Second"], PATIENT)
