"""One step of a LangGraph agent with its SQLite checkpointer: a node appends a message, and the state is checkpointed.

Run by `measures.peers` in an environment of its own; prints JSON.
"""

from __future__ import annotations

import json
import operator
import sqlite3
import sys
import time
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """What the graph keeps."""

    messages: Annotated[list[Any], operator.add]
    left: int


def main() -> None:
    """Append messages one by one."""
    wanted = json.load(sys.stdin)
    messages = wanted["messages"]

    def step(state: State) -> dict[str, Any]:
        return {"messages": [messages[-state["left"]]], "left": state["left"] - 1}

    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["left"] else END)
    db = sqlite3.connect(f"{wanted['directory']}/langgraph.db", check_same_thread=False)
    compiled = graph.compile(checkpointer=SqliteSaver(db))
    config = {"configurable": {"thread_id": "bench"}, "recursion_limit": len(messages) + 2}
    began, found = time.perf_counter(), []
    for _ in compiled.stream({"messages": [], "left": len(messages)}, config, durability="sync"):
        now = time.perf_counter()
        found.append((now - began) * 1000)
        began = now
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
