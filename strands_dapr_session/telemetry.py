"""What this package tells OpenTelemetry: metrics, and a mark on the span of an agent that goes on after a crash.

Strands opens spans for agents, models and tools by itself. Nothing here costs anything to speak of before a program
sets a meter provider, as Strands' own `StrandsTelemetry().setup_meter()` does. No attribute names a session, a prompt
or a key: each has a handful of values, and none is private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import metrics, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Counter, Histogram

    from strands_dapr_session.stores.base import StateStore

_NAME: Final = "strands_dapr_session"
_meter = metrics.get_meter(_NAME)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of histograms of seconds: those of OpenTelemetry's conventions for HTTP, and two below for a commit on Redis,
which takes a millisecond and a half."""

_BYTES: Final = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)


def _duration(name: str, description: str) -> Histogram:
    return _meter.create_histogram(
        f"{_NAME}.{name}.duration", unit="s", description=description, explicit_bucket_boundaries_advisory=_SECONDS
    )


def _count(name: str, unit: str, description: str) -> Counter:
    return _meter.create_counter(f"{_NAME}.{name}", unit=unit, description=description)


COMMIT: Final = _duration("commit", "One commit, from its write to the store's answer, retries included.")
COMMIT_SIZE: Final = _meter.create_histogram(
    f"{_NAME}.commit.size",
    unit="By",
    description="What one commit takes in the store.",
    explicit_bucket_boundaries_advisory=_BYTES,
)
LOAD: Final = _duration("load", "Reading what is recorded of an agent, graph or swarm.")
ACQUIRE: Final = _duration("acquire", "Becoming the owner, waiting for another one included.")
COMPACTION: Final = _duration("compaction", "Packing commits, beside the invocation.")
RESUMED: Final = _count("resumed", "{invocation}", "Unfinished invocations that went on.")
REINJECTED: Final = _count("tool_results.reinjected", "{result}", "Recorded tool results that were not computed again.")
FAILED_ATTEMPTS: Final = _count("failed_attempts", "{attempt}", "Failures under a retry policy.")
PARKED: Final = _count("parked", "{invocation}", "Invocations that were tried too often at the same place.")


class Measured:
    """Measures how long the body of a ``with`` takes, and by what it failed if it did.

    Attributes:
        attributes: What is recorded with it; more may be added.
    """

    __slots__ = ("_began", "_duration", "_seconds", "attributes")

    def __init__(self, duration: Histogram, seconds: Callable[[], float], store: StateStore) -> None:
        """Begin.

        Args:
            duration: Where to record it.
            seconds: The clock.
            store: The store that it is about, told by the scheme of its URL.
        """
        self._duration = duration
        self._seconds = seconds
        self.attributes: dict[str, str | bool] = {"store": store.name.partition(":")[0]}
        self._began = seconds()

    def __enter__(self) -> dict[str, str | bool]:
        """Get the attributes."""
        return self.attributes

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Record it."""
        if kind is not None:
            self.attributes["error.type"] = kind.__name__
        self._duration.record(self._seconds() - self._began, self.attributes)


def mark(event: str, **attributes: str | int) -> None:
    """Add an event to the span that is current, if there is one."""
    trace.get_current_span().add_event(f"{_NAME}.{event}", attributes)
