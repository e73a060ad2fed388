"""How a journal behaves; every default says why it is what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from strands_dapr_session.errors import ConfigurationError

OnBusy = Literal["wait", "raise", "steal"]


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Settings of a journal.

    Attributes:
        on_busy: What to do when another live worker owns the journal: wait for it, raise, or take the journal from it.
        busy_timeout: Seconds to wait for it. Strands' callers are mostly people and web requests.
        lease: Seconds of silence after which this worker may be taken for dead. The shorter, the sooner another one
            goes on after a crash, and the more often a worker that only hangs is fenced off.
        compact_slots: Commits after which they are packed. A load reads them one by one, at 40 µs each on Redis.
        compact_bytes: Bytes of commits after which they are packed at any count.
        probe: Whether the first acquisition in a process tries out that the store is safe: six round trips.
    """

    on_busy: OnBusy = "wait"
    busy_timeout: float = 30.0
    lease: float = 3.0
    compact_slots: int = 32
    compact_bytes: int = 1024 * 1024
    probe: bool = False

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ConfigurationError: A value makes no sense.
        """
        if self.on_busy not in ("wait", "raise", "steal"):
            raise ConfigurationError(f'on_busy must be "wait", "raise" or "steal", not {self.on_busy!r}')
        if not 0 <= self.busy_timeout < float("inf"):
            raise ConfigurationError(f"busy_timeout must be a number of seconds, not {self.busy_timeout!r}")
        if not 0 < self.lease < float("inf"):
            raise ConfigurationError(f"lease must be a number of seconds above 0, not {self.lease!r}")
        if self.compact_slots < 1 or self.compact_bytes < 1:
            raise ConfigurationError("compact_slots and compact_bytes must be at least 1")
