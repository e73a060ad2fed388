"""Runs that are laid out: seen by those who know the agent, and never taken away by mistake."""

from __future__ import annotations

import asyncio

import pytest

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.workflow import documents
from strands_dapr_session.workflow import offers as offers_module
from strands_dapr_session.workflow.keys import offers_key
from strands_dapr_session.workflow.offers import Offers


async def test_what_is_laid_out_is_seen_until_it_is_taken_away() -> None:
    offers = Offers(MemoryStore())
    assert await offers.look(["a", "b"]) == {"a": {}, "b": {}}
    names = [f"run-{number}" for number in range(60)]
    assert all(await asyncio.gather(*[offers.lay_out("a", name, at_once=name == "run-7") for name in names]))
    assert await offers.lay_out("b", "run-0")
    seen = await offers.look(["a", "b"])
    assert set(seen["a"]) == set(names)
    assert set(seen["b"]) == {"run-0"}
    assert [name for name, offer in seen["a"].items() if offer.at_once] == ["run-7"]
    await offers.take_away("a", {name: offer for name, offer in seen["a"].items() if name != "run-3"})
    seen = await offers.look(["a", "b"])
    assert set(seen["a"]) == {"run-3"}
    assert set(seen["b"]) == {"run-0"}


async def test_what_was_laid_out_again_is_not_taken_away_with_what_was_seen_before() -> None:
    offers = Offers(MemoryStore())
    await offers.lay_out("a", "run")
    seen = await offers.look(["a"])
    await offers.lay_out("a", "run")  # it was let go of after somebody saw who held it
    await offers.take_away("a", seen["a"])
    again = await offers.look(["a"])
    assert set(again["a"]) == {"run"}
    await offers.take_away("a", again["a"])
    assert await offers.look(["a"]) == {"a": {}}


async def test_a_run_that_is_no_more_is_forgotten() -> None:
    offers = Offers(MemoryStore())
    for agent, name in (("a", "run"), ("a", "other"), ("b", "run"), ("c", "run")):
        await offers.lay_out(agent, name)
    await offers.forget(["a", "b"], "run")
    seen = await offers.look(["a", "b", "c"])
    assert {agent: set(found) for agent, found in seen.items()} == {"a": {"other"}, "b": set(), "c": {"run"}}


async def test_a_full_document_takes_only_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers_module, "_MOST", 1)
    monkeypatch.setattr(offers_module, "_SHARDS", 1)
    offers = Offers(MemoryStore())
    assert await offers.lay_out("a", "first")
    assert not await offers.lay_out("a", "second")
    assert await offers.lay_out("a", "first", at_once=True)
    seen = await offers.look(["a"])
    assert {name: offer.at_once for name, offer in seen["a"].items()} == {"first": True}


@pytest.mark.parametrize("value", [["run"], "run", 7, {"run": 1}, {"run": [True]}, {"run": [True, None]}])
async def test_damage_is_told_and_hides_nothing_else(value: object, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    offers = Offers(store)
    await offers.lay_out("b", "run")
    for shard in range(16):
        await documents.change(store, offers_key("a", shard), lambda _: value)
    seen = await offers.look(["a", "b"])
    assert {agent: set(found) for agent, found in seen.items()} == {"a": set(), "b": {"run"}}
    assert caplog.text.count("runs that are laid out cannot be read") == 16
    with pytest.raises(DamagedDataError, match="not a list of runs"):
        await offers.lay_out("a", "run")


@pytest.mark.parametrize(("told", "at_once"), [(True, False), (False, True)])
async def test_what_dapr_has_not_heard_of_is_to_be_taken_at_once(*, told: bool, at_once: bool) -> None:
    offers = Offers(MemoryStore())

    async def tell() -> bool:
        return told

    assert await offers.lay_out_and_tell("a", "run", tell())
    assert {name: each.at_once for name, each in (await offers.look(["a"]))["a"].items()} == {"run": at_once}


@pytest.mark.parametrize("told", [True, False])
async def test_what_is_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, *, told: bool) -> None:
    monkeypatch.setattr(offers_module, "_MOST", 1)
    monkeypatch.setattr(offers_module, "_SHARDS", 1)
    offers = Offers(MemoryStore())
    await offers.lay_out("a", "another")

    async def tell() -> bool:
        return told

    assert await offers.lay_out_and_tell("a", "run", tell()) is told  # it is full: only Dapr may have it
