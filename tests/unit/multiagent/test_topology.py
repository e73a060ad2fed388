"""What counts as another version of a graph or swarm."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from strands import Agent
from strands.multiagent import GraphBuilder, Swarm

from strands_dapr_session.errors import DriftError
from strands_dapr_session.multiagent.tally import NodeTally, Tallies
from strands_dapr_session.multiagent.topology import check_topology, describe
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.testing.model import ScriptedModel


def agent(name: str, prompt: str = "be brief") -> Agent:
    return Agent(name=name, agent_id=name, model=ScriptedModel(["x"]), system_prompt=prompt, callback_handler=None)


def always(_: Any) -> bool:
    return True


def never(_: Any) -> bool:
    return False


class Condition:
    """An object that judges."""

    def __call__(self, _: Any) -> bool:
        return True


Edit = Callable[[GraphBuilder], object]


def graph(nodes: str = "abc", edges: str = "ab bc", entry: str = "a", edit: Edit | None = None, **prompts: str) -> Any:
    builder = GraphBuilder()
    for name in nodes:
        builder.add_node(agent(name, **({"prompt": prompts[name]} if name in prompts else {})), name)
    for edge in edges.split():
        builder.add_edge(edge[0], edge[1])
    builder.set_entry_point(entry)
    builder.set_max_node_executions(20)
    if edit is not None:
        edit(builder)
    return builder.build()


def said(before: Any, after: Any) -> str:
    try:
        check_topology(after, describe(before), [], "refuse")
    except DriftError as error:
        return str(error).partition("another version of it: ")[2].partition(". Resume")[0]
    return ""


def conditional(condition: Any) -> Any:
    return graph(edges="ab", edit=lambda builder: builder.add_edge("b", "c", condition=condition))


def test_the_same_graph_is_the_same_in_any_order() -> None:
    assert said(graph("abc", "ab bc"), graph("bca", "bc ab")) == ""
    assert list(unpack_value(describe(graph("cba", "ab bc")))["nodes"]) == ["a", "b", "c"]
    assert said(conditional(always), conditional(always)) == ""
    assert said(conditional(Condition()), conditional(Condition())) == ""


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (graph("abcd", "ab bc"), "nodes added: d"),
        (graph("ab", "ab"), "nodes removed: c; edges removed: b -> c"),
        (graph(b="be lavish"), "nodes changed: b"),
        (graph(edges="ab bc ac"), "edges added: a -> c"),
        (graph(entry="b"), "entry points changed from ['a'] to ['b']"),
        (graph(edit=lambda b: b.reset_on_revisit()), "reset_on_revisit changed from False to True"),
    ],
    ids=lambda value: value if isinstance(value, str) else "graph",
)
def test_what_drifts(after: Any, what: str) -> None:
    assert said(graph(), after) == what


def test_conditions_are_known_by_their_names() -> None:
    module = __name__
    assert said(graph(), conditional(always)) == f"edges removed: b -> c; edges added: b -> c if {module}.always"
    assert said(conditional(always), conditional(never)) == (
        f"edges removed: b -> c if {module}.always; edges added: b -> c if {module}.never"
    )
    assert said(conditional(always), conditional(Condition())).endswith(f"edges added: b -> c if {module}.Condition")


def nested(prompt: str) -> Any:
    inner = graph("xy", "xy", "x", y=prompt)
    return graph("a", "", "a", edit=lambda builder: builder.add_node(inner, "inner"))


def test_what_is_inside_a_node_counts() -> None:
    assert said(nested("be brief"), nested("be brief")) == ""
    assert said(nested("be brief"), nested("be lavish")) == "nodes changed: inner"


def test_swarms_begin_somewhere() -> None:
    one, two = Swarm([agent("a"), agent("b")]), Swarm([agent("a"), agent("b")], entry_point=None)
    assert unpack_value(describe(one))["entry points"] == ["a"]
    assert said(one, two) == ""
    members = [agent("a"), agent("b")]
    assert said(one, Swarm(members, entry_point=members[1])) == "entry points changed from ['a'] to ['b']"
    assert said(one, graph("ab", "ab")).startswith("Swarm became Graph; ")
    assert "edges added: a -> b; reset_on_revisit changed from None to False" in said(one, graph("ab", "ab"))


def test_a_node_that_is_owed_must_be_there(caplog: pytest.LogCaptureFixture) -> None:
    for mode in ("ignore", "warn", "refuse"):
        with pytest.raises(DriftError, match=r"goes on at 'z', which no longer exists"):
            check_topology(graph(), describe(graph()), ["a", "z"], mode)
    with caplog.at_level(logging.WARNING, "strands_dapr_session"):
        check_topology(graph(), describe(graph()), ["a"], "warn")
        check_topology(graph(entry="b"), describe(graph()), ["a"], "ignore")
        assert caplog.text == ""
        check_topology(graph(entry="b"), describe(graph()), ["a"], "warn")
    assert "entry points changed" in caplog.text


def test_visits_are_counted_by_what_became_of_them() -> None:
    tallies = Tallies()
    assert not tallies.has_seen("a")
    assert tallies.of("a", {}) == NodeTally()
    for what, times in (("run", 1), ("run", 1), ("resumed", 3), ("replayed", 2), ("failed", 4), ("failed", 1)):
        tallies.count("a", what, times)
    tallies.count("b", "run")
    assert tallies.has_seen("a")
    assert tallies.of("a", {"x": NodeTally(run=1)}) == NodeTally(2, 3, 2, 5, {"x": NodeTally(run=1)})
    assert tallies.of("b", {}).run == 1
