"""Methods of one object that several have wrapped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from strands_dapr_session.multiagent.attempts import let_others_begin
from strands_dapr_session.multiagent.underway import UnderWay
from strands_dapr_session.multiagent.wrapped import Wrapped


class Thing:
    def say(self, *words: str) -> list[str]:
        return [*words]

    async def stream_async(self) -> Any:
        yield "said"


def adding(name: str) -> Callable[..., list[str]]:
    return lambda run, *words: [*run(*words), name]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
@pytest.mark.parametrize("is_own", [True, False])
def test_they_end_in_any_order(order: Sequence[str], *, is_own: bool) -> None:
    thing = Thing()
    if is_own:
        vars(thing)["say"] = lambda *words: ["own", *words]
    own, before = dict(vars(thing)), thing.say("it")
    undo = {name: Wrapped.wrap(thing, "say", adding(name)) for name in "abc"}
    left = ["a", "b", "c"]
    for name in order:
        assert thing.say("it") == [*before, *left]
        undo[name]()
        left.remove(name)
    assert thing.say("it") == before
    assert vars(thing) == own


def test_what_somebody_else_has_put_around_them_stays() -> None:
    thing = Thing()
    undo = Wrapped.wrap(thing, "say", adding("a"))
    inner = thing.say
    vars(thing)["say"] = lambda *words: [*inner(*words), "theirs"]
    later = Wrapped.wrap(thing, "say", adding("b"))
    assert thing.say("it") == ["it", "a", "theirs", "b"]
    undo()
    assert thing.say("it") == ["it", "theirs", "b"]
    later()
    assert thing.say("it") == ["it", "theirs"]


@pytest.mark.parametrize("is_first", [True, False])
async def test_who_is_watched_may_also_be_called_later(*, is_first: bool) -> None:
    thing, under_way = Thing(), UnderWay()
    undo = [under_way.watch(thing), let_others_begin(thing)]
    undo.pop(0 if is_first else 1)()
    assert [each async for each in thing.stream_async()] == ["said"]
    undo.pop()()
    assert vars(thing) == {}
