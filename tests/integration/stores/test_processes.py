"""Several processes, and forks of them, on one store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from dev.servers import Daprd, RedisServer
from strands_dapr_session import io_thread
from strands_dapr_session.stores import open_store
from tests.integration.stores.conftest import sidecar_url
from tests.unit.stores.script import run_script

WRITER = """
    import asyncio, sys
    from strands_dapr_session import io_thread
    from strands_dapr_session.stores import KeyConflict, open_store, settle_create

    url, me = sys.argv[1:]
    store = open_store(url)

    async def write(lane):
        number = 0
        while True:
            own = f"{me}.{lane}.{number}"
            await settle_create(store, own, own.encode())
            print(own, flush=True)
            try:
                await settle_create(store, f"common.{number}", own.encode())
            except KeyConflict:
                pass
            else:
                print(f"common.{number}", flush=True)
            number += 1

    async def main():
        await store.open()
        await asyncio.gather(*(write(lane) for lane in range(8)))

    io_thread.run_sync(main())
"""


def start_writer(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), url, name], stdout=subprocess.PIPE, text=True
    )


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


async def test_writers_of_one_sqlite_file_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    told: list[str] = []
    for generation in range(3):
        writers = [start_writer(url, f"g{generation}w{number}") for number in range(4)]
        for victim in writers:
            told += read_lines(victim, 300)
            victim.send_signal(signal.SIGKILL)  # the others write on
        for writer in writers:
            rest, _ = writer.communicate()
            # The last line may be cut off where the process was killed.
            told += rest.splitlines()[: rest.count("\n")]
    assert {times for key, times in Counter(told).items()} == {1}, "two were told that they had created a key"
    store = open_store(url)
    found = await io_thread.run(store.get_many(told))
    assert sorted(found) == sorted(told)
    assert all(found[key].value.decode() == key for key in told if not key.startswith("common"))
    await io_thread.run(store.close())


@pytest.mark.parametrize("kind", ["dapr", "redis"])
def test_a_forked_child_has_connections_of_its_own(daprd: Daprd, redis_server: RedisServer, kind: str) -> None:
    url = sidecar_url(daprd, "statestore") if kind == "dapr" else f"{redis_server.url}?app_id=fork"
    run_script(f"""
        import asyncio, os, threading
        from strands_dapr_session import io_thread
        from strands_dapr_session.stores import open_store, settle_create

        store = open_store({url!r})
        io_thread.run_sync(store.open())
        run = f"{kind}{os.getpid()}."

        async def write(writer, count):
            await asyncio.gather(*(settle_create(store, f"{{run}}{{writer}}.{{n}}", b"v") for n in range(count)))

        async def background():
            for round in range(15):
                await write(f"parent{{round}}", 100)

        writer = threading.Thread(target=lambda: io_thread.run_sync(background()))
        writer.start()
        children = []
        for number in range(12):
            child = os.fork()
            if child == 0:
                io_thread.run_sync(write(f"child{{number}}", 20))
                if os.fork() == 0:
                    io_thread.run_sync(write(f"grandchild{{number}}", 20))
                    os._exit(0)
                assert os.wait()[1] == 0
                os._exit(0)
            children.append(child)
        writer.join()
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        writers = {{f"parent{{round}}": 100 for round in range(15)}}
        writers |= {{f"{{kind}}{{number}}": 20 for number in range(12) for kind in ("child", "grandchild")}}
        keys = [f"{{run}}{{writer}}.{{n}}" for writer, count in writers.items() for n in range(count)]
        assert len(io_thread.run_sync(store.get_many(keys))) == len(keys) == 1980
        io_thread.run_sync(store.delete_many(keys))
    """)


def test_nothing_of_grpc_runs_on_when_a_process_forks(daprd: Daprd) -> None:
    """An error that somebody keeps would keep the channel, and with it gRPC's threads, which no fork survives."""
    run_script(f"""
        import os
        from pathlib import Path
        from strands_dapr_session import io_thread
        from strands_dapr_session.stores import open_store
        from strands_dapr_session.stores.base import OutcomeUnknown

        def threads():
            return {{task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}}

        store = open_store({sidecar_url(daprd, "statestore")!r})
        unknown = open_store({sidecar_url(daprd, "nowhere", "&retry_seconds=0.1")!r})
        kept = []
        for call in (unknown.open, lambda: unknown.get("k"), lambda: store.replace("k", b"v", "77")):
            for _ in range(2):
                try:
                    io_thread.run_sync(call())
                except Exception as error:
                    kept.append(error)
                except OutcomeUnknown as error:
                    kept.append(error)
        assert len(kept) >= 4
        assert "event_engine" in threads()
        for _ in range(5):
            child = os.fork()
            if child == 0:
                assert "event_engine" not in threads()
                io_thread.run_sync(store.get("k"))
                assert "event_engine" in threads()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            io_thread.run_sync(store.get("k"))
        io_thread.run_sync(store.delete_many(["k"]))
    """)
    assert os.getpid()
