"""One step of a LangGraph agent with a checkpointer: a node appends a message, and the state is checkpointed.

Run by `peer_steps` in an environment of its own; prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import operator
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph

if TYPE_CHECKING:
    from collections.abc import Iterator


def extend(messages: list[Any], added: list[list[Any]]) -> list[Any]:
    """Put what several steps added to the end."""
    return [*messages, *(message for some in added for message in some)]


class Whole(TypedDict):
    """What the graph keeps, in the channel that one gets for a reducer."""

    messages: Annotated[list[Any], operator.add]
    left: int


class Delta(TypedDict):
    """The same, in the channel that keeps what is added."""

    messages: Annotated[list[Any], DeltaChannel(extend)]
    left: int


@contextlib.contextmanager
def checkpointer(wanted: dict[str, Any]) -> Iterator[Any]:
    """Open the wanted checkpointer."""
    if wanted["saver"] == "redis":
        from langgraph.checkpoint.redis import RedisSaver  # noqa: PLC0415 - in another environment than the other

        with RedisSaver.from_conn_string(wanted["redis"]) as saver:
            saver.setup()
            yield saver
    else:
        from langgraph.checkpoint.sqlite import SqliteSaver  # noqa: PLC0415

        with contextlib.closing(
            sqlite3.connect(f"{wanted['directory']}/langgraph.db", check_same_thread=False)
        ) as connection:
            yield SqliteSaver(connection)


def main() -> None:
    """Append messages one by one."""
    wanted = json.load(sys.stdin)
    messages = wanted["messages"]

    def step(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [messages[-state["left"]]], "left": state["left"] - 1}

    graph = StateGraph({"whole": Whole, "delta": Delta}[wanted["channel"]])
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["left"] else END)
    config = {"configurable": {"thread_id": "bench"}, "recursion_limit": len(messages) + 2}
    with checkpointer(wanted) as saver:
        compiled = graph.compile(checkpointer=saver)
        began, found = time.perf_counter(), []
        for _ in compiled.stream({"messages": [], "left": len(messages)}, config, durability="sync"):
            now = time.perf_counter()
            found.append((now - began) * 1000)
            began = now
        kept = len(compiled.get_state(config).values["messages"])
    if kept != len(messages):
        raise SystemExit(f"it kept {kept} of {len(messages)} messages")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
