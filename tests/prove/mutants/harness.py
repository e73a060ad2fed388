"""Runs the tests that must notice a mutant, against a copy of the package that stands first on `sys.path`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.prove.mutants.mutant import ROOT, Mutant, StalePatchError, copy_package

BOUND: Final = 120.0
"""Seconds within which a mutant must be caught: what a developer waits for without a second thought."""

_PASSED: Final = 0
_FAILED: Final = 1
_FAILURE: Final = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant, under one of its tests.

    Attributes:
        mutant: Its name.
        test: The test that had to fail.
        seconds: How long that took, the start of the process included.
        problem: Why it does not count as caught; empty if it was.
        reason: What the test said.
    """

    mutant: str
    test: str
    seconds: float
    problem: str = ""
    reason: str = ""


def judge(mutants: Sequence[Mutant], *, at_once: int) -> Iterator[Verdict]:
    """Break the code in one way after the other, and see that each is noticed.

    Args:
        mutants: What to break.
        at_once: How many to try at the same time.

    Yields:
        A verdict for each test of each mutant, in order.
    """
    with ThreadPoolExecutor(at_once) as threads:
        for verdicts in threads.map(_judge, mutants):
            yield from verdicts


def check_unbroken(tests: Sequence[str]) -> str:
    """See that tests pass on a copy that nothing is wrong with: only then does a failure tell anything.

    Returns:
        What went wrong; empty if nothing did.
    """
    with tempfile.TemporaryDirectory(prefix="unbroken-") as name:
        copy_package(Path(name))
        status, output = _run(Path(name), tests, bound=len(tests) * BOUND, each=BOUND * 5)
    return "" if status == _PASSED else output


def _judge(mutant: Mutant) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix=f"{mutant.name}-") as name:
        try:
            mutant.write(Path(name))
        except (StalePatchError, SyntaxError) as error:
            return [Verdict(mutant.name, "", 0.0, problem=f"cannot be made any more: {error}")]
        return [_try(mutant, test, Path(name)) for test in mutant.caught_by]


def _try(mutant: Mutant, test: str, directory: Path) -> Verdict:
    begun = time.monotonic()
    status, output = _run(directory, [test], bound=BOUND)
    seconds = time.monotonic() - begun
    if status == _PASSED:
        return Verdict(mutant.name, test, seconds, problem=f"not caught: {mutant.promise}")
    failure = _FAILURE.search(output)
    if status != _FAILED or failure is None:
        return Verdict(mutant.name, test, seconds, problem=f"the test could not be run ({status}): {output[-2000:]}")
    reason = (failure[2] or "").strip()
    if "Timeout (>" in reason:
        return Verdict(mutant.name, test, seconds, problem=f"not caught within {BOUND / 2:.0f} s: {mutant.promise}")
    return Verdict(mutant.name, test, seconds, reason=reason)


def _run(directory: Path, tests: Sequence[str], *, bound: float, each: float = BOUND / 2) -> tuple[int | None, str]:
    """Run tests in a process that imports the package from a directory; None if it took too long."""
    # The script, not `-m pytest`, which would put the tree itself first on the path.
    pytest = Path(sys.executable).with_name("pytest")
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=no", f"--timeout={each}"]
    environment = {**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    try:
        done = subprocess.run(
            [pytest, *options, *tests],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=bound,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no end after {bound:.0f} s"
    return done.returncode, done.stdout + done.stderr
