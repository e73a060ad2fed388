"""What is written down about a run: what was asked for, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, get_args

from strands_dapr_session.errors import DamagedDataError

Phase: TypeAlias = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]
"""How a run stands: nobody has it; a worker has it; people have to answer; and the three ways to be over."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
OVER: Final = ("completed", "failed", "cancelled")

_KEPT_ATTEMPTS: Final = 32
_KEPT_TEXT: Final = 2000


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        agent: The name under which workers registered what is to run.
        session_id: The session to run it in.
        prompt: What to call it with.
    """

    agent: str
    session_id: str
    prompt: Any

    def plain(self) -> list[Any]:
        """Take it apart, to be stored."""
        return [self.agent, self.session_id, self.prompt]

    @classmethod
    def read(cls, value: Any, key: str) -> Request:
        """Put it together again.

        Raises:
            DamagedDataError: It is none.
        """
        match value:
            case [str() as agent, str() as session_id, prompt]:
                return cls(agent, session_id, prompt)
            case _:
                pass
        raise DamagedDataError(key, "not a request")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's try at a run.

    Attributes:
        worker: The worker's name.
        began: When, in seconds since the epoch by that worker's clock.
        ended: How it ended; empty while it is under way.
        detail: What there is to say about that.
    """

    worker: str
    began: float
    ended: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunState:
    """How a run stands.

    Attributes:
        phase: In one word.
        generation: How often it was started again by hand.
        failures: Attempts in a row that ended before the agent was called. Those that end later its journal counts.
        unpark: Its journal is to be told that it may be tried again.
        holder: The worker that has it; empty when none has.
        claim: Names the attempt under way.
        cancel: Somebody wants it to end.
        answers: How often people have answered.
        interrupts: What it asks: the interrupts' ids, names and reasons.
        error: Why it failed: the type of the error and its message.
        behind: The run of the same session that it waits for, as long as that one is not over; empty for none.
        followers: The runs that wait for this one.
        misfit_since: Since when no worker that it was offered to could run it, in seconds since the epoch.
        attempts: The newest attempts, and the first.
    """

    phase: Phase = "pending"
    generation: int = 0
    failures: int = 0
    unpark: bool = False
    holder: str = ""
    claim: str = ""
    cancel: bool = False
    answers: int = 0
    interrupts: tuple[dict[str, Any], ...] = ()
    error: tuple[str, str] = ("", "")
    behind: str = ""
    followers: tuple[str, ...] = ()
    misfit_since: float = 0.0
    attempts: tuple[Attempt, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in OVER

    @property
    def is_due(self) -> bool:
        """Whether there is something for a worker to do."""
        return not self.is_over and (self.cancel or (self.phase != "waiting" and not self.behind))

    def is_left_by(self, worker: str) -> bool:
        """Tell whether a worker that died, and had it in hand or just let go of it, leaves it to others."""
        return self.holder == worker or (self.is_due and not self.holder and bool(self.attempts))

    def waits_for(self, other: str) -> bool:
        """Tell whether it waits for the end of another run."""
        return self.behind == other and not self.is_over

    # -- what may happen to it -----------------------------------------------------------------------------------

    def begun(self, worker: str, claim: str, now: float) -> RunState:
        """A worker takes it."""
        attempts = (*self.attempts, Attempt(worker, now))
        if len(attempts) > _KEPT_ATTEMPTS:
            attempts = (attempts[0], *attempts[1 - _KEPT_ATTEMPTS :])
        return replace(self, phase="running", holder=worker, claim=claim, attempts=attempts, interrupts=(), behind="")

    def called(self) -> RunState:
        """The agent could be built, and is about to be called."""
        return replace(self, failures=0, unpark=False)

    def let_go(self, ended: str, detail: str = "", *, failed: bool = False) -> RunState:
        """The attempt is over, and the run is not."""
        return replace(
            self._ended(ended, detail),
            phase="pending",
            holder="",
            claim="",
            failures=self.failures + int(failed),
            misfit_since=self.misfit_since if ended == "refused" else 0.0,
        )

    def lost(self) -> RunState:
        """Its worker is taken for dead."""
        return self.let_go("lost", "the worker died, or was silent for a lease", failed=True)

    def put_off(self, other: str, detail: str) -> RunState:
        """It has to wait until another run is over."""
        return replace(self.let_go("put off", detail), behind=other)

    def its_turn(self, other: str) -> RunState:
        """What it waited for is over."""
        return self.to_follow("", other)

    def to_follow(self, other: str, instead: str) -> RunState:
        """It is to wait for another run instead of the one that it waits for, or for none."""
        return replace(self, behind=other) if self.waits_for(instead) else self

    def followed_by(self, *others: str) -> RunState:
        """Other runs wait until this one is over."""
        new = tuple(each for each in others if each not in self.followers)
        return self if self.is_over or not new else replace(self, followers=(*self.followers, *new))

    def asking(self, interrupts: tuple[dict[str, Any], ...]) -> RunState:
        """The attempt ended with questions."""
        ended = self._ended("interrupted", "")
        return replace(ended, phase="waiting", holder="", claim="", interrupts=interrupts, failures=0, misfit_since=0.0)

    def over(self, phase: Phase, error_type: str = "", message: str = "") -> RunState:
        """It is over."""
        ended = self._ended(phase, message)
        return replace(ended, phase=phase, holder="", claim="", interrupts=(), error=(error_type, message[:_KEPT_TEXT]))

    def unfit(self, now: float, timeout: float, error_type: str, message: str) -> RunState:
        """A worker that cannot run it was offered it."""
        if not self.misfit_since:
            return replace(self, misfit_since=now)
        return self.over("failed", error_type, message) if now - self.misfit_since >= timeout else self

    def answered(self, number: int) -> RunState:
        """People have answered, for the so many-th time."""
        if self.phase != "waiting" or self.answers != number - 1:
            return self
        return replace(self, phase="pending", answers=number, interrupts=())

    def to_cancel(self) -> RunState:
        """Somebody wants it to end."""
        return self if self.is_over else replace(self, cancel=True)

    def again(self, generation: int) -> RunState:
        """It is to be driven by another workflow than that of a generation."""
        if self.generation != generation:
            return self
        fresh = replace(self, generation=generation + 1, failures=0, error=("", ""), misfit_since=0.0)
        return replace(fresh, phase="pending", cancel=False, unpark=True) if self.phase == "failed" else fresh

    def given_up(self) -> RunState:
        """It has failed and is not to go on: a worker is to free its session."""
        return replace(self.again(self.generation), cancel=True) if self.phase == "failed" else self

    def _ended(self, ended: str, detail: str) -> RunState:
        if not self.holder or not self.attempts:
            return self
        last = replace(self.attempts[-1], ended=ended, detail=detail[:_KEPT_TEXT])
        return replace(self, attempts=(*self.attempts[:-1], last))

    # -- to the store and back -----------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """Take it apart, to be stored."""
        return {
            "phase": self.phase,
            "generation": self.generation,
            "failures": self.failures,
            "unpark": self.unpark,
            "holder": self.holder,
            "claim": self.claim,
            "cancel": self.cancel,
            "answers": self.answers,
            "interrupts": list(self.interrupts),
            "error": list(self.error),
            "behind": self.behind,
            "followers": list(self.followers),
            "misfit_since": self.misfit_since,
            "attempts": [[each.worker, each.began, each.ended, each.detail] for each in self.attempts],
        }

    @classmethod
    def read(cls, value: Any, key: str) -> RunState:
        """Put it together again; a fresh one of None.

        Raises:
            DamagedDataError: It is none.
        """
        if value is None:
            return cls()
        try:
            error_type, message = value["error"]
            return cls(
                phase=PHASES[PHASES.index(value["phase"])],
                generation=int(value["generation"]),
                failures=int(value["failures"]),
                unpark=bool(value["unpark"]),
                holder=str(value["holder"]),
                claim=str(value["claim"]),
                cancel=bool(value["cancel"]),
                answers=int(value["answers"]),
                interrupts=tuple({"id": str(each["id"]), **each} for each in value["interrupts"]),
                error=(str(error_type), str(message)),
                behind=str(value["behind"]),
                followers=tuple(map(str, value["followers"])),
                misfit_since=float(value["misfit_since"]),
                attempts=tuple(
                    Attempt(str(worker), float(began), str(ended), str(detail))
                    for worker, began, ended, detail in value["attempts"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedDataError(key, "not the state of a run") from error
