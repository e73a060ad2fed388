"""Our own workers on Redis behind a sidecar with placement and scheduler, all on this machine."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.crew import DEADLINE, Crew
from benchmarks.worked_script import AGENT
from dev.nursery import Nursery
from dev.servers import RedisServer, RedisState, WorkflowStack
from strands_dapr_session import AgentClient, io_thread
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.workflow.crew import list_cards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from strands_dapr_session import Run

_numbers = itertools.count()


@dataclass
class OurWorkers:
    """A crew, and a client that hands runs to it.

    Attributes:
        crew: The workers; at first there is one.
        client: The client.
    """

    crew: Crew
    client: AgentClient

    def submit(self, prompt: str) -> Run:
        """Submit a run of a session of its own; the prompt gets its name."""
        name = f"{prompt.partition(' ')[0]}-{next(_numbers)}"
        return self.client.submit(AGENT, session_id=name, prompt=f"{prompt} {name}", invocation_id=name)


@contextlib.contextmanager
def our_workers(directory: Path) -> Iterator[OurWorkers]:
    """Start servers and one worker, which has done a run."""
    with contextlib.ExitStack() as closing:
        redis = closing.enter_context(RedisServer())
        stack = closing.enter_context(WorkflowStack([RedisState("statestore", redis.address, actors=True)]))
        nursery = closing.enter_context(Nursery("benchmarks.worker_program"))
        store = f"dapr://statestore?address={stack.daprd.address}"

        def at_work() -> set[int]:
            return {int(card.worker.split("/")[2]) for card in io_thread.run_sync(list_cards(open_store(store)))}

        crew = Crew(directory, nursery, [str(directory), store], at_work)
        closing.callback(crew.close)
        workers = OurWorkers(crew, AgentClient(store=store))
        crew.start()
        workers.submit("say").result(timeout=DEADLINE)
        yield workers
