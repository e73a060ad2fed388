"""How a worker behaves; every default says why it is what it is."""

from __future__ import annotations

from dataclasses import dataclass

from strands_dapr_session.errors import ConfigurationError, DeadlineError


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of a worker.

    Attributes:
        lease: Seconds of silence after which a worker counts as dead, and others go on with its runs.
        max_concurrent_runs: Runs that it works on at a time; each has a thread. Models mostly make them wait.
        max_attempts: Attempts that may end at the same place, with no step recorded in between, before a run is parked:
            one that kills its workers must not do so for ever. Its journal counts them, and this worker those that
            end before the agent is called.
        retry_on: Exceptions of an agent after which its run is tried again: what hung may not hang the next time.
            Others fail it at once; what is transient is best retried where it happens, see `RetryPolicy`.
        misfit_timeout: Seconds for which a run is offered to workers that do not know its agent, or refuse to resume
            it because of drift, before it is given up. A rolling upgrade takes minutes.
        drain: Seconds that runs have to finish when the worker is told to end. Kubernetes kills after 30.
    """

    lease: float = 3.0
    max_concurrent_runs: int = 32
    max_attempts: int = 5
    retry_on: tuple[type[BaseException], ...] = (DeadlineError,)
    misfit_timeout: float = 600.0
    drain: float = 20.0

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ConfigurationError: A value makes no sense.
        """
        if not 0 < self.lease < float("inf"):
            raise ConfigurationError(f"lease must be a number of seconds above 0, not {self.lease!r}")
        if self.max_concurrent_runs < 1 or self.max_attempts < 1:
            raise ConfigurationError("max_concurrent_runs and max_attempts must be at least 1")
        if self.misfit_timeout < 0 or self.drain < 0:
            raise ConfigurationError("misfit_timeout and drain must be numbers of seconds")
