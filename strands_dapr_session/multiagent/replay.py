"""Stands in for the executor of a node whose result is recorded, while its orchestrator repeats the batch."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from strands.agent import AgentResult
from strands.agent.state import AgentState
from strands.multiagent.base import MultiAgentBase, MultiAgentResult
from strands.telemetry.metrics import EventLoopMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from strands.multiagent.base import NodeResult


class ReplayedNode(MultiAgentBase):
    """Yields a recorded result and runs nothing. `GraphNode.executor` and `SwarmNode.executor` are public fields."""

    def __init__(self, real: Any, recorded: NodeResult, then: Callable[[], None]) -> None:
        """Stand in for `real`.

        Args:
            real: The executor, for what others read of it meanwhile.
            recorded: The result to yield.
            then: Called when it is handed out: does what the node did besides.
        """
        super().__init__()
        self.id = getattr(real, "id", "replayed")
        self.name = getattr(real, "name", self.id)
        self.description = getattr(real, "description", None)
        # Strands sets these on whatever executes a node of a swarm.
        self.messages: Any = []
        self.state = AgentState()
        self._recorded = recorded
        self._then = then

    async def invoke_async(self, task: Any, invocation_state: dict[str, Any] | None = None, **_: Any) -> Any:  # noqa: ARG002
        """Get what a node's result is made from."""
        return self._outcome()

    async def stream_async(
        self,
        task: Any,  # noqa: ARG002
        invocation_state: dict[str, Any] | None = None,  # noqa: ARG002
        **_: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the recorded result as the last event of a stream."""
        await asyncio.sleep(0)  # nodes that begin together with this one read first what they are to be told
        self._then()
        yield {"result": self._outcome()}

    def _outcome(self) -> Any:
        """Present the result as that of an agent and of an orchestrator at once: graphs and swarms read either."""
        recorded = self._recorded
        outcome: Any = copy.copy(recorded.result)
        if not isinstance(outcome, (AgentResult, MultiAgentResult)):
            outcome = MultiAgentResult()
        outcome.status = recorded.status
        outcome.execution_time = recorded.execution_time
        outcome.execution_count = recorded.execution_count
        outcome.accumulated_usage = recorded.accumulated_usage
        outcome.accumulated_metrics = recorded.accumulated_metrics
        outcome.interrupts = recorded.interrupts
        if not isinstance(outcome, AgentResult):
            outcome.stop_reason = "end_turn"
        outcome.metrics = EventLoopMetrics(
            accumulated_usage=recorded.accumulated_usage, accumulated_metrics=recorded.accumulated_metrics
        )
        return outcome
