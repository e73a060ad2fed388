"""A program as a crash test sees it: something that is built with a session manager, and the calls that are made."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from strands_dapr_session.testing.faults import Plan

NUMBERED: Final = "<numbered>"
"""The invocation id of a call that is given one by its place in the program."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a program makes.

    Attributes:
        prompt: What is asked.
        id: The invocation id. A program that is started again makes all its calls again, and gets recorded results for
            those that had finished. None: a call without an id, which is made again unless it had returned before.
        attempts: How often it is made in one process while it raises; the last exception ends the process.
    """

    prompt: Any
    id: str | None = NUMBERED
    attempts: int = 1


@dataclass(frozen=True)
class Program:
    """A program that may be killed and started again.

    Processes get it pickled: functions must be at the top level of modules that can be imported.

    Attributes:
        build: Builds what is called, an agent for example, with the session manager that it is given.
        calls: The calls, in order; anything but a `Call` is the prompt of one.
        options: Further arguments of the session manager.
        answer: Answers an interrupt, given its name and reason.
        faults: What goes wrong with the store, in each process.
    """

    build: Callable[[Any], Any]
    calls: Sequence[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    answer: Callable[[str, Any], Any] | None = None
    faults: Plan | None = None

    @property
    def numbered_calls(self) -> list[Call]:
        """The calls, each with the invocation id that it is made with."""
        calls = [call if isinstance(call, Call) else Call(call) for call in self.calls]
        return [
            Call(call.prompt, f"call-{number}" if call.id == NUMBERED else call.id, call.attempts)
            for number, call in enumerate(calls, 1)
        ]

    def pickled(self) -> bytes:
        """Write it for another process.

        Raises:
            ConfigurationError: It cannot be.
        """
        if getattr(self.build, "__module__", None) == "__main__":
            raise ConfigurationError(
                f"{getattr(self.build, '__qualname__', self.build)} is defined in the program that was started, which "
                "other processes cannot import: move it to a module"
            )
        try:
            return pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"the program cannot be started in another process ({error}). Its functions must be at the top level "
                "of a module that can be imported."
            ) from error

    @property
    def modules(self) -> list[str]:
        """The modules that a process needs for it, as far as they can be told."""
        names = {getattr(function, "__module__", None) for function in (self.build, self.answer, self.faults)}
        return sorted(name for name in names if isinstance(name, str) and name != "__main__")
