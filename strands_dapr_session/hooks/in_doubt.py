"""What to do with a tool call that may have run, and left no result, when its process died.

Nobody can promise that a side effect happens exactly once: between the effect and its record lies a moment in which a
process can die. A policy says what is right for a tool in that case. Each costs what it needs and no more: only tools
whose policy must tell "never started" from "in doubt" are marked as started, and that mark is acknowledged before they
run.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from strands.tools import PythonAgentTool

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import ConfigurationError

if TYPE_CHECKING:
    from strands.hooks import BeforeToolCallEvent
    from strands.types.tools import AgentTool, ToolResult, ToolUse

    from strands_dapr_session.hooks.settings import Settings

Reconcile = Callable[["ToolUse"], Any | Awaitable[Any]]
"""Finds out what became of a call: returns its result (a `ToolResult`, a string, or a value that JSON knows), or None
when it did not happen, so that it is run."""

InDoubtPolicy = str | Reconcile
"""``"rerun"``, ``"never_twice"``, ``"ask"``, or a function that finds out (see `reconcile`)."""

RERUN: Final = "rerun"
NEVER_TWICE: Final = "never_twice"
ASK: Final = "ask"

UNKNOWN_OUTCOME: Final = (
    "The outcome of this call is unknown: the process stopped while it ran. It may or may not have taken effect, and "
    "it was not repeated. Find out before you call it again."
)
"""What the model is told in place of a result under ``never_twice``."""

INTERRUPT_NAME: Final = "strands_dapr_session.in_doubt"
"""Name of the interrupt that ``ask`` raises. Answer ``"rerun"``, ``"skip"``, or ``{"result": ...}``."""

_ATTRIBUTE: Final = "__strands_dapr_session_in_doubt__"

_offered: Final[ContextVar[AgentTool | None]] = ContextVar("strands_dapr_session_offered", default=None)
"""The tool that the call of this context asks for. Hooks may choose another one."""

T = TypeVar("T")


def in_doubt(policy: InDoubtPolicy) -> Callable[[T], T]:
    """Declare a tool's policy, above or below Strands' ``@tool``.

    Args:
        policy: ``"rerun"``: run it again; it can read `idempotency_key`. ``"never_twice"``: do not; the model is told
            that the outcome is unknown. ``"ask"``: stop with a Strands interrupt and let a person decide. A function:
            call it with the tool use to find out.

    Raises:
        ConfigurationError: The policy is none of these.

    Example:
        ```python
        @in_doubt("never_twice")
        @tool
        def wire_money(iban: str, cents: int) -> str: ...
        ```
    """
    check_policy(policy, "in_doubt")

    def mark(decorated: T) -> T:
        setattr(decorated, _ATTRIBUTE, policy)
        return decorated

    return mark


def reconcile(find_out: Reconcile) -> InDoubtPolicy:
    """Name the policy that asks a function; reads well where policies are listed by tool name.

    Args:
        find_out: Sync or async. See `Reconcile`.
    """
    check_policy(find_out, "reconcile")
    return find_out


def check_policy(policy: object, where: str) -> None:
    """Refuse what is not a policy.

    Raises:
        ConfigurationError: With the allowed ones.
    """
    if callable(policy) or policy in {RERUN, NEVER_TWICE, ASK}:
        return
    raise ConfigurationError(
        f"{where}: {policy!r} is not a policy; expected 'rerun', 'never_twice', 'ask' or a function that finds out"
    )


def policy_of(tool: AgentTool | None, name: str, by_name: Mapping[str, InDoubtPolicy], default: InDoubtPolicy) -> Any:
    """Choose the policy of a tool: by its name in the session manager, else its own, else the default."""
    if name in by_name:
        return by_name[name]
    return getattr(tool, _ATTRIBUTE, default)


def note_offered(event: BeforeToolCallEvent) -> None:
    """Remember which tool is asked for, before any hook has chosen another one."""
    _offered.set(event.selected_tool)


def policy_of_call(event: BeforeToolCallEvent, settings: Settings) -> Any:
    """Choose the policy of the tool that will run, after every hook had its say."""
    tool = strands_compat.tool_to_run(event, _offered.get())
    return policy_of(tool, event.tool_use["name"], settings.in_doubt, settings.in_doubt_default)


async def settle(event: BeforeToolCallEvent, policy: InDoubtPolicy) -> bool:
    """Apply a policy to a call that is in doubt, before it would run.

    Returns:
        Whether it is to run.

    Raises:
        InterruptException: Under ``ask``, until a person has answered.
    """
    if policy == ASK:
        answer = event.interrupt(
            INTERRUPT_NAME,
            reason={
                "tool": event.tool_use["name"],
                "input": event.tool_use["input"],
                "question": "The process stopped while this tool ran; it may have taken effect. Run it again?",
                "answers": ["rerun", "skip", {"result": "…"}],
            },
        )
        return _apply_answer(event, answer)
    if policy == NEVER_TWICE:
        event.cancel_tool = UNKNOWN_OUTCOME
        return False
    if callable(policy):
        found = policy(event.tool_use)
        if inspect.isawaitable(found):
            found = await found
        if found is not None:
            answer_with(event, found)
            return False
    return True


def _apply_answer(event: BeforeToolCallEvent, answer: Any) -> bool:
    if isinstance(answer, Mapping) and "result" in answer:
        answer_with(event, answer["result"])
        return False
    if answer is True or str(answer).strip().lower() in {"rerun", "run", "yes", "y"}:
        return True
    event.cancel_tool = UNKNOWN_OUTCOME
    return False


def answer_with(event: BeforeToolCallEvent, value: Any) -> None:
    """Make the call return a value without running the tool; hooks still see it as any other call."""
    result = _as_result(event.tool_use, value)
    spec = event.selected_tool.tool_spec if event.selected_tool is not None else None

    def stand_in(tool_use: ToolUse, **_: Any) -> ToolResult:
        return {**result, "toolUseId": tool_use["toolUseId"]}

    name = event.tool_use["name"]
    event.selected_tool = PythonAgentTool(
        name, spec or {"name": name, "description": "", "inputSchema": {"json": {}}}, stand_in
    )


def _as_result(tool_use: ToolUse, value: Any) -> ToolResult:
    if isinstance(value, Mapping) and "content" in value and value.get("status") in {"success", "error"}:
        return {"toolUseId": tool_use["toolUseId"], "status": value["status"], "content": list(value["content"])}
    content: Any = {"text": value} if isinstance(value, str) else {"json": value}
    return {"toolUseId": tool_use["toolUseId"], "status": "success", "content": [content]}
