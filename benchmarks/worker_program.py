"""The worker that is measured. Its model and its tools write down when they are called."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strands import Agent, tool

from strands_dapr_session import AgentWorker, DaprSessionManager
from strands_dapr_session.testing.model import ScriptedModel

if TYPE_CHECKING:
    from strands.session.session_manager import SessionManager

AGENT = "bench"


class Times:
    """A file of moments. Not synced to disk: that would be most of what is measured."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what: str, run: str) -> None:
        """Write down that something happens now."""
        os.write(self._file, f"{time.time():.6f} {os.getpid()} {what} {run}\n".encode())


class Script(dict[str, Any]):
    """Turns for prompts such as ``"turns 20 <run>"`` and ``"hang <run>"``."""

    def __missing__(self, prompt: str) -> Any:
        """Make the turns."""
        kind, _, rest = prompt.partition(" ")
        if kind == "turns":
            count, _, _ = rest.partition(" ")
            return [*([("tick", {"n": n})] for n in range(int(count))), "done"]
        if kind == "hang":
            return [[("hang", {"run": rest})], "done"]
        return ["done"]


def build_agent(times: Times, directory: Path, session_manager: SessionManager | None) -> Agent:
    """Make the agent, durable or plain."""

    @tool
    async def tick(n: int) -> str:
        """Do next to nothing."""
        return f"tick {n}"

    @tool
    async def hang(run: str) -> str:
        """Hang in the first process that comes here, and be done at once in the next."""
        times.note("tool", run)
        try:
            (directory / f"hung-{run}").touch(exist_ok=False)
        except FileExistsError:
            return "done"
        await asyncio.sleep(3600)
        return "never"

    def called(messages: Any) -> None:
        times.note("model", str(messages[0]["content"][0].get("text", "")).rpartition(" ")[2])

    return Agent(
        model=ScriptedModel(Script(), on_call=called),
        tools=[tick, hang],
        session_manager=session_manager,
        agent_id=AGENT,
        callback_handler=None,
    )


def main(given: list[str]) -> None:
    """Work until told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("store")
    options = parser.parse_args(given)
    times = Times(options.directory / "times")

    def build(session_id: str, session_manager: DaprSessionManager) -> Agent:  # noqa: ARG001
        return build_agent(times, options.directory, session_manager)

    AgentWorker(AGENT, build, store=options.store, drain=1.0).run()
