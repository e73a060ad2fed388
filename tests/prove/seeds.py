"""Seeds spread over processes: progress on the terminal, a time limit, and a file from which a later run goes on."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeAlias

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.prove.campaign import Findings, Violation

Told: TypeAlias = "tuple[Counter[str], list[tuple[str, str]]]"
"""Which faults happened under a seed, and what was wrong: invariants and stories."""

Begin: TypeAlias = "Callable[[int], AbstractContextManager[Callable[[int], Told]]]"
"""Makes what runs seeds, in a process of its own that has a number."""

_SAVE_EVERY = 20.0
_SHORT = 100
_SILENCE = 300.0
"""Seconds without a result after which a process counts as stuck."""


def add_arguments(parser: ArgumentParser, *, workers: int, expect_from: int) -> None:
    """Add what all campaigns of seeds can be told."""
    parser.add_argument("--workers", type=int, default=workers, help="processes at a time")
    parser.add_argument("--state", type=Path, help="a file that keeps what was done; the next run goes on from it")
    parser.add_argument(
        "--expect-from",
        type=int,
        default=expect_from,
        help="seeds from which on every kind of fault must have happened",
    )


def run(  # noqa: PLR0913 - a campaign says all of it, once
    options: Namespace,
    begin: Begin,
    *,
    replay: str,
    expected: set[str],
    least: set[str],
    batch: int | None = None,
) -> Findings:
    """Run the seeds that were asked for and not done yet.

    Args:
        options: See `add_arguments`, and `--seeds` and `--minutes`.
        begin: Makes what runs them.
        replay: The command that runs a seed again, with ``{seed}``.
        expected: The kinds of faults that must happen in a long run.
        least: Those that must happen in a shorter one, of at least a hundred seeds.
        batch: How many seeds a process runs before another one takes its place; None: it runs until there are no more.
    """
    state = _State(options.state)
    todo = [seed for seed in options.seeds if seed not in state.done]
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("seeds", total=len(options.seeds), completed=len(options.seeds) - len(todo))
        for seed, faults, stories in _spread(todo, begin, options.workers, batch, deadline):
            violations = [Violation(name, story, replay.format(seed=seed)) for name, story in stories]
            state.add(seed, faults, violations)
            progress.advance(task)
    state.save()
    findings = state.findings
    findings.expected = least if findings.runs >= _SHORT else set()
    if findings.runs >= options.expect_from:
        findings.expected = expected
    findings.figures["seeds done"] = _ranges(sorted(state.done))
    findings.figures["seconds of all runs"] = round(state.seconds)
    findings.figures["seeds a second"] = round(findings.runs / state.seconds, 2) if state.seconds else 0
    return findings


def _ranges(numbers: Sequence[int]) -> str:
    """Sum up sorted numbers as ``A:B`` of those that follow each other, as `--seeds` takes them."""
    ends = [index for index in range(1, len(numbers)) if numbers[index] != numbers[index - 1] + 1]
    cuts = zip([0, *ends], [*ends, len(numbers)], strict=True)
    return ", ".join(f"{numbers[start]}:{numbers[end - 1] + 1}" for start, end in cuts if end > start)


class _State:
    """What was found so far, in a file if there is to be one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._begun = self._saved = time.monotonic()
        self._before = 0.0
        self.done: set[int] = set()
        self.findings = Findings()
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            self.done = set(kept["done"])
            self._before = kept["seconds"]
            self.findings = Findings(len(self.done), Counter(kept["faults"]))
            self.findings.violations = [Violation(**each) for each in kept["violations"]]

    @property
    def seconds(self) -> float:
        """How long all runs took."""
        return self._before + time.monotonic() - self._begun

    def add(self, seed: int, faults: Counter[str], violations: list[Violation]) -> None:
        self.done.add(seed)
        self.findings.runs += 1
        self.findings.faults += faults
        self.findings.violations += violations
        if violations or time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        if self._path is None:
            return
        kept = {
            "done": sorted(self.done),
            "seconds": self.seconds,
            "faults": dict(self.findings.faults),
            "violations": [vars(each) for each in self.findings.violations],
        }
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(kept))
        fresh.replace(self._path)


def _spread(
    seeds: Sequence[int], begin: Begin, workers: int, batch: int | None, deadline: float | None
) -> Iterator[tuple[int, Counter[str], list[tuple[str, str]]]]:
    """Run seeds in several processes; yields what became of each, in any order."""
    context = multiprocessing.get_context("fork")
    size = batch or max(1, -(-len(seeds) // workers))
    batches = [seeds[at : at + size] for at in range(0, len(seeds), size)]
    numbers = iter(range(1, len(batches) + 1))
    running: dict[Connection, tuple[Any, list[int], float]] = {}
    clock = _Clock()
    while batches or running:
        while batches and len(running) < workers and not _is_over(deadline):
            mine, theirs = context.Pipe(duplex=False)
            todo = list(batches.pop(0))
            process = context.Process(target=_work, args=(begin, next(numbers), todo, theirs, deadline))
            process.start()
            theirs.close()
            running[mine] = (process, todo, clock.seconds)
        if not running:
            return
        heard_now = wait(list(running), timeout=1.0)
        clock.tick()
        for ready in heard_now:
            assert isinstance(ready, Connection)
            try:
                yield ready.recv()
            except EOFError:
                running.pop(ready)[0].join()
                continue
            process, todo, _ = running[ready]
            running[ready] = (process, todo, clock.seconds)
        for connection, (process, todo, heard) in list(running.items()):
            if clock.seconds - heard > _SILENCE:
                process.kill()
                del running[connection]
                yield todo[0], Counter[str](), [("nothing hangs", f"one of the seeds {todo} did not come back")]


class _Clock:
    """Counts seconds, but not those in which the whole campaign was stopped."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def tick(self) -> None:
        """Count what has passed since it was called last, a few seconds at most."""
        now = time.monotonic()
        self.seconds += min(now - self._last, 5.0)
        self._last = now


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _work(begin: Begin, number: int, seeds: list[int], results: Connection, deadline: float | None) -> None:
    with begin(number) as run_seed:
        for seed in seeds:
            if _is_over(deadline):
                break
            try:
                faults, stories = run_seed(seed)
            except Exception:  # noqa: BLE001 - a mistake of the campaign is a finding too
                faults, stories = Counter[str](), [("the campaign itself", traceback.format_exc())]
            results.send((seed, faults, stories))
    results.close()
