"""What an agent counts: tokens, cycles and tools, and the tracer that it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from strands.telemetry.metrics import EventLoopCycleMetric, ToolMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from strands import Agent


class WatchedTracer:
    """A tracer of Strands that somebody listens to. It stands in for the tracer, also where callers compare them."""

    def __init__(self, tracer: Any) -> None:
        """Stand in for `tracer`."""
        self._tracer = tracer

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Be of the tracer's class."""
        return type(self._tracer)

    def __eq__(self, other: object) -> bool:
        """Be the tracer."""
        return other is self or bool(self._tracer == other)

    def __hash__(self) -> int:
        """Hash as the tracer does."""
        return hash(self._tracer)

    def __getattr__(self, name: str) -> Any:
        """Be the tracer in everything else."""
        return getattr(self._tracer, name)


def call_of(agent: Agent) -> object:
    """Get an object that stands for one call of the agent.

    Strands begins a new entry of the metrics for each call, and none where a hook lets a call go on.
    """
    return agent.event_loop_metrics.latest_agent_invocation


def totals(agent: Agent) -> dict[str, Any]:
    """Read what an agent's metrics add up over all its invocations. Graph and Swarm report it for each visit."""
    metrics = agent.event_loop_metrics
    return {"usage": dict(metrics.accumulated_usage), "metrics": dict(metrics.accumulated_metrics)}


def set_totals(agent: Agent, recorded: Mapping[str, Any]) -> None:
    """Set what an agent's metrics add up over all its invocations."""
    metrics: Any = agent.event_loop_metrics
    for target, name in ((metrics.accumulated_usage, "usage"), (metrics.accumulated_metrics, "metrics")):
        for key in target:
            target[key] = 0
        target.update(recorded.get(name, {}))


def add_totals(agent: Agent, usage: Mapping[str, int], latency: int) -> None:
    """Add token counts and milliseconds to what an agent's metrics add up. `EventLoopMetrics` is public."""
    metrics: Any = agent.event_loop_metrics
    metrics.accumulated_metrics["latencyMs"] += latency
    _add(metrics.accumulated_usage, usage)


def usage_of_call(agent: Agent) -> dict[str, int]:
    """Read what an agent's metrics have counted in its current call; empty where they do not tell it apart."""
    latest = agent.event_loop_metrics.latest_agent_invocation
    return {} if latest is None else dict(cast("dict[str, int]", latest.usage))


def add_to_call(agent: Agent, usage: Mapping[str, int], cycles: int = 0) -> None:
    """Let an earlier part of the same call count, also for ``limits={"turns": ...}``.

    Only `latest_agent_invocation` appeared later than the rest of `EventLoopMetrics`.

    Args:
        agent: The agent.
        usage: The tokens.
        cycles: How many model calls.
    """
    latest = agent.event_loop_metrics.latest_agent_invocation
    if latest is not None:
        _add(latest.usage, usage)
        nothing: Any = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
        latest.cycles.extend(EventLoopCycleMetric(f"earlier-{n}", dict(nothing)) for n in range(cycles))  # type: ignore[arg-type]


def add_steps(agent: Agent, cycles: int, calls: Iterable[tuple[Mapping[str, Any], bool]]) -> None:
    """Add what an earlier process did to an agent's metrics. How long it took nobody knows.

    Args:
        agent: The agent.
        cycles: How many times the model was asked.
        calls: Calls of tools that have ended, and whether they succeeded.
    """
    metrics: Any = agent.event_loop_metrics
    metrics.cycle_count += cycles
    for tool, succeeded in calls:
        of_tool = metrics.tool_metrics.setdefault(tool["name"], ToolMetrics(dict(tool)))  # type: ignore[arg-type]
        of_tool.tool = dict(tool)
        of_tool.call_count += 1
        of_tool.success_count += succeeded
        of_tool.error_count += not succeeded


def is_start_of_cycle(event: Mapping[str, Any]) -> bool:
    """Tell whether an event of the stream announces a cycle of the event loop."""
    return "start" in event or "start_event_loop" in event


def leave_cycle(agent: Agent, invocation_state: Mapping[str, Any]) -> None:
    """Take a cycle of the event loop that was left before its model call out of the metrics, where it begins again.

    Cycles that were left with it have ended, but for their "Recursive call", which Strands ends on the way back.

    Args:
        agent: The agent.
        invocation_state: That of the call: Strands keeps the current cycle in it (1.43 to 1.62).
    """
    metrics = agent.event_loop_metrics
    left = invocation_state["event_loop_cycle_trace"]
    metrics.cycle_count -= 1
    metrics.traces[:] = [trace for trace in metrics.traces if trace is not left]
    latest = metrics.latest_agent_invocation
    if latest is not None and latest.cycles:
        latest.cycles.pop()
    for trace in reversed(metrics.traces):
        if not trace.children or trace.children[-1].end_time is not None:
            break
        trace.children[-1].end()


def _add(target: Any, usage: Mapping[str, int]) -> None:
    for name, count in usage.items():
        target[name] = target.get(name, 0) + count
