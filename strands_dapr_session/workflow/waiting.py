"""What an agent, a graph or a swarm waits for that was just built, and for whose run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strands import Agent

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import UnfinishedRunError
from strands_dapr_session.hooks.invocation import unpack_prompt
from strands_dapr_session.journal.journal import Journal

if TYPE_CHECKING:
    from strands_dapr_session.stores.base import StateStore
    from strands_dapr_session.workflow.runs import Claim


async def open_questions(root: Any, claim: Claim, store: StateStore) -> tuple[dict[str, Any], ...]:
    """Find the questions of a run that its prompt does not answer.

    There are some when a worker died between recording them and saying that the run waits.

    Args:
        root: What was built.
        claim: The run, with what it is to be called with.
        store: Where its journal is.

    Returns:
        Their ids, names and reasons; none if it is to be called.

    Raises:
        UnfinishedRunError: What it waits for are answers to another run of the session.
    """
    is_agent = isinstance(root, Agent)
    state = strands_compat.interrupt_state(root) if is_agent else strands_compat.orchestrator_interrupts(root)
    if not state["activated"]:
        return ()
    asked = {id_: each for id_, each in state["interrupts"].items() if each.get("response") is None}
    if asked.keys() & strands_compat.answered_by(claim.prompt):
        return ()
    view = await Journal(store, claim.request.session_id, root.agent_id if is_agent else root.id).load()
    invocation = view.scope("").invocation
    if invocation is not None and invocation.key != claim.invocation_id:
        raise UnfinishedRunError(
            f"session {claim.request.session_id!r} waits for answers to run {invocation.key!r}. Answer or cancel that "
            "one first.",
            unpack_prompt(invocation.prompt)[0] if is_agent else None,
            invocation.key,
        )
    return tuple({"id": id_, "name": each.get("name"), "reason": each.get("reason")} for id_, each in asked.items())
