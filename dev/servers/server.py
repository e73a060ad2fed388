"""What all servers have in common: one process with a directory, ports and a log of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dev.servers.ports import ReservedPort
from dev.servers.processes import is_running, signal_family
from dev.servers.reaper import reaper

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

# A sidecar may have to wait 20 s for a scheduler that was killed.
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_START_TRIES = 3
_LOG_TAIL_LINES = 25


class ServerStartError(Exception):
    """A server ended, or was not ready in time, when it was started. The message has the end of its log."""

    @property
    def is_port_taken(self) -> bool:
        """Whether it could not have one of its ports."""
        return "address already in use" in str(self).lower()


class Server(ABC):
    """One server process on loopback.

    The first `start` reserves its ports and makes its directory. They stay the same, with all data, through `stop`,
    `kill` and every later `start`, until `close`, which leaving the `with` block calls.
    """

    name: ClassVar[str]
    """What its directory and its errors call it."""

    port_names: ClassVar[tuple[str, ...]] = ("main",)
    """One port is reserved for each."""

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """Asks it to end in good order."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._ports: dict[str, ReservedPort] = {}
        self._process: subprocess.Popen[bytes] | None = None

    # What a kind of server defines.

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line that serves in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it answers. Asked again and again; an `OSError` means no."""

    def _environment(self) -> Mapping[str, str]:
        """Return the whole environment of its process."""
        return os.environ

    def _user(self) -> str | None:
        """Return the user to run as, when that is not ours."""
        return None

    def _prepare(self) -> None:  # noqa: B027  (most have nothing to prepare)
        """Fill the new directory before the first start."""

    # What everybody may use.

    @property
    def directory(self) -> Path:
        """Where it keeps all that it writes."""
        if self._directory is None:
            raise RuntimeError(f"{self.name} has not been started yet")
        return self._directory

    @property
    def log_path(self) -> Path:
        """What it printed, over all of its starts."""
        return self.directory / "server.log"

    @property
    def port(self) -> int:
        """The port that clients use."""
        return self.port_number(self.port_names[0])

    @property
    def address(self) -> str:
        """The host and port that clients use."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running process."""
        if self._process is None or not self.is_running:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended since, paused or not."""
        return self._process is not None and self._process.poll() is None

    def port_number(self, port_name: str) -> int:
        """Return the number of one of its `port_names`."""
        if port_name not in self._ports:
            raise RuntimeError(f"{self.name} has no port {port_name!r} (ports are reserved by its first start)")
        return self._ports[port_name].number

    def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            ServerStartError: It ended or was not ready in time.
        """
        if self.is_running:
            raise RuntimeError(f"{self.name} is running already")
        if self._directory is None:
            self._start_anew(_START_TRIES)
        else:
            self._launch()
        return self

    def stop(self) -> None:
        """End it in good order, by force when that takes too long. Does nothing when it isn't running."""
        if self._process is None or not self.is_running:
            return
        signal_family(self._process.pid, signal.SIGCONT)  # A paused one would never hear us.
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            reaper().forget_process(self._process.pid)

    def kill(self) -> None:
        """End it and its children at once, with SIGKILL, as a crash would. Does nothing when it isn't running."""
        if self._process is None or not self.is_running:
            return
        family = signal_family(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # An orphan that is still dying may hold the port, or a lock on the data.
        while any(map(is_running, family)):
            time.sleep(0.001)
        reaper().forget_process(self._process.pid)

    def restart(self) -> None:
        """Stop it, unless it is down already, and start it on the same ports with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it and its children with SIGSTOP: connections stay open and nothing answers."""
        signal_family(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        signal_family(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good: remove its directory and give its ports back."""
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            reaper().forget_directory(self._directory)
            self._directory = None
        while self._ports:
            self._ports.popitem()[1].release()

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start_anew(self, tries: int) -> None:
        try:
            self._set_up()
            self._launch()
        except BaseException as error:
            self.close()
            # Somebody who reserves no ports may take one between our look and the server's bind.
            if tries == 1 or not (isinstance(error, ServerStartError) and error.is_port_taken):
                raise
            self._start_anew(tries - 1)

    def _set_up(self) -> None:
        self._ports = {port_name: ReservedPort() for port_name in self.port_names}
        self._directory = Path(tempfile.mkdtemp(prefix=f"strands-dapr-session-{self.name}-", dir=self._parent()))
        reaper().adopt_directory(self._directory)
        if user := self._user():
            shutil.chown(self._directory, user)
        self._prepare()

    def _parent(self) -> Path | None:
        """Return where to make the directory: where everybody may look when it runs as somebody else."""
        return Path("/tmp") if self._user() else None  # noqa: S108  (mkdtemp makes it safe)

    def _launch(self) -> None:
        if self._process:  # The last one; it may have ended without us.
            reaper().forget_process(self._process.pid)
        self._process = self._spawn(self._command())
        reaper().adopt_process(self._process.pid)
        try:
            self._wait_until_ready(self._process)
        except BaseException:  # A test's timeout or Ctrl-C among them.
            self.kill()
            raise

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Run a command as the server's user, in its directory, with its log."""
        user = self._user()
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop their servers themselves.
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
                extra_groups=[] if user else None,
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self._start_error(f"ended with status {process.returncode}")
            try:
                if self._is_ready():
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise self._start_error(f"was not ready after {_START_TIMEOUT:.0f} s")

    def _start_error(self, what: str) -> ServerStartError:
        return ServerStartError(f"{self.name} {what}; the end of its log:\n{self.log_tail()}")
