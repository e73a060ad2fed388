"""Who a worker is, what it holds, and whether another one is gone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from strands_dapr_session.journal.worker import Identity, ThisProcess, describe, this_process
from strands_dapr_session.records.codec import pack_value, unpack_value
from strands_dapr_session.records.frames import open_sealed, seal
from strands_dapr_session.records.records import Acquired

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


class Holder:
    pass


def acquired(name: str, acquisition: str = "a") -> Acquired:
    return Acquired(acquisition, name, takeover=False, lease=3.0)


def test_a_name_tells_the_identity() -> None:
    identity = Identity.of_this_process()
    assert Identity.parse(identity.name) == identity
    assert identity.pid == str(os.getpid())
    assert str(os.getpid()) in describe(identity.name)


@pytest.mark.parametrize("name", ["", "a/b", "/////", "zz/h/1/b/n/s", "a/b/c/d/e/f/g", "w1"])
def test_a_foreign_name_is_no_identity(name: str) -> None:
    assert Identity.parse(name) is None
    assert name in describe(name)
    process = ThisProcess()
    assert process.is_alive(acquired(name)) is None
    assert process.heartbeat_key(acquired(name)) is None
    assert not process.has_given_up(acquired(name), b"anything")


def identity_of(pid: int) -> Identity:
    source = f"import strands_dapr_session.journal.worker as w; print(w._started({pid}))"
    started = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True).stdout.strip()
    return replace(Identity.of_this_process(), token="ab" * 8, pid=str(pid), started=started)


@linux
def test_a_process_that_has_ended_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(child.pid)
    here = Identity.of_this_process()
    assert not identity.is_gone(here)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity.is_gone(here)  # a zombie: nobody has collected it
    child.communicate()
    assert identity.is_gone(here)


@linux
def test_a_process_of_the_same_number_is_another_one() -> None:
    here = Identity.of_this_process()
    assert replace(here, started="1").is_gone(here)
    assert not here.is_gone(here)


@linux
def test_nothing_is_known_of_other_machines_and_namespaces() -> None:
    here = Identity.of_this_process()
    gone = replace(here, started="1")
    for other in (
        replace(gone, boot="another"),
        replace(gone, namespace="1"),
        replace(gone, boot=""),
        replace(gone, started=""),
        replace(gone, pid="x"),
    ):
        assert not other.is_gone(here)
    assert not replace(here, boot="", started="1").is_gone(replace(here, boot=""))
    assert replace(gone, pid=str(2**22 + 1)).is_gone(here)
    assert not replace(gone, pid=str(2**70)).is_gone(here)


def test_this_process_knows_what_it_holds() -> None:
    process, holder = ThisProcess(), Holder()
    owner = acquired(process.name)
    assert process.is_alive(owner) is False
    process.hold("a", holder)
    assert process.is_alive(owner) is True
    process.let_go("a", released=True)
    assert process.is_alive(owner) is False
    assert not process.has_given_up(owner, process.heartbeat(1)[1])


def test_a_holder_that_is_collected_holds_nothing() -> None:
    process, holder = ThisProcess(), Holder()
    process.hold("a", holder)
    del holder
    gc.collect()
    assert process.is_alive(acquired(process.name)) is False
    assert process.has_given_up(acquired(process.name), process.heartbeat(1)[1])


def test_the_heartbeat_tells_others_what_was_given_up() -> None:
    process, other, holder = ThisProcess(), ThisProcess(), Holder()
    process.hold("a", holder)
    process.hold("b", holder)
    process.let_go("a", released=False)
    key, value = process.heartbeat(1)
    assert other.heartbeat_key(acquired(process.name)) == key
    assert other.has_given_up(acquired(process.name, "a"), value)
    assert not other.has_given_up(acquired(process.name, "b"), value)
    assert not other.has_given_up(acquired(process.name, "a"), None)
    assert not other.has_given_up(acquired(process.name, "a"), value[:-1])
    assert value != process.heartbeat(2)[1]


@pytest.mark.parametrize(
    "plain",
    [None, 3, [1], [1, "a"], [1, {"a": 1}], [1, None], [1, ["a"], 2]],
    ids=repr,
)
def test_what_is_no_heartbeat_gives_nothing_up(plain: object) -> None:
    process = ThisProcess()
    key, _ = process.heartbeat(1)
    assert not ThisProcess().has_given_up(acquired(process.name, "a"), seal(key, pack_value(plain)))


def test_a_collected_holder_is_given_up_once() -> None:
    process, holder = ThisProcess(), Holder()
    process.hold("a", holder)
    process.hold("b", process)
    del holder
    gc.collect()
    for _ in range(2):
        key, value = process.heartbeat(1)
        assert unpack_value(open_sealed(key, value), key=key) == [1, ["a"]]


def test_a_worker_that_was_silent_for_a_lease_is_dead_until_it_is_heard_of() -> None:
    process, other = ThisProcess(), replace(Identity.of_this_process(), token="ab" * 8, boot="another").name
    assert process.is_alive(acquired(other)) is None
    process.presume_dead(other)
    assert process.is_alive(acquired(other)) is False
    assert process.is_alive(acquired(other.replace("ab" * 8, "cd" * 8))) is None
    process.presume_alive(other)
    process.presume_alive(other)
    assert process.is_alive(acquired(other)) is None


@linux
def test_a_neighbour_that_is_gone_is_dead() -> None:
    process, here = ThisProcess(), Identity.of_this_process()
    assert process.is_alive(acquired(replace(here, token="ab" * 8, started="1").name)) is False
    assert process.is_alive(acquired(replace(here, token="ab" * 8).name)) is None
    assert not replace(here, namespace="", started="1").is_gone(replace(here, namespace=""))


def test_a_forked_worker_holds_nothing() -> None:
    process, holder = ThisProcess(), Holder()
    process.hold("a", holder)
    process.presume_dead("x")
    name = process.name
    process.after_fork()
    assert process.name != name
    assert not process.holds("a")
    assert not process._presumed_dead


def test_workers_are_told_apart_in_messages() -> None:
    identity = replace(Identity.of_this_process(), host="box", pid="7")
    assert describe(identity.name) == "process 7 on 'box'"
    assert describe("else") == "worker 'else'"


def test_only_the_newest_that_were_given_up_are_told() -> None:
    process, holder = ThisProcess(), Holder()
    for number in range(300):
        process.hold(f"{number}", holder)
        process.let_go(f"{number}", released=False)
    key, value = process.heartbeat(1)
    _, given_up = unpack_value(open_sealed(key, value), key=key)
    assert given_up == [f"{number}" for number in range(300 - 256, 300)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_another_worker() -> None:
    holder = Holder()
    this_process.hold("parent's", holder)
    name = this_process.name
    child = os.fork()
    if child == 0:
        os._exit(this_process.name == name or this_process.holds("parent's"))
    assert os.waitpid(child, 0)[1] == 0
    this_process.let_go("parent's", released=True)
