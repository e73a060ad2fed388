"""What the caller of an invocation got, as a record, and handed out again to one who asks for it by its id."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import UnencodableValueError
from strands_dapr_session.hooks.invocation import digest_of
from strands_dapr_session.records.codec import pack_value

if TYPE_CHECKING:
    from strands import Agent
    from strands.agent import AgentResult

    from strands_dapr_session.hooks.invocation import Invocation


class RecordedOutput(BaseModel):
    """Structured output whose type is not what it was: it still shows, and becomes JSON, as it did."""

    model_config = ConfigDict(extra="allow")


def encode_output(output: BaseModel | None) -> str | None:
    """Write structured output as JSON.

    Raises:
        UnencodableValueError: It is of a type that cannot be written.
    """
    if output is None:
        return None
    try:
        return output.model_dump_json()
    except (ValueError, AttributeError, TypeError) as error:
        raise UnencodableValueError("structured_output", f"{type(output).__name__} is no JSON ({error})") from error


def decode_output(text: str | None, model: Any) -> BaseModel | None:
    """Make an object of the agent's output type again, if that says the same as the recorded one did."""
    if text is None:
        return None
    try:
        output = validate_output(text, model)
        if output.model_dump_json() == text:
            return output
    except (ValueError, AttributeError, TypeError):
        pass
    content = json.loads(text)
    return RecordedOutput(**content) if isinstance(content, dict) else RecordedOutput(root=content)  # type: ignore[call-arg]


def validate_output(text: str, model: type[BaseModel]) -> BaseModel:
    """Make an object of a type from recorded structured output, which names fields as they are called in Python.

    Raises:
        ValidationError: It is none of this type.
    """
    try:
        return model.model_validate_json(text, by_alias=True, by_name=True)
    except TypeError:  # before pydantic 2.11
        return model.model_validate_json(text)


def pack_result(result: AgentResult, invocation: Invocation) -> bytes:
    """Say what the caller got. Only an invocation with an id of its caller's can be asked for again."""
    recorded: dict[str, Any] = {"stop_reason": result.stop_reason}
    if invocation.key is not None:
        recorded["message"] = result.message
        recorded["asked"] = digest_of(invocation.asked)
        progress = invocation.progress
        recorded["usage"], recorded["latency"] = progress.usage, progress.latency
        if progress.asked:
            recorded["usage_of_call"] = progress.usage_of_call
        with contextlib.suppress(UnencodableValueError):  # the caller has it; who asks again gets none
            recorded["output"] = encode_output(result.structured_output)
    return pack_value(recorded, path="result")


def complete_result(result: AgentResult, recorded: dict[str, Any], agent: Agent) -> None:
    """Make the result that Strands has for a call which a hook cancelled the one that is recorded.

    Its message is the recorded one already. A type that was given to the call and not to the agent is not known.
    """
    result.stop_reason = recorded["stop_reason"]
    result.structured_output = decode_output(recorded.get("output"), strands_compat.structured_output_model(agent))
