"""A program that tells OpenTelemetry what it does: `python -m tests.unit.telemetry_program DATABASE [agent|graph]`.

With "agent" or "graph" it dies in a tool of that. Without, it finishes both, does a few things that go wrong, and
prints as JSON what it told: the points of each metric, and the events of all spans.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from strands import Agent, tool
from strands.multiagent import GraphBuilder
from strands.tools.executors import SequentialToolExecutor

from strands_dapr_session import DaprSessionManager, FencedError, ParkedError, RetryPolicy, io_thread
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.records.records import Noted
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.testing.model import ScriptedModel


@tool
def first() -> str:
    """Run."""
    return "1"


@tool
def second() -> str:
    """Run, unless the process is to die."""
    if len(sys.argv) > 2:
        os._exit(9)
    return "2"


@tool
def refused() -> str:
    """Fail."""
    raise ConnectionError("no")


@tool
async def overtaken() -> str:
    """Let somebody else take the session."""
    store = open_store(f"sqlite:///{sys.argv[1]}")
    await Journal(store, "fenced", "default", settings=JournalSettings(on_busy="steal")).acquire()
    return "too late"


def agent(session: str, *script: Any, **options: Any) -> Agent:
    """Make an agent on the database."""
    manager = DaprSessionManager(session, store=f"sqlite:///{sys.argv[1]}", **{"on_busy": "steal", **options})
    return Agent(
        model=ScriptedModel(script),
        tools=[first, second, refused, overtaken],
        tool_executor=SequentialToolExecutor(),
        session_manager=manager,
        callback_handler=None,
    )


def main() -> None:
    """Run."""
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    metrics.set_meter_provider(MeterProvider([reader]))
    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(spans)

    if "agent" not in sys.argv:
        node = Agent(model=ScriptedModel([[("second", {})], "done"]), tools=[second], callback_handler=None)
        builder = GraphBuilder()
        builder.add_node(node, "node")
        builder.set_session_manager(DaprSessionManager("graph", store=f"sqlite:///{sys.argv[1]}", on_busy="steal"))
        builder.build()("go")
    agent("s", [("first", {}), ("second", {})], "done")("go")

    agent("retries", [("refused", {})], "done", retry=RetryPolicy(2, first_delay=0.0))("go")
    with contextlib.suppress(FencedError):
        agent("fenced", [("overtaken", {})], "done")("go")
    for _ in range(2):
        with contextlib.suppress(ValueError, ParkedError):
            agent("parked", ValueError("no"), max_attempts=1)("go")
    asyncio.run(_pack())
    _print(reader, exporter)


async def _pack() -> None:
    settings = JournalSettings(compact_slots=2)
    journal = Journal(open_store(f"sqlite:///{sys.argv[1]}"), "long", "default", settings=settings)
    await journal.acquire()
    for value in (b"1", b"2"):
        journal.append(Noted("", "note", value))
        await journal.barrier()
    await io_thread.run(journal._packer.finished())
    await journal.release()


def _print(reader: InMemoryMetricReader, exporter: InMemorySpanExporter) -> None:
    data = reader.get_metrics_data()
    ours = [
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if scope.scope.name == "strands_dapr_session"
    ]
    told = {
        "metrics": {metric.name: [_plain(point, metric.unit) for point in metric.data.data_points] for metric in ours},
        "events": [
            [event.name, dict(event.attributes or {})]
            for span in exporter.get_finished_spans()
            for event in span.events
            if event.name.startswith("strands_dapr_session")
        ],
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _plain(point: Any, unit: str | None) -> dict[str, Any]:
    plain = {"attributes": dict(point.attributes or {}), "unit": unit}
    if isinstance(point, HistogramDataPoint):
        return {**plain, "count": point.count, "sum": point.sum, "bounds": list(point.explicit_bounds)}
    return {**plain, "count": point.value}


if __name__ == "__main__":
    main()
