"""Programs that do not survive, to see that a crash test notices."""

from __future__ import annotations

import os
from typing import Any

from strands import Agent

from strands_dapr_session import strands_compat
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.testing.program import Program
from tests.crash import programs


async def _nothing(*_: Any) -> None:
    """Do nothing where something should be done."""


def forgetful_agent(_: Any) -> Agent:
    """Has no session."""
    return programs.sequential_agent(None)


def careless_agent(session_manager: Any) -> Agent:
    """Waits for nothing before its tools run."""
    Journal.barrier = _nothing  # type: ignore[method-assign,assignment]  # in a process of its own
    return programs.sequential_agent(session_manager)


def obstinate_agent(session_manager: Any) -> Agent:
    """Runs all tools again, whatever is recorded of them."""
    half_finished_batch = strands_compat.half_finished_batch

    def without_results(recorded: Any, message: Any, _: Any) -> Any:
        return half_finished_batch(recorded, message, [])

    strands_compat.half_finished_batch = without_results  # type: ignore[assignment]  # likewise
    return programs.parallel_agent(session_manager)


def dreaming_agent(session_manager: Any) -> Agent:
    """Has another system prompt in every process."""
    made = programs.sequential_agent(session_manager)
    made.system_prompt = f"I am process {os.getpid()}."
    return made


forgetful = Program(forgetful_agent, ["What does tea for two cost?"])
obstinate = Program(obstinate_agent, ["Do three things at once, twice."], programs.PATIENT)
careless = Program(careless_agent, ["What does tea for two cost?"], programs.PATIENT)
dreaming = Program(dreaming_agent, ["What does tea for two cost?"], programs.PATIENT)
