"""The programs that tests, benchmarks and examples run: found on the machine, else built or installed.

`python -m dev.programs` (`make servers`) gets all of them but Temporal, which a benchmark builds when it is first run.
Nothing else installs anything: what only looks a program up raises `ProgramMissingError`, so that no test ever waits
for a build and none is skipped for want of a server.
"""

from dev.programs.program import Program, ProgramMissingError

__all__ = ["Program", "ProgramMissingError"]
