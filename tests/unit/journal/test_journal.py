"""The front of the journal: any thread, any event loop, and what happens when something fails."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    FencedError,
    InvalidIdentifierError,
    SessionBusyError,
    SessionDeletedError,
    StoreUnavailableError,
    TooLargeError,
    UnencodableValueError,
)
from strands_dapr_session.journal import journal as journal_module
from strands_dapr_session.journal.context import Context, in_another_thread
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.journal.sessions import delete_session, list_roots, list_sessions
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.records import (
    Acquired,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Spliced,
)
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.stores.retry import RetryPolicy
from strands_dapr_session.testing.faults import (
    Call,
    Delay,
    Fault,
    FaultyStore,
    LoseReply,
    LoseRequest,
    outage,
    scripted,
)
from tests.unit.journal.journals import keys_of

QUICK = JournalSettings(lease=0.3, busy_timeout=1.0)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


def make(store: FaultyStore, settings: JournalSettings = QUICK) -> Journal:
    journal = Journal(store, "s", "r", settings=settings)
    retry = RetryPolicy(budget=0.05, first_delay=0.01)
    journal._context = Context(store, this_process, retry=retry, offload=in_another_thread)
    return journal


def say(at: int, text: bytes = b"hello") -> Spliced:
    return Spliced("", at, 0, (text,))


def owns(journal: Journal) -> bool:
    return journal.owned


async def messages(store: FaultyStore) -> list[bytes]:
    return (await make(store).load()).scope("").messages


async def test_an_invocation_from_the_first_to_the_last_record(store: FaultyStore) -> None:
    journal = make(store)
    assert (await journal.load()).scopes == {}
    acquisition = await journal.acquire()
    assert owns(journal)
    assert (acquisition.moved, acquisition.takeover) == (False, False)
    journal.append(InvocationStarted("", "i", "key", b"p", b"f", 1), say(0, b"prompt"))
    await journal.barrier()
    assert await messages(store) == [b"prompt"]
    journal.append(say(1, b"answer"))
    await journal.release(InvocationFinished("", "i", "completed", b"result"))
    assert not owns(journal)
    view = await make(store).load()
    assert view.scope("").messages == [b"prompt", b"answer"]
    assert view.finished["key"].result == b"result"
    assert view.owner is None


async def test_what_it_costs(store: FaultyStore) -> None:
    journal = make(store)
    await journal.load()
    await journal.acquire()
    assert [call.verb for call in store.calls] == ["get", "get", "get", "create", "create", "get_many"]
    await journal.release()
    store.calls.clear()
    await journal.acquire()
    assert [call.verb for call in store.calls] == ["create", "get_many"]
    store.calls.clear()
    journal.append(say(0))
    await journal.barrier()
    assert [call.verb for call in store.calls] == ["create"]
    journal.append(say(1))
    await journal.release(say(2))
    assert store.count() in (2, 3)
    store.calls.clear()
    await make(store).load()
    assert [call.verb for call in store.calls] == ["get", "get_many"]


async def test_what_becomes_ready_together_goes_together(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    store.plan = lambda _: Delay(0.02)
    store.calls.clear()
    for number in range(50):
        journal.append(say(number))
        await asyncio.sleep(0)
    await journal.barrier()
    assert store.count("create") <= 3
    store.plan = lambda _: None
    await journal.release()
    assert len(await messages(store)) == 50


async def test_a_value_is_captured_when_it_is_appended(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    before = len(store.calls)
    journal.append(say(0))
    assert store.count("create") <= before + 1  # append itself waits for nothing
    await journal.release()
    assert await messages(store) == [b"hello"]


async def test_nothing_moves_while_nobody_else_writes(store: FaultyStore) -> None:
    journal = make(store)
    await journal.load()
    for number in range(3):
        acquisition = await journal.acquire()
        assert not acquisition.moved
        assert list(acquisition.view.scope("").ordinals) == list(range(number))
        await journal.release(say(number))


async def test_what_others_wrote_is_seen(store: FaultyStore) -> None:
    one, other = make(store), make(store)
    await one.load()
    await other.load()
    await one.acquire()
    await one.release(say(0, b"one"))
    acquisition = await other.acquire()
    assert acquisition.moved
    assert acquisition.view.scope("").messages == [b"one"]
    await other.release(say(1, b"other"))
    acquisition = await one.acquire()
    assert acquisition.moved
    assert acquisition.view.scope("").messages == [b"one", b"other"]
    await one.release()


async def test_a_view_that_was_just_loaded_is_not_read_again(store: FaultyStore) -> None:
    one, other = make(store), make(store)
    await one.acquire()
    await one.release(say(0))
    await other.load()
    store.calls.clear()
    assert not (await other.acquire()).moved
    assert store.count() == 2
    await other.release()


async def test_records_may_go_with_the_acquisition(store: FaultyStore) -> None:
    journal = make(store)
    acquisition = await journal.acquire([say(0, b"first")])
    assert list(acquisition.view.scope("").ordinals) == [0]
    await journal.release()
    acquisition = await journal.acquire([say(1, bytes(200_000))])
    await journal.release()
    assert await messages(store) == [b"first", bytes(200_000)]


async def test_records_that_go_with_the_acquisition_are_in_its_commit(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire([say(0)])
    [(_, records)] = await read_history(store, "s", "r")
    assert [type(record) for record in records] == [Acquired, Spliced]
    await journal.release()


async def test_records_too_long_to_go_with_the_acquisition_are_known_to_the_next_one(store: FaultyStore) -> None:
    journal = make(store)
    long = Noted("", "long", bytes(600_000))
    await journal.acquire([Noted("", "short", b"v"), long])
    await journal.release()
    acquisition = await journal.acquire()
    assert not acquisition.moved
    assert acquisition.view.scope("").notes == {"short": b"v", "long": long.value}
    await journal.release()


class Unproven(FaultyStore):
    """A store of somebody else's."""

    is_proven = False


@pytest.mark.parametrize(("kind", "probe", "tried"), [
    (Unproven, True, [True, False]), (Unproven, False, [False, False]), (FaultyStore, True, [False, False])
])  # fmt: skip
async def test_an_unproven_store_is_tried_out_once_under_keys_of_the_journal(
    kind: type[FaultyStore], *, probe: bool, tried: list[bool]
) -> None:
    store = kind(MemoryStore())
    journal = make(store, replace(QUICK, probe=probe))
    for is_tried in tried:
        store.calls.clear()
        await journal.acquire()
        await journal.release()
        assert any(key.startswith("strands:{s:r}:probe:") for call in store.calls for key in call.keys) == is_tried


async def test_somebody_elses_journal_is_busy(store: FaultyStore) -> None:
    one, other = make(store), make(store, JournalSettings(on_busy="raise"))
    await one.acquire()
    with pytest.raises(SessionBusyError, match=str(os.getpid())):
        await other.acquire()
    with pytest.raises(RuntimeError, match="already"):
        await one.acquire()
    await one.release()
    await other.acquire()
    await other.release()


async def test_one_waits_for_the_other(store: FaultyStore) -> None:
    one, other = make(store), make(store)
    await one.acquire()
    waiting = asyncio.create_task(other.acquire())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await one.release(say(0))
    acquisition = await waiting
    assert (acquisition.moved, acquisition.takeover) == (True, False)
    await other.release()


async def test_a_stolen_journal_is_lost_at_the_next_step(store: FaultyStore) -> None:
    one, other = make(store), make(store, JournalSettings(on_busy="steal"))
    await one.acquire()
    assert (await other.acquire()).takeover
    one.append(say(0, b"late"))
    with pytest.raises(FencedError):
        await one.barrier()
    assert not one.owned
    one.append(say(1))  # nothing
    with pytest.raises(FencedError):
        await one.barrier()
    with pytest.raises(FencedError):
        await one.release()
    one.abandon()
    with pytest.raises(RuntimeError, match="not owned"):
        await one.barrier()
    await other.release(say(0, b"right"))
    assert (await one.acquire()).moved
    await one.release()
    assert await messages(store) == [b"right"]


@pytest.mark.parametrize("fault", [LoseReply(), LoseRequest()], ids=repr)
async def test_a_single_fault_is_not_noticed(store: FaultyStore, fault: LoseReply | LoseRequest) -> None:
    for number in range(1, 16):
        store.calls.clear()
        store.plan = scripted({number: fault})
        journal = make(store)
        try:
            view = await journal.load()
            await journal.acquire()
        except StoreUnavailableError:  # reads are tried again by real stores
            store.plan = lambda _: None
            journal.abandon()
            view = await journal.load()
            await journal.acquire()
        count = len(view.scope("").ordinals)
        journal.append(say(count, b"%d" % number))
        await journal.barrier()
        await journal.release()
    store.plan = lambda _: None
    assert await messages(store) == [b"%d" % number for number in range(1, 16)]


async def test_after_an_outage_the_same_object_goes_on_at_once(store: FaultyStore) -> None:
    journal = make(store, JournalSettings(lease=60))
    await journal.acquire()
    journal.append(say(0, b"before"))
    await journal.barrier()
    store.calls.clear()
    store.plan = outage(1, 10**9)
    journal.append(say(1, b"lost"))
    with pytest.raises(StoreUnavailableError):
        await journal.barrier()
    assert not journal.owned
    journal.append(say(2, b"never"))
    with pytest.raises(StoreUnavailableError):
        await journal.release()
    with pytest.raises(StoreUnavailableError):
        await journal.acquire()
    store.plan = lambda _: None
    began = time.monotonic()
    acquisition = await journal.acquire()
    assert time.monotonic() - began < 5
    assert (acquisition.moved, acquisition.takeover) == (True, True)
    assert acquisition.view.scope("").messages == [b"before"]
    await journal.release(say(1, b"after"))
    assert await messages(store) == [b"before", b"after"]


async def test_a_record_that_cannot_be_is_never_written(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    journal.append(say(0))
    with pytest.raises(UnencodableValueError, match="Spliced cannot be recorded: messages 5 to 5"):
        journal.append(say(5))
    assert not journal.owned
    with pytest.raises(UnencodableValueError):
        await journal.barrier()
    acquisition = await journal.acquire()
    assert acquisition.moved
    assert len(acquisition.view.scope("").messages) <= 1
    with pytest.raises(TypeError):
        journal.append(Noted("", "k", None))  # type: ignore[arg-type]
    await journal.release()
    await make(store).load()


async def test_too_long_a_record_is_refused(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LONGEST_COMMIT", 1000)
    journal = make(store)
    await journal.acquire()
    with pytest.raises(TooLargeError, match="Noted"):
        journal.append(Noted("", "k", bytes(1001)))
    await journal.release(Noted("", "k", bytes(100)))


async def test_long_records_do_not_hold_up_short_ones(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    store.calls.clear()
    for number in range(4):
        journal.append(say(number, os.urandom(700_000)))
    await journal.release()
    slots = [call for call in store.calls if call.verb == "create" and call.keys[0].rpartition(":")[2].isdigit()]
    assert len(slots) == 4
    assert [len(body) for body in await messages(store)] == [700_000] * 4


async def test_without_owning_nothing_can_be_written(store: FaultyStore) -> None:
    journal = make(store)
    with pytest.raises(RuntimeError, match="not owned"):
        journal.append(say(0))
    with pytest.raises(RuntimeError, match="not owned"):
        await journal.release()
    journal.abandon()


async def test_a_caller_that_mistrusts_itself_gets_everything_again(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    await journal.release(say(0))
    journal.mistrust()
    acquisition = await journal.acquire()
    assert acquisition.moved
    assert acquisition.view.scope("").messages == [b"hello"]
    await journal.release()
    assert not (await journal.acquire()).moved
    await journal.release()


async def test_loading_disturbs_nobody(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    journal.append(say(0))
    await journal.barrier()
    assert (await journal.load()).scope("").messages == [b"hello"]
    assert journal.owned
    before = store.count("create", "replace", "delete_many")
    view = await make(store).load()
    assert isinstance(view.owner, Acquired)
    assert store.count("create", "replace", "delete_many") == before
    await journal.release(say(1))


@pytest.mark.parametrize("moment", range(1, 8))
async def test_a_cancelled_acquisition_is_given_back(store: FaultyStore, moment: int) -> None:
    journal = make(store, JournalSettings(lease=60))
    cancel: list[Callable[[], object]] = []
    loop = asyncio.get_running_loop()

    def at(call: Call) -> None:
        if call.number == moment:
            loop.call_soon_threadsafe(cancel[0])
            time.sleep(0.05)

    store.on_call = at
    task = asyncio.create_task(journal.acquire())
    cancel.append(task.cancel)
    try:
        await task
        await journal.release()
    except asyncio.CancelledError:
        assert not journal.owned
    store.on_call = lambda _: None
    other = make(store, JournalSettings(on_busy="wait", busy_timeout=5, lease=60))
    await other.acquire()
    await other.release()


async def test_a_journal_that_is_forgotten_while_it_is_owned_is_free(store: FaultyStore) -> None:
    journal = make(store, JournalSettings(lease=60))
    await journal.acquire()
    del journal
    gc.collect()
    other = make(store)
    assert (await other.acquire()).takeover
    await other.release()


def test_each_call_may_come_from_another_event_loop(store: FaultyStore) -> None:
    journal = make(store)
    journal.load_sync()
    for number in range(3):
        asyncio.run(_acquire(journal))
        journal.append(say(number))
        asyncio.run(journal.barrier())
        asyncio.run(journal.release())
    assert len(journal.load_sync().scope("").messages) == 3


async def _acquire(journal: Journal) -> None:
    await journal.acquire()


async def test_records_may_come_from_many_threads(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()

    def note(name: str) -> None:
        for number in range(50):
            journal.append(Noted(name, f"{number}", b"v"))

    threads = [threading.Thread(target=note, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await journal.release()
    view = await make(store).load()
    assert all(len(view.scope(f"t{number}").notes) == 50 for number in range(4))


async def test_the_log_is_packed_on_the_way(store: FaultyStore) -> None:
    settings = JournalSettings(compact_slots=5)
    journal = make(store, settings)
    for number in range(40):
        acquisition = await journal.acquire()
        assert not acquisition.moved
        await journal.release(say(number, b"%d" % number))
    await io_thread.run(journal._packer.finished())
    assert any(key.endswith(":head") for key in keys_of(store))
    assert await messages(store) == [b"%d" % number for number in range(40)]
    again = make(store, settings)
    acquisition = await again.acquire()
    assert len(acquisition.view.scope("").messages) == 40
    await again.release()


async def test_packing_that_fails_disturbs_nobody(store: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    journal = make(store, JournalSettings(compact_slots=5))
    store.plan = lambda call: LoseRequest() if any(re.search(r":p\w+\.\d+$", key) for key in call.keys) else None
    await journal.acquire()
    for number in range(20):
        journal.append(say(number))
        await journal.barrier()
    await io_thread.run(journal._packer.finished())
    assert "packing the journal failed" in caplog.text
    store.plan = lambda _: None
    for number in range(20, 40):
        journal.append(say(number))
        await journal.barrier()
    await journal.release()
    await io_thread.run(journal._packer.finished())
    assert len(await messages(store)) == 40
    assert any(key.endswith(":head") for key in keys_of(store))


async def test_a_deleted_journal_begins_anew(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    await journal.release(say(0))
    await journal.delete()
    assert (await make(store).load()).scopes == {}
    acquisition = await journal.acquire()
    assert acquisition.moved
    assert acquisition.view.scope("").messages == []
    await journal.release(say(0, b"new"))
    assert await messages(store) == [b"new"]


async def test_a_live_session_is_not_deleted_unless_asked(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    with pytest.raises(SessionBusyError):
        await delete_session(store, "s", JournalSettings(on_busy="raise"))
    journal.append(say(0))
    await journal.barrier()
    deleting = asyncio.create_task(delete_session(store, "s", JournalSettings(on_busy="steal", lease=0.3)))
    for _ in range(500):
        if store.count("replace") > 1:
            break
        await asyncio.sleep(0.01)
    journal.append(say(1))
    with pytest.raises((SessionDeletedError, FencedError)):
        await journal.barrier()
    await deleting
    journal.abandon()
    assert await list_sessions(store) == []


async def test_all_roots_of_a_session_are_deleted_or_none(store: FaultyStore) -> None:
    roots = [Journal(store, "s", root) for root in ("a", "b", "c")]
    for journal in roots:
        await journal.acquire()
    for journal in roots[:2]:
        await journal.release()
    assert await list_roots(store, "s") == ["a", "b", "c"]
    assert await list_sessions(store) == ["s"]
    with pytest.raises(SessionBusyError):
        await delete_session(store, "s", JournalSettings(on_busy="raise"))
    assert not (await roots[0].acquire()).takeover
    await roots[0].release()
    await roots[2].release()
    await delete_session(store, "s")
    assert await list_roots(store, "s") == []


async def test_a_heartbeat_is_written_only_while_something_runs_for_long(store: FaultyStore) -> None:
    def beats() -> list[str]:
        return [key for key in keys_of(store) if key.startswith("strands:worker:")]

    journal = make(store, JournalSettings(lease=0.3))
    await journal.acquire()
    await journal.release()
    assert beats() == []
    await journal.acquire()
    values = set()
    for _ in range(40):
        await asyncio.sleep(0.02)
        for key in beats():
            entry = await store.inner.get(key)
            values.add(entry.value if entry else b"")
    assert len(values) >= 3
    store.calls.clear()
    await journal.release()
    calls = [(call.verb, call.keys) for call in store.calls if call.verb in {"delete_many", "create"}]
    assert calls[0][0] == "delete_many"  # its key goes before its journal is free, so that no death leaves it
    assert calls[0][1][0].startswith("strands:worker:")
    for _ in range(100):
        await asyncio.sleep(0.02)
        if not beats():
            break
    assert beats() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_owns_nothing(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    child = os.fork()
    if child == 0:
        try:
            journal.append(say(0))
            code = 1
        except RuntimeError as error:
            code = 0 if "forked" in str(error) and not journal.owned else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - it ends at once
    await journal.release(say(0, b"parent"))
    assert await messages(store) == [b"parent"]


@pytest.mark.parametrize("ids", [("", "r"), ("s", ""), ("a/b", "r"), ("s", "x" * 256)], ids=repr)
def test_bad_ids_are_refused_at_once(ids: tuple[str, str]) -> None:
    with pytest.raises(InvalidIdentifierError):
        Journal(MemoryStore(), *ids)


async def test_a_commit_is_counted_once_whatever_becomes_of_its_answer(store: FaultyStore) -> None:
    journal = make(store)
    await journal.acquire()
    store.plan = lambda call: LoseReply() if call.writes else None
    for number in range(10):
        journal.append(say(number, b"%d" % number))
        await journal.barrier()
    store.plan = lambda _: None
    await journal.release()
    assert await messages(store) == [b"%d" % number for number in range(10)]


class TakeOver(Fault):
    """While a call is under way, time passes, and another worker takes the journal over."""

    def __init__(self, clock: list[float], other: Journal) -> None:
        self.clock = clock
        self.other = other

    async def around(self, call: Call, apply: Callable[[], Awaitable[Any]], store: FaultyStore) -> Any:  # noqa: ARG002
        self.clock[0] += 5
        if not owns(self.other):
            await self.other.acquire()
        return await apply()


def on_a_clock(store: FaultyStore, clock: list[float]) -> Journal:
    journal = make(store, JournalSettings(lease=1))
    journal._context = replace(journal._context, seconds=lambda: clock[0])
    return journal


async def test_a_proof_that_took_longer_than_the_lease_is_none(store: FaultyStore) -> None:
    """The commit was acknowledged, but what follows it hung until the journal had been taken over."""
    clock = [0.0]
    journal = on_a_clock(store, clock)
    other = make(FaultyStore(store.inner), JournalSettings(on_busy="steal"))
    await journal.acquire()
    journal.append(say(0))
    await journal.barrier()
    clock[0] += 5
    fault = TakeOver(clock, other)
    store.plan = lambda call: fault if call.verb == "get" and "sessions" in call.keys[0] else None
    with pytest.raises(FencedError):
        await journal.barrier()


async def test_a_store_in_which_every_commit_takes_longer_than_the_lease(store: FaultyStore) -> None:
    clock = [0.0]
    journal = on_a_clock(store, clock)
    await journal.acquire()

    def slowly(call: Call) -> None:
        clock[0] += 2 * call.writes

    store.on_call = slowly
    journal.append(say(0))
    with pytest.raises(StoreUnavailableError, match="longer lease"):
        await journal.barrier()
    assert await messages(store) == [b"hello"]


async def test_what_cannot_be_read_while_it_is_owned_ends_the_ownership(store: FaultyStore) -> None:
    """Whoever asked may make something else of the error, and go on."""
    journal = Journal(store, "s", "agent", settings=QUICK)
    await journal.acquire()
    journal.append(Noted("", "kind", b"\xc0"))
    assert (await journal.load_again()).scope("").notes == {"kind": b"\xc0"}
    store.plan = lambda call: None if call.writes else LoseRequest()

    with pytest.raises(StoreUnavailableError):
        await journal.load_again()

    store.plan = lambda _: None
    journal.append(Noted("", "another", b"\xc0"))
    with pytest.raises(StoreUnavailableError):
        await journal.barrier()
    assert set((await Journal(store, "s", "agent").load()).scope("").notes) == {"kind"}
