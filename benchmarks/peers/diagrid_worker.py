"""A worker of Diagrid's `DaprWorkflowAgentRunner`, on the very agent that our own worker is measured with."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from diagrid.agent.strands import DaprWorkflowAgentRunner

from benchmarks.moments import Times
from benchmarks.worked_agent import build_agent
from benchmarks.worked_script import AGENT


def main(given: list[str]) -> None:
    """Work until killed; with ``--alone`` and a prompt, let the agent answer it without a runner instead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("port")
    parser.add_argument("--alone")
    options = parser.parse_args(given)
    times = Times(options.directory / "times")
    agent = build_agent(times, options.directory)
    if options.alone:
        agent(options.alone)
        return
    runner = DaprWorkflowAgentRunner(agent, name=AGENT, host="127.0.0.1", port=options.port)
    runner.start()
    times.note("worker", "up")
    signal.pause()
