"""The servers of `dev.servers` do what tests of the project rest on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from dapr.proto.common.v1.common_pb2 import StateItem
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub
from dapr.proto.runtime.v1.state_pb2 import GetStateRequest, SaveStateRequest

from dev.servers import Daprd, InMemoryState, PostgresServer, PostgresState, RedisServer, Server, ServerStartError
from dev.servers import server as server_module
from dev.servers.ports import ReservedPort
from dev.servers.processes import is_running

STORES = ["statestore", "pg", "sqlite", "memory"]


class State:
    """Saves and gets through a sidecar's gRPC API."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = DaprStub(channel)

    def save(self, store: str, key: str, value: bytes) -> None:
        self._stub.SaveState(SaveStateRequest(store_name=store, states=[StateItem(key=key, value=value)]), timeout=10)

    def get(self, store: str, key: str, *, timeout: float = 10) -> bytes:
        return bytes(self._stub.GetState(GetStateRequest(store_name=store, key=key), timeout=timeout).data)


@contextmanager
def state_of(daprd: Daprd) -> Iterator[State]:
    with grpc.insecure_channel(daprd.address) as channel:
        yield State(channel)


def eventually(probe: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(grpc.RpcError):
            if probe():
                return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("store", STORES)
def test_every_store_of_the_sidecar_keeps_bytes(daprd: Daprd, store: str) -> None:
    value = bytes(range(256))
    with state_of(daprd) as state:
        state.save(store, "bytes", value)
        assert state.get(store, "bytes") == value


def test_killed_redis_comes_back_with_every_acknowledged_write(own_daprd: Daprd, own_redis: RedisServer) -> None:
    with state_of(own_daprd) as state:
        state.save("statestore", "key", b"value")
        own_redis.kill()
        own_redis.start()
        assert state.get("statestore", "key") == b"value"


def test_killed_postgres_comes_back_with_every_acknowledged_write(
    own_daprd: Daprd, own_postgres: PostgresServer
) -> None:
    with state_of(own_daprd) as state:
        state.save("pg", "key", b"value")
        own_postgres.kill()
        own_postgres.start()
        # The sidecar learns that a connection of its pool is dead by using it.
        assert eventually(lambda: state.get("pg", "key") == b"value")


def test_killed_sidecar_comes_back_with_all_but_its_memory(own_daprd: Daprd) -> None:
    with state_of(own_daprd) as state:
        for store in STORES:
            state.save(store, "key", b"value")
    own_daprd.kill()
    own_daprd.start()
    with state_of(own_daprd) as state:
        assert {store: state.get(store, "key") for store in STORES} == {
            "statestore": b"value",
            "pg": b"value",
            "sqlite": b"value",
            "memory": b"",
        }


def test_redis_that_is_not_durable_comes_back_empty() -> None:
    with RedisServer() as redis:
        assert command(redis, "SET key value") == "+OK"
        redis.kill()
        redis.start()
        assert command(redis, "GET key") == "$-1"


def test_restart_keeps_ports_and_directory(own_redis: RedisServer) -> None:
    before = own_redis.pid, own_redis.address, own_redis.directory
    own_redis.restart()
    assert own_redis.pid != before[0]
    assert (own_redis.address, own_redis.directory) == before[1:]


@pytest.mark.parametrize("backend", ["statestore", "pg"])
def test_paused_backend_answers_nothing_until_it_is_resumed(
    own_daprd: Daprd, own_redis: RedisServer, own_postgres: PostgresServer, backend: str
) -> None:
    server: Server = {"statestore": own_redis, "pg": own_postgres}[backend]
    with state_of(own_daprd) as state:
        state.save(backend, "key", b"value")
        server.pause()
        assert server.is_running
        with pytest.raises(grpc.RpcError) as caught:
            state.get(backend, "key", timeout=0.3)
        # Our deadline reaches the sidecar. When it is the first to notice, it says INTERNAL or resets the stream.
        codes = grpc.StatusCode
        assert caught.value.code() in {codes.DEADLINE_EXCEEDED, codes.INTERNAL, codes.CANCELLED}
        server.resume()
        assert state.get(backend, "key") == b"value"


def test_paused_server_can_be_stopped(own_redis: RedisServer) -> None:
    pid = own_redis.pid
    own_redis.pause()
    own_redis.stop()
    assert not is_running(pid)


def test_sidecar_refuses_messages_over_its_limit() -> None:
    with Daprd([InMemoryState("memory")], max_body_size="1Mi") as daprd, state_of(daprd) as state:
        state.save("memory", "key", bytes(900 * 1024))
        with pytest.raises(grpc.RpcError) as caught:
            state.save("memory", "key", bytes(1100 * 1024))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_sidecar_with_a_token_refuses_calls_without_it() -> None:
    with Daprd([InMemoryState("memory")], api_token="secret") as daprd, state_of(daprd) as state:  # noqa: S106
        with pytest.raises(grpc.RpcError) as caught:
            state.save("memory", "key", b"value")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert daprd.client_environment["DAPR_API_TOKEN"] == "secret"  # noqa: S105


def test_failed_start_shows_the_log_and_leaves_nothing() -> None:
    daprd = Daprd([PostgresState("pg", "this is no URL")])
    with pytest.raises(ServerStartError, match="connection string"):
        daprd.start()
    assert not daprd.is_running
    with pytest.raises(RuntimeError, match="not been started"):
        _ = daprd.directory


def test_first_start_finds_other_ports_when_one_was_snatched(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        offered: list[int] = []

        class Snatched(ReservedPort):
            def __init__(self) -> None:
                super().__init__()
                if not offered:
                    self.number = thief.getsockname()[1]
                offered.append(self.number)

        monkeypatch.setattr(server_module, "ReservedPort", Snatched)
        with RedisServer() as redis:
            assert len(offered) == 2
            assert redis.port == offered[1]


def test_reserved_port_is_given_to_nobody_else() -> None:
    ports = [ReservedPort() for _ in range(50)]
    try:
        assert len({port.number for port in ports}) == len(ports)
        with socket.create_server(("127.0.0.1", 0)) as ephemeral:
            assert max(port.number for port in ports) < ephemeral.getsockname()[1]
    finally:
        for port in ports:
            port.release()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_die_with_the_process_that_started_them(number: signal.Signals) -> None:
    script = """
        import threading, time
        from dev.servers import Daprd, PostgresServer, RedisServer, SqliteState
        servers = [RedisServer(), PostgresServer(), Daprd([SqliteState("sqlite")])]
        for server in servers:
            # In a thread that ends: what they must outlive is the process, not whoever started them.
            thread = threading.Thread(target=server.start)
            thread.start()
            thread.join()
        servers[0].pause()
        for server in servers:
            print(server.pid, server.directory)
        print("started", flush=True)
        time.sleep(60)
    """
    lines = "\n".join(line.strip() if not line.startswith(" " * 12) else line[8:] for line in script.splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", lines], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout is not None
        printed = iter(owner.stdout.readline, "started\n")
        servers = {int(pid): Path(directory) for pid, directory in (line.split() for line in printed)}
        assert len(servers) == 3
        assert all(map(is_running, servers))
        os.kill(owner.pid, number)
        owner.wait()
    assert eventually(lambda: not any(map(is_running, servers)))
    assert eventually(lambda: not any(directory.exists() for directory in servers.values()))


def command(redis: RedisServer, words: str) -> str:
    """Send an inline command and return the first line of the answer."""
    with socket.create_connection(("127.0.0.1", redis.port)) as connection:
        connection.sendall(f"{words}\r\n".encode())
        return connection.makefile().readline().strip()
