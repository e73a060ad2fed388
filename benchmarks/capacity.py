"""What sidecars and a Redis carry: a model of three numbers, and a simulation that checks its arithmetic.

A commit takes the processor of its client, of the sidecar, and of Redis, one after the other. A client and its sidecar
share the cores of their machine; all machines share one Redis, which uses one core. So so many machines carry the least
of what their cores and that one core allow. The simulation knows nothing of that: it lets sessions commit one after the
other, each with chance in what every part takes, and counts.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SESSIONS_OF_A_MACHINE: Final = 64
_COMMITS_OF_A_SESSION: Final = 40


@dataclass(frozen=True)
class Costs:
    """Seconds of processor time that a commit takes.

    Attributes:
        client: In the process of the agent.
        sidecar: In its sidecar.
        store: In Redis.
    """

    client: float
    sidecar: float
    store: float

    def on_one_machine(self, cores: int) -> float:
        """Commits in a second where all three share some cores."""
        return cores / (self.client + self.sidecar + self.store)

    def with_machines(self, machines: int, cores: int) -> float:
        """Commits in a second of machines with a client and a sidecar each, beside one Redis."""
        return min(machines * cores / (self.client + self.sidecar), 1 / self.store)


def fit(runs: Sequence[Mapping[str, float]]) -> Costs:
    """Find the costs that explain runs best, in the sense of least squares through the origin.

    Args:
        runs: Of each how many ``writes``, and the seconds of processor time of ``client``, ``sidecar`` and ``store``.
    """
    squares = sum(run["writes"] ** 2 for run in runs)
    return Costs(*(sum(run["writes"] * run[part] for run in runs) / squares for part in ("client", "sidecar", "store")))


class _Station:
    """Some cores that serve whoever comes first."""

    def __init__(self, cores: int) -> None:
        self._free = [0.0] * cores

    def serve(self, came: float, seconds: float) -> float:
        """Get when somebody who came then will be done."""
        begins = max(came, heapq.heappop(self._free))
        heapq.heappush(self._free, begins + seconds)
        return begins + seconds


def simulate(costs: Costs, machines: int, cores: int, seed: int = 1) -> float:
    """Let the sessions of several machines commit; get the commits in a second.

    Args:
        costs: What a commit takes on average. How long each one takes is drawn from an exponential distribution.
        machines: How many, each with a sidecar and its clients.
        cores: Of each machine.
        seed: Of chance.
    """
    chance = random.Random(seed)
    local = [_Station(cores) for _ in range(machines)]
    redis = _Station(1)
    parts = (costs.client, costs.sidecar, costs.store)
    waiting = [(chance.random() * 1e-3, n, n % machines, 0, 0) for n in range(machines * _SESSIONS_OF_A_MACHINE)]
    heapq.heapify(waiting)
    done, last = 0, 0.0
    while waiting:
        now, session, machine, part, commits = heapq.heappop(waiting)
        station = redis if part == len(parts) - 1 else local[machine]
        ended = station.serve(now, chance.expovariate(1 / parts[part]))
        if part < len(parts) - 1:
            heapq.heappush(waiting, (ended, session, machine, part + 1, commits))
            continue
        done, last = done + 1, max(last, ended)
        if commits + 1 < _COMMITS_OF_A_SESSION:
            heapq.heappush(waiting, (ended, session, machine, 0, commits + 1))
    return done / last
