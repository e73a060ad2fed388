"""The state in which an agent waits for people, and keeps a half-finished batch of tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from strands import interrupt as _interrupt

from strands_dapr_session.strands_compat.agents import load, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from strands import Agent
    from strands.types.content import Message
    from strands.types.tools import ToolResult

_HAS_PENDING_EXECUTION: Final = hasattr(_interrupt, "PendingToolExecution")
"""Since 1.52 the interrupt state has a field for a half-finished batch; before, two entries of its context."""


def interrupt_state(agent: Agent) -> dict[str, Any]:
    """Read the human-in-the-loop state of an agent."""
    return cast("dict[str, Any]", snapshot(agent, "interrupt_state")["interrupt_state"])


def has_answers(agent: Agent) -> bool:
    """Tell whether a caller has just answered the interrupts that an agent waits for."""
    state = interrupt_state(agent)
    return bool(state["activated"]) and "responses" in state["context"]


def forget(agent: Agent) -> None:
    """Empty the parts of an agent that are recorded only once there is something in them.

    Answers that came with the call that is about to begin stay.
    """
    load(agent, {"state": {}, "model_state": {}})
    if not has_answers(agent):
        load(agent, {"interrupt_state": {"interrupts": {}, "context": {}, "activated": False}})


def half_finished_batch(
    recorded: Mapping[str, Any] | None, assistant_message: Message, results: Sequence[ToolResult]
) -> dict[str, Any]:
    """Build the interrupt state that makes Strands take `results` as they are and run only the other tools.

    The event loop looks for it in `_interrupt_state` before it calls the model (`event_loop/event_loop.py`).

    Args:
        recorded: The interrupt state as it was recorded; answers that a person gave are kept.
        assistant_message: The message that asked for the tools.
        results: The recorded results of those that finished.
    """
    state: dict[str, Any] = {
        "interrupts": dict((recorded or {}).get("interrupts", {})),
        "context": dict((recorded or {}).get("context", {})),
        "activated": True,
    }
    if _HAS_PENDING_EXECUTION:
        state["pending_tool_execution"] = {
            "assistant_message": assistant_message,
            "completed_tool_results": list(results),
        }
    else:
        state["context"].update(tool_use_message=assistant_message, tool_results=list(results))
    return state


def reactivate_answers(agent: Agent) -> None:
    """Let answers count that were given before the model was asked, not to a tool.

    Since 1.52 middleware around the model may wait for answers; it looks at them only while the state is activated.
    """
    state = interrupt_state(agent)
    if _HAS_PENDING_EXECUTION and state["interrupts"]:
        load(agent, {"interrupt_state": {**state, "activated": True}})


def batch_of(state: Mapping[str, Any]) -> list[ToolResult]:
    """Read the results that an interrupt state carries for its half-finished batch."""
    pending = state.get("pending_tool_execution")
    if pending is not None:
        return list(pending["completed_tool_results"])
    return list(state.get("context", {}).get("tool_results", []))


def has_batch(agent: Agent) -> bool:
    """Tell whether the interrupt state of an agent carries a half-finished batch."""
    state = interrupt_state(agent)
    return state.get("pending_tool_execution") is not None or "tool_use_message" in state["context"]


def share_batch(agent: Agent) -> None:
    """Let the half-finished batch of an agent be asked for by the very message in its conversation.

    It is that where the agent stopped to ask. Hooks edit what tools are given where it is.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    pending = getattr(state, "pending_tool_execution", None)
    if not agent.messages:
        return
    last = agent.messages[-1]
    if pending is not None and pending.assistant_message == last:
        pending.assistant_message = last
    elif state.context.get("tool_use_message") == last:
        state.context["tool_use_message"] = last


def sort_batch(agent: Agent, order: Sequence[str]) -> None:
    """Sort the results that the interrupt state of an agent carries for its half-finished batch.

    In place: `load` would make the state anew, without what `take_answers_again` did to it.

    Args:
        agent: The agent.
        order: The tool calls of the batch, as their results are to follow each other.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    pending = getattr(state, "pending_tool_execution", None)
    results: list[ToolResult] = (
        state.context.get("tool_results", []) if pending is None else pending.completed_tool_results
    )
    results.sort(key=lambda result: order.index(result["toolUseId"]))


def without_batch(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy an interrupt state as one that waits for nothing, keeping what people answered."""
    context = {
        name: value
        for name, value in state.get("context", {}).items()
        if name not in {"tool_use_message", "tool_results"}
    }
    return {"interrupts": state.get("interrupts", {}), "context": context, "activated": False}


def with_answers(recorded: Mapping[str, Any], agent: Agent) -> dict[str, Any]:
    """Copy an interrupt state as one that an agent's caller has just answered, as far as it asks what was answered.

    Args:
        recorded: What the agent waits for.
        agent: The agent, which was given answers to what it waited for before.
    """
    given = {each["interruptResponse"]["interruptId"]: each for each in interrupt_state(agent)["context"]["responses"]}
    interrupts = {
        id_: {**each, "response": given[id_]["interruptResponse"]["response"]} if id_ in given else each
        for id_, each in recorded["interrupts"].items()
    }
    responses = [answer for id_, answer in given.items() if id_ in interrupts]
    context = {**recorded["context"], **({"responses": responses} if responses else {})}
    return {**recorded, "interrupts": interrupts, "context": context}


def stop_waiting(agent: Agent, answered: Iterable[str] = ()) -> None:
    """Let an agent that was interrupted, answered, and then failed be called with anything, as a restored one can be.

    Answers are kept. Strands would demand them again; or refuse them, if it was done with them when the agent failed.

    Args:
        agent: The agent.
        answered: The interrupts that were answered earlier in the same run.
    """
    state = interrupt_state(agent)
    if state["activated"]:
        load(agent, {"interrupt_state": without_batch(state)})
    take_answers_again(agent, answered)


def take_answers_again(agent: Agent, answered: Iterable[str]) -> None:
    """Let an agent accept answers that it has got already.

    A program that is started again says again what it said last. Strands refuses answers to interrupts that it does
    not wait for, in `_InterruptState.resume` and `Agent._convert_prompt_to_messages`, before any hook runs (1.43 to
    1.62).

    Args:
        agent: The agent.
        answered: The interrupts that were answered.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    old = {*answered, *(id_ for id_, each in state.interrupts.items() if each.response is not None)}
    take = state.resume

    def resume(prompt: Any) -> None:
        given = answered_by(prompt)
        is_asked_for = state.activated and given <= state.interrupts.keys()
        if given and not is_asked_for and given <= old | state.interrupts.keys():
            state.activated = True
            prompt = [each for each in prompt if each["interruptResponse"]["interruptId"] in state.interrupts]
            if not prompt:
                return
        take(prompt)

    if old:
        state.resume = resume


def answered_by(prompt: Any) -> set[str]:
    """List the interrupts that a prompt answers; empty if it is no list of answers."""
    if not isinstance(prompt, list):
        return set()
    answers = [each["interruptResponse"] for each in prompt if isinstance(each, dict) and "interruptResponse" in each]
    return {each["interruptId"] for each in answers} if len(answers) == len(prompt) else set()


def is_asking(agent: Agent, tool_use_id: str) -> bool:
    """Tell whether a hook has just interrupted the agent before a tool call.

    Callbacks that come later run nevertheless, and are not told. Before the first of them, `forget_open_questions`.
    """
    interrupts = interrupt_state(agent)["interrupts"]
    return any(
        each.get("response") is None and id_.startswith(_asked_before(tool_use_id)) for id_, each in interrupts.items()
    )


def forget_open_questions(agent: Agent, tool_use_id: str) -> None:
    """Forget what hooks asked before a tool call and nobody answered: those that still want to know ask again."""
    interrupts: Any = agent._interrupt_state.interrupts  # noqa: SLF001
    prefix = _asked_before(tool_use_id)
    for id_ in [id_ for id_, each in interrupts.items() if each.response is None and id_.startswith(prefix)]:
        del interrupts[id_]


def forget_answer(agent: Agent, tool_use_id: str, name: str) -> bool:
    """Forget what a person answered to a hook that asked before a tool call, so that it may ask again.

    Args:
        agent: The agent.
        tool_use_id: The tool call.
        name: The name of the interrupt.

    Returns:
        Whether there was an answer.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    answered = [
        id_
        for id_, each in state.interrupts.items()
        if each.name == name and each.response is not None and id_.startswith(_asked_before(tool_use_id))
    ]
    for id_ in answered:
        del state.interrupts[id_]
    return bool(answered)


def answer(agent: Agent, answers: Mapping[str, Any]) -> None:
    """Give an agent answers to interrupts that it has raised, so that it does not ask again."""
    state = interrupt_state(agent)
    missing = [id_ for id_, each in state["interrupts"].items() if each.get("response") is None and id_ in answers]
    if missing:
        interrupts = {
            id_: {**each, "response": answers[id_]} if id_ in missing else each
            for id_, each in state["interrupts"].items()
        }
        load(agent, {"interrupt_state": {**state, "interrupts": interrupts}})


def answers_for_tool(agent: Agent, tool_use_id: str) -> dict[str, Any]:
    """Read what people answered to interrupts of an agent that is a tool, from the state of the agent that uses it."""
    prefix = _prefix_of_tool(tool_use_id)
    return {
        id_.removeprefix(prefix): each["response"]
        for id_, each in interrupt_state(agent)["interrupts"].items()
        if id_.startswith(prefix) and each.get("response") is not None
    }


def forget_old_answers(agent: Agent, tool: Agent, tool_use_id: str) -> None:
    """Leave out of answers for an agent that is a tool those that it got before, and would refuse together with all.

    Callers may answer everything that was asked in a call, once more: the agent itself takes that.

    Args:
        agent: The agent that was given the answers.
        tool: The agent that is its tool.
        tool_use_id: The call.
    """
    context: dict[str, Any] = agent._interrupt_state.context  # noqa: SLF001
    prefix = _prefix_of_tool(tool_use_id)
    turn = (context.get("sub_agent_interrupted_turns") or {}).get(tool_use_id)
    waits_for = turn["data"]["interrupt_state"]["interrupts"] if turn else interrupt_state(tool)["interrupts"]
    old = {f"{prefix}{id_}" for id_ in answers_for_tool(agent, tool_use_id) if id_ not in waits_for}
    if old and "responses" in context:
        context["responses"] = [
            each for each in context["responses"] if each["interruptResponse"]["interruptId"] not in old
        ]


def is_answering_tool(agent: Agent, tool: Agent, tool_use_id: str) -> bool:
    """Tell whether an agent passes answers on to another one that is its tool, as in `answers_for_tool`.

    Args:
        agent: The agent that uses the other one.
        tool: The other one. Before 1.52 its interrupts have no prefix.
        tool_use_id: The call.
    """
    state, own = interrupt_state(agent), interrupt_state(tool)["interrupts"]
    prefix = _prefix_of_tool(tool_use_id)
    return state["activated"] and any(id_.startswith(prefix) or id_ in own for id_ in state["interrupts"])


def _asked_before(tool_use_id: str) -> str:
    """What the ids of `BeforeToolCallEvent.interrupt` begin with (1.43 to 1.62)."""
    return f"v1:before_tool_call:{tool_use_id}:"


def _prefix_of_tool(tool_use_id: str) -> str:
    """Tell what the ids of interrupts of an agent that is a tool begin with, in the state of the agent that uses it.

    See `agent/_agent_as_tool.py` (1.62; not before 1.52).
    """
    return f"v1:agent_as_tool:{quote(tool_use_id, safe='')}:"
