"""State stores that Dapr encrypts: they keep the contract, hide what is said, and outlive a change of the key."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from strands import Agent

from dev.servers import (
    Component,
    Daprd,
    Keys,
    PostgresServer,
    PostgresState,
    RedisServer,
    RedisState,
    SecretFile,
    SqliteState,
)
from strands_dapr_session import DamagedDataError, DaprSessionManager, io_thread
from strands_dapr_session.stores import open_store
from strands_dapr_session.stores.conformance import CHECKS, Check, name_of, run_check
from strands_dapr_session.testing.model import ScriptedModel
from tests.integration.stores.conftest import sidecar_url

SECRETS = SecretFile("secrets", {"old": secrets.token_hex(16), "new": secrets.token_hex(32)})
OLD, NEW = Keys("secrets", "old"), Keys("secrets", "new", "old")
ABOUT_VALUES = {
    "bytes_come_back",
    "largest_value_fits",
    "many_keys_are_read",
    "etag_is_compared",
    "lost_answers_are_settled",
}
SAID = "the crown jewels are in the attic"


@contextmanager
def daprd(*stores: Component) -> Iterator[Daprd]:
    with Daprd([SECRETS, *stores]) as sidecar:
        yield sidecar


def talk(sidecar: Daprd, prompt: str) -> list[str]:
    """Say something, in a process that has just been started; returns all that was said."""
    agent = Agent(
        model=ScriptedModel([f"you said: {prompt}"]),
        session_manager=DaprSessionManager("s", store=sidecar_url(sidecar, "statestore")),
        callback_handler=None,
    )
    agent(prompt)
    return [block["text"] for message in agent.messages for block in message["content"]]


@pytest.fixture(scope="module")
def encrypted(redis_server: RedisServer, postgres_server: PostgresServer) -> Iterator[Daprd]:
    stores = (
        RedisState("redis", redis_server.address, keys=OLD),
        PostgresState("pg", postgres_server.url, keys=OLD),
        SqliteState("sqlite", keys=OLD),
    )
    with daprd(*stores) as sidecar:
        yield sidecar


@pytest.mark.parametrize("check", [check for check in CHECKS if name_of(check) in ABOUT_VALUES], ids=name_of)
def test_stores_that_are_encrypted_keep_the_contract(encrypted: Daprd, check: Check) -> None:
    for component in encrypted.components[1:]:
        store = open_store(sidecar_url(encrypted, component.name))
        io_thread.run_sync(store.open())
        io_thread.run_sync(run_check(store, check))


def test_what_is_said_is_not_in_the_store_and_outlives_a_new_key(own_redis: RedisServer) -> None:
    with daprd(RedisState("statestore", own_redis.address, keys=OLD)) as sidecar:
        first = talk(sidecar, SAID)
    with Redis.from_url(own_redis.url) as client:
        values = [value for key in client.scan_iter() for value in client.hgetall(key).values()]
    assert len(values) > 3
    assert not [value for value in values if SAID.encode() in value or value.startswith(b"SDS")]
    with daprd(RedisState("statestore", own_redis.address, keys=NEW)) as sidecar:
        assert talk(sidecar, "and the key?") == [*first, "and the key?", "you said: and the key?"]


def test_a_component_without_the_key_is_told_from_an_empty_one(own_redis: RedisServer) -> None:
    with daprd(RedisState("statestore", own_redis.address, keys=OLD)) as sidecar:
        talk(sidecar, SAID)
    with daprd(RedisState("statestore", own_redis.address)) as sidecar, pytest.raises(DamagedDataError):
        talk(sidecar, "who are you?")
