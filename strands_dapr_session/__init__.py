"""Strands agents that survive being killed: a session manager on Dapr state stores.

    agent = Agent(model=..., tools=[...], session_manager=DaprSessionManager("order-4711"))
    agent("Process order 4711")  # killed? start the same program again

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strands_dapr_session.abandoned import Resumed, resume_abandoned
    from strands_dapr_session.errors import (
        ConfigurationError,
        DamagedDataError,
        DeadlineError,
        DriftError,
        DurableSessionError,
        FencedError,
        InvalidIdentifierError,
        InvocationConflictError,
        JournalGapError,
        LimitReachedError,
        NewerFormatError,
        NotForkableError,
        NothingUnfinishedError,
        OwnershipError,
        ParkedError,
        RunCancelledError,
        RunError,
        RunFailedError,
        RunFinishedError,
        RunNotFoundError,
        RunNotWaitingError,
        RunTimeoutError,
        SessionBusyError,
        SessionDeletedError,
        SessionExistsError,
        SessionNotFoundError,
        SidecarNotFoundError,
        StepNotFoundError,
        StoredDataError,
        StoreError,
        StoreUnavailableError,
        TooLargeError,
        UnencodableValueError,
        UnfinishedRunError,
        UnknownAgentError,
        UnknownComponentError,
        UnsafeStoreError,
        WorkflowUnavailableError,
        WrongApplicationError,
    )
    from strands_dapr_session.hooks.checkpoint import CheckpointHooks
    from strands_dapr_session.hooks.deadlines import Deadlines
    from strands_dapr_session.hooks.in_doubt import in_doubt, reconcile
    from strands_dapr_session.hooks.resume import ResumeHook
    from strands_dapr_session.hooks.retry import Retries, RetryPolicy, is_transient
    from strands_dapr_session.idempotency import idempotency_key
    from strands_dapr_session.session_manager import DaprSessionManager
    from strands_dapr_session.strands_compat import DuplicateAgentError
    from strands_dapr_session.timeline.lifetimes import Lifetime
    from strands_dapr_session.timeline.moment import AgentMoment, Moment
    from strands_dapr_session.timeline.steps import Step, StepEvent
    from strands_dapr_session.timeline.timeline import Timeline, read_timeline
    from strands_dapr_session.workflow.client import AgentClient
    from strands_dapr_session.workflow.run import Run, RunStatus
    from strands_dapr_session.workflow.stream import RunEvent
    from strands_dapr_session.workflow.worker import AgentWorker

__all__ = [
    "AgentClient",
    "AgentMoment",
    "AgentWorker",
    "CheckpointHooks",
    "ConfigurationError",
    "DamagedDataError",
    "DaprSessionManager",
    "DeadlineError",
    "Deadlines",
    "DriftError",
    "DuplicateAgentError",
    "DurableSessionError",
    "FencedError",
    "InvalidIdentifierError",
    "InvocationConflictError",
    "JournalGapError",
    "Lifetime",
    "LimitReachedError",
    "Moment",
    "NewerFormatError",
    "NotForkableError",
    "NothingUnfinishedError",
    "OwnershipError",
    "ParkedError",
    "ResumeHook",
    "Resumed",
    "Retries",
    "RetryPolicy",
    "Run",
    "RunCancelledError",
    "RunError",
    "RunEvent",
    "RunFailedError",
    "RunFinishedError",
    "RunNotFoundError",
    "RunNotWaitingError",
    "RunStatus",
    "RunTimeoutError",
    "SessionBusyError",
    "SessionDeletedError",
    "SessionExistsError",
    "SessionNotFoundError",
    "SidecarNotFoundError",
    "Step",
    "StepEvent",
    "StepNotFoundError",
    "StoreError",
    "StoreUnavailableError",
    "StoredDataError",
    "Timeline",
    "TooLargeError",
    "UnencodableValueError",
    "UnfinishedRunError",
    "UnknownAgentError",
    "UnknownComponentError",
    "UnsafeStoreError",
    "WorkflowUnavailableError",
    "WrongApplicationError",
    "idempotency_key",
    "in_doubt",
    "is_transient",
    "read_timeline",
    "reconcile",
    "resume_abandoned",
]

_HOMES = {
    "AgentClient": "workflow.client",
    "AgentMoment": "timeline.moment",
    "AgentWorker": "workflow.worker",
    "CheckpointHooks": "hooks.checkpoint",
    "DaprSessionManager": "session_manager",
    "Deadlines": "hooks.deadlines",
    "DuplicateAgentError": "strands_compat",
    "Lifetime": "timeline.lifetimes",
    "Moment": "timeline.moment",
    "ResumeHook": "hooks.resume",
    "Resumed": "abandoned",
    "Retries": "hooks.retry",
    "RetryPolicy": "hooks.retry",
    "Run": "workflow.run",
    "RunEvent": "workflow.stream",
    "RunStatus": "workflow.run",
    "Step": "timeline.steps",
    "StepEvent": "timeline.steps",
    "Timeline": "timeline.timeline",
    "idempotency_key": "idempotency",
    "in_doubt": "hooks.in_doubt",
    "is_transient": "hooks.retry",
    "read_timeline": "timeline.timeline",
    "reconcile": "hooks.in_doubt",
    "resume_abandoned": "abandoned",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
