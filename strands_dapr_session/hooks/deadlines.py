"""How long things may take. See `timekeeping` for what happens then."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strands_dapr_session import strands_compat
from strands_dapr_session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long things may take, in seconds; None for any time.

    Attributes:
        tool: One attempt of a tool that is not named in `tools`. The model gets an error for a result.
        tools: Tools by name.
        model: One attempt of a model call, from the request to the end of its stream.
        invocation: An invocation, from its beginning, or from the last answer of a person, to its end, whoever works on
            it. It is parked then.
        silence: Without a recorded step. Longer than any tool and model call takes that is well; pauses before another
            attempt do not count. The invocation fails then, and can be gone on with.
    """

    tool: float | None = None
    tools: Mapping[str, float | None] = field(default_factory=dict)
    model: float | None = None
    invocation: float | None = None
    silence: float | None = None

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ConfigurationError: A value is no number of seconds above 0, or Strands is too old.
        """
        fields = {name: getattr(self, name) for name in ("tool", "model", "invocation", "silence")}
        given = {**fields, **{f"tools[{name!r}]": seconds for name, seconds in self.tools.items()}}
        for name, seconds in given.items():
            if seconds is not None and not (_is_number(seconds) and 0 < seconds < math.inf):
                raise ConfigurationError(f"Deadlines.{name} must be a number of seconds above 0, not {seconds!r}")
        if any(given.values()) and strands_compat.AGENT_STREAM_STAGE is None:
            raise ConfigurationError(
                "deadlines need strands-agents 1.62, the first whose tools and model calls can be stopped from outside"
            )

    def of_tool(self, name: str) -> float | None:
        """Choose the deadline of a tool."""
        return self.tools.get(name, self.tool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
