"""What a campaign is, what it hands back, and what is written down about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "prove"
"""Where results are kept that were asked to be recorded."""

_SHOWN_VIOLATIONS = 20
_PACKAGES = ("strands-dapr-session", "strands-agents", "dapr", "grpcio", "msgpack", "redis", "zstandard", "hypothesis")


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold.

    Attributes:
        invariant: Which one, by its short name.
        story: What happened, as short as it can be told.
        replay: The command that shows it again.
    """

    invariant: str
    story: str
    replay: str

    def __str__(self) -> str:
        return f"{self.invariant}\n{self.story}\nto see it alone: {self.replay}"


@dataclass
class Findings:
    """What a campaign saw.

    Attributes:
        runs: How many schedules, values, mutants, … it went through.
        faults: How often each kind of fault really happened.
        expected: The kinds that must have happened for the campaign to have proved anything.
        violations: What did not hold.
        figures: Further numbers that are worth keeping.
    """

    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    expected: set[str] = field(default_factory=set)
    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def never_fired(self) -> list[str]:
        """The faults that should have happened, and did not."""
        return sorted(kind for kind in self.expected if not self.faults[kind])

    @property
    def holds(self) -> bool:
        """Whether everything was tried and nothing was found."""
        return bool(self.runs) and not self.violations and not self.never_fired

    def merge(self, other: Findings) -> None:
        """Add what another part of the campaign saw; its figures, where they are numbers."""
        self.runs += other.runs
        self.faults += other.faults
        self.expected |= other.expected
        self.violations += other.violations
        for name, value in other.figures.items():
            mine = self.figures.get(name, 0)
            self.figures[name] = mine + value if isinstance(value, int | float) else value


@dataclass(frozen=True)
class Campaign:
    """A way to look for broken promises.

    Attributes:
        name: Its name on the command line.
        about: What it does, in a line.
        run: Runs it, with its own arguments parsed.
        add_arguments: Says which those are. `--seeds` and `--minutes` are there already.
        small: Its arguments in ``make prove``: about two minutes of one core.
        full: Its arguments in ``make prove-full``.
    """

    name: str
    about: str
    run: Callable[[Namespace], Findings]
    add_arguments: Callable[[ArgumentParser], object] = lambda parser: parser
    small: Sequence[str] = ()
    full: Sequence[str] = ()

    def parser(self) -> ArgumentParser:
        """Make the parser of its arguments."""
        parser = ArgumentParser(prog=f"python -m tests.prove {self.name}", description=self.about)
        parser.add_argument("--seeds", type=seeds, default=range(100), metavar="A:B", help="from A up to before B")
        parser.add_argument("--minutes", type=float, help="stop after so long, with what has been done by then")
        parser.add_argument("--record", action="store_true", help=f"write the result to {RESULTS}")
        self.add_arguments(parser)
        return parser

    def main(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Run it and return its result: what it saw, and how, where and with what."""
        options = self.parser().parse_args(arguments)
        begun = time.monotonic()
        findings = self.run(options)
        result = {
            "campaign": self.name,
            "command": shlex.join(["python", "-m", "tests.prove", self.name, *arguments]),
            "seeds": [options.seeds.start, options.seeds.stop],
            "holds": findings.holds,
            "runs": findings.runs,
            "faults": dict(sorted(findings.faults.items())),
            "never_fired": findings.never_fired,
            "violations": [vars(each) for each in findings.violations[:_SHOWN_VIOLATIONS]],
            "violations_in_all": len(findings.violations),
            "figures": findings.figures,
            "seconds": round(time.monotonic() - begun, 1),
            "versions": versions(),
            "machine": machine(),
        }
        if options.record:
            record(result)
        return result


def seeds(text: str) -> range:
    """Read ``A:B``, or one seed."""
    first, colon, end = text.partition(":")
    return range(int(first), int(end) if colon else int(first) + 1)


def record(result: dict[str, Any]) -> Path:
    """Write a result where results are kept."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{result['campaign']}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return path


def versions() -> dict[str, str]:
    """Tell what this ran with."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Tell where this ran."""
    return {"system": f"{platform.system()} {platform.release()}", "processor": _processor(), "cores": os.cpu_count()}


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def names(campaigns: Iterable[Campaign]) -> str:
    """List campaigns and what they do."""
    return "\n".join(f"  {each.name:<12} {each.about}" for each in campaigns)
