"""Finding out what changed in a list of live messages: what the thorough comparison costs, and what appending does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import timing
from benchmarks.conversation import conversation
from benchmarks.results import Row
from benchmarks.subjects import OURS
from strands_dapr_session.hooks.transcript import Transcript
from strands_dapr_session.records.codec import pack_value

if TYPE_CHECKING:
    from strands.types.content import Message

    from benchmarks.bench import Bench

LENGTHS = (1000, 5000)

_REPEAT = 30


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    rows = []
    for length in bench.sizes(LENGTHS):
        live = conversation(length)
        transcript = Transcript("")
        transcript.reset(live, map(pack_value, live))
        setting: dict[str, str | int] = {"messages": length}
        thorough = [_microseconds(transcript, live) / length for _ in range(bench.repeat(_REPEAT))]
        more = conversation(bench.repeat(_REPEAT), seed=11)
        appended = [_append(transcript, live, message) for message in more]
        rows += [
            Row.of(OURS, setting, "comparing, for each live message", "µs", thorough),
            Row.of(OURS, setting, "noticing one that was appended", "µs", appended),
        ]
    return rows


def _microseconds(transcript: Transcript, live: list[Message]) -> float:
    return timing.timed(lambda: transcript.changed(live, {})) * 1000


def _append(transcript: Transcript, live: list[Message], message: Message) -> float:
    live.append(message)
    return timing.timed(lambda: transcript.appended(live, {})) * 1000
