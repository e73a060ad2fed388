"""When a log is packed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from unittest import mock

import pytest

from strands_dapr_session.errors import StoreUnavailableError
from strands_dapr_session.journal import packer as packer_module
from strands_dapr_session.journal.commit import Slot
from strands_dapr_session.journal.head import Head
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.load import Log
from strands_dapr_session.journal.packer import Packer
from strands_dapr_session.journal.recent import RecentLogs
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.stores.base import Entry, KeyConflict
from strands_dapr_session.stores.memory import MemoryStore
from tests.unit.journal.journals import context_of

LAYOUT = Layout("s", "r", "i")
SETTINGS = JournalSettings(compact_slots=4, compact_bytes=1000)


def log_of(sequence: int, checkpoint_bytes: int, *sizes: int, parts: int = 0) -> Log:
    head = Head("s", "r", sequence=sequence, checkpoint_bytes=checkpoint_bytes)
    log = Log(LAYOUT, head, "1", slots=[Entry(bytes(size), "1") for size in sizes])
    log.parts = {"part": Entry(bytes(parts), "1")} if parts else {}
    return log


def packer_after(log: Log) -> Packer:
    packer = Packer(context_of(MemoryStore()), SETTINGS)
    packer.saw(log)
    return packer


def commit(packer: Packer, number: int, size: int) -> None:
    packer.committed(Slot(number, LAYOUT.slot(number), bytes(size)))


def is_due(packer: Packer, number: int) -> bool:
    return packer.plan_for(number) is not None


def test_nothing_is_packed_before_the_log_was_seen() -> None:
    packer = Packer(context_of(MemoryStore()), SETTINGS)
    commit(packer, 1, 5000)
    assert not is_due(packer, 50)


def test_a_log_of_many_slots_is_packed() -> None:
    packer = packer_after(log_of(10, 30, 10, 10))
    commit(packer, 13, 10)
    assert not is_due(packer, 13)
    assert is_due(packer, 14)
    assert packer.plan_for(14) != packer.plan_for(14)  # whoever names one names a new one


def test_a_large_checkpoint_is_written_again_for_as_many_bytes_or_after_long() -> None:
    assert is_due(packer_after(log_of(10, 29, 10, 10, 9)), 14)
    packer = packer_after(log_of(10, 30, 10, 10, 9))
    assert not is_due(packer, 14)
    assert not is_due(packer, 10 + 15)
    assert is_due(packer, 10 + 16)


def test_many_bytes_are_packed_at_once() -> None:
    packer = packer_after(log_of(10, 10**6, 999))
    assert not is_due(packer, 12)
    commit(packer, 12, 1)
    assert is_due(packer, 12)
    assert is_due(packer_after(log_of(10, 10**6, 100, 51, parts=849)), 13)


class Compactions:
    """Instead of `compact`: each waits until it is told what becomes of it."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Head | None] = asyncio.get_running_loop().create_future()
        self.asked: list[tuple[Layout, str, int]] = []

    async def compact(self, _: object, layout: Layout, plan: str, through: int) -> Head | None:
        self.asked.append((layout, plan, through))
        return await self.outcome


async def test_one_compaction_at_a_time_and_counting_goes_on_after_it() -> None:
    compactions = Compactions()
    packer = packer_after(log_of(10, 0, 10, 10, 10))
    with mock.patch.object(packer_module, "compact", compactions.compact):
        packer.start(LAYOUT, "p", 14)
        commit(packer, 14, 10)
        commit(packer, 15, 700)
        assert not is_due(packer, 50)
        compactions.outcome.set_result(Head("s", "r", sequence=14, checkpoint_bytes=600))
        await packer.finished()
    assert compactions.asked == [(LAYOUT, "p", 14)]
    assert not is_due(packer, 17)  # so soon after the last one
    assert is_due(packer, 18)  # four slots after 14, with more bytes than the checkpoint has
    commit(packer, 15, 599)
    assert not is_due(packer, 18)
    commit(packer, 16, 401)
    assert not is_due(packer, 17)
    assert is_due(packer, 18)


@pytest.mark.parametrize("error", [StoreUnavailableError("down"), KeyConflict("key"), None], ids=repr)
async def test_one_that_fails_or_was_overtaken_is_tried_again_later(error: Exception | None) -> None:
    compactions = Compactions()
    packer = packer_after(log_of(10, 0, 10, 10, 10))
    with mock.patch.object(packer_module, "compact", compactions.compact):
        packer.start(LAYOUT, "p", 14)
        if error is None:
            compactions.outcome.set_result(None)
        else:
            compactions.outcome.set_exception(error)
        await packer.finished()
    assert not is_due(packer, 17)
    assert is_due(packer, 18)


async def test_a_head_that_was_moved_is_not_remembered() -> None:
    compactions = Compactions()
    recent = RecentLogs()
    packer = packer_after(log_of(10, 0))
    packer._context = replace(packer._context, recent=recent)
    recent.remember(log_of(10, 0))
    with mock.patch.object(packer_module, "compact", compactions.compact):
        packer.start(LAYOUT, "p", 14)
        compactions.outcome.set_result(Head("s", "r", sequence=14))
        await packer.finished()
    assert recent.find("s", "r") is None
    assert packer._sequence == 14


async def test_what_is_packed_of_another_incarnation_is_not_counted() -> None:
    compactions = Compactions()
    packer = packer_after(log_of(10, 0, 10, 10))
    with mock.patch.object(packer_module, "compact", compactions.compact):
        packer.start(Layout("s", "r", "older"), "p", 2)
        compactions.outcome.set_result(Head("s", "r", sequence=2))
        await packer.finished()
    assert packer._sequence == 10
