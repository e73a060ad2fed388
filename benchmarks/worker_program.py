"""The worker that is measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.moments import Times
from benchmarks.worked_agent import build_agent
from benchmarks.worked_script import AGENT
from strands_dapr_session import AgentWorker, DaprSessionManager

if TYPE_CHECKING:
    from strands import Agent


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
