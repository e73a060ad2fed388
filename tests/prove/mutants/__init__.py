"""Mutants: the rules of the protocol are broken one at a time, in the real code, and a test must notice each.

A test that cannot fail proves nothing. Every rule that this package rests on is left out here once; the tests that say
so by name must then fail. `python -m tests.prove mutants` shows which, and how fast.

What the rules are not about is looked after by a general mutation tester: see `make mutate`.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from rich.console import Console
from rich.table import Table

from tests.prove.campaign import Campaign, Findings, Violation
from tests.prove.mutants.agents import AGENTS
from tests.prove.mutants.harness import Verdict, check_unbroken, judge
from tests.prove.mutants.journal import JOURNAL
from tests.prove.mutants.mutant import Mutant
from tests.prove.mutants.orchestrators import ORCHESTRATORS
from tests.prove.mutants.past import PAST
from tests.prove.mutants.storage import STORAGE

MUTANTS: tuple[Mutant, ...] = (*STORAGE, *JOURNAL, *AGENTS, *ORCHESTRATORS, *PAST)


def run(options: Namespace) -> Findings:
    """Try every mutant, or those whose names contain a text."""
    mutants = [mutant for mutant in MUTANTS if options.only in mutant.name]
    findings = Findings(expected={mutant.name for mutant in mutants})
    console = Console()
    tests = sorted({test for mutant in mutants for test in mutant.caught_by})
    if wrong := check_unbroken(tests):
        findings.violations.append(Violation("the tests pass on code that nothing is wrong with", wrong, "make test"))
        return findings
    table = Table(title=f"{len(mutants)} mutants")
    for heading in ("mutant", "caught by", "it said", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for verdict in judge(mutants, at_once=options.at_once):
        _count(findings, verdict)
        console.print(f"{verdict.mutant}: {verdict.problem or 'caught'}, {verdict.seconds:.1f} s", highlight=False)
        table.add_row(*_row(verdict), style="red" if verdict.problem else "")
    console.print(table)
    return findings


def _count(findings: Findings, verdict: Verdict) -> None:
    if verdict.problem:
        replay = f"python -m tests.prove mutants --only {verdict.mutant}"
        findings.violations.append(Violation(f"{verdict.mutant} is caught", verdict.problem, replay))
        return
    findings.runs += 1
    findings.faults[verdict.mutant] += 1
    caught: dict[str, float] = findings.figures.setdefault(verdict.mutant, {})
    caught[verdict.test] = round(verdict.seconds, 1)


def _row(verdict: Verdict) -> tuple[str, str, str, str]:
    test = verdict.test.removeprefix("tests/").replace("::", "\n")
    return verdict.mutant, test, verdict.problem or verdict.reason, f"{verdict.seconds:.1f}"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose names contain this")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, metavar="N", help="so many at a time")


CAMPAIGN = Campaign("mutants", "Breaks one rule after the other and sees that a test notices.", run, _arguments)
