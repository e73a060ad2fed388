"""The campaign: real processes, a real daprd, Redis, PostgreSQL and SQLite, and SIGKILL."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strands_dapr_session.testing.processes import ForkServer
from tests.prove import seeds
from tests.prove.campaign import Campaign, Findings
from tests.prove.kills.case import Killer, places
from tests.prove.seeds import Told

STORES = ("redis", "postgresql", "sqlite", "redis", "sqlite behind daprd")
"""Sessions take turns; Redis is what most people run."""

EXPECTED = {
    "kill",
    "kill at some time",
    "kill before create",
    "kill after create",
    "kill before tool",
    "kill after tool",
    "kill before model",
    "kill after model",
    "kill of daprd",
    "kill of redis",
    "kill of postgresql",
    "pause",
    "zombie",
    "zombie that was fenced",
    "delay to daprd",
    "delay to the store",
    "cut to daprd",
    "cut to the store",
    "half-close to daprd",
    "half-close to the store",
    "packed",
    "takeover",
}


LEAST = {"kill", "kill at some time", "pause", "zombie", "kill of daprd", "packed", "takeover"}


@contextmanager
def begin(number: int, stores: list[str]) -> Iterator[Callable[[int], Told]]:
    """Start servers of one's own, and kill over them."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own in it
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="kills-", dir=where) as name:
        directory = Path(name)
        forks = ForkServer(["tests.crash.programs"])
        started = places(directory, sorted(set(stores)))
        killers = {each: Killer(place, directory, forks, f"w{number}") for each, place in started.items()}

        def run(seed: int) -> Told:
            told = killers[stores[seed % len(stores)]].run(seed)
            for path in directory.glob("*.l*g*"):  # ledgers and logs of sessions that are over
                if path.suffix in (".ledger", ".log"):
                    path.unlink()
            return told.faults, told.stories

        try:
            yield run
        finally:
            forks.close()
            for place in started.values():
                place.close()


def run(options: Namespace) -> Findings:
    """Kill in the stores that were asked for."""
    stores = options.stores.split(",") if options.stores else list(STORES)
    expected = EXPECTED if set(stores) == set(STORES) else {"kill"}
    replay = "python -m tests.prove kills --seeds {seed}" + (f" --stores '{options.stores}'" if options.stores else "")
    findings = seeds.run(options, lambda number: begin(number, stores), replay=replay, expected=expected, least=LEAST)
    findings.figures["kills"] = sum(
        count for kind, count in findings.faults.items() if kind == "kill" or kind.startswith("kill of")
    )
    findings.figures["zombies"] = findings.faults["zombie"]
    return findings


def add_arguments(parser: ArgumentParser) -> None:
    """Say what can be chosen."""
    seeds.add_arguments(parser, workers=2, expect_from=300)
    parser.add_argument("--stores", help=f"of {', '.join(dict.fromkeys(STORES))}; separated by commas")


CAMPAIGN = Campaign(
    "kills",
    "SIGKILL, SIGSTOP, dying servers and bad connections under real processes and stores",
    run,
    add_arguments,
    small=("--seeds", "0:150", "--minutes", "3"),
    full=("--seeds", "0:4500", "--state", "prove-kills.json"),
)
