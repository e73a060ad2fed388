"""The store in an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import ConfigurationError, StoreError, StoreUnavailableError, TooLargeError
from strands_dapr_session.stores.base import KeyConflict, OutcomeUnknown
from strands_dapr_session.stores.conformance import CHECKS, Check, name_of, run_check
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.stores.probe import check_store
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.stores.sqlite import SqliteStore
from strands_dapr_session.stores.sqlite import file as file_module
from strands_dapr_session.stores.sqlite.file import SqliteFile
from tests.unit.stores.script import run_script


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(str(tmp_path / "sessions.db"), synchronous="normal", retry=RetryPolicy(budget=0.2))
    await io_thread.run(made.open())
    yield made
    await io_thread.run(made.close())


@pytest.fixture
async def other(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    """Another store of the same file, as another process has it."""
    made = SqliteStore(store._file.path, retry=RetryPolicy(budget=0.2))
    yield made
    await io_thread.run(made.close())


def rows(store: SqliteStore) -> int:
    db = sqlite3.connect(store._file.path)
    try:
        (count,) = db.execute("SELECT count(*) FROM strands_dapr_session").fetchone()
        return int(count)
    finally:
        db.close()


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_conformance(store: SqliteStore, check: Check) -> None:
    await io_thread.run(run_check(store, check))
    assert rows(store) == 0


async def test_the_probe_leaves_nothing(store: SqliteStore) -> None:
    await io_thread.run(check_store(store))
    assert rows(store) == 0


async def test_writes_that_wait_share_a_transaction_and_keep_their_outcomes(store: SqliteStore) -> None:
    transactions: list[str] = []
    await io_thread.run(store.create("taken", b"1"))
    db = store._file._writer._db
    assert db is not None
    db.set_trace_callback(lambda statement: transactions.append(statement) if statement == "COMMIT" else None)

    async def all_at_once() -> list[BaseException | None]:
        creates = (store.create(f"k{number}", b"v") for number in range(200))
        return await asyncio.gather(store.create("taken", b"2"), *creates, return_exceptions=True)

    outcomes = await io_thread.run(all_at_once())
    assert isinstance(outcomes[0], KeyConflict)
    assert outcomes[1:] == [None] * 200
    assert rows(store) == 201
    assert 0 < len(transactions) < 20


Verb = Callable[[], Coroutine[Any, Any, object]]


async def in_one_group(work: Callable[[Any], Coroutine[Any, Any, object]], *verbs: Verb) -> list[object]:
    """Have a side of a file do several things at once, which wait until it has done something else."""
    is_busy, may_go_on = threading.Event(), threading.Event()

    def occupy(_: sqlite3.Connection) -> None:
        is_busy.set()
        assert may_go_on.wait(30)

    async def together() -> list[object]:
        occupied = asyncio.ensure_future(work(occupy))
        while not is_busy.is_set():  # noqa: ASYNC110 - it is another thread's
            await asyncio.sleep(0.001)
        waiting = [asyncio.ensure_future(verb()) for verb in verbs]
        for _ in range(10):
            await asyncio.sleep(0)
        may_go_on.set()
        await occupied
        return await asyncio.gather(*waiting, return_exceptions=True)

    return await io_thread.run(together())


def broken(_: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("broken")


async def test_a_group_that_fails_fails_as_a_whole(store: SqliteStore) -> None:
    first, failed, second = await in_one_group(
        store._file.write,
        lambda: store.create("first", b"1"),
        lambda: store._file.write(broken),
        lambda: store.create("second", b"2"),
    )
    assert [type(each) for each in (first, failed, second)] == [StoreError, sqlite3.OperationalError, StoreError]
    assert rows(store) == 0
    await io_thread.run(store.create("third", b"3"))
    assert rows(store) == 1


async def test_a_read_that_fails_fails_alone(store: SqliteStore) -> None:
    await io_thread.run(store.create("k", b"1"))
    first, failed, second = await in_one_group(
        store._file.read,
        lambda: store.get("k"),
        lambda: store._file.read(broken),
        lambda: store.get("k"),
    )
    assert isinstance(failed, sqlite3.OperationalError)
    assert [getattr(each, "value", each) for each in (first, second)] == [b"1", b"1"]


async def test_full_is_the_default_and_normal_a_choice(store: SqliteStore, other: SqliteStore) -> None:
    async def levels(of: SqliteStore) -> list[int]:
        names = ("synchronous", "fullfsync")
        return await of._file.write(lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names])

    assert await io_thread.run(levels(other)) == [2, 1]
    assert await io_thread.run(levels(store)) == [1, 0]


@pytest.mark.parametrize(
    ("option", "level"), [("", "full"), ("?synchronous=full", "full"), ("?synchronous=normal", "normal")]
)
def test_a_url_may_choose(tmp_path: Path, option: str, level: str) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.db{option}")
    assert isinstance(store, SqliteStore)
    assert (store._file.path, store._file._synchronous) == (f"{tmp_path}/s.db", level)


async def test_two_stores_of_one_file_see_each_other(store: SqliteStore, other: SqliteStore) -> None:
    await io_thread.run(store.create("k", b"1"))
    entry = await io_thread.run(other.get("k"))
    assert entry is not None
    await io_thread.run(other.replace("k", b"2", entry.etag))
    with pytest.raises(KeyConflict):
        await io_thread.run(store.replace("k", b"3", entry.etag))


async def test_a_file_that_stays_locked(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "_BUSY_SECONDS", 0.01)
    await io_thread.run(store.close())  # the next connection waits less
    blocker = sqlite3.connect(store._file.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutcomeUnknown, match="locked"):
        await io_thread.run(store.create("k", b"1"))
    with pytest.raises(StoreUnavailableError, match="locked"):
        await io_thread.run(store.delete_many(["k"]))
    assert await io_thread.run(store.get("k")) is None  # readers wait for nobody
    blocker.execute("ROLLBACK")
    blocker.close()
    await io_thread.run(store.create("k", b"1"))


async def test_verbs_before_open_work(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "new.db"))
    assert await io_thread.run(store.get("k")) is None
    await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.close())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


async def opening(path: Path) -> str:
    store = SqliteStore(str(path))
    with pytest.raises(ConfigurationError) as caught:
        await io_thread.run(store.open())
    await io_thread.run(store.close())
    return str(caught.value)


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert f"the directory {tmp_path}/no does not exist" in await opening(tmp_path / "no" / "s.db")


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "Is the path a directory" in await opening(tmp_path)


async def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 1000)
    assert "it was left as it is" in await opening(path)
    assert path.read_text() == "not a database " * 1000


async def test_a_damaged_file_is_told(store: SqliteStore) -> None:
    for number in range(200):
        await io_thread.run(store.create(f"k{number}", bytes(2000)))
    await io_thread.run(store.close())
    damage(Path(store._file.path))
    with pytest.raises(StoreError, match=r"malformed.*recover"):
        await io_thread.run(store.get("k1"))


async def test_a_full_disk_is_told_and_nothing_is_half_written(store: SqliteStore) -> None:
    await io_thread.run(store.create("before", b"1"))
    await io_thread.run(store._file.write(lambda db: db.execute("PRAGMA max_page_count = 10")))
    with pytest.raises(StoreError, match="Make room on the disk"):
        await io_thread.run(store.create("large", bytes(500_000)))
    await io_thread.run(store._file.write(lambda db: db.execute("PRAGMA max_page_count = 100000")))
    assert rows(store) == 1
    await io_thread.run(store.create("large", bytes(500_000)))


async def test_a_file_that_may_not_be_written_is_told(store: SqliteStore) -> None:
    await io_thread.run(store._file.write(lambda db: db.execute("PRAGMA query_only = ON")))
    with pytest.raises(StoreError, match="may not be written"):
        await io_thread.run(store.create("k", b"1"))


async def test_the_connection_that_reads_cannot_write(store: SqliteStore) -> None:
    await io_thread.run(store.create("k", b"1"))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await io_thread.run(store._file.read(lambda db: db.execute("DELETE FROM strands_dapr_session")))
    assert rows(store) == 1


async def test_what_no_store_takes_is_refused_by_every_verb(store: SqliteStore) -> None:
    await io_thread.run(store.create("k", b"1"))
    verbs: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: store.get(""),
        lambda: store.get_many(["k", ""]),
        lambda: store.create("", b"1"),
        lambda: store.replace("", b"1", "1"),
        lambda: store.delete_many(["k", ""]),
    ]
    for verb in verbs:
        with pytest.raises(ValueError, match="key"):
            await io_thread.run(verb())
    most = store.capabilities.max_value_bytes
    with pytest.raises(TooLargeError):
        await io_thread.run(store.create("long", bytes(most + 1)))
    with pytest.raises(TooLargeError):
        await io_thread.run(store.replace("k", bytes(most + 1), "1"))
    assert rows(store) == 1


@pytest.mark.parametrize("words", ["database is locked", "disk I/O error", "interrupted", "locking protocol"])
async def test_what_may_pass_is_waited_for(store: SqliteStore, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    await io_thread.run(store.create("k", b"1"))
    problems = [sqlite3.OperationalError(words)] * 4

    def failing_at_first(work: Any) -> Any:
        async def do(function: Any) -> Any:
            if problems:
                raise problems.pop()
            return await work(function)

        return do

    for side in ("read", "write"):
        monkeypatch.setattr(store._file, side, failing_at_first(getattr(store._file, side)))
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    patient = SqliteStore(store._file.path, retry=RetryPolicy(sleep=pause))
    patient._file = store._file
    assert await io_thread.run(patient.get("k")) is not None
    assert len(pauses) == 4
    problems += [sqlite3.OperationalError(words)] * 4
    await io_thread.run(patient.delete_many(["k"]))
    problems += [sqlite3.OperationalError(words)]
    with pytest.raises(OutcomeUnknown, match=words):  # whoever settles it may send it again
        await io_thread.run(patient.create("k", b"2"))
    assert rows(store) == 0


async def test_what_nobody_can_advise_on_is_told_as_it_is(store: SqliteStore) -> None:
    await io_thread.run(store.get("k"))  # a connection makes the table when it is opened
    await io_thread.run(store._file.write(lambda db: db.execute("DROP TABLE strands_dapr_session")))
    verbs: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: store.get("k"),
        lambda: store.create("k", b"1"),
        lambda: store.delete_many(["k"]),
    ]
    for verb in verbs:
        with pytest.raises(StoreError, match=r"no such table: strands_dapr_session\.$"):
            await io_thread.run(verb())


async def test_a_connection_that_cannot_be_prepared_is_closed_and_made_anew(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await io_thread.run(store.close())
    made: list[sqlite3.Connection] = []
    prepare = file_module.SqliteFile._prepare

    def fail(_: SqliteFile, db: sqlite3.Connection) -> None:
        made.append(db)
        raise sqlite3.OperationalError("no such thing")

    monkeypatch.setattr(file_module.SqliteFile, "_prepare", fail)
    with pytest.raises(StoreError, match="no such thing"):
        await io_thread.run(store.create("k", b"1"))
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")
    monkeypatch.setattr(file_module.SqliteFile, "_prepare", prepare)
    await io_thread.run(store.create("k", b"1"))


async def test_a_file_system_without_shared_memory_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "s.db"))

    class Stubborn:
        def execute(self, statement: str) -> Any:
            return SimpleNamespace(fetchone=lambda: ("delete",) if "journal_mode" in statement else None)

    with pytest.raises(ConfigurationError, match=r"this file system cannot hold it \(journal mode 'delete'\)"):
        store._file._prepare(cast("sqlite3.Connection", Stubborn()))


async def test_what_is_closed_leaves_no_connection_and_is_opened_again(store: SqliteStore) -> None:
    await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.get("k"))
    sides = (store._file._writer, store._file._reader)
    assert all(side._db is not None for side in sides)
    threads = [side._lane._thread for side in sides if side._lane is not None]
    await io_thread.run(store.close())
    assert [side._db for side in sides] == [None, None]
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    await io_thread.run(store.close())
    assert await io_thread.run(store.get("k")) is not None


async def test_no_connection_is_open_when_a_process_forks(store: SqliteStore, other: SqliteStore) -> None:
    await io_thread.run(store.create("k", b"1"))
    for each in (store, other):
        await io_thread.run(each.get("k"))
    sides = (store._file._writer, store._file._reader, other._file._writer, other._file._reader)
    file_module._before_fork()
    try:
        assert [side._db for side in sides] == [None] * 4
        assert all(side._in_use.locked() for side in sides)
        writing = asyncio.ensure_future(io_thread.run(store.create("l", b"1")))
        for _ in range(3):
            await asyncio.sleep(0.01)
        assert not writing.done()  # until the process has forked
    finally:
        file_module._after_fork()
    await writing
    assert not file_module._held
    assert rows(store) == 2


@pytest.mark.parametrize("verb", ["write", "read", "close"])
async def test_what_is_the_parents_is_kept_and_not_touched(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.get("k"))
    file = store._file
    of_parent = (file._writer, file._reader)
    kept: list[object] = []

    with monkeypatch.context() as forked:
        forked.setattr(io_thread, "generation", lambda: 1_000_000)
        forked.setattr(io_thread, "abandon", kept.append)
        use: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "write": lambda: store.create("l", b"1"),
            "read": lambda: store.get("k"),
            "close": store.close,
        }
        await io_thread.run(use[verb]())
        own = (file._writer, file._reader)
        assert await io_thread.run(store.get("k")) is not None
        await io_thread.run(store.create("m", b"1"))
        assert (file._writer, file._reader) == own  # it leaves its parent behind once
        await io_thread.run(store.close())

    assert kept == [of_parent]
    assert not set(own) & set(of_parent)
    for side in of_parent:
        assert side._db is not None
        assert side._db.execute("SELECT count(*) FROM strands_dapr_session").fetchone()
        await io_thread.run(side.close())


def test_a_fork_leaves_parent_and_child_with_connections_of_their_own(tmp_path: Path) -> None:
    run_script(f"""
        import asyncio, os, threading
        from strands_dapr_session import io_thread
        from strands_dapr_session.stores import open_store, settle_create

        store = open_store("sqlite:///{tmp_path}/s.db?synchronous=normal")
        io_thread.run_sync(store.open())
        untouched = open_store("sqlite:///{tmp_path}/other.db")
        io_thread.run_sync(untouched.create("k", b"v"))

        def keys(writer, count):
            return [f"{{writer}}.{{n}}" for n in range(count)]

        async def write(writer, count):
            await asyncio.gather(*(settle_create(store, key, b"v") for key in keys(writer, count)))

        writer = threading.Thread(target=lambda: io_thread.run_sync(write("parent", 3000)))
        writer.start()
        children = []
        for number in range(6):
            child = os.fork()
            if child == 0:
                io_thread.run_sync(write(f"child{{number}}", 300))
                if os.fork() == 0:
                    io_thread.run_sync(write(f"grandchild{{number}}", 10))
                    assert len(io_thread.run_sync(untouched.get_many(["k"]))) == 1
                    os._exit(0)
                assert os.wait()[1] == 0
                os._exit(0)
            children.append(child)
        writer.join()
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        written = keys("parent", 3000)
        for number in range(6):
            written += keys(f"child{{number}}", 300) + keys(f"grandchild{{number}}", 10)
        assert len(io_thread.run_sync(store.get_many(written))) == len(written) == 4860
    """)


def test_the_interpreter_exits_with_the_file_open(tmp_path: Path) -> None:
    run_script(f"""
        from strands_dapr_session import io_thread
        from strands_dapr_session.stores import open_store
        io_thread.run_sync(open_store("sqlite:///{tmp_path}/s.db").create("k", b"v"))
    """)
    assert [path.name for path in tmp_path.iterdir()] == ["s.db"]  # closed properly: the log is gone
