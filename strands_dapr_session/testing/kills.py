"""Moments at which a process ends itself, and the switch that does it."""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

if TYPE_CHECKING:
    from strands_dapr_session.testing.ledger import Ledger

What = Literal["store", "tool", "model", "node"]
Moment = Literal["before", "after"]

_TEXT: Final = re.compile(rf"({'|'.join(get_args(What))})-(\d+)-(before|after)(-pause)?")


@dataclass(frozen=True, slots=True)
class Kill:
    """A moment in the life of a process.

    Attributes:
        what: A call of the store, a run of a tool, a call of the model, or the turn of a node.
        number: Which, counted from 1 in each process.
        moment: Before it begins; or after it is done, and before anybody has learnt of it.
        pause: The process is only stopped (SIGSTOP) and may be continued.
    """

    what: What
    number: int
    moment: Moment
    pause: bool = False

    def __str__(self) -> str:
        return f"{self.what}-{self.number}-{self.moment}" + "-pause" * self.pause

    @classmethod
    def parse(cls, text: str) -> Kill:
        """Read what `str` wrote.

        Raises:
            ValueError: It is something else.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no moment such as store-7-before, tool-2-after or model-1-before")
        return cls(cast("What", found[1]), int(found[2]), cast("Moment", found[3]), pause=found[4] is not None)


@dataclass(slots=True)
class KillSwitch:
    """Counts what happens in this process, and ends it at the chosen moment.

    Attributes:
        kill: The moment; None to live on.
        ledger: Where the end is noted.
    """

    kill: Kill | None
    ledger: Ledger
    _seen: list[tuple[What, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before(self, what: What, **details: Any) -> int:
        """Something is about to happen; returns its number."""
        with self._lock:
            self._seen.append((what, str(details.get("verb") or details.get("name") or "")))
            number = sum(seen == what for seen, _ in self._seen)
        self._check(Kill(what, number, "before"), details)
        return number

    def after(self, what: What, number: int, **details: Any) -> None:
        """Something has happened."""
        self._check(Kill(what, number, "after"), details)

    @property
    def counts(self) -> dict[str, list[str]]:
        """What has happened: the verbs of the store, and the names of tools, models and nodes."""
        return {what: [name for seen, name in self._seen if seen == what] for what in get_args(What)}

    def _check(self, now: Kill, details: dict[str, Any]) -> None:
        kill = self.kill
        if kill is None or (kill.what, kill.number, kill.moment) != (now.what, now.number, now.moment):
            return
        self.ledger.note("paused" if kill.pause else "killed", moment=str(kill), **details)
        if kill.pause:
            # To this thread: sent to the process, another one would get it, some time.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        else:
            os.kill(os.getpid(), signal.SIGKILL)
