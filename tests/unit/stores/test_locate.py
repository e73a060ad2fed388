"""Which store a URL names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.stores import open_store
from strands_dapr_session.stores.dapr import DaprStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.stores.redis import RedisStore
from strands_dapr_session.stores.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRANDS_DAPR_SESSION_STORE", "DAPR_GRPC_ENDPOINT", "DAPR_GRPC_PORT", "DAPR_RUNTIME_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_named_is_the_component_statestore() -> None:
    store = open_store()
    assert isinstance(store, DaprStore)
    assert store.name == "dapr://statestore?address=127.0.0.1:50001"


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANDS_DAPR_SESSION_STORE", "memory://from-environment")
    assert open_store() is open_store("memory://from-environment")
    monkeypatch.setenv("STRANDS_DAPR_SESSION_STORE", "pubsub-states")
    assert open_store().name.startswith("dapr://pubsub-states?")


def test_a_bare_name_is_a_component() -> None:
    store = open_store("MyStore")
    assert isinstance(store, DaprStore)
    assert store.component == "MyStore"


def test_a_store_is_returned_as_it_is() -> None:
    store = MemoryStore()
    assert open_store(store) is store


def test_the_same_url_is_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store("memory://a") is open_store("memory://a") is not open_store("memory://b")
    assert open_store("memory://") is not open_store("memory://")
    monkeypatch.chdir(tmp_path)
    here = open_store("sqlite:///s.db")
    assert here is open_store("sqlite:///s.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert here is not open_store("sqlite:///s.db")
    one = open_store("statestore")
    monkeypatch.setenv("DAPR_GRPC_PORT", "50999")
    assert one is not open_store("statestore")


def test_sqlite_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_store("sqlite:///some%20name.db"), open_store(f"sqlite:///{tmp_path}/some name.db")
    assert isinstance(relative, SqliteStore)
    assert relative.name == absolute.name == f"sqlite:///{tmp_path}/some name.db"


def test_redis_urls_hide_the_password() -> None:
    store = open_store("rediss://user:secret@host:6380/3?app_id=orders")
    assert isinstance(store, RedisStore)
    assert store.name == "rediss://host:6380/3?key_prefix=orders"
    assert open_store("redis://h?key_prefix=").name == "redis://h?key_prefix="


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://x", "unknown scheme 'ftp'. Known: dapr://, sqlite://, redis://, rediss://, memory://"),
        ("sqlite://file.db", "expected sqlite:///relative.db"),
        ("sqlite://elsewhere/file.db", "expected sqlite:///relative.db"),
        ("sqlite:///", "expected sqlite:///relative.db"),
        ("sqlite:///:memory:", "memory://name"),
        ("sqlite:///f.db?synchronous=off", "synchronous='off' is none of full, normal"),
        ("sqlite:///f.db?mode=ro", "unknown option mode"),
        ("memory://a/b", "expected memory://name"),
        ("memory://a#b", "#b has no meaning"),
        ("dapr://", "expected dapr://component"),
        ("dapr://c/path", "expected dapr://component"),
        ("dapr://c?timeout=0", "timeout='0' is no number of seconds"),
        ("dapr://c?retry_seconds=soon", "retry_seconds='soon' is no number of seconds"),
        ("dapr://c?max_value_bytes=-1", "max_value_bytes='-1' is no number of bytes"),
        ("dapr://c?address=ftp://host", "invalid scheme 'ftp'"),
        ("dapr://c?consistency=maybe", "none of strong, eventual"),
        ("dapr://c?junk", "bad query field"),
        ("redis:///0", "expected redis://host:port/0"),
        ("redis://h/zero", "expected redis://host:port/0"),
        ("redis://h?app_id=a||b", "expected redis://host:port/0"),
        ("redis://h?tiemout=3", "unknown option tiemout"),
        ("redis://u:secret@h?junk", "bad query field"),
        ("memory://[", "Invalid"),
    ],
)
def test_what_cannot_be_understood_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_shared_store_that_was_closed_can_be_used_again(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    await io_thread.run(store.open())
    await io_thread.run(store.create("k", b"1"))
    await io_thread.run(store.close())
    assert await io_thread.run(store.get("k")) is not None
    await io_thread.run(store.close())


def test_stores_are_imported_when_they_are_used() -> None:
    script = """
import sys
import strands_dapr_session.stores as stores
stores.open_store("memory://x")
assert not {"grpc", "redis", "dapr", "sqlite3"} & sys.modules.keys()
stores.open_store("redis://h")
assert "redis" in sys.modules and "grpc" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
