"""One session, loaded over and over: what `make flame` shows to a profiler."""

from __future__ import annotations

import logging
import time

from benchmarks.conversation import conversation
from benchmarks.places import Places
from benchmarks.subjects import OURS, Ours, load

MESSAGES = 5000

_SECONDS = 15.0


def main() -> None:
    """Load until the time is over."""
    logging.disable(logging.WARNING)
    with Places() as places:
        ours = Ours(places.with_dapr(), "redis", OURS)
        ours.fill("flame", conversation(MESSAGES))
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            ours.forget("flame")
            load(ours, "flame", MESSAGES)


if __name__ == "__main__":
    main()
