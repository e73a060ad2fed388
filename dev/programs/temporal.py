"""Temporal's command line program, whose development server only one benchmark needs."""

from __future__ import annotations

from pathlib import Path

from dev.programs.cache import cache_lock
from dev.programs.go_module import GoModule
from dev.programs.program import Program, ProgramMissingError, first_executable

# Later releases of the command have a part in a directory of their repository that the module proxy does not serve.
_MODULE = GoModule(
    "Temporal",
    Path(__file__).parents[1] / "temporal",
    "github.com/temporalio/cli",
    ("-mod=readonly", "-buildvcs=false", "-trimpath"),
)
_COMMAND = "temporal"


def temporal_version() -> str:
    """Return the version of the command that go.mod pins, which is not that of the server in it."""
    return _MODULE.version


def locate() -> Program:
    """Find it.

    Raises:
        ProgramMissingError: It is not built.
    """
    path = first_executable([_MODULE.built / _COMMAND])
    if path is None:
        raise ProgramMissingError(f"Temporal's command {_MODULE.version}")
    return Program(path)


def install() -> None:
    """Build it if it is not there. A cold build takes some three to seven minutes on two cores.

    Raises:
        RuntimeError: It cannot be built.
    """
    with cache_lock("temporal"):
        if not first_executable([_MODULE.built / _COMMAND]):
            _MODULE.build(_COMMAND, f"{_MODULE.requires}/cmd/temporal")
