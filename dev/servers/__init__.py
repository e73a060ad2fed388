"""The servers that tests, benchmarks and examples run against, each a process that may be killed, paused and restarted.

    with RedisServer(durable=True) as redis, Daprd([RedisState("statestore", redis.address)]) as daprd:
        channel = grpc.insecure_channel(daprd.address)

All serve on loopback, on ports of their own, and die with the process that started them, however it ends.
"""

from dev.servers.components import Component, InMemoryState, Keys, PostgresState, RedisState, SecretFile, SqliteState
from dev.servers.control_plane import Placement, Scheduler
from dev.servers.daprd import Daprd
from dev.servers.postgres import PostgresServer
from dev.servers.redis import RedisServer
from dev.servers.server import Server, ServerStartError
from dev.servers.workflow import WorkflowStack

__all__ = [
    "Component",
    "Daprd",
    "InMemoryState",
    "Keys",
    "Placement",
    "PostgresServer",
    "PostgresState",
    "RedisServer",
    "RedisState",
    "Scheduler",
    "SecretFile",
    "Server",
    "ServerStartError",
    "SqliteState",
    "WorkflowStack",
]
