"""One activity of a Temporal workflow on its development server, which returns a message.

Run by `peer_steps` in an environment of its own; prints JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

_QUEUE = "bench"

_wanted: dict[str, Any] = {}
_began: list[float] = []


@activity.defn  # type: ignore[untyped-decorator] # not installed where types are checked
async def step(number: int) -> Any:
    """Return a message."""
    _began.append(time.perf_counter())
    return _wanted["messages"][number]


@workflow.defn
class Steps:
    """One step after the other."""

    @workflow.run  # type: ignore[untyped-decorator]
    async def run(self, count: int) -> None:
        """Take the steps, and one more to tell when the last one is over."""
        for number in range(count):
            await workflow.execute_activity(step, number, start_to_close_timeout=timedelta(minutes=1))
        await workflow.execute_activity(step, 0, start_to_close_timeout=timedelta(minutes=1))


async def main() -> None:
    """Take one step after the other; from an activity's start to the next one's is one of them."""
    _wanted.update(json.load(sys.stdin))
    client = await Client.connect(_wanted["address"])
    async with Worker(client, task_queue=_QUEUE, workflows=[Steps], activities=[step]):
        await client.execute_workflow(Steps.run, len(_wanted["messages"]), id="steps", task_queue=_QUEUE)
    found = [(after - before) * 1000 for before, after in itertools.pairwise(_began)]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
