"""Worker processes in milliseconds: forked from one that has imported their program, and started nothing."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dev.servers.processes import is_running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self


class Child:
    """A process that was forked.

    Attributes:
        pid: Its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return is_running(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = 60.0) -> None:
        """Wait for its end.

        Raises:
            TimeoutError: It still runs.
        """
        deadline = time.monotonic() + timeout
        while self.is_running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            time.sleep(0.005)


class Nursery:
    """Forks processes that call the ``main(arguments)`` of a module; leaving it kills those that still run."""

    def __init__(
        self, module: str, *, python: Path | str = sys.executable, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the process to fork from; it imports the module.

        Args:
            module: It has a `main`.
            python: The interpreter, which may be of another environment.
            environment: What is set while it imports; by default what is set here.
        """
        self._process = subprocess.Popen(
            [python, "-m", "dev.nursery", module],
            cwd=Path(__file__).parents[1],  # where `dev` and the module are, whether they are installed or not
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
        """Fork a process; what it prints goes to the end of a file."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the nursery has no pipes")
        order = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = self._process.stdout.readline()
        if not pid:
            raise RuntimeError("the nursery has ended; what it printed says why")
        return Child(int(pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()


def _serve(module: str) -> None:
    """Fork a process for each line of standard input."""
    program = importlib.import_module(module)
    if threading.active_count() > 1:
        raise SystemExit(f"importing {module} started threads, which no fork survives: {threading.enumerate()}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that end are not waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children = []
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(order)
            try:
                program.main(order["arguments"])
                status = 0
            except BaseException:  # noqa: BLE001 - nothing of the child may run the parent's code
                traceback.print_exc()
                status = 1
            sys.stderr.flush()
            os._exit(status)
        children.append(pid)
        print(pid, flush=True)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _become(order: dict[str, object]) -> None:
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(str(order["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for ours, theirs in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(ours, theirs)
    environment = order["environment"]
    if isinstance(environment, dict):
        os.environ.clear()
        os.environ.update(environment)


if __name__ == "__main__":
    _serve(sys.argv[1])
