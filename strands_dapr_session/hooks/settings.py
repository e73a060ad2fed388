"""How a session manager behaves, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from strands_dapr_session.errors import ConfigurationError
from strands_dapr_session.hooks.in_doubt import InDoubtPolicy, check_policy
from strands_dapr_session.hooks.retry import Retries

if TYPE_CHECKING:
    from collections.abc import Mapping

DriftMode = Literal["warn", "refuse", "ignore"]
"""What to do when an unfinished invocation is resumed by an agent with other tools, system prompt or model."""

UnfinishedMode = Literal["refuse", "resume"]
"""What to do when a graph or swarm gets a new task while another one is unfinished."""

UNFINISHED_MODES: Final = ("refuse", "resume")

DRIFT_MODES: Final = ("warn", "refuse", "ignore")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user chose for a session.

    Attributes:
        in_doubt: Policies by tool name, for tools that do not declare one themselves.
        in_doubt_default: The policy of all other tools.
        drift: See `DriftMode`.
        unfinished: See `UnfinishedMode`.
        max_attempts: How many tries of an invocation may end at one place before it is parked; None for any number.
        retries: What is tried again when it fails.
    """

    in_doubt: Mapping[str, InDoubtPolicy] = field(default_factory=dict)
    in_doubt_default: InDoubtPolicy = "rerun"
    drift: DriftMode = "warn"
    unfinished: UnfinishedMode = "refuse"
    max_attempts: int | None = None
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        """Check what cannot be checked by types alone.

        Raises:
            ConfigurationError: A value is not one of those allowed.
        """
        if self.drift not in DRIFT_MODES:
            raise ConfigurationError(f"drift={self.drift!r}: expected one of {', '.join(map(repr, DRIFT_MODES))}")
        if self.unfinished not in UNFINISHED_MODES:
            expected = ", ".join(map(repr, UNFINISHED_MODES))
            raise ConfigurationError(f"unfinished={self.unfinished!r}: expected one of {expected}")
        if self.max_attempts is not None and (type(self.max_attempts) is not int or self.max_attempts < 1):
            raise ConfigurationError(f"max_attempts must be at least 1, or None, not {self.max_attempts!r}")
        check_policy(self.in_doubt_default, "in_doubt")
        for tool, policy in self.in_doubt.items():
            check_policy(policy, f"in_doubt[{tool!r}]")
