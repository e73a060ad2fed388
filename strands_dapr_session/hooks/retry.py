"""What is tried again when it fails, and when. See `retrying` for how."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException

from strands_dapr_session.errors import ConfigurationError

Judge = Callable[[BaseException], bool]
"""Tells whether an exception is worth another attempt."""

TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of HTTP after which the same request may well succeed: what OpenAI's and Anthropic's own clients retry."""

TRANSIENT_NAMES: Final = frozenset(
    {
        "APIConnectionError",  # openai, anthropic, litellm
        "APITimeoutError",
        "ClientConnectionError",  # aiohttp
        "EndpointConnectionError",  # botocore
        "HTTPClientError",  # botocore: connections and timeouts
        "TransportError",  # httpx: connections and timeouts
    }
)
"""Names of exception classes of clients that need not be installed."""


def is_transient(error: BaseException) -> bool:
    """Tell whether an error is one of throttling, of the network, or of a server, that may be over by itself.

    These are `ModelThrottledException`, `ConnectionError`, `TimeoutError`, what carries a status of `TRANSIENT_STATUS`,
    what is of a class named in `TRANSIENT_NAMES`, and what was raised from any of them.
    """
    for cause in causes(error):
        if isinstance(cause, (ModelThrottledException, ConnectionError, TimeoutError)):
            return True
        if _status(cause) in TRANSIENT_STATUS or any(kind.__name__ in TRANSIENT_NAMES for kind in type(cause).__mro__):
            return True
    return False


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Go from an error to what it was raised from, and on; each once, though they may go round."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _status(error: BaseException) -> Any:
    """Find the status of HTTP that an exception carries, in the ways of httpx, openai, anthropic and botocore."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for holder in (error, response):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    return None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again: exponentially longer pauses, each shortened by chance.

    The pause after attempt n is ``min(first_delay * factor ** (n - 1), longest_delay)``, less a random share of it of
    up to `jitter`, so that what failed together does not come back together.

    Attributes:
        max_attempts: Attempts in all, the first one included.
        first_delay: Seconds after the first attempt.
        longest_delay: Seconds that no pause exceeds.
        factor: By how much each pause is longer than the one before.
        jitter: From 0, no chance, to 1, anything down to no pause at all.
        retry_on: Exceptions to try again after: classes, and functions that judge (`is_transient`).
        never_on: Classes of exceptions not to try again after, whatever `retry_on` says.
        error_results: Try a tool again also if it returned a result with status "error" and raised nothing.
    """

    max_attempts: int = 5
    first_delay: float = 1.0
    longest_delay: float = 60.0
    factor: float = 2.0
    jitter: float = 0.5
    retry_on: tuple[type[BaseException] | Judge, ...] = (is_transient,)
    never_on: tuple[type[BaseException], ...] = ()
    error_results: bool = False

    def __post_init__(self) -> None:
        """Check what cannot be checked by types alone.

        Raises:
            ConfigurationError: A value makes no sense.
        """
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise ConfigurationError(f"RetryPolicy.max_attempts must be at least 1, not {self.max_attempts!r}")
        for name, least, most in (
            ("first_delay", 0.0, math.inf),
            ("longest_delay", 0.0, math.inf),
            ("factor", 1.0, math.inf),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not least <= value <= most or value == math.inf:
                raise ConfigurationError(f"RetryPolicy.{name} must be a number from {least} to {most}, not {value!r}")
        if not all(isinstance(each, type) or callable(each) for each in self.retry_on):
            raise ConfigurationError("RetryPolicy.retry_on must hold classes of exceptions, and functions that judge")
        if not all(isinstance(each, type) for each in self.never_on):
            raise ConfigurationError("RetryPolicy.never_on must hold classes of exceptions")

    def wants(self, error: BaseException | None) -> bool:
        """Tell whether a failure is worth another attempt: an exception, or None for a result that is an error."""
        if error is None:
            return self.error_results
        if isinstance(error, (*self.never_on, ContextWindowOverflowException)):
            return False  # the latter is Strands' own sign to make the conversation shorter
        return any(isinstance(error, each) if isinstance(each, type) else each(error) for each in self.retry_on)

    def delay(self, attempt: int) -> float | None:
        """Choose the seconds to wait after an attempt that failed; None if it was the last."""
        if attempt >= self.max_attempts:
            return None
        try:
            bound = min(self.first_delay * self.factor ** (attempt - 1), self.longest_delay)
        except OverflowError:
            bound = self.longest_delay
        return bound * (1 - self.jitter * random.random())


@dataclass(frozen=True, slots=True)
class Retries:
    """Which policy is for what. Without one, nothing is tried again.

    Attributes:
        model: For model calls. Strands' own default strategy, which counts in memory, then stands down.
        tool: For tools that are not named in `tools`.
        tools: For tools by name; None for a tool that is not to be tried again.
        node: For nodes of graphs and swarms that raise. A node goes on where its records end; one of your own, of which
            nothing is known, runs again as a whole.
    """

    model: RetryPolicy | None = None
    tool: RetryPolicy | None = None
    tools: Mapping[str, RetryPolicy | None] = field(default_factory=dict)
    node: RetryPolicy | None = None

    def __post_init__(self) -> None:
        """Check the policies.

        Raises:
            ConfigurationError: One is none.
        """
        for policy in (self.model, self.tool, self.node, *self.tools.values()):
            if policy is not None and not isinstance(policy, RetryPolicy):
                raise ConfigurationError(f"retry: {policy!r} is no RetryPolicy")

    @classmethod
    def of(cls, retry: RetryPolicy | Retries | None) -> Retries:
        """Take one policy for everything.

        Raises:
            ConfigurationError: It is neither.
        """
        if isinstance(retry, Retries):
            return retry
        return cls(retry, retry, {}, retry)

    def of_tool(self, name: str) -> RetryPolicy | None:
        """Choose the policy of a tool."""
        return self.tools.get(name, self.tool)
