"""Runs that get nowhere: they are parked after so many tries, until somebody lets them be tried again.

A tool that kills its process kills every process that goes on with the run. So each try is counted in the journal, and
those that began where the one before had begun, with no step recorded since, are a loop. A run that gets a little
further each time, however often it is interrupted, is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session import telemetry
from strands_dapr_session.errors import ParkedError
from strands_dapr_session.hooks.checks import read_status
from strands_dapr_session.hooks.documents import PROGRESS
from strands_dapr_session.hooks.invocation import FAILED, INTERRUPTED, PARKED, STATUS, Progress
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import Noted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from strands_dapr_session.hooks.recording import Recording
    from strands_dapr_session.journal.journal import Journal
    from strands_dapr_session.records.records import Record
    from strands_dapr_session.records.view import View

HOW_TO_RESTART: Final = (
    "Find out why, then let it be tried again with session_manager.restart(agent) or `strands-dapr-session restart`. "
    "Another prompt gives it up and begins anew."
)


def count_tries(recording: Recording) -> tuple[int, list[int]]:
    """Count how many tries of the owed invocation have ended where it stands now.

    Returns:
        The count, and the place.

    Raises:
        ParkedError: It is parked, or there were as many tries as there may be.
    """
    status = recording.status
    place = _place(recording)
    tries = int(status.get("tries", 0)) + 1 if status.get("place") in (None, place) else 1
    if status.get("state") == INTERRUPTED:
        tries = 0  # it waited for a person
    limit = recording.settings.max_attempts
    if status.get("state") == PARKED:
        raise ParkedError(f"an invocation of {recording.name} is parked: {status.get('error')}. {HOW_TO_RESTART}")
    if limit is not None and tries >= limit:
        raise ParkedError(
            f"an invocation of {recording.name} is parked: {_reason(tries)}. {HOW_TO_RESTART}", _reason(tries)
        )
    return tries, place


def _reason(tries: int) -> str:
    return f"its tries ended {tries} times at the same place, with no step recorded in between"


def _place(recording: Recording) -> list[int]:
    progress = Progress.read(recording.documents.recorded(PROGRESS))
    return [progress.messages, len(recording.results), sum(tried.attempt for tried in recording.tries.values())]


def last_words(recording: Recording, error: BaseException) -> list[Record]:
    """Write down that an invocation is parked, if that is why a call ends before it has begun."""
    if not isinstance(error, ParkedError) or recording.status.get("state") == PARKED:
        return []
    telemetry.PARKED.add(1)
    recording.status = {**recording.status, "state": PARKED, "error": error.reason}
    return [_note(recording.scope, recording.status)]


async def restart(journal: Journal) -> list[str]:
    """Let everything that is parked in a journal be tried again.

    Returns:
        The scopes in which something was.

    Raises:
        SessionBusyError: A live worker runs something in it.
        DurableSessionError: It could not be recorded.
    """

    def unpark(view: View, name: str) -> list[Noted]:
        every = {path: read_status(scope, key=name) for path, scope in view.scopes.items()}
        fresh = {"state": FAILED, "tries": -1, "place": None, "began": None}
        return [_note(path, {**status, **fresh}) for path, status in every.items() if status.get("state") == PARKED]

    return [note.scope for note in await _change(journal, unpark)]


async def give_up(journal: Journal, key: str | None = None) -> None:
    """Say that nobody waits for an agent's unfinished invocation any more: another prompt then begins anew.

    Args:
        journal: The agent's.
        key: Only if its caller gave it this id.

    Raises:
        SessionBusyError: A live worker runs it.
        DurableSessionError: It could not be recorded.
    """

    def fail(view: View, name: str) -> list[Noted]:
        scope = view.scope("")
        if scope.invocation is None or scope.invocation.finished or STATUS not in scope.notes:
            return []
        if key not in {None, scope.invocation.key}:
            return []
        return [_note(scope.path, {**read_status(scope, key=name), "state": FAILED})]

    await _change(journal, fail)


async def _change(journal: Journal, choose: Callable[[View, str], list[Noted]]) -> list[Noted]:
    """Write notes for which nobody may run anything meanwhile. `choose` gets the journal's name for errors."""
    acquisition = await journal.acquire()
    notes: list[Noted] = []
    try:
        view = acquisition.view if acquisition.moved else await journal.load()
        notes = choose(view, journal.name)
    finally:
        await journal.release(*notes)
    return notes


def _note(scope: str, status: Mapping[str, Any]) -> Noted:
    return Noted(scope, STATUS, pack_value(status, path=STATUS))
