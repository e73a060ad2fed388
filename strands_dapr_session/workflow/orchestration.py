"""The workflow of a run: offer it to workers until it is over, and wait between offers for what it needs.

A generator that Dapr runs again from the beginning at each step, so everything in it follows from its input and from
what its tasks gave. Only names travel through it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator

    from dapr.ext.workflow import DaprWorkflowContext

WORKFLOW: Final = "strands_dapr_session.run"
ACTIVITY: Final = "strands_dapr_session.attend"
ANSWERED: Final = "strands_dapr_session.answered"
"""Event: people have answered, or want the run to end."""

_STEPS_PER_HISTORY: Final = 20
"""Offers after which the workflow begins anew with an empty history: it stays small however long a run waits."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0


def run_workflow(context: DaprWorkflowContext, order: dict[str, Any]) -> Generator[Any, Any, str]:
    """Drive a run to its end.

    Args:
        context: Dapr's.
        order: The run's ``invocation_id``, and how often in a row it was put off.

    Returns:
        The run's invocation id, of no interest to anybody.
    """
    invocation_id, pauses = str(order["invocation_id"]), int(order.get("pauses", 0))
    for _ in range(_STEPS_PER_HISTORY):
        try:
            step = yield context.call_activity(ACTIVITY, input=invocation_id)
        except Exception:  # noqa: BLE001 - the worker has logged it; whatever it was, somebody else may do better
            step = "later"
        if step == "done":
            return invocation_id
        if step == "waiting":
            pauses = 0
            yield context.wait_for_external_event(ANSWERED)
        else:
            yield context.create_timer(timedelta(seconds=min(_FIRST_PAUSE * 2 ** min(pauses, 20), _LONGEST_PAUSE)))
            pauses += 1
    context.continue_as_new({"invocation_id": invocation_id, "pauses": pauses}, save_events=True)
    return invocation_id
