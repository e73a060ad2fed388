from __future__ import annotations

import os
import sys
from pathlib import Path

from dev.nursery import Nursery

PROGRAM = """
import os, sys
imported = os.environ["SAID"]

def main(arguments):
    print(*arguments, imported, os.environ["SAID"], sys.executable)
"""


def test_a_program_is_imported_in_one_environment_and_run_in_another(tmp_path: Path) -> None:
    (tmp_path / "program_of_a_test.py").write_text(PROGRAM)
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "SAID": "early"}

    with Nursery("program_of_a_test", python=python, environment=environment) as nursery:
        nursery.start(["a", "b"], environment | {"SAID": "late"}, tmp_path / "log").wait()

    assert (tmp_path / "log").read_text() == f"a b early late {python}\n"
