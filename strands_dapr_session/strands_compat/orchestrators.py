"""Graphs and swarms: in what state they wait for people, and whether they are to go on from one."""

from __future__ import annotations

from typing import Any, cast


def orchestrator_interrupts(orchestrator: Any) -> dict[str, Any]:
    """Read the human-in-the-loop state of a graph or swarm.

    `serialize_state` has it too (1.43 to 1.62), but encodes every result and calls users' conditions on the way.
    """
    return cast("dict[str, Any]", orchestrator._interrupt_state.to_dict())  # noqa: SLF001


def is_to_resume(orchestrator: Any) -> bool:
    """Tell whether a graph or swarm was given a state to go on from (`_resume_from_session`, 1.43 to 1.62)."""
    return bool(orchestrator._resume_from_session)  # noqa: SLF001


def forget_resume(orchestrator: Any) -> None:
    """Make a graph or swarm begin anew, though it was told to resume.

    `deserialize_state` can do so only by resetting every node's agent, which a second call would not do
    (`_resume_from_session`, 1.43 to 1.62).
    """
    orchestrator._resume_from_session = False  # noqa: SLF001
    orchestrator._interrupt_state = type(orchestrator._interrupt_state)()  # noqa: SLF001
