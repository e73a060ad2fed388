"""Writes into a ledger what agents do, and tells the kill switch, without the agents knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strands import Agent

from strands_dapr_session import strands_compat
from strands_dapr_session.idempotency import idempotency_key
from strands_dapr_session.testing.plain import digest, plain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from strands.types.content import Message
    from strands.types.tools import AgentTool, ToolUse

    from strands_dapr_session.testing.kills import KillSwitch
    from strands_dapr_session.testing.ledger import Ledger


class Witness:
    """Watches the tools and models of agents."""

    def __init__(self, ledger: Ledger, switch: KillSwitch) -> None:
        """Say where to write, and who may end the process."""
        self._ledger = ledger
        self._switch = switch
        self._watched: list[object] = []

    def watch(self, built: Any) -> None:
        """Watch an agent, or every agent of an orchestrator."""
        for agent in agents_of(built):
            self._watch_model(agent)
            for tool in agent.tool_registry.registry.values():
                self._watch_tool(agent, tool)

    def _is_new(self, thing: object) -> bool:
        if any(watched is thing for watched in self._watched):
            return False
        self._watched.append(thing)
        return True

    def _watch_tool(self, agent: Agent, tool: AgentTool) -> None:
        if not self._is_new(tool):
            return
        run = tool.stream

        async def stream(tool_use: ToolUse, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            who = {"agent": agent.agent_id, "name": tool_use["name"], "id": tool_use["toolUseId"]}
            number = self._switch.before("tool", **who)
            self._ledger.note("tool-start", **who, input=plain(tool_use["input"]), key=idempotency_key())
            last = None
            async for event in run(tool_use, *args, **kwargs):
                if last is not None:
                    yield last
                last = event
            # Strands takes the last event for the result and does not come back for more: the tool is done already.
            self._ledger.note("tool-end", **who)
            self._switch.after("tool", number, **who)
            yield last

        tool.stream = stream  # type: ignore[method-assign]  # of this one object

    def _watch_model(self, agent: Agent) -> None:
        model = agent.model
        if not self._is_new(model):
            return
        ask = model.stream

        async def stream(
            messages: Any, tool_specs: Any = None, system_prompt: Any = None, **kwargs: Any
        ) -> AsyncGenerator[Any, None]:
            number = self._switch.before("model", agent=agent.agent_id)
            seen, around = plain(messages), plain([tool_specs, system_prompt, kwargs.get("tool_choice")])
            self._ledger.note("model-start", agent=agent.agent_id, asked=digest([seen, around]), messages=seen)
            answer = _Answer()
            try:
                async for event in ask(messages, tool_specs, system_prompt, **kwargs):
                    answer.add(event)
                    yield event
            except Exception as error:
                self._ledger.note("model-failed", agent=agent.agent_id, error=repr(error))
                raise
            self._ledger.note("model-end", agent=agent.agent_id, answer=answer.digest)
            self._switch.after("model", number, agent=agent.agent_id)

        model.stream = stream  # type: ignore[method-assign]  # of this one object


class _Answer:
    """What a model says, put together from its stream."""

    def __init__(self) -> None:
        self._text = ""
        self._tool_use_ids: list[str] = []

    def add(self, event: Any) -> None:
        start = event.get("contentBlockStart", {}).get("start", {})
        if "toolUse" in start:
            self._tool_use_ids.append(start["toolUse"]["toolUseId"])
        self._text += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")

    @property
    def digest(self) -> str:
        return digest([self._text, self._tool_use_ids])


def answer_of(message: Message) -> str:
    """Name what a message of the assistant says, as its ``model-end`` is named in the ledger."""
    text = "".join(block.get("text", "") for block in message["content"])
    return digest([text, [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]])


def agents_of(built: Any) -> Iterator[Agent]:
    """List an agent, the agents among its tools, and the agents of an orchestrator's nodes."""
    if isinstance(built, Agent):
        yield built
        for tool in built.tool_registry.registry.values():
            yield from agents_of(getattr(tool, "agent", None))
    nodes: Mapping[str, Any] = getattr(built, "nodes", None) or {}
    for node in nodes.values():
        yield from agents_of(node.executor)


def observe(built: Any) -> dict[str, Any]:
    """Describe everything about an agent, or the agents of an orchestrator, that a crash must not change."""
    if not isinstance(built, Agent):
        return {agent.agent_id: observe(agent) for agent in agents_of(built)}
    parts = strands_compat.snapshot(built, "conversation_manager_state", "interrupt_state", "model_state")
    return {"messages": plain(built.messages), "state": plain(built.state.get()), **plain(parts)}


def describe(result: Any) -> dict[str, Any]:
    """Describe what a call returned."""
    if hasattr(result, "stop_reason"):
        structured = getattr(result, "structured_output", None)
        return {
            "stop_reason": result.stop_reason,
            "message": plain(result.message),
            "structured_output": None if structured is None else repr(structured),
        }
    return {"result": plain(result.to_dict() if hasattr(result, "to_dict") else result)}
