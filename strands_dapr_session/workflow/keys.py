"""Where runs and workers are in the store, and what a run's workflow is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strands_dapr_session.journal.layout import quote

WORKERS: Final = "strands:workers"
"""Which workers there are."""

_INSTANCE: Final = re.compile(r"[A-Za-z0-9_-]+")


def card_key(token: str) -> str:
    """What a worker says of itself, again and again."""
    return f"{WORKERS}:{token}"


def offers_key(agent: str, shard: int) -> str:
    """Which runs of an agent are laid out for workers that can run it: one of several documents."""
    return f"strands:offers:{quote(agent)}:{shard}"


def speaker_key(session_id: str, root_id: str) -> str:
    """Which agent of the workers has a root with an id that Strands gave it."""
    return f"strands:speaker:{{{quote(session_id)}}}:{quote(root_id)}"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of a run.

    Attributes:
        invocation_id: The run.
    """

    invocation_id: str

    @property
    def _base(self) -> str:
        return f"strands:run:{{{quote(self.invocation_id)}}}"

    @property
    def request(self) -> str:
        """What was asked for; created once."""
        return f"{self._base}:request"

    @property
    def state(self) -> str:
        """How it stands; the only key of a run that changes."""
        return f"{self._base}:state"

    def answers(self, number: int) -> str:
        """What people answered, the first time, the second; created once."""
        return f"{self._base}:answers.{number}"

    @property
    def result(self) -> str:
        """What it came to; created once."""
        return f"{self._base}:result"

    def workflow(self, generation: int) -> str:
        """The workflow that drives it: of letters, digits, dashes and underscores, as Dapr wants it."""
        name = quote(self.invocation_id)
        if _INSTANCE.fullmatch(name) is None:
            name = "_" + re.sub(r"[^A-Za-z0-9_-]", "_", quote(f"/{self.invocation_id}"))
        return f"strands-run-{name}" if generation == 0 else f"strands-run-{name}-again-{generation}"
