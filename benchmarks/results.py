"""What was measured, as rows, and the file that keeps it: with the machine, the versions, and the commit."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LATEST = Path(__file__).parent / "results" / "latest.json"
"""The committed results, from which the figures in README and docs are made."""

_PACKAGES = (
    "strands-agents",
    "strands-dapr-session",
    "dapr",
    "dapr-ext-strands",
    "grpcio",
    "msgpack",
    "zstandard",
    "redis",
    "boto3",
    "moto",
)
_GIB = 1024**3
_SIGNIFICANT = 4


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        subject: What was measured: a session manager, or a floor.
        setting: Under which circumstances: number of messages, store, warm or fresh.
        quantity: What was measured of it.
        unit: Its unit.
        median: The median of the repetitions, and the value where there was one.
        minimum: The smallest.
        maximum: The largest.
        p99: The 99th percentile, where there were enough repetitions to tell.
        count: How many repetitions.
        note: Why it is missing, or what to know of it.
    """

    subject: str
    setting: dict[str, str | int]
    quantity: str
    unit: str
    median: float | None
    minimum: float | None = None
    maximum: float | None = None
    p99: float | None = None
    count: int = 1
    note: str = ""

    @classmethod
    def of(cls, subject: str, setting: dict[str, str | int], quantity: str, unit: str, values: Sequence[float]) -> Row:
        """Sum up repetitions."""
        enough = 100  # below, a 99th percentile is the maximum by another name
        return cls(
            subject,
            setting,
            quantity,
            unit,
            _rounded(statistics.median(values)),
            _rounded(min(values)),
            _rounded(max(values)),
            _rounded(percentile(values, 99)) if len(values) >= enough else None,
            len(values),
        )

    @classmethod
    def single(cls, subject: str, setting: dict[str, str | int], quantity: str, unit: str, value: float) -> Row:
        """Take one value that needs no repetition, such as a count."""
        return cls(subject, setting, quantity, unit, _rounded(value))

    @classmethod
    def missing(cls, subject: str, setting: dict[str, str | int], quantity: str, unit: str, why: str) -> Row:
        """Say why a subject could not be measured."""
        return cls(subject, setting, quantity, unit, None, count=0, note=why)


def percentile(values: Sequence[float], percent: float) -> float:
    """Get the smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class Results:
    """Everything that was measured, by measure. Measures may be taken on different days; each says when."""

    measures: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a file; nothing if there is none."""
        if not path.exists():
            return cls()
        return cls(json.loads(path.read_text())["measures"])

    def take(self, measure: str, rows: Iterable[Row], *, quick: bool, seconds: float) -> None:
        """Replace what is known of a measure."""
        self.measures[measure] = {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": _commit(),
            "quick": quick,
            "seconds": round(seconds, 1),
            "machine": machine(),
            "versions": versions(),
            "rows": [asdict(row) for row in rows],
        }

    def rows(self, measure: str) -> list[Row]:
        """Get the rows of a measure; none if it was not taken."""
        return [Row(**row) for row in self.measures.get(measure, {}).get("rows", ())]

    def find(self, measure: str, subject: str, quantity: str, **setting: str | int) -> Row | None:
        """Get the first row of a subject that has at least these settings."""
        for row in self.rows(measure):
            if row.subject == subject and row.quantity == quantity and setting.items() <= row.setting.items():
                return row
        return None

    def digest(self, *measures: str) -> str:
        """Name the rows of some measures."""
        rows = json.dumps([self.measures.get(measure, {}).get("rows") for measure in measures], sort_keys=True)
        return hashlib.blake2b(rows.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        ordered = dict(sorted(self.measures.items()))
        path.write_text(json.dumps({"measures": ordered}, indent=1, ensure_ascii=False) + "\n")


def machine() -> dict[str, str | int]:
    """Describe the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / _GIB),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """List the versions of what takes part."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The commit that was measured, with a plus if the tree had changes."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def _rounded(value: float) -> float:
    """Leave as many digits as a measurement has."""
    return float(f"{value:.{_SIGNIFICANT}g}")
