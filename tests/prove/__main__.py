"""``python -m tests.prove``: run a campaign, or all of them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.prove.campaign import Campaign, names

CAMPAIGNS: tuple[str, ...] = ("simulation", "orchestrators", "kills", "soak", "workers", "mutants", "damage")
"""The packages beside this file that have a `CAMPAIGN`, in the order in which they are run."""


def load() -> dict[str, Campaign]:
    """Import every campaign."""
    found = [importlib.import_module(f"tests.prove.{name}").CAMPAIGN for name in CAMPAIGNS]
    return {campaign.name: campaign for campaign in found}


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 0 if everything holds."""
    console = Console()
    campaigns = load()
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if name in campaigns:
        results = [campaigns[name].main(rest)]
    elif name in {"small", "full"}:
        results = [campaign.main([*getattr(campaign, name), *rest]) for campaign in campaigns.values()]
    else:
        usage = f"usage: python -m tests.prove (small | full | <campaign>) [options]\n\n{names(campaigns.values())}"
        console.print(usage, markup=False)
        return 2
    for result in results:
        tell(console, result)
    console.print(overview(results))
    return 0 if results and all(result["holds"] for result in results) else 1


def tell(console: Console, result: dict[str, Any]) -> None:
    """Print what did not hold."""
    for violation in result["violations"]:
        console.rule(f"{result['campaign']}: {violation['invariant']}")
        console.print(violation["story"], markup=False, highlight=False)
        console.print(f"to see it alone: {violation['replay']}", markup=False, highlight=False)
    for kind in result["never_fired"]:
        console.print(f"{result['campaign']}: never happened: {kind}", style="red")


def overview(results: Sequence[dict[str, Any]]) -> Table:
    """Make the last table."""
    table = Table(title="What was proved")
    for heading in ("campaign", "runs", "faults that happened", "violations", "seconds"):
        table.add_column(heading, justify="left" if heading in {"campaign", "faults that happened"} else "right")
    for result in results:
        faults = ", ".join(f"{kind} {count:,}" for kind, count in result["faults"].items())
        missing = f" (never: {', '.join(result['never_fired'])})" if result["never_fired"] else ""
        table.add_row(
            result["campaign"],
            f"{result['runs']:,}",
            faults + missing,
            str(result["violations_in_all"]),
            f"{result['seconds']:,.0f}",
            style="" if result["holds"] else "red",
        )
    return table


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets have another order in every process, unless told otherwise; a seed is to say the same again.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606
    sys.exit(main(sys.argv[1:]))
