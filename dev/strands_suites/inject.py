# ruff: noqa: SLF001 - to take a session manager out again is not what Strands has public names for
"""A pytest plugin that runs the tests of Strands with our session manager in every agent, graph and swarm.

Whatever a test makes without a session manager gets a `DaprSessionManager` with a session of its own. Where Strands
refuses one it is taken out again: from the nodes of graphs and swarms, and from agents that become tools and begin anew
for each call.

``STRANDS_SUITES_STORE``
    Where sessions are kept: any URL that `DaprSessionManager` takes. ``memory://`` unless set.
``STRANDS_SUITES_ROOTS``
    What gets a session manager: ``agents``, ``orchestrators``, or both, which is the default. ``none``: the tests as
    they are, to compare with.
``STRANDS_SUITES_TOOLS``
    ``own``, the default: agents that become tools and keep their context have a session of their own. ``none``: they
    have not, and are recorded with the agent that uses them.
``STRANDS_SUITES_REPLACE``
    ``1``: the session managers of Strands that tests give to agents, graphs and swarms are replaced as well, by some
    on ``memory://``.
"""

from __future__ import annotations

import functools
import inspect
import os
import uuid
from typing import TYPE_CHECKING, Any, Final

import pytest
from strands import Agent
from strands.agent._agent_as_tool import _AgentAsTool
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.base import MultiAgentBase
from strands.multiagent.graph import Graph
from strands.session.repository_session_manager import RepositorySessionManager

from dev.strands_suites.expected import EXPECTED, UNRELATED, WITH_SESSIONS_IN_TOOLS
from strands_dapr_session import DaprSessionManager
from strands_dapr_session.stores.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STORE: Final = os.environ.get("STRANDS_SUITES_STORE", "memory://suites")
ROOTS: Final = frozenset(os.environ.get("STRANDS_SUITES_ROOTS", "agents,orchestrators").split(",")) - {"none"}
TOOLS: Final = os.environ.get("STRANDS_SUITES_TOOLS", "own")
REPLACE: Final = os.environ.get("STRANDS_SUITES_REPLACE") == "1"

_OURS: Final = DaprSessionManager.__module__.partition(".")[0]
_WITHOUT_AGENTS: Final = ("strands/models", "strands/bidi", "strands/experimental/bidi")
"""Model providers and bidirectional agents, which no session manager of ours goes into; but for model routing."""

injected = {"agents": 0, "orchestrators": 0}


class Injected(DaprSessionManager):
    """A session manager that a test did not ask for."""


# -- putting it in -----------------------------------------------------------------------------------------------------


def _new(root: str) -> Injected:
    injected[root] += 1
    return Injected(uuid.uuid4().hex, store=open_store(STORE), busy_timeout=5.0)


def _instead_of(given: RepositorySessionManager, root: str) -> Injected:
    """Make one for the same session. Tests like the same names, so each has a store of its own."""
    injected[root] += 1
    test = uuid.uuid5(uuid.NAMESPACE_OID, os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0])
    return Injected(given.session_id, store=open_store(f"memory://{test.hex}"), busy_timeout=5.0)


def _injecting(init: Callable[..., None], root: str) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            init(self, *args, **kwargs)  # the test is about that
            return
        given = bound.arguments.get("session_manager")
        if given is None:
            bound.arguments["session_manager"] = _new(root)
        elif REPLACE and isinstance(given, RepositorySessionManager):
            bound.arguments["session_manager"] = _instead_of(given, root)
        if root == "orchestrators":
            nodes = bound.arguments["nodes"]
            release(nodes.values() if isinstance(nodes, dict) else nodes)
        init(*bound.args, **bound.kwargs)

    return wrapper


# -- taking it out again -----------------------------------------------------------------------------------------------


def release(parts: Iterable[Any]) -> None:
    """Take the session manager out of what is about to become a part of something else."""
    for part in parts:
        executor = getattr(part, "executor", part)
        if isinstance(getattr(executor, "_session_manager", None), Injected):
            executor._session_manager._recordings.unbind(executor)
            executor._session_manager = None
            _forget_callbacks(executor)
        elif isinstance(executor, MultiAgentBase) and isinstance(getattr(executor, "session_manager", None), Injected):
            nodes: Any = executor
            nodes.session_manager = None
            for each in (executor, *(node.executor for node in nodes.nodes.values())):
                _forget_callbacks(each)


def _forget_callbacks(thing: Any) -> None:
    for entries in thing.hooks._registered_callbacks.values():
        entries[:] = [entry for entry in entries if not _is_ours(getattr(entry, "callback", entry))]


def _is_ours(callback: Any) -> bool:
    owner = getattr(callback, "__self__", None)
    module = str(getattr(callback, "__module__", "") if owner is None else type(owner).__module__)
    return module.partition(".")[0] == _OURS


def _releasing_node(add_node: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(add_node)
    def wrapper(self: Any, executor: Any, *args: Any, **kwargs: Any) -> Any:
        release([executor])
        return add_node(self, executor, *args, **kwargs)

    return wrapper


def _releasing_tool(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapper(self: Any, agent: Any, *args: Any, **kwargs: Any) -> None:
        if TOOLS == "none" or not kwargs.get("preserve_context"):
            release([agent])
        init(self, agent, *args, **kwargs)

    return wrapper


# -- pytest ------------------------------------------------------------------------------------------------------------


def pytest_configure() -> None:
    """Patch the classes themselves: tests import them by many names."""
    patches: list[tuple[Any, str, Any]] = []
    if "agents" in ROOTS:
        patches.append((Agent, "__init__", _injecting(Agent.__init__, "agents")))
        patches.append((_AgentAsTool, "__init__", _releasing_tool(_AgentAsTool.__init__)))
        patches.append((GraphBuilder, "add_node", _releasing_node(GraphBuilder.add_node)))
    if "orchestrators" in ROOTS:
        patches.extend((each, "__init__", _injecting(each.__init__, "orchestrators")) for each in (Graph, Swarm))
    for owner, name, value in patches:
        setattr(owner, name, value)


def pytest_ignore_collect(collection_path: Any) -> bool | None:
    """Leave out what makes no agents, and needs the software of every model provider."""
    path = collection_path.as_posix()
    is_left_out = any(f"{part}/" in f"{path}/" for part in _WITHOUT_AGENTS) and not path.endswith("/models")
    return True if is_left_out and "/routing" not in path else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the failures that are expected."""
    expected = dict(UNRELATED)
    if ROOTS:
        expected |= EXPECTED
    if "agents" in ROOTS and TOOLS == "own":
        expected |= WITH_SESSIONS_IN_TOOLS
    for item in items:
        file = item.nodeid.partition("tests/strands/")[2].partition("::")[0]
        reason = expected.get(file, {}).get(item.name)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a worker of pytest-xdist over."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["injected"] = injected


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the counts of a worker up."""
    for root, count in getattr(node, "workeroutput", {}).get("injected", {}).items():
        injected[root] += count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how often it was really done."""
    terminalreporter.write_line(
        f"session managers injected: {injected['agents']} into agents, {injected['orchestrators']} into graphs and "
        f"swarms, on {STORE}"
    )
