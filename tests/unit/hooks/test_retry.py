"""When a policy tries again, and how long it waits."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException

from strands_dapr_session import ConfigurationError, DaprSessionManager, Retries, RetryPolicy, is_transient
from strands_dapr_session.hooks import retrying
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Tried


def with_status(status: int, **where: Any) -> Exception:
    error = Exception("no")
    for name, value in (where or {"status_code": status}).items():
        setattr(error, name, value)
    return error


class APIConnectionError(Exception):
    """As of a client that is not installed."""


class SubError(APIConnectionError):
    """One of them."""


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


ERRORS: list[tuple[Exception, bool]] = [
    (ModelThrottledException("slow down"), True),
    (ConnectionResetError(), True),
    (TimeoutError(), True),
    (SubError(), True),
    (caused_by(caused_by(ConnectionError())), True),
    (with_status(503), True),
    (with_status(0, response=SimpleNamespace(status_code=429)), True),
    (with_status(0, response={"ResponseMetadata": {"HTTPStatusCode": 500}}), True),
    (with_status(400), False),
    (with_status(0, response={"ResponseMetadata": {"HTTPStatusCode": 403}}), False),
    (ValueError("no"), False),
    (PermissionError("no"), False),
    (FileNotFoundError("no"), False),
]


def test_what_may_be_over_by_itself() -> None:
    assert [is_transient(error) for error, _ in ERRORS] == [expected for _, expected in ERRORS]


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_statuses_that_may_be_over_by_themselves(status: int) -> None:
    assert is_transient(with_status(status))
    assert is_transient(caused_by(with_status(status)))


@pytest.mark.parametrize("status", [None, 200, 400, 401, 403, 404, 410, 422, 501, "503"])
def test_statuses_that_stay_as_they_are(status: Any) -> None:
    assert not is_transient(with_status(status))
    assert not is_transient(with_status(0, response={"ResponseMetadata": {"HTTPStatusCode": status and 404}}))
    assert not is_transient(with_status(0, response={}))


def test_an_errors_own_status_counts_before_that_of_its_response() -> None:
    assert not is_transient(with_status(0, status_code=400, response=SimpleNamespace(status_code=503)))
    assert is_transient(with_status(0, status_code=503, response=SimpleNamespace(status_code=400)))


@pytest.mark.parametrize(
    "name",
    ["APIConnectionError", "APITimeoutError", "ClientConnectionError", "EndpointConnectionError", "HTTPClientError",
     "TransportError"],
)  # fmt: skip
def test_errors_of_clients_that_are_not_installed(name: str) -> None:
    assert is_transient(type(name, (Exception,), {})("no"))
    assert not is_transient(type(f"{name}s", (Exception,), {})("no"))


def test_an_error_that_is_its_own_cause() -> None:
    error = ValueError("no")
    error.__cause__ = error
    assert not is_transient(error)


def test_what_is_tried_again() -> None:
    policy = RetryPolicy(retry_on=(LookupError, lambda error: str(error) == "magic"), never_on=(KeyError,))
    assert policy.wants(IndexError())
    assert policy.wants(ValueError("magic"))
    assert not policy.wants(KeyError())
    assert not policy.wants(ValueError())
    assert not policy.wants(None)
    assert RetryPolicy(error_results=True).wants(None)
    assert not RetryPolicy(retry_on=(Exception,)).wants(ContextWindowOverflowException())


def test_pauses_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(max_attempts=6, first_delay=1, longest_delay=5, factor=2, jitter=0)
    assert [policy.delay(attempt) for attempt in range(1, 7)] == [1, 2, 4, 5, 5, None]
    assert RetryPolicy(max_attempts=10**9, factor=10.0).delay(10**6) is not None


@given(st.integers(1, 30), st.floats(0, 1), st.integers())
def test_chance_only_shortens_a_pause(attempt: int, jitter: float, seed: int) -> None:
    random.seed(seed)
    policy = RetryPolicy(max_attempts=99, jitter=jitter)
    longest = RetryPolicy(max_attempts=99, jitter=0).delay(attempt) or 0
    assert (1 - jitter) * longest - 1e-9 <= (policy.delay(attempt) or 0) <= longest


@pytest.mark.parametrize(
    "values",
    [
        {"max_attempts": 0},
        {"max_attempts": 2.5},
        {"max_attempts": True},
        {"first_delay": -1},
        {"longest_delay": float("inf")},
        {"first_delay": float("nan")},
        {"factor": 0.5},
        {"jitter": 2},
        {"jitter": -0.1},
        {"longest_delay": -1},
        {"first_delay": float("inf")},
        {"factor": float("inf")},
        {"retry_on": (3,)},
        {"max_attempts": -1},
        {"jitter": "much"},
        {"retry_on": ("ValueError",)},
        {"never_on": (is_transient,)},
    ],
    ids=lambda values: str(values).partition(" at 0x")[0],  # the same in every process
)
def test_what_is_no_policy(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        RetryPolicy(**values)


@pytest.mark.parametrize(
    "values",
    [{"max_attempts": 1}, {"first_delay": 0}, {"longest_delay": 0}, {"factor": 1}, {"jitter": 0}, {"jitter": 1},
     {"retry_on": ()}],
    ids=str,
)  # fmt: skip
def test_what_is_still_a_policy(values: dict[str, Any]) -> None:
    policy = RetryPolicy(**values)
    assert policy.delay(policy.max_attempts) is None
    assert policy.max_attempts == 1 or policy.delay(policy.max_attempts - 1) is not None


@pytest.mark.parametrize("where", ["model", "tool", "node", "tools"])
def test_what_is_no_policy_for_one_kind(where: str) -> None:
    with pytest.raises(ConfigurationError, match="is no RetryPolicy"):
        Retries(**{where: {"a": None, "b": "x"} if where == "tools" else "x"})  # type: ignore[arg-type]


def tried(delay: float | None, at: float = 1000.0, attempt: int = 1) -> Tried:
    return Tried("", "t", attempt, b"", at, delay)


@pytest.mark.parametrize(
    ("delay", "now", "left"),
    [(None, 1000, 0), (10, 1000, 10), (10, 1004, 6), (10, 1010, 0), (10, 2000, 0), (10, 900, 10), (0, 1000, 0)],
)
def test_what_is_left_of_a_pause(delay: float | None, now: float, left: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: now)
    assert retrying.seconds_left(tried(delay)) == left


@pytest.mark.parametrize(
    ("before", "attempt", "delay"),
    [(None, 1, 2), (tried(2.0), 2, 4), (tried(2.0, attempt=2), 3, None), (tried(None, attempt=3), 1, 2)],
    ids=repr,
)
def test_a_failure_counts_on_from_the_one_before(before: Tried | None, attempt: int, delay: float | None) -> None:
    policy = RetryPolicy(max_attempts=3, first_delay=2, jitter=0)
    now = retrying.failure("s/r", "scope", "what", before, ValueError("no"), policy)
    assert (now.scope, now.what, now.attempt, now.delay) == ("scope", "what", attempt, delay)
    assert unpack_value(now.error) == ["ValueError", "no"]


def test_one_policy_is_for_everything() -> None:
    policy = RetryPolicy()
    assert Retries.of(policy) == Retries(policy, policy, {}, policy)
    assert Retries.of(None) == Retries()
    assert Retries(tool=policy, tools={"a": None}).of_tool("a") is None
    assert Retries(tool=policy, tools={"a": None}).of_tool("b") is policy
    with pytest.raises(ConfigurationError, match="RetryPolicy"):
        DaprSessionManager("s", store="memory://", retry=3)  # type: ignore[arg-type]
