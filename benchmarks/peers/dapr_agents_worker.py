"""A worker of dapr-agents' `DurableAgent`, an agent loop of its own, on the script of our own worker.

Run by `peer_workers` in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any

from dapr_agents import DurableAgent, tool
from dapr_agents.agents.configs import AgentExecutionConfig, AgentMCPConfig, AgentStateConfig
from dapr_agents.llm.chat import ChatClientBase
from dapr_agents.storage.daprstores.stateservice import StateStoreService
from dapr_agents.types.message import AssistantMessage, FunctionCall, LLMChatCandidate, LLMChatResponse, ToolCall

from benchmarks.moments import Times
from benchmarks.worked_script import AGENT, NAP, Script, is_first

_MOST_TURNS = 50


class _Scripted(ChatClientBase):  # type: ignore[misc] # not installed where types are checked
    """A model that answers at once, by the script."""

    prompty = None
    prompt_template = None

    def __init__(self, times: Times) -> None:
        self._times = times

    @classmethod
    def from_prompty(cls, *_: Any, **__: Any) -> Any:
        """Not needed."""
        raise NotImplementedError

    def generate(self, messages: Any = None, **_: Any) -> Any:
        """Answer."""
        prompt = next(message["content"] for message in messages if message["role"] == "user")
        self._times.note("model", prompt.split()[-1])  # at the end of a run also a prompt of its own, to sum it up
        number = sum(message["role"] == "assistant" for message in messages)
        turn = Script()[prompt][number]
        if isinstance(turn, str):
            message = AssistantMessage(content=turn)
        else:
            calls = [
                ToolCall(
                    id=f"c{number}t{index}",
                    type="function",
                    function=FunctionCall(name=name, arguments=json.dumps(arguments)),
                )
                for index, (name, arguments) in enumerate(turn)
            ]
            message = AssistantMessage(content="", tool_calls=calls)
        return LLMChatResponse(results=[LLMChatCandidate(message=message)])


def _tools(times: Times, directory: Path) -> list[Any]:
    @tool  # type: ignore[untyped-decorator]
    def tick(n: int) -> str:
        """Do next to nothing."""
        return f"tick {n}"

    @tool  # type: ignore[untyped-decorator]
    def nap(n: int) -> str:
        """Do nothing for a while."""
        time.sleep(NAP)
        return f"nap {n}"

    @tool  # type: ignore[untyped-decorator]
    def hang(run: str) -> str:
        """Hang in the first process that comes here, and be done at once in the next."""
        times.note("tool", run)
        if not is_first(directory, run):
            return "done"
        time.sleep(3600)
        return "never"

    return [tick, nap, hang]


def main(given: list[str]) -> None:
    """Work until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("port")  # which the sidecar's variables tell it
    options = parser.parse_args(given)
    times = Times(options.directory / "times")
    agent = DurableAgent(
        name=AGENT,
        role=AGENT,
        llm=_Scripted(times),
        tools=_tools(times, options.directory),
        state=AgentStateConfig(store=StateStoreService(store_name="statestore")),
        execution=AgentExecutionConfig(max_iterations=_MOST_TURNS),
        mcp=AgentMCPConfig(enabled=False),
    )
    agent.start()
    times.note("worker", "up")
    signal.pause()
