"""Redis and PostgreSQL: the machine's own, else Debian's packages.

Root installs the packages. Anyone else unpacks them into the project's cache and runs them from there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dev.programs.cache import cache_directory, cache_lock
from dev.programs.program import Program, ProgramMissingError, first_executable

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is run, and the package that brings it.
_PACKAGES = {"redis-server": "redis-server", "postgres": "postgresql"}
# Debian keeps PostgreSQL's programs off PATH, one directory for each major version.
_DIRECTORIES = ("usr/bin", "usr/local/bin", "usr/lib/postgresql/*/bin", "opt/homebrew/bin")
_POLICY = Path("/usr/sbin/policy-rc.d")
_IS_ROOT = os.geteuid() == 0


def locate(command: str) -> Program:
    """Find `redis-server` or `postgres`.

    Raises:
        ProgramMissingError: It is neither installed nor unpacked.
    """
    on_path = shutil.which(command)
    if on_path:
        return Program(Path(on_path))
    installed = first_executable(_usual_places(Path("/"), command))
    if installed:
        return Program(installed)
    tree = _unpacked_tree()
    unpacked = first_executable(_usual_places(tree, command))
    if unpacked:
        libraries = [*tree.glob("usr/lib/*-linux-gnu*"), *tree.glob("lib/*-linux-gnu*")]
        return Program(unpacked, {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))})
    raise ProgramMissingError(command)


def install() -> None:
    """Get the programs that the machine lacks."""
    with cache_lock("debian"):
        packages = [package for command, package in _PACKAGES.items() if not _is_present(command)]
        if packages:
            _install_packages(packages)
    for command in _PACKAGES:
        print(f"{command}: {locate(command).path}", flush=True)


def _is_present(command: str) -> bool:
    try:
        locate(command)
    except ProgramMissingError:
        return False
    return True


def _usual_places(root: Path, command: str) -> Iterator[Path]:
    for directory in _DIRECTORIES:
        yield from sorted(root.glob(f"{directory}/{command}"), reverse=True)


def _unpacked_tree() -> Path:
    return cache_directory() / "debian"


def _install_packages(packages: list[str]) -> None:
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise RuntimeError(f"please install {names} with this machine's package manager: it has no apt-get")
    print(f"installing {names} from Debian's packages", flush=True)
    try:
        if _IS_ROOT:
            _apt_install(packages)
        else:
            _unpack(packages)
    except subprocess.CalledProcessError as error:
        remedy = f"apt-get update && apt-get install -y --no-install-recommends {names}"
        raise RuntimeError(f"{error}\n{error.stderr}\nPlease run as root: {remedy}") from error


def _apt_install(packages: list[str]) -> None:
    options = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    with _no_service_starts():
        _run(["apt-get", "update", *options])
        _run(["apt-get", "install", "-y", "--no-install-recommends", *options, *packages])


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep a package's scripts from starting the service: we want its program, not another server on the usual port."""
    if _POLICY.exists():  # The machine's own policy, which is not ours to change.
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _unpack(packages: list[str]) -> None:
    """Unpack the packages, and those of their dependencies that the machine lacks, without installing anything."""
    tree = _unpacked_tree()
    downloads = tree.with_name("debian-downloads")
    downloads.mkdir(parents=True, exist_ok=True)
    plan = _run(["apt-get", "install", "--simulate", "-qq", "--no-install-recommends", *packages])
    wanted = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    _run(["apt-get", "download", "-qq", *wanted], directory=downloads)
    for archive in sorted(downloads.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(tree)])
    shutil.rmtree(downloads)


def _run(command: list[str], *, directory: Path | None = None) -> str:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(
        command, check=True, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return result.stdout
