"""Mutants still fit the code, and the harness tells one that is caught from one that is not. `make prove` tries all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.prove.mutants import MUTANTS
from tests.prove.mutants.harness import judge
from tests.prove.mutants.mutant import ROOT, Edit, Mutant, StalePatchError

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=BY_NAME)
def test_every_mutant_still_fits_the_code(mutant: Mutant, tmp_path: Path) -> None:
    mutant.write(tmp_path)
    assert mutant.caught_by


def test_every_rule_is_broken_once() -> None:
    assert len(BY_NAME) == len(MUTANTS) >= 40


@pytest.mark.parametrize("test", sorted({test for mutant in MUTANTS for test in mutant.caught_by}))
def test_every_catcher_exists(test: str) -> None:
    path, _, name = test.partition("::")
    function = re.escape(name.partition("[")[0])
    assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_a_mutant_is_caught_by_its_test_and_by_no_other() -> None:
    caught = BY_NAME["checksum_not_bound_to_its_key"]
    missed = Mutant("missed", "nothing that this test looks at", caught.edits, ("tests/unit/records/test_wire.py",))
    stale = Mutant("stale", "", (Edit("records/frames.py", "no such line", ""),), ("tests/unit/records",))
    absent = Mutant("absent", "", caught.edits, ("tests/unit/records/test_frames.py::test_of_nothing",))
    verdicts = {verdict.mutant: verdict for verdict in judge([caught, missed, stale, absent], at_once=2)}
    assert not verdicts[caught.name].problem
    assert verdicts["missed"].problem.startswith("not caught")
    assert "found 0 times" in verdicts["stale"].problem
    assert "could not be run" in verdicts["absent"].problem


def test_an_edit_must_fit_once(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("one = 1\ntwo = 1\n")
    with pytest.raises(StalePatchError, match="2 times"):
        Edit("module.py", "= 1", "= 2").apply(tmp_path)
    with pytest.raises(SyntaxError):
        Edit("module.py", "one =", "one = (").apply(tmp_path)
    assert module.read_text() == "one = 1\ntwo = 1\n"
    Edit("module.py", "one = 1", "one = 2").apply(tmp_path)
    assert module.read_text() == "one = 2\ntwo = 1\n"
