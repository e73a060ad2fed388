"""Agents that code of users calls, in custom nodes and in tools."""

from __future__ import annotations

from typing import Any

import pytest
from strands import Agent, tool
from strands.multiagent import GraphBuilder
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, NodeResult, Status

from strands_dapr_session import ConfigurationError, DaprSessionManager
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.stores.memory import MemoryStore
from strands_dapr_session.testing.faults import Delay, FaultyStore
from strands_dapr_session.testing.model import ScriptedModel


class Asking(MultiAgentBase):
    """Calls an agent once for each prompt, and raises the first time."""

    id = "asking"

    def __init__(self, agent: Agent, prompts: list[str], *, is_down: bool) -> None:
        self._agent = agent
        self._prompts = prompts
        self._is_down = is_down
        self.heard: list[str] = []

    async def invoke_async(self, task: Any, invocation_state: Any = None, **_: Any) -> MultiAgentResult:  # noqa: ARG002
        self.heard = [str(await self._agent.invoke_async(prompt)).strip() for prompt in self._prompts]
        if self._is_down:
            self._is_down = False
            raise RuntimeError("down")
        return MultiAgentResult(Status.COMPLETED, {"n": NodeResult(result=MultiAgentResult(), status=Status.COMPLETED)})


class World:
    """What survives a process."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ran: list[str] = []

    def agent(self) -> Agent:
        @tool
        async def step(name: str) -> str:
            """Step."""
            self.ran.append(name)
            return name

        script = {name: [[("step", {"name": name})], f"done {name}"] for name in "abcx"}
        return Agent(model=ScriptedModel(script, name="helper"), tools=[step], callback_handler=None)

    def graph(self, prompts: list[str], *, is_down: bool = False) -> tuple[Any, Asking, Agent]:
        manager = DaprSessionManager("s", store=self.store)
        agent = self.agent()
        manager.attach(agent, "helper")
        node = Asking(agent, prompts, is_down=is_down)
        builder = GraphBuilder()
        builder.add_node(node, "n")
        return builder.set_max_node_executions(9).set_session_manager(manager).build(), node, agent


@pytest.mark.parametrize("same_process", [True, False])
def test_calls_that_had_finished_are_not_made_again(*, same_process: bool) -> None:
    world = World()
    graph, node, agent = world.graph(["a", "b"], is_down=True)
    with pytest.raises(RuntimeError, match="down"):
        graph("T")
    if not same_process:
        graph, node, agent = world.graph(["a", "b"])

    assert graph("T").status == Status.COMPLETED
    assert world.ran == ["a", "b"]
    assert node.heard == ["done a", "done b"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 4


def test_from_another_prompt_on_they_are_made_anew() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="down"):
        world.graph(["a", "b", "c"], is_down=True)[0]("T")
    graph, node, _ = world.graph(["a", "x", "c"])

    graph("T")

    assert node.heard == ["done a", "done x", "done c"]
    assert world.ran == ["a", "b", "c", "x", "c"]


def test_every_visit_begins_with_the_first_messages() -> None:
    world = World()
    graph, _, agent = world.graph(["a"])

    graph("T")
    graph("U")

    assert world.ran == ["a", "a"]
    assert len(agent.messages) == 4


@pytest.mark.parametrize("same_process", [True, False])
def test_what_was_called_in_a_run_that_was_given_up_is_called_anew(*, same_process: bool) -> None:
    world = World()
    graph, _, agent = world.graph(["a"], is_down=True)
    with pytest.raises(RuntimeError, match="down"):
        graph("T")
    if not same_process:
        graph, _, agent = world.graph(["a"])
    graph.session_manager.abandon(graph)

    graph("U")

    assert world.ran == ["a", "a"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 2


def test_what_was_called_in_a_run_that_was_given_up_is_not_restored_either() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="down"):
        world.graph(["a", "b"], is_down=True)[0]("T")
    graph, *_ = world.graph(["a", "b"], is_down=True)
    graph.session_manager.abandon(graph)
    with pytest.raises(RuntimeError, match="down"):
        graph("U")
    graph, node, agent = world.graph(["a", "b"])

    graph("U")

    assert world.ran == ["a", "b"] * 2
    assert node.heard == ["done a", "done b"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 4


def test_places_of_calls_end_with_what_made_them() -> None:
    world = World()
    graph, *_ = world.graph(["a", "b"])

    graph("T")

    journal = Journal(world.store, "s", graph.id).load_sync()
    assert {path for path in journal.scopes if path} == set()


def test_a_call_returns_when_its_end_is_recorded() -> None:
    world = World()
    inner, found = world.store, list[bool]()
    world.store = FaultyStore(inner, lambda call: Delay(0.02) if call.writes else None)  # type: ignore[assignment]

    class Looking(Asking):
        async def invoke_async(self, task: Any, invocation_state: Any = None, **options: Any) -> MultiAgentResult:
            result = await super().invoke_async(task, invocation_state, **options)
            view = await Journal(inner, "s", "g").load()
            found.extend(
                bool(each.invocation and each.invocation.finished) for path, each in view.scopes.items() if path
            )
            return result

    manager = DaprSessionManager("s", store=world.store)
    agent = world.agent()
    manager.attach(agent, "helper")
    builder = GraphBuilder()
    builder.add_node(Looking(agent, ["a", "b"], is_down=False), "n")
    builder.set_graph_id("g").set_max_node_executions(9).set_session_manager(manager).build()("T")

    assert found == [True, True]


def test_called_elsewhere_it_is_not_recorded() -> None:
    world = World()
    manager = DaprSessionManager("s", store=world.store)
    agent = world.agent()
    manager.attach(agent, "helper")

    agent("a")
    agent("a")

    assert world.ran == ["a", "a"]
    assert len(agent.messages) == 8


def test_what_cannot_be_attached_is_refused() -> None:
    world = World()
    manager = DaprSessionManager("s", store=world.store)
    own = Agent(model=ScriptedModel(["x"]), session_manager=DaprSessionManager("t", store=world.store))
    agent = world.agent()
    manager.attach(agent, "helper")
    manager.attach(agent, "helper")

    with pytest.raises(ConfigurationError, match="attached as 'helper'"):
        manager.attach(agent, "other")
    with pytest.raises(ConfigurationError, match="scope ''"):
        manager.attach(world.agent(), "")
    with pytest.raises(ConfigurationError, match="recorded there already"):
        manager.attach(own, "own")
    with pytest.raises(ConfigurationError, match=r"only a strands\.Agent"):
        manager.attach("agent", "text")  # type: ignore[arg-type]
