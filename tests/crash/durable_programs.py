"""Agents that get killed while more is going on than one step after the other: long runs, retries, deadlines."""

from __future__ import annotations

from typing import Any

from strands import Agent

from strands_dapr_session.testing.program import Program
from tests.crash.programs import PATIENT, add, agent


def long_agent(session_manager: Any) -> Agent:
    """Makes more model calls than fit on one stack."""
    script: list[Any] = [*([("add", {"a": number, "b": 0})] for number in range(34)), "Many sums."]
    return agent(session_manager, script, [add])


long = Program(long_agent, ["Add up"], PATIENT)
