"""Dapr's own policies for the actors that its workflows are made of: runs last longer than they allow."""

from __future__ import annotations

import time

import pytest

from dev.servers import Daprd, RedisServer, RedisState, WorkflowStack
from tests.integration.workflow.conftest import Stage

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.

TIMEOUT = 1.0

FOR_ACTORS = """
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: policies-of-actors}
spec:
  policies:
    timeouts: {short: 1s}
    retries: {few: {policy: constant, duration: 100ms, maxRetries: 3}}
    circuitBreakers: {wary: {maxRequests: 1, timeout: 5s, trip: consecutiveFailures >= 3}}
  targets:
    actors:
      dapr.internal.default.resilient.workflow: {timeout: short, retry: few, BREAKER}
      dapr.internal.default.resilient.activity: {timeout: short, retry: few, BREAKER}
"""
BREAKER = "circuitBreaker: wary, circuitBreakerScope: both, circuitBreakerCacheSize: 100"

BY_DEFAULT = """
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: policies-of-actors}
spec:
  policies:
    timeouts: {DefaultActorTimeoutPolicy: 1s}
    retries: {DefaultActorRetryPolicy: {policy: constant, duration: 100ms, maxRetries: 3}}
"""

POLICIES = {
    "actors": FOR_ACTORS.replace(", BREAKER", ""),
    "actors, with a breaker": FOR_ACTORS.replace("BREAKER", BREAKER),
    "by default": BY_DEFAULT,
}


@pytest.mark.parametrize("policies", POLICIES)
def test_a_run_that_lasts_longer_than_an_actor_may(stage: Stage, policies: str) -> None:
    with RedisServer() as redis, WorkflowStack([RedisState("statestore", redis.address, actors=True)]) as stack:
        stack.daprd.stop()
        with Daprd(
            [RedisState("statestore", redis.address, actors=True)],
            app_id="resilient",
            resiliency=POLICIES[policies],
            placement=stack.placement,
            scheduler=stack.scheduler,
        ) as daprd:
            stack.daprd = daprd
            other = Stage(stack, redis, stage.place, stage.nursery)
            other.start("agent", count=2)
            name = policies.replace(", ", "-").replace(" ", "-")
            client = other.client()
            run = client.submit("agent", session_id=name, prompt=f"batch {name}")
            first = other.started(name, 3)
            other.recorded(name, 2)
            other.until(lambda: time.time() > first.at + 5 * TIMEOUT, "several timeouts")
            asking = client.submit("agent", session_id=f"{name}-ask", prompt=f"ask {name}-ask")
            other.until(lambda: asking.status().phase == "waiting", "the question")
            assert other.counts(name) == {1: 1, 2: 1, 3: 1}
            assert len(run.status().attempts) == 1
            other.worker_of(first).kill()
            other.until(lambda: len(other.entries("start", name)) >= 4, "the takeover")
            other.open(name)
            assert str(run.result(timeout=40)).strip() == "done"
            question = asking.status().interrupts[0]["id"]
            asking.respond([{"interruptResponse": {"interruptId": question, "response": "yes"}}])
            assert str(asking.result(timeout=40)).strip() == "thanks"
            assert other.counts(name) == {1: 1, 2: 1, 3: 2}
            assert [attempt.ended for attempt in run.status().attempts] == ["lost", "completed"]
            assert "resiliencies=<policies-of-actors>" in other.logs()
            other.close()
