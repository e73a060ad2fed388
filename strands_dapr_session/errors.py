"""Every error that this package raises, in one small tree under `DurableSessionError`.

Each message says what happened, to which session or key, and what to do about it. Where Strands or Python code would
expect a built-in type (`ValueError` for a bad identifier, `ConnectionError` for a store that cannot be reached), the
error is of that type too, so that existing handlers keep working.
"""

from __future__ import annotations


class DurableSessionError(Exception):
    """Base class of all errors of this package."""


# -- what the caller gave us ------------------------------------------------------------------------------------------


class ConfigurationError(DurableSessionError, ValueError):
    """An argument, URL or environment variable cannot be used as given."""


class InvalidIdentifierError(ConfigurationError):
    """A session, agent or invocation id is empty, too long, or holds characters that no store could keep apart."""


class UnencodableValueError(DurableSessionError, TypeError):
    """A message or state holds a value that would not survive storage. Nothing was sent.

    Attributes:
        path: Where the value is, in Python notation (``message['content'][0]['json']['when']``).
    """

    def __init__(self, path: str, reason: str) -> None:
        """Name the place and the reason."""
        super().__init__(f"{path} cannot be recorded: {reason}")
        self.path = path
        self.reason = reason


class TooLargeError(DurableSessionError, ValueError):
    """A value is larger than the store, or a limit of the format, allows. Nothing was recorded of it."""


# -- the store --------------------------------------------------------------------------------------------------------


class StoreError(DurableSessionError):
    """A state store refused or failed; base class of the errors below."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store did not answer within the retry budget. What was acknowledged before is safe; try again later."""


class SidecarNotFoundError(StoreUnavailableError):
    """No Dapr sidecar answers at the configured address. The message says how to start one."""


class UnknownComponentError(StoreError, LookupError):
    """The sidecar runs, but has no state store component of that name."""


class UnsafeStoreError(StoreError):
    """The store cannot create-if-absent atomically, or changes the bytes given to it. It is refused at start."""


# -- what lies in the store -------------------------------------------------------------------------------------------


class StoredDataError(DurableSessionError):
    """What the store returned is not what this package wrote. Nothing was changed and nothing was executed.

    Attributes:
        key: The key in the store (without the prefix that the store itself adds).
    """

    def __init__(self, key: str, reason: str) -> None:
        """Name the key and the reason."""
        super().__init__(f"key {key!r}: {reason}")
        self.key = key
        self.reason = reason


class DamagedDataError(StoredDataError):
    """Stored bytes are truncated, altered, foreign, or exceed a limit of the format."""


class NewerFormatError(StoredDataError):
    """Stored bytes were written by a newer version of this package. Upgrade this process to read them."""


class JournalGapError(StoredDataError):
    """A record that was acknowledged is missing: the store lost data. The session is left as it is for inspection."""


# -- who owns the session ---------------------------------------------------------------------------------------------


class OwnershipError(DurableSessionError):
    """Another process runs, or took over, the session."""


class SessionBusyError(OwnershipError):
    """Another live worker runs an invocation of this session. Nothing was changed; wait, or pass ``on_busy``.

    Attributes:
        invocation_id: The id under which its caller began what runs; None without one, or where that is not known.
    """

    def __init__(self, message: str, invocation_id: str | None = None) -> None:
        """Say who runs it, and what to do."""
        super().__init__(message)
        self.invocation_id = invocation_id


class FencedError(OwnershipError):
    """Another worker took the session over while this one was silent. This run stopped before its next side effect."""


# -- resume -----------------------------------------------------------------------------------------------------------


class DriftError(DurableSessionError):
    """The unfinished invocation was started with other tools, prompt or model, and ``drift="refuse"`` was asked for."""


class InvocationConflictError(DurableSessionError):
    """An invocation id was used again with another prompt, or while it still runs."""


class UnfinishedRunError(DurableSessionError):
    """A graph or swarm was called with a new task while another one is unfinished. Nothing was changed.

    Attributes:
        task: The unfinished task.
        invocation_id: The id under which its caller began it; None without one.
    """

    def __init__(self, message: str, task: object, invocation_id: str | None = None) -> None:
        """Say what to do about the unfinished task."""
        super().__init__(message)
        self.task = task
        self.invocation_id = invocation_id


class LimitReachedError(DurableSessionError):
    """An unfinished run of a graph or swarm cannot go on under its limits. The message says which one to raise."""


class DeadlineError(DurableSessionError, TimeoutError):
    """A tool, a model call or an invocation took longer than it may, and was given up on.

    Attributes:
        seconds: How long it might have taken.
    """

    def __init__(self, message: str, seconds: float) -> None:
        """Say what took how long, and what becomes of it."""
        super().__init__(message)
        self.seconds = seconds


class ParkedError(DurableSessionError):
    """An unfinished invocation was tried so often without getting any further that it is not tried again by itself.

    Attributes:
        reason: Why.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        """Say why, and what to do about it."""
        super().__init__(message)
        self.reason = reason


class NothingUnfinishedError(DurableSessionError):
    """A call that was only to go on with an unfinished run found none."""


class SessionDeletedError(DurableSessionError):
    """The session was deleted while this process was using it."""


# -- looking back -----------------------------------------------------------------------------------------------------


class SessionNotFoundError(DurableSessionError, LookupError):
    """The store has no session of that name, or nothing of that agent, graph or swarm in it."""


class SessionExistsError(DurableSessionError):
    """A fork was to become a session whose name is taken. Nothing was changed."""


class StepNotFoundError(DurableSessionError, LookupError):
    """A session has no step of that number."""


class NotForkableError(DurableSessionError):
    """No session can begin at this step. Nothing was changed.

    Attributes:
        nearest: The last step before it at which one can, or else the first after it; None if there is none.
    """

    def __init__(self, message: str, nearest: int | None) -> None:
        """Say why, and which step is nearest."""
        super().__init__(message)
        self.nearest = nearest


# -- runs, workers and clients ----------------------------------------------------------------------------------------


class WorkflowUnavailableError(DurableSessionError, ConnectionError):
    """Dapr Workflow cannot be used: the SDK, the sidecar, or something behind it is missing. The message says what."""


class WrongApplicationError(ConfigurationError):
    """A client's sidecar belongs to another Dapr application than the workers: they would never hear of its runs."""


class UnknownAgentError(DurableSessionError, LookupError):
    """No worker knows an agent of that name. The message has the names that are known."""


class RunError(DurableSessionError):
    """Something about a run; base class of the errors below."""


class RunNotFoundError(RunError, LookupError):
    """Nothing was submitted under this invocation id."""


class RunTimeoutError(RunError, TimeoutError):
    """The run is not over yet. It goes on, and can be waited for again."""


class RunFailedError(RunError):
    """The run failed, or was given up. What it recorded is kept.

    Attributes:
        error_type: The type of the error that ended it, by name.
        attempts: The attempts at it: the first, and the newest.
    """

    def __init__(self, message: str, error_type: str, attempts: tuple[object, ...] = ()) -> None:
        """Say why, and what was tried."""
        super().__init__(message)
        self.error_type = error_type
        self.attempts = attempts


class RunCancelledError(RunError):
    """The run was cancelled, or given up after it had failed."""


class RunNotWaitingError(RunError):
    """Answers were given to a run that waits for none. Nothing was changed."""


class RunFinishedError(RunError):
    """The run is over, or is not, and so cannot be cancelled, restarted, abandoned or purged. Nothing was changed."""
