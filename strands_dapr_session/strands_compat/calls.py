"""A call of an agent while it runs: its hooks and stages, and how it ends or goes on."""

from __future__ import annotations

import asyncio
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, cast

from strands import ModelRetryStrategy, hooks
from strands.hooks import AfterToolCallEvent
from strands.tools.structured_output.structured_output_tool import StructuredOutputTool
from strands.tools.tools import InvalidToolUseNameException, validate_tool_use

try:  # since 1.62
    from strands.middleware import ExecuteToolStage, InvokeModelStage
except ImportError:
    ExecuteToolStage = InvokeModelStage = None  # type: ignore[assignment]

try:  # the same; kept out of `strands.middleware` until its contract is final
    from strands.middleware._agent_stream import AgentStreamStage
except ImportError:
    AgentStreamStage = None  # type: ignore[assignment]

try:  # since 1.6x, always registered
    from strands.agent._agent_delegation import AgentDelegation
except ImportError:
    AgentDelegation = None  # type: ignore[assignment,misc]

try:  # since 1.6x a hook may choose another tool by its name alone
    from strands.tools.executors._executor import _lookup_tool as _look_up
except ImportError:

    def _look_up(agent: Any, tool_name: str) -> AgentTool | None:  # type: ignore[misc]
        """Find no tool: the one that was asked for runs under whatever name."""


try:
    from strands._async import is_run_async_bridge
except ImportError:  # before 1.6x, which has no deadlines either

    def is_run_async_bridge() -> bool:
        """Tell whether this runs in the temporary loop of a synchronous call."""
        return False


if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands import Agent
    from strands.hooks import AfterInvocationEvent, BeforeToolCallEvent
    from strands.types.content import Message
    from strands.types.tools import AgentTool, ToolResult, ToolUse

FIRST: Final = -math.inf
"""Order of a callback that comes before those of everybody else, `HookOrder.SDK_FIRST` included."""


LAST: Final = math.inf
"""Order of a callback that comes after those of everybody else, `HookOrder.SDK_LAST` included."""


LATE: Final = sys.float_info.max
"""Order of a callback that comes after those of everybody else, and before `LAST`."""


INTERRUPTED_TEXT: Final = "Tool was interrupted."
"""What Strands answers for a tool call that never got a result (`tools/_tool_helpers.py`, 1.43 to 1.62)."""


AGENT_STREAM_STAGE: Final[Any] = AgentStreamStage
"""The stage around the event loop of a call, for `Agent.add_middleware`; None where Strands has none."""


EXECUTE_TOOL_STAGE: Final[Any] = ExecuteToolStage
"""The stage around a tool, for `Agent.add_middleware`; None where Strands has none."""


INVOKE_MODEL_STAGE: Final[Any] = InvokeModelStage
"""The stage around a model call, for `Agent.add_middleware`; None where Strands has none."""


AFTER_TOOLS: Final[Any] = getattr(hooks, "AfterToolsEvent", None)
"""The event after a batch of tools, with which hooks can end the turn (since 1.5x)."""


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


def is_stopping(agent: Agent) -> bool:
    """Tell whether an agent asks its model no more, since somebody has cancelled it, at once or after its tools."""
    return is_cancelled(agent) or getattr(agent, "_deferred_cancel", False)


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


def tool_to_run(event: BeforeToolCallEvent, offered: AgentTool | None) -> AgentTool | None:
    """Tell which tool runs after all hooks: what one selected, or what one named instead, or what was asked for.

    Args:
        event: The event, which all hooks have seen.
        offered: The tool that it offered to the first of them.
    """
    if event.selected_tool is not offered:
        return event.selected_tool
    return _look_up(event.agent, event.tool_use["name"]) or offered


def wants_structured_output(agent: Agent) -> bool:
    """Tell whether the current call of an agent is to make structured output: Strands lends it a tool for that."""
    return any(map(is_structured_output, agent.tool_registry.dynamic_tools.values()))


def asks_for_structured_output_only(agent: Agent, message: Message) -> bool:
    """Tell whether all that a message asks for is the tool that makes structured output."""
    lent = agent.tool_registry.dynamic_tools
    names = [block["toolUse"]["name"] for block in message["content"] if "toolUse" in block]
    return all(is_structured_output(lent.get(name)) for name in names)


def recall_result(agent: Agent, tool_use: ToolUse, result: ToolResult) -> None:
    """Let an agent know that a tool gave a result in another process, as far as that ends its turn.

    Which agents may end it (`Agent.as_tool(delegate=True)`) a plugin remembers from one event to another (1.62). Other
    hooks are not told again what they were told there.
    """
    plugins = getattr(getattr(agent, "_plugin_registry", None), "_plugins", {})
    plugin = None if AgentDelegation is None else plugins.get(AgentDelegation.name)
    if plugin is not None:
        tool = agent.tool_registry.registry.get(tool_use["name"])
        plugin._on_after_tool_call(AfterToolCallEvent(agent, tool, tool_use, {}, result))  # noqa: SLF001


def names_a_tool(tool_use: ToolUse) -> bool:
    """Tell whether a call's name may be that of a tool. Otherwise Strands answers it before any tool runs.

    See `validate_and_prepare_tools` (1.43 to 1.62).
    """
    try:
        validate_tool_use(tool_use)
    except InvalidToolUseNameException:
        return False
    return True


def will_stop(agent: Agent, invocation_state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tell whether a tool asked the agent to stop when its batch is done, for `stop_again`; None if none did.

    By `Agent.cancel`, of which only the fields tell (1.62): while tools run, it makes no difference whether that was
    to come after them. Or, as before that, by a flag in the ``request_state``, which is Strands' own documented way.
    """
    if hasattr(agent, "_deferred_cancel") and is_stopping(agent):
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


def next_input(event: AfterInvocationEvent) -> Any:
    """Get what the same call goes on with: what a hook asked for, an empty list for input of Strands' own, or None.

    Since 1.6x background tasks hand their results over in an attribute that no class declares (`_continuation.py`).
    """
    if event.resume is not None or event.result is None:
        return event.resume
    has_inputs = bool(getattr(getattr(event, "_continuation_state", None), "inputs", None))
    has_inputs = has_inputs or bool(getattr(event.agent, "_deferred_continuation_inputs", None))
    return [] if has_inputs and event.result.stop_reason in {"end_turn", "stop_sequence"} else None
