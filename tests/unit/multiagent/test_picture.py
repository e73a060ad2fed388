"""A picture tells what became of each node."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from strands import Agent
from strands.multiagent import GraphBuilder, Swarm

from strands_dapr_session import ConfigurationError, DaprSessionManager
from strands_dapr_session.multiagent.tally import NodeTally
from strands_dapr_session.picture import COLOURS, draw
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.model import ScriptedModel


class Flaky:
    """A turn that raises once."""

    is_down = True

    def __call__(self, _: Any) -> str:
        if self.is_down:
            self.is_down = False
            raise RuntimeError("down")
        return "done"


def agent(name: str, *turns: Any) -> Agent:
    return Agent(name=name, model=ScriptedModel(list(turns) or ["done"]), callback_handler=None)


def graph(manager: DaprSessionManager, flaky: Any = "done") -> Any:
    hands = [("handoff_to_agent", {"agent_name": "q", "message": "go"})]
    builder = GraphBuilder()
    builder.add_node(agent("a"), "a < b & c")
    builder.add_node(Swarm([agent("p", hands, "done"), agent("q")], id="inner"), "team")
    builder.add_node(agent("last", flaky), "last")
    builder.add_node(agent("never"), "never")
    builder.add_edge("a < b & c", "team")
    builder.add_edge("team", "last")
    builder.add_edge("last", "a < b & c", lambda state: len(state.execution_order) < 5)
    builder.add_edge("last", "never", lambda _: False)
    builder.set_entry_point("a < b & c").set_max_node_executions(9)
    return builder.set_session_manager(manager).build()


def texts(picture: str) -> list[str]:
    return [str(element.text) for element in ET.fromstring(picture).iter() if element.tag.endswith("text")]  # noqa: S314


def test_what_became_of_each_node_is_told_and_drawn() -> None:
    store = MemoryStore()
    manager = DaprSessionManager("s", store=store)
    first = graph(manager, Flaky())
    with pytest.raises(Exception, match="down"):
        first("T")

    failed = manager.tally(first)

    ran = {"p": NodeTally(run=1), "q": NodeTally(run=1)}
    assert failed == {
        "a < b & c": NodeTally(run=1),
        "team": NodeTally(run=1, nodes=ran),
        "last": NodeTally(run=1, failed=1),
        "never": NodeTally(),
    }
    manager = DaprSessionManager("s", store=store)
    second = graph(manager)
    second("T")

    resumed = manager.tally(second)

    assert resumed["a < b & c"] == NodeTally(run=1, replayed=1)
    assert resumed["last"] == NodeTally(run=1, resumed=1)
    assert resumed["team"].run == resumed["team"].replayed == 1
    shown = texts(draw(second, resumed))
    for text in ("a < b & c", "team", "p", "q", "run: 1 · replayed: 1", "run: 1 · resumed: 1", "not reached"):
        assert text in shown
    assert COLOURS["failed"][0] in draw(first, failed)


def test_only_its_own_are_told_of() -> None:
    store = MemoryStore()
    other = graph(DaprSessionManager("s", store=store))

    with pytest.raises(ConfigurationError, match="was not given this session manager"):
        DaprSessionManager("s", store=store).tally(other)
