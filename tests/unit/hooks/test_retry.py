"""When a policy tries again, and how long it waits."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException

from strands_dapr_session import ConfigurationError, DaprSessionManager, Retries, RetryPolicy, is_transient


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
        {"jitter": "much"},
        {"retry_on": ("ValueError",)},
        {"never_on": (is_transient,)},
    ],
    ids=lambda values: str(values).partition(" at 0x")[0],  # the same in every process
)
def test_what_is_no_policy(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        RetryPolicy(**values)


def test_one_policy_is_for_everything() -> None:
    policy = RetryPolicy()
    assert Retries.of(policy) == Retries(policy, policy, {}, policy)
    assert Retries.of(None) == Retries()
    assert Retries(tool=policy, tools={"a": None}).of_tool("a") is None
    assert Retries(tool=policy, tools={"a": None}).of_tool("b") is policy
    with pytest.raises(ConfigurationError, match="RetryPolicy"):
        DaprSessionManager("s", store="memory://", retry=3)  # type: ignore[arg-type]
