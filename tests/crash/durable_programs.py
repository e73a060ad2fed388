"""Agents that get killed while more is going on than one step after the other: long runs, retries, deadlines."""

from __future__ import annotations

from typing import Any

from strands import Agent, tool

from strands_dapr_session import RetryPolicy
from strands_dapr_session.testing import ledger
from strands_dapr_session.testing.program import Program
from tests.crash.programs import PATIENT, add, agent


def long_agent(session_manager: Any) -> Agent:
    """Makes more model calls than fit on one stack."""
    script: list[Any] = [*([("add", {"a": number, "b": 0})] for number in range(34)), "Many sums."]
    return agent(session_manager, script, [add])


long = Program(long_agent, ["Add up"], PATIENT)


@tool
async def stumble(times: int) -> str:
    """Lose a connection as often as it is told."""
    if len(ledger.current().entries("stumbled")) < times:
        ledger.current().note("stumbled")
        raise ConnectionError("lost")
    return "at last"


ATTEMPTS = 3
RETRY = {"retry": RetryPolicy(max_attempts=ATTEMPTS, first_delay=0.03, jitter=0)}


def stumbling_agent(session_manager: Any) -> Agent:
    """Works at the last attempt: one that is counted twice would be one too few."""
    script: list[Any] = [[("stumble", {"times": ATTEMPTS - 1}), ("add", {"a": 1, "b": 1})], "Done."]
    return agent(session_manager, script, [stumble, add])


def falling_agent(session_manager: Any) -> Agent:
    """Never works: counts that a crash resets would give it more attempts."""
    script: list[Any] = [[("stumble", {"times": 99}), ("add", {"a": 1, "b": 1})], "Gave up."]
    return agent(session_manager, script, [stumble, add])


stumbling = Program(stumbling_agent, ["Try"], {**PATIENT, **RETRY})
falling = Program(falling_agent, ["Try"], {**PATIENT, **RETRY})
