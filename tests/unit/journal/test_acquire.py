"""How long an owner is waited for, and when it is taken for dead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from strands_dapr_session.errors import SessionBusyError
from strands_dapr_session.journal.acquire import Claim, Position, Wish, _Patience, acquire, give_back
from strands_dapr_session.journal.commit import LONGEST_SLOT, prepare, write
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.journal.settings import JournalSettings, OnBusy
from strands_dapr_session.records.records import Acquired, InvocationFinished, InvocationStarted, Noted
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, Fault, FaultyStore

T = TypeVar("T")
BEAT = "beat"


@dataclass(frozen=True)
class Release(Fault):
    """The owner releases the journal just before a call is carried out."""

    claim: Claim
    store: MemoryStore

    async def around(self, call: Call, apply: Callable[[], Awaitable[T]], store: FaultyStore) -> T:  # noqa: ARG002
        await give_back(Context(self.store, OtherWorkers("other")), self.claim)
        return await apply()


@dataclass
class OtherWorkers:
    """What this worker knows of the others."""

    name: str = "me"
    alive: bool | None = None
    given_up: bool = False

    def is_alive(self, owner: Acquired) -> bool | None:  # noqa: ARG002
        return self.alive

    def heartbeat_key(self, owner: Acquired) -> str | None:  # noqa: ARG002
        return BEAT

    def has_given_up(self, owner: Acquired, heartbeat: bytes | None) -> bool:  # noqa: ARG002
        return self.given_up


@dataclass
class Clock:
    """Time passes only when somebody sleeps; then other things may happen."""

    now: float = 100.0
    meanwhile: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for item in [item for item in self.meanwhile if item[0] <= self.now]:
            self.meanwhile.remove(item)
            done = item[1]()
            if hasattr(done, "__await__"):
                await done


class Scene:
    """A journal that somebody else owns, and this worker, who wants it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self.workers = OtherWorkers()
        self.context = Context(self.store, self.workers, clock=lambda: self.clock.now, sleep=self.clock.sleep)

    async def begin(self) -> Claim:
        other = Context(self.store, OtherWorkers("other"))
        return await acquire(other, Wish("s", "r", JournalSettings(lease=2.0), "theirs"))

    async def try_it(self, on_busy: OnBusy = "wait", busy_timeout: float = 30.0) -> Claim:
        settings = JournalSettings(on_busy=on_busy, busy_timeout=busy_timeout, lease=1.0)
        return await acquire(self.context, Wish("s", "r", settings, "mine"))

    def beat(self, value: bytes) -> None:
        async def write() -> None:
            await self.store.delete_many([BEAT])
            await self.store.create(BEAT, value)

        self.clock.meanwhile.append((self.clock.now + len(self.clock.meanwhile) * 0.6 + 0.6, write))


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_silent_owner_is_taken_over_after_its_lease(scene: Scene) -> None:
    await scene.begin()
    claim = await scene.try_it()
    assert claim.record.takeover
    assert claim.before is not None
    assert 2.0 <= scene.clock.now - 100 < 2.5  # the lease of the owner, not ours


async def test_one_that_is_surely_gone_is_taken_over_at_once(scene: Scene) -> None:
    await scene.begin()
    scene.workers.alive = False
    assert (await scene.try_it()).record.takeover
    assert scene.clock.now == 100


async def test_one_that_has_given_up_is_taken_over_at_once(scene: Scene) -> None:
    await scene.begin()
    scene.workers.given_up = True
    assert (await scene.try_it()).record.takeover
    assert scene.clock.now == 100


async def test_a_heartbeat_keeps_it_alive(scene: Scene) -> None:
    await scene.begin()
    for number in range(20):
        scene.beat(b"%d" % number)
    with pytest.raises(SessionBusyError, match="worker 'other'"):
        await scene.try_it(busy_timeout=10.0)
    assert 10.0 <= scene.clock.now - 100 < 10.5


async def test_one_whose_heart_stops_is_taken_over_a_lease_later(scene: Scene) -> None:
    await scene.begin()
    for number in range(5):
        scene.beat(b"%d" % number)
    await scene.try_it()
    assert 5.0 <= scene.clock.now - 100 < 5.8


async def test_a_commit_is_a_sign_of_life(scene: Scene) -> None:
    log = LogWriter(Context(scene.store, OtherWorkers("other")), await scene.begin())
    scene.clock.meanwhile.append((101.5, lambda: log.write([encode_record(Noted("", "k", b""))])))
    claim = await scene.try_it()
    assert scene.clock.now - 100 >= 3.4
    assert claim.slot.number == 3


async def test_the_journal_is_had_as_soon_as_it_is_released(scene: Scene) -> None:
    theirs = await scene.begin()
    scene.workers.alive = True
    scene.clock.meanwhile.append((105.0, lambda: give_back(Context(scene.store, OtherWorkers("other")), theirs)))
    claim = await scene.try_it()
    assert not claim.record.takeover
    assert claim.before is None
    assert 5.0 <= scene.clock.now - 100 <= 5.3


async def test_raise_does_not_wait_for_one_that_is_alive(scene: Scene) -> None:
    await scene.begin()
    scene.workers.alive = True
    with pytest.raises(SessionBusyError):
        await scene.try_it("raise")
    assert scene.clock.now == 100


@pytest.mark.parametrize("on_busy", ["raise", "wait"])
async def test_who_is_busy_says_with_what(scene: Scene, on_busy: OnBusy) -> None:
    claim = await scene.begin()
    scene.workers.alive = True

    async def name() -> str | None:
        with pytest.raises(SessionBusyError) as busy:
            await scene.try_it(on_busy, busy_timeout=1.0)
        return busy.value.invocation_id

    async def record(number: int, record: Any) -> None:
        slot = prepare(scene.store, claim.layout, claim.slot.number + number, [encode_record(record)])
        await write(scene.context, slot)

    assert await name() is None
    await record(1, InvocationStarted("", "i", "mine", b"", b"", 1))
    assert await name() == "mine"
    await record(2, InvocationStarted("node", "j", "another", b"", b"", 1))
    assert await name() == "mine"
    await record(3, InvocationFinished("", "i", "completed", b""))
    assert await name() is None


async def test_raise_looks_until_it_sees_a_sign_of_life(scene: Scene) -> None:
    await scene.begin()
    scene.beat(b"1")
    with pytest.raises(SessionBusyError):
        await scene.try_it("raise")
    assert 0.6 <= scene.clock.now - 100 < 1.0


async def test_raise_takes_over_from_the_dead(scene: Scene) -> None:
    await scene.begin()
    assert (await scene.try_it("raise")).record.takeover


async def test_steal_asks_nobody(scene: Scene) -> None:
    await scene.begin()
    scene.workers.alive = True
    assert (await scene.try_it("steal")).record.takeover
    assert scene.clock.now == 100


async def test_one_that_lives_is_waited_for_only_so_long(scene: Scene) -> None:
    await scene.begin()
    scene.workers.alive = True
    with pytest.raises(SessionBusyError):
        await scene.try_it(busy_timeout=3.0)
    assert 3.0 <= scene.clock.now - 100 < 3.5
    assert len(scene.store.keys()) == 2  # the registry, and their slot


async def test_records_too_long_for_the_slot_of_the_acquisition_are_left_out(scene: Scene) -> None:
    long = encode_record(Noted("", "k", bytes(200_000)))
    claim = await acquire(scene.context, Wish("s", "r", JournalSettings(), "mine", (long,)))
    assert (claim.first, claim.slot.parts) == (0, ())
    short = encode_record(Noted("", "k", b"v"))
    scene.workers.alive = False
    claim = await acquire(scene.context, Wish("s", "r", JournalSettings(), "mine", (short,)))
    assert claim.first == 1
    assert claim.log is not None
    assert claim.log.records(2)[1:] == [Noted("", "k", b"v")]


async def test_looking_again_becomes_rarer(scene: Scene) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await scene.clock.sleep(seconds)

    scene.context = replace(scene.context, sleep=sleep)
    await scene.begin()
    await scene.try_it()
    assert pauses[:7] == [0.02, 0.04, 0.08, 0.16, 0.25, 0.25, 0.25]


async def test_who_has_no_time_to_wait_does_not(scene: Scene) -> None:
    await scene.begin()
    scene.workers.alive = True
    with pytest.raises(SessionBusyError):
        await scene.try_it(busy_timeout=0)
    assert scene.clock.now == 100


async def test_a_lease_is_over_when_it_is_over(scene: Scene) -> None:
    theirs = (await scene.begin()).record
    patience = _Patience(scene.context, JournalSettings(on_busy="wait", busy_timeout=30.0))
    assert not patience.is_over(theirs, 1, b"beat")
    scene.clock.now += 1.9375
    assert not patience.is_over(theirs, 1, b"beat")
    scene.clock.now += 0.0625
    assert patience.is_over(theirs, 1, b"beat")


async def test_another_owner_is_no_sign_of_life(scene: Scene) -> None:
    """Who would not wait for a live owner still takes over from one that came meanwhile and died."""
    await scene.begin()

    async def steal() -> None:
        other = Context(scene.store, OtherWorkers("third", alive=False))
        await acquire(other, Wish("s", "r", JournalSettings(lease=2.0), "third"))

    scene.clock.meanwhile.append((100.5, steal))
    claim = await scene.try_it("raise")
    assert claim.before is not None
    assert claim.before.acquisition == "third"
    assert 2.5 <= scene.clock.now - 100 < 3.1


async def test_a_release_is_seen_before_anybody_is_called_busy(scene: Scene) -> None:
    theirs = await scene.begin()
    scene.workers.alive = True
    faulty = FaultyStore(scene.store)

    def on_call(call: Call) -> Fault | None:
        return Release(theirs, scene.store) if BEAT in call.keys else None

    faulty.plan = on_call
    scene.context = replace(scene.context, store=faulty)
    claim = await scene.try_it("raise")
    assert not claim.record.takeover
    assert scene.clock.now == 100


async def test_a_worker_without_a_heart_is_judged_by_its_commits(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.begin()
    faulty = FaultyStore(scene.store)
    scene.context = replace(scene.context, store=faulty)
    monkeypatch.setattr(OtherWorkers, "heartbeat_key", lambda *_: None)
    assert (await scene.try_it()).record.takeover
    assert 2.0 <= scene.clock.now - 100 < 2.5
    assert all(isinstance(key, str) for call in faulty.calls for key in call.keys)


@pytest.mark.parametrize(("size", "first"), [(LONGEST_SLOT // 2, 1), (LONGEST_SLOT // 2 + 1, 0)])
async def test_up_to_half_a_slot_goes_with_the_acquisition(scene: Scene, size: int, first: int) -> None:
    record = encode_record(Noted("", "k", bytes(40_000)))
    record = encode_record(Noted("", "k", bytes(40_000 + size - len(record))))
    assert len(record) == size
    claim = await acquire(scene.context, Wish("s", "r", JournalSettings(), "mine", (record,)))
    assert claim.first == first


async def test_an_owner_that_is_known_and_lives_is_waited_for(scene: Scene) -> None:
    theirs = await scene.begin()
    scene.workers.alive = True
    known = Position(theirs.layout, theirs.slot.number, theirs.stamp, theirs.record, own=False)
    wish = Wish("s", "r", JournalSettings(on_busy="raise"), "mine")
    with pytest.raises(SessionBusyError):
        await acquire(scene.context, wish, known)
    assert len(scene.store.keys()) == 2
