"""What others may do to a journal between the steps of an acquisition, and what then holds."""

from __future__ import annotations

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal import acquire as acquire_module
from strands_dapr_session.journal.acquire import Claim, Position, Wish, acquire, give_back
from strands_dapr_session.journal.compaction import compact
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.delete import delete_journal, fence_off
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.load import Log, read_log
from strands_dapr_session.journal.log_writer import LogWriter
from strands_dapr_session.records.records import Noted, SegmentsPlanned
from strands_dapr_session.records.wire import encode_record
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Call, FaultyStore, Plan, outage
from tests.unit.journal.journals import SETTINGS, Script, context_of, keys_of
from tests.unit.journal.test_rules import Meanwhile, before_creating


async def own(script: Script, plan: Plan, known: Position | None = None, name: str = "other") -> Claim:
    return await acquire(context_of(FaultyStore(script.store, plan)), Wish("s", "r", SETTINGS, name), known)


async def delete(script: Script) -> None:
    context = context_of(script.store)
    wish = Wish("s", "r", SETTINGS, "deleter", (encode_record(DELETION),), understand=None)
    await delete_journal(context, wish, await fence_off(context, wish))


async def owned_journal() -> tuple[Script, Layout]:
    """Make a journal of two slots that somebody owns."""
    script = Script(MemoryStore())
    await script.own()
    await script.say("first")
    assert script.claim is not None
    return script, script.claim.layout


async def test_two_who_make_a_journal_make_one() -> None:
    script = Script(MemoryStore())
    claim = await own(script, before_creating(shard_key("s"), script.own))
    assert script.claim is not None
    assert claim.layout == script.claim.layout
    assert claim.slot.number == 2
    assert claim.record.takeover


async def test_an_owner_that_is_known_is_not_taken_over_unasked() -> None:
    """What is known may be old: whether its owner lives, or has released, is looked up."""
    script, layout = await owned_journal()
    assert script.claim is not None
    known = Position(layout, 2, script.claim.stamp, script.claim.record, own=False)
    await script.release()
    claim = await own(script, lambda _: None, known)
    assert claim.slot.number == 4
    assert not claim.record.takeover


async def test_a_head_that_moved_before_the_acquisition_is_read_again() -> None:
    script, layout = await owned_journal()
    await script.write(SegmentsPlanned(("p",)))
    assert script.log is not None
    through = script.log.sequence

    async def pack() -> None:
        assert await compact(context_of(script.store), layout, "p", through) is not None

    claim = await own(script, before_creating(layout.slot(4), pack))
    assert claim.slot.number == 4
    assert claim.log is not None
    assert claim.log.head.sequence == 3
    assert claim.stamp == claim.log.head.stamp
    assert claim.log.end == 4
    assert claim.view is not None
    assert claim.view.sequence == 4
    assert claim.view.scope("").messages == script.live[""]
    assert claim.view.owner == claim.record


async def test_the_view_of_an_acquisition_ends_with_it() -> None:
    """Whoever takes over in that moment may have written more, which is none of this owner's business any more."""
    script, layout = await owned_journal()
    await script.write(SegmentsPlanned(("p",)))
    assert script.log is not None
    through = script.log.sequence
    thief = Script(script.store, acquisitions=10)

    async def pack() -> None:
        assert await compact(context_of(script.store), layout, "p", through) is not None

    async def steal() -> None:
        await thief.own()
        await thief.write(Noted("", "k", b"thief's"))

    reads = 0

    def plan(call: Call) -> Meanwhile | None:
        nonlocal reads
        if call.verb == "create" and call.keys == (layout.slot(4),):
            return Meanwhile(pack)
        if call.verb == "get_many" and layout.slot(1) in call.keys:
            reads += 1
            return Meanwhile(steal) if reads == 2 else None
        return None

    claim = await own(script, plan)
    assert reads == 2
    assert thief.claim is not None
    assert thief.claim.slot.number == 5
    assert claim.slot.number == 4
    assert claim.log is not None
    assert claim.log.end == 4
    assert claim.view is not None
    assert (claim.view.sequence, claim.view.owner) == (4, claim.record)
    assert claim.view.scope("").notes == {}


async def test_an_acquisition_that_was_packed_before_it_was_seen_starts_over() -> None:
    script, layout = await owned_journal()
    await script.write(SegmentsPlanned(("p",)))
    assert script.log is not None
    through = script.log.sequence
    thief = Script(script.store, acquisitions=10)
    reads = 0

    async def pack() -> None:
        assert await compact(context_of(script.store), layout, "p", through) is not None

    async def steal_and_pack() -> None:
        await thief.own()
        assert await thief.pack()

    def plan(call: Call) -> Meanwhile | None:
        nonlocal reads
        if reads < 2 and call.verb == "create" and call.keys == (layout.slot(4),):
            return Meanwhile(pack)
        if call.verb == "get_many" and layout.slot(1) in call.keys:
            reads += 1
            return Meanwhile(steal_and_pack) if reads == 2 else None
        return None

    claim = await own(script, plan)
    assert thief.claim is not None
    assert claim.slot.number > thief.claim.slot.number
    assert claim.before == thief.claim.record
    assert claim.view is not None
    assert claim.view.scope("").messages == script.live[""]


async def test_an_acquisition_of_what_is_deleted_meanwhile_leaves_nothing_behind() -> None:
    script, layout = await owned_journal()

    async def delete_it() -> None:
        await delete(script)
        assert [key for key in keys_of(script.store) if key.startswith(layout.base)] == []

    claim = await own(script, before_creating(layout.slot(3), delete_it))
    assert claim.layout != layout
    assert (claim.slot.number, claim.record.takeover) == (1, False)
    assert [key for key in keys_of(script.store) if key.startswith(layout.base)] == []


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_what_cannot_be_read_because_it_is_being_deleted_is_made_anew(
    *, is_deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, layout = await owned_journal()
    read, left = read_log, [True]

    async def fails_once(context: Context, where: Layout) -> Log:
        if left and left.pop():
            if is_deleted:
                await delete(script)
            raise DamagedDataError(layout.slot(1), "it is half gone")
        return await read(context, where)

    monkeypatch.setattr(acquire_module, "read_log", fails_once)
    if is_deleted:
        claim = await own(script, lambda _: None)
        assert claim.layout != layout
        assert claim.slot.number == 1
    else:
        with pytest.raises(DamagedDataError, match="half gone"):
            await own(script, lambda _: None)


async def test_giving_back_what_somebody_else_has_or_nobody_can_reach_fails_nobody() -> None:
    script, layout = await owned_journal()
    claim = await own(script, lambda _: None)
    await give_back(context_of(FaultyStore(script.store, outage(1, 10**9))), claim)
    assert await script.store.get(layout.slot(4)) is None
    thief = await own(script, lambda _: None, name="thief")
    await give_back(context_of(script.store), claim)
    await LogWriter(context_of(script.store), thief).write([encode_record(Noted("", "k", b""))])
