"""What programs left in a store when they were cut off, each version of it, and what a reader must make of it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from strands import Agent, tool
from strands.multiagent import GraphBuilder
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.journal.commit import read_records
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.base import Entry, StateStore
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel

_NOISE = "".join(random.Random(3).choices("abcdefghijklmnopqrstuvwxyz 0123456789", k=150_000))
_SCRIPT: dict[str, Any] = {
    "before": [[("add", {"number": 0})], "said " + "so " * 40],
    "long": [_NOISE],  # longer than a slot: its commit is in parts
    "go on": [[("add", {"number": 1})], [("add", {"number": 2}), ("look", {"question": "why"})], "all done"],
}


class Archive(MemoryStore):
    """A store that keeps every value that a key ever had.

    Attributes:
        versions: The values of each key, the oldest first, also of keys that were deleted since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, list[bytes]] = {}

    async def create(self, key: str, value: bytes) -> None:
        """Write, and keep."""
        await super().create(key, value)
        self.versions.setdefault(key, []).append(value)

    async def replace(self, key: str, value: bytes, etag: str) -> None:
        """Write, and keep."""
        await super().replace(key, value, etag)
        self.versions.setdefault(key, []).append(value)


Program = Callable[[DaprSessionManager, list[str], Callable[[], object]], Any]
"""Makes an agent or orchestrator, runs it, and says what came of it. Notes what its tools do in the list, and calls the
function inside of its last tool, with everything before that acknowledged."""


@dataclass
class Stored:
    """A session that was cut off in the middle of a run.

    Attributes:
        name: Its name.
        session_id: Its id.
        root_id: The agent or orchestrator in it.
        program: What goes on with it.
        values: What is in the store: this session, and another one that is just like it.
        versions: What each key ever held.
        layout: Where the journal is.
        end: Its last slot.
        outcome: What comes of it when it goes on.
        ran: What its tools do then.
    """

    name: str
    session_id: str
    root_id: str
    program: Program
    values: dict[str, bytes]
    versions: Mapping[str, list[bytes]]
    layout: Layout = field(init=False)
    end: int = field(init=False)
    outcome: Any = field(init=False)
    ran: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Find out what a reader must make of it."""
        begin = Layout(self.session_id, self.root_id, "").base
        head = next(key for key in self.values if key.startswith(begin))
        self.layout = Layout(self.session_id, self.root_id, head.removeprefix(begin).partition(":")[0])
        self._truth: dict[int, Hashable] = {}
        self._tell_truth()
        self.ran = []
        self.outcome = self.go_on(self.store(), self.ran)

    @property
    def keys(self) -> list[str]:
        """The keys of the journal, and the one of the registry."""
        return [*sorted(key for key in self.values if key.startswith(f"{self.layout.base}:")), self.registry]

    @property
    def rows(self) -> list[list[str]]:
        """The same, those together that hold the same sort of thing: commits, their parts, what was packed, ….

        There are many commits and one head.
        """
        rows: dict[str, list[str]] = {}
        for key in self.keys:
            last = key.rpartition(":")[2]
            sort = re.sub(r"\d+", "0", last) if last[0].isdigit() else last.partition(".")[1] or last
            rows.setdefault("registry" if key == self.registry else sort, []).append(key)
        return list(rows.values())

    @property
    def registry(self) -> str:
        """The key of the registry that knows it."""
        return shard_key(self.session_id)

    def store(self) -> MemoryStore:
        """Make a store that holds it."""
        store = MemoryStore()
        store._entries.update({key: Entry(value, "1") for key, value in self.values.items()})
        return store

    def load(self, store: StateStore) -> View:
        """Read the journal alone."""
        return self.journal(store).load_sync()

    def journal(self, store: StateStore) -> Journal:
        """Open the journal alone."""
        return Journal(store, self.session_id, self.root_id, settings=JournalSettings(on_busy="steal"))

    def go_on(self, store: StateStore, ran: list[str]) -> Any:
        """Start the program again, and let it finish."""
        manager = DaprSessionManager(self.session_id, store=store, on_busy="steal")
        return self.program(manager, ran, lambda: None)

    def is_true(self, view: View) -> bool:
        """Tell whether a view is what the log was at its last slot."""
        return self._truth.get(view.sequence) == summary(view)

    def _tell_truth(self) -> None:
        """Fold the whole log, also what is packed and deleted, slot after slot."""
        entries = {key: Entry(values[0], "") for key, values in self.versions.items()}
        view, number = View(), 0
        while self.layout.slot(number + 1) in (self.values if number >= self._packed() else entries):
            number += 1
            key = self.layout.slot(number)
            for record in read_records(self.layout, number, entries[key], entries):
                view.apply(record, key=key)
            view.sequence = number
            self._truth[number] = summary(view)
        self.end = number

    def _packed(self) -> int:
        return max((int(key.rpartition(":")[2]) for key in self._slots()), default=1) - 1

    def _slots(self) -> list[str]:
        return [key for key in self.values if key.startswith(self.layout.base) and key.rpartition(":")[2].isdigit()]


def summary(view: View) -> Hashable:
    """Sum up all that a view says of the live state."""
    return (
        view.owner,
        view.next_ordinal,
        tuple(view.finished.items()),
        tuple(
            (
                path,
                tuple(scope.messages),
                tuple(sorted(scope.documents.items())),
                tuple(sorted(scope.results.items())),
                tuple(sorted(scope.started.items())),
                tuple(sorted(scope.notes.items())),
                scope.invocation,
            )
            for path, scope in sorted(view.scopes.items())
        ),
    )


def stored_sessions() -> list[Stored]:
    """Make the sessions that are to be damaged: a short one, one that was packed again and again, and a graph's."""
    return [
        _cut_off("small", "default", _agent_program(())),
        _cut_off("packed", "default", _agent_program(["before"] * 16 + ["long"] + ["before"])),
        _cut_off("graph", "g", _graph_program),
    ]


def _cut_off(name: str, root_id: str, program: Program) -> Stored:
    """Run a program twice, in two sessions of one store, and keep what each had written before its last tool ran."""
    archive = Archive()
    values: dict[str, bytes] = {}
    for session_id in (name, f"{name}-2"):
        manager = DaprSessionManager(session_id, store=archive)
        found: list[dict[str, bytes]] = []
        program(manager, [], lambda: found.append({key: each.value for key, each in archive._entries.items()}))  # noqa: B023
        mine = f"{{{session_id}:", shard_key(session_id)
        values |= {key: value for key, value in found[0].items() if any(part in key for part in mine)}
    return Stored(name, name, root_id, program, values, archive.versions)


def _tools(ran: list[str], stop: Callable[[], object]) -> list[Any]:
    @tool
    def add(number: int) -> str:
        """Add a number."""
        ran.append(f"add {number}")
        return f"added {number}"

    @tool
    def look(question: str) -> dict[str, Any]:
        """Look something up."""
        stop()
        ran.append(f"look {question}")
        return {"status": "success", "content": [{"json": {"answer": [1, 2.5, None, {"deep": True}]}}]}

    return [add, look]


def _agent(script: Any, ran: list[str], stop: Callable[[], object], **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel(script),
        tools=_tools(ran, stop),
        tool_executor=SequentialToolExecutor(),
        callback_handler=None,
        state={"numbers": [1, 2, 3]},
        **options,
    )


def _agent_program(before: Any) -> Program:
    def run(manager: DaprSessionManager, ran: list[str], stop: Callable[[], object]) -> Any:
        agent = _agent(_SCRIPT, ran, stop, session_manager=manager)
        for prompt in before if not agent.messages else ():
            agent(prompt)
        result = agent("go on")
        return [(each["role"], each["content"]) for each in agent.messages], agent.state.get(), str(result)

    return run


def _graph_program(manager: DaprSessionManager, ran: list[str], stop: Callable[[], object]) -> Any:
    builder = GraphBuilder()
    nothing: Callable[[], object] = lambda: None  # noqa: E731
    for name, then in (("a", nothing), ("b", stop)):
        builder.add_node(_agent(_SCRIPT["go on"], ran, then, name=name), name)
    builder.add_edge("a", "b", lambda state: bool(state.results))
    builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager)
    result = builder.build()("go on")
    return result.status, [(name, str(each.result)) for name, each in result.results.items()]
