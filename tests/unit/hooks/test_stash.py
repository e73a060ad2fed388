"""A stash in memory is recorded as it fills, each entry once, and is what it was when the agent is made again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from strands_dapr_session.hooks.stash import Stashed, is_stash
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Acquired, Spliced
from strands_dapr_session.records.view import View


class Stash:
    """Strands' `Stash`, as far as it matters here (1.62)."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}

    async def load_snapshot(self, entries: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.entries.update(entries)

    def refs_for(self, block: Any, message: Any, index: int) -> list[str]:  # noqa: ARG002
        return [f"{message['id']}_{index}"]

    async def list(self) -> list[str]:
        return list(self.entries)

    async def retrieve(self, reference: str) -> Any:
        return self.entries.get(reference)


def agent_with(stash: Stash | None, *, is_durable: bool = False) -> Any:
    manager = None if stash is None else SimpleNamespace(stash=stash, stash_is_durable=is_durable)
    return SimpleNamespace(context_manager=manager)


def message(name: str, *texts: str) -> Any:
    return {"id": name, "content": [{"text": text} for text in texts]}


def view_of(records: list[Spliced]) -> View:
    view = View()
    view.apply(Acquired("a", "w", takeover=False, lease=3.0))
    for record in records:
        view.apply(record)
    return view


async def test_each_entry_is_recorded_once() -> None:
    stash, stashed = Stash(), Stashed("node")
    agent = agent_with(stash)
    stash.entries = {"m_0": {"text": "a"}, "t_0": {"text": "b"}}
    await stashed.look(agent)
    [first] = stashed.changes()
    assert (first.scope, first.at, first.drop, len(first.bodies)) == ("node/*stash", 0, 0, 2)
    stash.entries["n_0"] = {"text": "c"}
    await stashed.look(agent, message("m", "a", "nothing is kept of this one"))
    [second] = stashed.changes()
    assert (second.at, second.bodies) == (2, (pack_value({"reference": "n_0", "item": {"text": "c"}}),))
    await stashed.look(agent)
    assert stashed.changes() == []


async def test_an_entry_that_replaces_another_is_recorded_again() -> None:
    """Some models use the ids of tool calls again."""
    stash, stashed = Stash(), Stashed("")
    agent = agent_with(stash)
    stash.entries["t_0"] = {"text": "a"}
    await stashed.look(agent)
    records = stashed.changes()
    stash.entries["t_0"] = {"text": "b"}
    await stashed.look(agent)
    assert stashed.changes() == []
    await stashed.look(agent, message("t", "b"))
    records += stashed.changes()
    again = Stash()
    Stashed("").restore(agent_with(again), view_of(records), "s/a")
    assert again.entries == {"t_0": {"text": "b"}}


async def test_a_restored_stash_is_what_it_was_and_goes_on() -> None:
    """On an event loop: that is where agents are made again, by plain code."""
    stash, stashed = Stash(), Stashed("")
    stash.entries = {"a_0": {"text": "a"}, "b_0": {"json": [1, {"deep": None}]}}
    await stashed.look(agent_with(stash))
    records = stashed.changes()
    again, anew = Stash(), Stashed("")
    anew.restore(agent_with(again), view_of(records), "s/a")
    assert again.entries == stash.entries
    await anew.look(agent_with(again))
    assert anew.changes() == []
    again.entries["c_0"] = {"text": "c"}
    await anew.look(agent_with(again))
    assert [record.at for record in anew.changes()] == [2]
    assert list(view_of(records).scopes) == ["*stash"]


async def test_what_was_found_and_is_not_what_others_recorded_is_forgotten() -> None:
    stash, stashed = Stash(), Stashed("")
    stash.entries["a_0"] = {"text": "a"}
    await stashed.look(agent_with(stash))
    stashed.restore(agent_with(stash), View(), "s/a")
    assert stashed.changes() == []
    await stashed.look(agent_with(stash))
    assert [record.at for record in stashed.changes()] == [0]


@pytest.mark.parametrize("agent", [agent_with(None), agent_with(Stash(), is_durable=True), SimpleNamespace()])
async def test_a_stash_that_outlives_the_process_is_left_alone(agent: Any) -> None:
    stashed, manager = Stashed(""), getattr(agent, "context_manager", None)
    if manager is not None:
        manager.stash.entries["a_0"] = {"text": "a"}
    await stashed.look(agent, message("a", "a"))
    assert stashed.changes() == []
    lost = Spliced("*stash", 0, 0, (pack_value({"reference": "b_0", "item": {"text": "b"}}),))
    stashed.restore(agent, view_of([lost]), "s/a")
    assert manager is None or list(manager.stash.entries) == ["a_0"]


@pytest.mark.parametrize("entry", [7, {"item": 1}, {"reference": 1, "item": 1}, {"reference": "a"}])
def test_what_is_no_entry_is_refused(entry: Any) -> None:
    view = view_of([Spliced("*stash", 0, 0, (pack_value(entry),))])
    with pytest.raises((KeyError, TypeError)):
        Stashed("").restore(agent_with(Stash()), view, "s/a")


def test_only_a_stash_is_one() -> None:
    assert [path for path in ("", "a", "*stash", "a/*stash", "*stash/a", "a*stash") if is_stash(path)] == [
        "*stash",
        "a/*stash",
    ]
