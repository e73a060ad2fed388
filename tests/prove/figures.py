"""The figures that the pages quote, made from the recorded results: ``python -m tests.prove.figures``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.prove.campaign import RESULTS

CAMPAIGNS = ("simulation", "orchestrators", "kills", "soak")
_SCHEDULES = (
    "{runs} schedules: {kill} deaths, {zombie} processes that stood still beyond their lease, {takeover} takeovers, "
    "{fenced} workers fenced off"
)
_TOLD = {
    "simulation": _SCHEDULES,
    "orchestrators": _SCHEDULES,
    "kills": (
        "{runs} sessions: {kill} processes killed, {zombie} stopped beyond their lease, {servers} servers killed, "
        "{connections} times a connection disturbed, {takeover} takeovers"
    ),
    "soak": "{called} calls, {deleted session} sessions deleted, {kill} workers killed",
}


def results(directory: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Read what was recorded of the campaigns that judge histories."""
    paths = {name: directory / f"{name}.json" for name in CAMPAIGNS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def line(name: str, result: dict[str, Any]) -> str:
    """Make the row of one campaign."""
    faults = result["faults"]
    counts = {kind: f"{count:,}" for kind, count in faults.items()}
    counts["runs"] = f"{result['runs']:,}"
    counts["servers"] = f"{_sum(faults, 'kill of '):,}"
    counts["connections"] = f"{sum(_sum(faults, how) for how in ('cut to', 'half-close', 'delay')):,}"
    return f"| `{name}` | {_TOLD[name].format_map(counts)} | {result['violations_in_all']} |"


def table() -> str:
    """Make the table."""
    rows = [line(name, result) for name, result in results().items()]
    return "\n".join(["| campaign | what happened | violations |", "|---|---|---|", *rows])


def _sum(faults: dict[str, int], prefix: str) -> int:
    return sum(count for kind, count in faults.items() if kind.startswith(prefix))


if __name__ == "__main__":
    print(table())
