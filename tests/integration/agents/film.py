"""Every state that a store was in while an agent ran, and what an agent makes of each when it is started there again.

A store that is wound back to just after one of its writes is what a process leaves behind that is killed there. Real
processes are killed in `tests/crash`; here, a run can be cut everywhere in milliseconds, whatever the agent is made of.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from strands import Agent

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.hooks.documents import SNAPSHOT_FIELDS
from strands_dapr_session.journal import committer
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.base import StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.strands_compat import snapshot
from strands_dapr_session.testing.faults import Call, FaultyStore

SESSION = "s"

DONE = object()
"""What a program says when nothing is left to say."""

Build = Callable[[DaprSessionManager], Agent]


@dataclass
class Film:
    """A store that keeps what it held after each write.

    Attributes:
        store: To be used.
        frames: What it held.
    """

    frames: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inner = MemoryStore()
        self.store = FaultyStore(self.inner, on_applied=self._shoot)

    def _shoot(self, call: Call) -> None:
        if not call.verb.startswith("get"):
            self.frames.append(dict(self.inner._entries))

    @staticmethod
    def at(frame: dict[str, Any]) -> Film:
        """A store that holds what another one held then."""
        film = Film()
        film.inner._entries.update(frame)
        return film


def manager(film: Film, **options: Any) -> DaprSessionManager:
    return DaprSessionManager(SESSION, store=film.store, **options)


def view(agent: Agent) -> View:
    """What the journal of an agent says now."""
    recording = recording_of(agent)
    return recording.journal.load_sync()  # type: ignore[no-any-return]


def recording_of(agent: Agent) -> Any:
    recording = agent._session_manager._recordings.find(agent)  # type: ignore[union-attr]
    assert recording is not None
    return recording


def add_hook(agent: Agent, callback: Any, *event_types: type, **options: Any) -> None:
    """`Agent.add_hook` for callbacks whose parameter is not called `event`."""
    for event_type in event_types:
        agent.add_hook(callback, event_type, **options)


def assert_free(store: StateStore, session_id: str = SESSION) -> None:
    """See that nobody owns the journal of the default agent, so that others need not wait for a lease."""
    journal = Journal(store, session_id, "default")
    assert journal.load_sync().owner is None


def plain(messages: Sequence[Any]) -> list[Any]:
    """Messages without what differs between two equal runs: random ids and measured times."""
    found = []
    for message in copy.deepcopy(list(messages)):
        if "tracking_id" in message:
            message["tracking_id"] = "…"
        message.get("metadata", {}).pop("metrics", None)
        found.append(message)
    return found


def everything(agent: Agent) -> dict[str, Any]:
    """All of an agent that is to survive."""
    return copy.deepcopy({"messages": agent.messages, "state": agent.state.get(), **snapshot(agent, *SNAPSHOT_FIELDS)})


@dataclass
class Life:
    """What one process did.

    Attributes:
        agent: Its agent.
        results: What its calls returned.
        answers: The same as text.
        stops: Why they ended.
        frames: How many frames there were after each call.
        marks: What the journal said of the invocation after each call.
        usage: Tokens that the last call reported.
    """

    agent: Agent
    results: list[Any] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    marks: list[Any] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def outcome(self) -> dict[str, Any]:
        """What must not depend on whether the run was cut."""
        return {
            "messages": plain(self.agent.messages),
            "state": self.agent.state.get(),
            "conversation_manager": _without_chance(snapshot(self.agent, "conversation_manager_state")),
            "answer": self.answers[-1:],
            "stop": self.stops[-1:],
            "usage": self.usage,
        }


def _without_chance(value: Any) -> Any:
    """A summary without what differs between two equal runs, as in `plain`."""
    if isinstance(value, dict):
        return {
            name: "…" if name in {"tracking_id", "metrics"} else _without_chance(each) for name, each in value.items()
        }
    return [_without_chance(each) for each in value] if isinstance(value, list) else value


Prompts = Sequence[Any]
"""What a program says to its agent, call by call. A callable gets the last result and says it."""


def live(film: Film, build: Build, prompts: Prompts, *, last: Any = None, **options: Any) -> Life:
    """Be a process: make the agent and all calls. Every step is a commit of its own."""
    with mock.patch.object(committer, "_TOGETHER", 0):
        return asyncio.run(_live(film, build, prompts, last, options))


async def _live(film: Film, build: Build, prompts: Prompts, last: Any, options: dict[str, Any]) -> Life:
    life = Life(build(manager(film, **options)))
    for prompt in prompts:
        said = prompt(last) if callable(prompt) else prompt
        if said is DONE:
            break
        last = await life.agent.invoke_async(said)
        life.results.append(last)
        life.answers.append(str(last).strip())
        life.stops.append(last.stop_reason)
        life.frames.append(len(film.frames))
        life.marks.append(_mark(film))
        life.usage = dict(last.metrics.agent_invocations[-1].usage)
    return life


@dataclass(frozen=True)
class Cut:
    """One place where a run was cut, and what became of it.

    Attributes:
        frame: Its number.
        recorded: The ids of tool calls whose results were recorded.
        again: The ids of the calls that ran in the second life.
        expected: What the run that was left alone came to.
        found: What this one came to.
        film: The second life's.
    """

    frame: int
    recorded: frozenset[str]
    again: tuple[str, ...]
    expected: dict[str, Any]
    found: dict[str, Any]
    film: Film

    def check(self) -> None:
        where = f"cut after write {self.frame}"
        assert self.found == self.expected, where
        assert not self.recorded & set(self.again), f"{where}: a recorded result was computed again"


def cut_everywhere(
    build: Build,
    prompts: Prompts,
    *,
    ran: list[str] | None = None,
    again: Callable[[Any], Any] = lambda prompt: prompt,
    **options: Any,
) -> list[Cut]:
    """Run a program; then wind its store back to each write in turn, start the program there, and compare the ends.

    Args:
        build: Makes the agent. It must behave the same every time.
        prompts: What the program says. After a cut it begins with what it had said last and got no answer to.
        ran: Where tools note the id of each call that runs.
        again: What the program says instead, the first time after the cut.
        options: Of the session manager.
    """
    film, ran = Film(), ran if ran is not None else []
    whole = live(film, build, prompts, **options)
    assert_restored(film, build, whole.agent, **options)
    cuts = []
    for number, frame in enumerate(film.frames[:-1], 1):
        second = Film.at(frame)
        call = sum(number >= done for done in whole.frames)
        if call < len(prompts) and _mark(second) == whole.marks[call]:
            call += 1  # it had ended; what was written since, as when a journal is packed, has nothing to do with it
        if call == len(prompts):
            break
        recorded = _recorded(second)
        ran.clear()
        rest = list(prompts[call:])
        if _is_begun(second):
            rest[0] = again(rest[0])
        life = live(second, build, rest, last=whole.results[call - 1] if call else None, **options)
        assert_restored(second, build, life.agent, **options)
        cuts.append(Cut(number, recorded, tuple(ran), whole.outcome, life.outcome, second))
    return cuts


def check_everywhere(build: Build, prompts: Prompts, **options: Any) -> list[Cut]:
    """Cut a run everywhere and see that no cut made a difference."""
    cuts = cut_everywhere(build, prompts, **options)
    for cut in cuts:
        cut.check()
    return cuts


def assert_restored(film: Film, build: Build, agent: Agent, **options: Any) -> None:
    """See that another process gets an agent back exactly."""
    other = build(manager(film, **options))
    assert everything(other) == everything(agent)


def recorded_scope(film: Film) -> Any:
    """What the journal says of the default agent, read past everything that uses it."""
    return Journal(film.inner, SESSION, "default").load_sync().scope("")


def _mark(film: Film) -> Any:
    scope = recorded_scope(film)
    return scope.invocation and (scope.invocation.id, scope.invocation.finished, scope.notes["status"])


def _is_begun(film: Film) -> bool:
    scope = recorded_scope(film)
    if scope.invocation is None or scope.invocation.finished:
        return False
    return bool(unpack_value(scope.notes["status"])["state"] != "interrupted")


def _recorded(film: Film) -> frozenset[str]:
    scope = recorded_scope(film)
    in_messages = {
        block["toolResult"]["toolUseId"]
        for body in scope.messages
        for block in unpack_value(body)["content"]
        if "toolResult" in block
    }
    return frozenset(in_messages | set(scope.results))
