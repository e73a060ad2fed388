"""A slice of the simulation; `make prove` runs more of it, `make prove-full` all."""

from __future__ import annotations

import hashlib
from collections import Counter

from tests.prove.seeds import Told
from tests.prove.simulation.campaign import Runner, in_a_process

SEEDS = range(48)


def test_schedules_hold() -> None:
    faults: Counter[str] = Counter()

    def run() -> list[Told]:
        runner = Runner("agents")
        return [runner.run(seed) for seed in SEEDS]

    for told, stories in in_a_process(run):
        assert stories == []
        faults += told
    assert {"kill", "takeover", "packed", "rivals", "reply lost", "request lost", "sent twice"} <= faults.keys()


def test_a_seed_says_the_same_again() -> None:
    def told() -> str:
        runner = Runner("agents")
        runner.run(11)
        assert runner.schedule is not None
        lines = "\n".join(map(str, runner.schedule.world.ledger))
        return hashlib.sha256(lines.encode()).hexdigest()

    assert in_a_process(told) == in_a_process(told)
