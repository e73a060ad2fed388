"""Writes into a ledger what agents do, and tells the kill switch, without the agents knowing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from strands.hooks import AfterNodeCallEvent, BeforeNodeCallEvent

from strands_dapr_session import strands_compat
from strands_dapr_session.idempotency import idempotency_key
from strands_dapr_session.testing.plain import digest, in_any_order, plain
from strands_dapr_session.testing.subject import main_agents, orchestrators_of, with_tools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from strands import Agent
    from strands.types.tools import AgentTool, ToolUse

    from strands_dapr_session.testing.kills import KillSwitch
    from strands_dapr_session.testing.ledger import Ledger


class Witness:
    """Watches the tools and models of agents, and the turns of nodes."""

    def __init__(self, ledger: Ledger, switch: KillSwitch) -> None:
        """Say where to write, and who may end the process."""
        self._ledger = ledger
        self._switch = switch
        self._watched: list[Agent] = []

    def watch(self, built: Any) -> None:
        """Watch an agent, or an orchestrator with all its agents."""
        for name, agent in main_agents(built).items():
            self.watch_agent(name, agent)
        for path, orchestrator in orchestrators_of(built):
            self._watch_nodes(path, orchestrator)

    def watch_agent(self, name: str, agent: Agent) -> None:
        """Watch an agent and those that are its tools, under a name; once."""
        for each, used in with_tools(name, agent):
            if not any(watched is used for watched in self._watched):
                self._watched.append(used)
                self._watch_model(each, used)
                self._watch_tools(each, used)

    def _watch_nodes(self, path: str, orchestrator: Any) -> None:
        def name_of(event: Any) -> str:
            return f"{path}/{event.node_id}" if path else str(event.node_id)

        def before(event: BeforeNodeCallEvent) -> None:
            self._switch.before("node", name=name_of(event))

        def after(event: AfterNodeCallEvent) -> None:
            seen = self._switch.counts["node"]
            name = name_of(event)
            self._switch.after("node", max(i for i, each in enumerate(seen, 1) if each == name), name=name)

        orchestrator.add_hook(before, BeforeNodeCallEvent, order=strands_compat.LAST)
        orchestrator.add_hook(after, AfterNodeCallEvent, order=strands_compat.LAST)

    def _watch_tools(self, name: str, agent: Agent) -> None:
        registry = agent.tool_registry.registry
        for tool_name in registry:
            # A copy: several agents may have the same tool, and it is watched under the name of each.
            registry[tool_name] = copy.copy(registry[tool_name])
            self._watch_tool(name, registry[tool_name])

    def _watch_tool(self, agent: str, tool: AgentTool) -> None:
        run = tool.stream

        async def stream(tool_use: ToolUse, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            who = {"agent": agent, "name": tool_use["name"], "id": tool_use["toolUseId"]}
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

    def _watch_model(self, name: str, agent: Agent) -> None:
        agent.model = model = copy.copy(agent.model)
        ask = model.stream

        async def stream(
            messages: Any, tool_specs: Any = None, system_prompt: Any = None, **kwargs: Any
        ) -> AsyncGenerator[Any, None]:
            number = self._switch.before("model", agent=name)
            seen, around = in_any_order(plain(messages)), plain([tool_specs, system_prompt, kwargs.get("tool_choice")])
            self._ledger.note("model-start", agent=name, asked=digest([seen, around]), messages=seen)
            answer = _Answer()
            try:
                async for event in ask(messages, tool_specs, system_prompt, **kwargs):
                    answer.add(event)
                    yield event
            except Exception as error:
                self._ledger.note("model-failed", agent=name, error=repr(error))
                raise
            self._ledger.note("model-end", agent=name, answer=answer.digest)
            self._switch.after("model", number, agent=name)

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
