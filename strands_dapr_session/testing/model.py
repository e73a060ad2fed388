"""A model that follows a script, so that a test knows what an uninterrupted run would have done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from strands.models.model import Model

from strands_dapr_session.testing.plain import digest, plain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence

    from strands.types.content import Messages
    from strands.types.streaming import StreamEvent


class ScriptedModel(Model):
    """Answers each prompt by a script: turn after turn, chosen from the messages alone.

    It keeps no state of its own, so that a new process answers exactly as the old one would have: the turn is read from
    the ids of the tool results in the last message, which the script itself handed out.

    Attributes:
        calls: The messages of every call so far, as the model got them.
    """

    def __init__(
        self,
        script: Mapping[str, Sequence[Any]] | Sequence[Any],
        *,
        on_call: Callable[[Messages], None] | None = None,
        model_id: str = "scripted",
        name: str = "",
    ) -> None:
        """Set up the script.

        Args:
            script: Turns for every prompt, or turns by prompt text. A turn is a text or a list of (tool name, input);
                a callable is called with the messages and returns the turn; an exception is raised.
            on_call: Called with the messages before each answer.
            model_id: What `get_config` reports.
            name: What the ids of tool calls begin with. With it they depend on the whole conversation, as where many
                agents work together each call must have an id of its own.
        """
        self._script = script
        self._on_call = on_call
        self._config = {"model_id": model_id}
        self._name = name
        self.calls: list[Messages] = []

    def update_config(self, **model_config: Any) -> None:
        """Change what `get_config` reports."""
        self._config.update(model_config)

    def get_config(self) -> dict[str, Any]:
        """Report the configuration."""
        return self._config

    def structured_output(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Not scripted: structured output is asked for as a tool call."""
        raise TypeError("ScriptedModel answers structured output as a tool call; pass `structured_output_model`")

    async def stream(self, messages: Messages, *_: Any, **__: Any) -> AsyncIterable[StreamEvent]:
        """Stream the turn that the messages ask for."""
        self.calls.append(json.loads(json.dumps(messages, default=repr)))
        if self._on_call is not None:
            self._on_call(messages)
        prompt, visit, number = self._position(messages)
        turn = self._turns(prompt)[number]
        if callable(turn) and not isinstance(turn, type):
            turn = turn(messages)
        if isinstance(turn, BaseException):
            raise turn
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(turn, str):
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": turn}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}
        else:
            prefix = f"{self._name}.{digest(plain(messages))}." if self._name else ""
            for index, (name, arguments) in enumerate(turn):
                tool_use_id = f"{prefix}v{visit}c{number}t{index}"
                yield {"contentBlockStart": {"start": {"toolUse": {"toolUseId": tool_use_id, "name": name}}}}
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(arguments)}}}}
                yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use"}}
        usage: Any = {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}

    def _turns(self, prompt: str) -> Sequence[Any]:
        if isinstance(self._script, dict):
            return self._script[prompt]  # type: ignore[no-any-return]
        return self._script  # type: ignore[return-value]

    @staticmethod
    def _position(messages: Messages) -> tuple[str, int, int]:
        """Find the prompt, how many prompts there were, and the number of the turn that is due."""
        texts = [
            block["text"]
            for message in messages
            if message["role"] == "user"
            for block in message["content"]
            if "text" in block
        ]
        prompt = texts[-1] if texts else ""
        for block in messages[-1]["content"] if messages else []:
            if "toolResult" in block:
                due = block["toolResult"]["toolUseId"].rpartition(".")[2]
                visit, _, rest = due.removeprefix("v").partition("c")
                return prompt, int(visit), int(rest.partition("t")[0]) + 1
        return prompt, len(texts), 0
