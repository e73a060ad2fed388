"""Every private or semi-private thing of Strands that this package touches, each with its reason and version.

Supported are strands-agents 1.43 (the first with `HookOrder`, without which the final result of a tool cannot be told
from one that another hook is about to rewrite) up to, not including, 2.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import quote

from strands import ModelRetryStrategy, hooks
from strands import interrupt as _interrupt
from strands.telemetry.metrics import EventLoopCycleMetric, ToolMetrics
from strands.tools.structured_output.structured_output_tool import StructuredOutputTool
from strands.types._snapshot import SNAPSHOT_SCHEMA_VERSION, Snapshot
from strands.types.exceptions import SessionException

from strands_dapr_session.errors import DurableSessionError

try:  # since 1.62
    from strands.middleware import ExecuteToolStage, InvokeModelStage
except ImportError:
    ExecuteToolStage = InvokeModelStage = None  # type: ignore[assignment]

try:  # the same; kept out of `strands.middleware` until its contract is final
    from strands.middleware._agent_stream import AgentStreamStage
except ImportError:
    AgentStreamStage = None  # type: ignore[assignment]

try:
    from strands._async import is_run_async_bridge
except ImportError:  # before 1.6x, which has no deadlines either

    def is_run_async_bridge() -> bool:
        """Tell whether this runs in the temporary loop of a synchronous call."""
        return False


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeGuard

    from strands import Agent
    from strands.hooks import AfterInvocationEvent, AfterToolCallEvent
    from strands.types.content import Message
    from strands.types.tools import ToolResult

T = TypeVar("T")

FIRST: Final = -math.inf
"""Order of a callback that comes before those of everybody else, `HookOrder.SDK_FIRST` included."""

LAST: Final = math.inf
"""Order of a callback that comes after those of everybody else, `HookOrder.SDK_LAST` included."""

INTERRUPTED_TEXT: Final = "Tool was interrupted."
"""What Strands answers for a tool call that never got a result (`tools/_tool_helpers.py`, 1.43 to 1.62)."""

AGENT_STREAM_STAGE: Final[Any] = AgentStreamStage
"""The stage around the event loop of a call, for `Agent.add_middleware`; None where Strands has none."""

EXECUTE_TOOL_STAGE: Final[Any] = ExecuteToolStage
"""The stage around a tool, for `Agent.add_middleware`; None where Strands has none."""

INVOKE_MODEL_STAGE: Final[Any] = InvokeModelStage
"""The stage around a model call, for `Agent.add_middleware`; None where Strands has none."""

_HAS_PENDING_EXECUTION: Final = hasattr(_interrupt, "PendingToolExecution")
"""Since 1.52 the interrupt state has a field for a half-finished batch; before, two entries of its context."""


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


class DuplicateAgentError(DurableSessionError, SessionException):
    """Two agents of one session manager have the same agent id. Is a Strands `SessionException`."""


def is_a(thing: object, *kinds: type[T]) -> TypeGuard[T]:
    """Tell whether something really is of one of some types. A mock may claim any class and has nothing of it."""
    return issubclass(type(thing), kinds)


def snapshot(agent: Agent, *fields: str) -> dict[str, Any]:
    """Read parts of an agent through its public snapshot.

    The result shares the nested values of the interrupt state with the agent (Strands copies the rest): encode it
    before anything else runs.
    """
    return agent.take_snapshot(include=cast("Any", list(fields))).data


def load(agent: Agent, data: Mapping[str, Any]) -> None:
    """Set parts of an agent through its public snapshot. `Snapshot` is documented but lives in a private module."""
    agent.load_snapshot(Snapshot(scope="agent", schema_version=SNAPSHOT_SCHEMA_VERSION, data=dict(data), app_data={}))


def forget(agent: Agent) -> None:
    """Empty the parts of an agent that are recorded only once there is something in them.

    Answers that came with the call that is about to begin stay.
    """
    load(agent, {"state": {}})
    if not has_answers(agent):
        load(agent, {"interrupt_state": {"interrupts": {}, "context": {}, "activated": False}})


def interrupt_state(agent: Agent) -> dict[str, Any]:
    """Read the human-in-the-loop state of an agent."""
    return cast("dict[str, Any]", snapshot(agent, "interrupt_state")["interrupt_state"])


def has_answers(agent: Agent) -> bool:
    """Tell whether a caller has just answered the interrupts that an agent waits for."""
    state = interrupt_state(agent)
    return bool(state["activated"]) and "responses" in state["context"]


def half_finished_batch(
    recorded: Mapping[str, Any] | None, assistant_message: Message, results: Sequence[ToolResult]
) -> dict[str, Any]:
    """Build the interrupt state that makes Strands take `results` as they are and run only the other tools.

    The event loop looks for it in `_interrupt_state` before it calls the model (`event_loop/event_loop.py`).

    Args:
        recorded: The interrupt state as it was recorded; answers that a person gave are kept.
        assistant_message: The message that asked for the tools.
        results: The recorded results of those that finished.
    """
    state: dict[str, Any] = {
        "interrupts": dict((recorded or {}).get("interrupts", {})),
        "context": dict((recorded or {}).get("context", {})),
        "activated": True,
    }
    if _HAS_PENDING_EXECUTION:
        state["pending_tool_execution"] = {
            "assistant_message": assistant_message,
            "completed_tool_results": list(results),
        }
    else:
        state["context"].update(tool_use_message=assistant_message, tool_results=list(results))
    return state


def reactivate_answers(agent: Agent) -> None:
    """Let answers count that were given before the model was asked, not to a tool.

    Since 1.52 middleware around the model may wait for answers; it looks at them only while the state is activated.
    """
    state = interrupt_state(agent)
    if _HAS_PENDING_EXECUTION and state["interrupts"]:
        load(agent, {"interrupt_state": {**state, "activated": True}})


def batch_of(state: Mapping[str, Any]) -> list[ToolResult]:
    """Read the results that an interrupt state carries for its half-finished batch."""
    pending = state.get("pending_tool_execution")
    if pending is not None:
        return list(pending["completed_tool_results"])
    return list(state.get("context", {}).get("tool_results", []))


def sort_batch(agent: Agent, order: Sequence[str]) -> None:
    """Sort the results that the interrupt state of an agent carries for its half-finished batch.

    In place: `load` would make the state anew, without what `take_answers_again` did to it.

    Args:
        agent: The agent.
        order: The tool calls of the batch, as their results are to follow each other.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    pending = getattr(state, "pending_tool_execution", None)
    results: list[ToolResult] = (
        state.context.get("tool_results", []) if pending is None else pending.completed_tool_results
    )
    results.sort(key=lambda result: order.index(result["toolUseId"]))


def without_batch(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy an interrupt state as one that waits for nothing, keeping what people answered."""
    context = {
        name: value
        for name, value in state.get("context", {}).items()
        if name not in {"tool_use_message", "tool_results"}
    }
    return {"interrupts": state.get("interrupts", {}), "context": context, "activated": False}


def with_answers(recorded: Mapping[str, Any], agent: Agent) -> dict[str, Any]:
    """Copy an interrupt state as one that an agent's caller has just answered, as far as it asks what was answered.

    Args:
        recorded: What the agent waits for.
        agent: The agent, which was given answers to what it waited for before.
    """
    given = {each["interruptResponse"]["interruptId"]: each for each in interrupt_state(agent)["context"]["responses"]}
    interrupts = {
        id_: {**each, "response": given[id_]["interruptResponse"]["response"]} if id_ in given else each
        for id_, each in recorded["interrupts"].items()
    }
    responses = [answer for id_, answer in given.items() if id_ in interrupts]
    context = {**recorded["context"], **({"responses": responses} if responses else {})}
    return {**recorded, "interrupts": interrupts, "context": context}


def stop_waiting(agent: Agent, answered: Iterable[str] = ()) -> None:
    """Let an agent that was interrupted, answered, and then failed be called with anything, as a restored one can be.

    Answers are kept. Strands would demand them again; or refuse them, if it was done with them when the agent failed.

    Args:
        agent: The agent.
        answered: The interrupts that were answered earlier in the same run.
    """
    state = interrupt_state(agent)
    if state["activated"]:
        load(agent, {"interrupt_state": without_batch(state)})
    take_answers_again(agent, answered)


def take_answers_again(agent: Agent, answered: Iterable[str]) -> None:
    """Let an agent accept answers that it has got already.

    A program that is started again says again what it said last. Strands refuses answers to interrupts that it does
    not wait for, in `_InterruptState.resume` and `Agent._convert_prompt_to_messages`, before any hook runs (1.43 to
    1.62).

    Args:
        agent: The agent.
        answered: The interrupts that were answered.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    old = {*answered, *(id_ for id_, each in state.interrupts.items() if each.response is not None)}
    take = state.resume

    def resume(prompt: Any) -> None:
        given = answered_by(prompt)
        is_asked_for = state.activated and given <= state.interrupts.keys()
        if given and not is_asked_for and given <= old | state.interrupts.keys():
            state.activated = True
            prompt = [each for each in prompt if each["interruptResponse"]["interruptId"] in state.interrupts]
            if not prompt:
                return
        take(prompt)

    if old:
        state.resume = resume


def answered_by(prompt: Any) -> set[str]:
    """List the interrupts that a prompt answers; empty if it is no list of answers."""
    if not isinstance(prompt, list):
        return set()
    answers = [each["interruptResponse"] for each in prompt if isinstance(each, dict) and "interruptResponse" in each]
    return {each["interruptId"] for each in answers} if len(answers) == len(prompt) else set()


def is_asking(agent: Agent, tool_use_id: str) -> bool:
    """Tell whether a hook has just interrupted the agent before a tool call.

    Callbacks that come later run nevertheless, and are not told.
    """
    interrupts = interrupt_state(agent)["interrupts"]
    return any(
        each.get("response") is None and id_.startswith(_asked_before(tool_use_id)) for id_, each in interrupts.items()
    )


def forget_answer(agent: Agent, tool_use_id: str, name: str) -> bool:
    """Forget what a person answered to a hook that asked before a tool call, so that it may ask again.

    Args:
        agent: The agent.
        tool_use_id: The tool call.
        name: The name of the interrupt.

    Returns:
        Whether there was an answer.
    """
    state: Any = agent._interrupt_state  # noqa: SLF001
    answered = [
        id_
        for id_, each in state.interrupts.items()
        if each.name == name and each.response is not None and id_.startswith(_asked_before(tool_use_id))
    ]
    for id_ in answered:
        del state.interrupts[id_]
    return bool(answered)


def _asked_before(tool_use_id: str) -> str:
    """What the ids of `BeforeToolCallEvent.interrupt` begin with (1.43 to 1.62)."""
    return f"v1:before_tool_call:{tool_use_id}:"


def will_retry(event: AfterToolCallEvent[Any]) -> bool:
    """Tell whether Strands is about to run a tool again, as a hook asked for.

    Since 1.5x it does not where the agent, or the tool, was cancelled (`ToolExecutor._should_retry`).
    """
    signal = getattr(event.agent, "cancel_signal", None)
    if signal is None:
        return event.retry
    return event.retry and not signal.is_set() and cast("dict[str, Any]", event.result).get("cancelled") is not True


def is_cancelled(agent: Agent) -> bool:
    """Tell whether somebody has cancelled what the agent runs. The signal has had a public name since 1.5x."""
    signal = getattr(agent, "cancel_signal", None) or getattr(agent, "_cancel_signal", None)
    return signal is not None and signal.is_set()


def stand_down(agent: Agent) -> None:
    """Keep the agent's default strategy from trying a failed model call again, as ours decides about that.

    A strategy of the user's own keeps its say. The attribute has no public name, nor has the count (1.43 to 1.62); the
    strategy sets it back by itself when the call is over.
    """
    strategy: Any = getattr(agent, "_retry_strategy", None)
    if type(strategy) is ModelRetryStrategy:
        strategy._current_attempt = strategy._max_attempts  # noqa: SLF001


def forget_threads() -> None:
    """Let the temporary event loop of a synchronous call end while a thread that was given up on goes on.

    `asyncio.run` waits for the threads of the loop's executor, so the loop gets another one. Loops of the caller's own
    are left as they are (`_async.run_async`, 1.62).
    """
    if is_run_async_bridge():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())


def is_structured_output(tool: object) -> bool:
    """Tell whether a tool is the one that makes structured output. The class is not exported (1.43 to 1.62)."""
    return isinstance(tool, StructuredOutputTool)


AFTER_TOOLS: Final[Any] = getattr(hooks, "AfterToolsEvent", None)
"""The event after a batch of tools, with which hooks can end the turn (since 1.5x)."""


def stash_in_memory(agent: Agent) -> Any | None:
    """Get the `Stash` of the agent's context manager, if it keeps one that dies with the process (public, 1.62)."""
    manager = getattr(agent, "context_manager", None)
    return None if manager is None or manager.stash_is_durable else manager.stash


def will_stop(agent: Agent, invocation_state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tell whether a tool asked the agent to stop when its batch is done, for `stop_again`; None if none did.

    By `Agent.cancel(after_current_tools=True)`, of which only the fields tell (1.62), or, as before that, by a flag in
    the ``request_state``, which is Strands' own documented way.
    """
    if getattr(agent, "_deferred_cancel", False):
        return {"cancel": getattr(agent, "_cancel_message", None)}
    return {} if (invocation_state.get("request_state") or {}).get("stop_event_loop") else None


def stop_again(agent: Agent, invocation_state: dict[str, Any], stop: Mapping[str, Any]) -> None:
    """Ask an agent to stop when its batch is done, as a tool of it did in another process."""
    if "cancel" in stop:
        agent.cancel(message=stop["cancel"], after_current_tools=True)
    else:
        invocation_state.setdefault("request_state", {})["stop_event_loop"] = True


def may_be_reentered(agent: Agent) -> bool:
    """Tell whether the agent may be called while it runs (`concurrent_invocation_mode`, public since 1.5x)."""
    mode = getattr(agent, "concurrent_invocation_mode", None) or getattr(agent, "_concurrent_invocation_mode", None)
    return str(getattr(mode, "value", mode)) == "unsafe_reentrant"


def call_of(agent: Agent) -> object:
    """Get an object that stands for one call of the agent.

    Strands begins a new entry of the metrics for each call, and none where a hook lets a call go on.
    """
    return agent.event_loop_metrics.latest_agent_invocation


def next_input(event: AfterInvocationEvent) -> Any:
    """Get what the same call goes on with: what a hook asked for, an empty list for input of Strands' own, or None.

    Since 1.6x background tasks hand their results over in an attribute that no class declares (`_continuation.py`).
    """
    if event.resume is not None or event.result is None:
        return event.resume
    has_inputs = bool(getattr(getattr(event, "_continuation_state", None), "inputs", None))
    has_inputs = has_inputs or bool(getattr(event.agent, "_deferred_continuation_inputs", None))
    return [] if has_inputs and event.result.stop_reason in {"end_turn", "stop_sequence"} else None


def keep(agent: Agent) -> Callable[[], None]:
    """Remember what `reset_executor_state` of a node sets back (1.43 to 1.62); the result undoes that."""
    messages, state, model_state = agent.messages, agent.state, snapshot(agent, "model_state")

    def put_back() -> None:
        agent.messages, agent.state = messages, state
        load(agent, model_state)

    return put_back


def add_totals(agent: Agent, usage: Mapping[str, int], latency: int) -> None:
    """Add token counts and milliseconds to what an agent's metrics add up. `EventLoopMetrics` is public."""
    metrics: Any = agent.event_loop_metrics
    metrics.accumulated_metrics["latencyMs"] += latency
    _add(metrics.accumulated_usage, usage)


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


def _add(target: Any, usage: Mapping[str, int]) -> None:
    for name, count in usage.items():
        target[name] = target.get(name, 0) + count


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


def answer(agent: Agent, answers: Mapping[str, Any]) -> None:
    """Give an agent answers to interrupts that it has raised, so that it does not ask again."""
    state = interrupt_state(agent)
    missing = [id_ for id_, each in state["interrupts"].items() if each.get("response") is None and id_ in answers]
    if missing:
        interrupts = {
            id_: {**each, "response": answers[id_]} if id_ in missing else each
            for id_, each in state["interrupts"].items()
        }
        load(agent, {"interrupt_state": {**state, "interrupts": interrupts}})


def answers_for_tool(agent: Agent, tool_use_id: str) -> dict[str, Any]:
    """Read what people answered to interrupts of an agent that is a tool, from the state of the agent that uses it."""
    prefix = _prefix_of_tool(tool_use_id)
    return {
        id_.removeprefix(prefix): each["response"]
        for id_, each in interrupt_state(agent)["interrupts"].items()
        if id_.startswith(prefix) and each.get("response") is not None
    }


def is_answering_tool(agent: Agent, tool: Agent, tool_use_id: str) -> bool:
    """Tell whether an agent passes answers on to another one that is its tool, as in `answers_for_tool`.

    Args:
        agent: The agent that uses the other one.
        tool: The other one. Before 1.52 its interrupts have no prefix.
        tool_use_id: The call.
    """
    state, own = interrupt_state(agent), interrupt_state(tool)["interrupts"]
    prefix = _prefix_of_tool(tool_use_id)
    return state["activated"] and any(id_.startswith(prefix) or id_ in own for id_ in state["interrupts"])


def _prefix_of_tool(tool_use_id: str) -> str:
    """Tell what the ids of interrupts of an agent that is a tool begin with, in the state of the agent that uses it.

    See `agent/_agent_as_tool.py` (1.62; not before 1.52).
    """
    return f"v1:agent_as_tool:{quote(tool_use_id, safe='')}:"


def has_own_session(agent: Agent) -> bool:
    """Tell whether an agent was given a session manager. Strands has no public name for it (1.43 to 1.62)."""
    return getattr(agent, "_session_manager", None) is not None


def session_manager_of(root: Any) -> Any:
    """Get the session manager of an agent, a graph or a swarm; None without one. Agents hide theirs (1.43 to 1.62)."""
    return getattr(root, "session_manager", None) or getattr(root, "_session_manager", None)


def structured_output_model(agent: Any) -> Any:
    """Read the type of an agent's structured output; None without one.

    `Agent(structured_output_model=...)` is public and has no public accessor (1.43 to 1.62).
    """
    return getattr(agent, "_default_structured_output_model", None)


def orchestrator_interrupts(orchestrator: Any) -> dict[str, Any]:
    """Read the human-in-the-loop state of a graph or swarm.

    `serialize_state` has it too (1.43 to 1.62), but encodes every result and calls users' conditions on the way.
    """
    return cast("dict[str, Any]", orchestrator._interrupt_state.to_dict())  # noqa: SLF001


def is_to_resume(orchestrator: Any) -> bool:
    """Tell whether a graph or swarm was given a state to go on from (`_resume_from_session`, 1.43 to 1.62)."""
    return bool(orchestrator._resume_from_session)  # noqa: SLF001


def forget_resume(orchestrator: Any) -> None:
    """Make a graph or swarm begin anew, though it was told to resume.

    `deserialize_state` can do so only by resetting every node's agent, which a second call would not do
    (`_resume_from_session`, 1.43 to 1.62).
    """
    orchestrator._resume_from_session = False  # noqa: SLF001
    orchestrator._interrupt_state = type(orchestrator._interrupt_state)()  # noqa: SLF001


def state_version(agent: Agent) -> tuple[int, int]:
    """Tell whether the agent's state may have changed, without copying it.

    `_get_version` is what Strands' own session managers use (1.43 to 1.62); the identity covers `agent.state = ...`.
    """
    state = agent.state
    version = getattr(state, "_get_version", None)
    return (id(state), version() if version is not None else -1)


def edits_history_midway(agent: Agent) -> bool:
    """Tell whether the conversation manager may rewrite messages between two model calls of one invocation.

    The built-in ones do so only where Strands calls `sync_agent` afterwards, except a sliding window with
    ``per_turn``. Nothing is known of other managers and of context managers.
    """
    manager = agent.conversation_manager
    if getattr(agent, "context_manager", None) is not None or type(manager).__module__.partition(".")[0] != "strands":
        return True
    return bool(getattr(manager, "per_turn", False))
