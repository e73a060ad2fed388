"""Finishing runs whose worker is dead, where nothing watches over them: for cron, systemd and Kubernetes jobs.

The small sibling of workers on Dapr Workflow: it needs no scheduler, and looks only when it is started. Any number of
processes may look at the same time; whoever owns a journal first finishes its run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from strands_dapr_session import io_thread
from strands_dapr_session.errors import (
    ConfigurationError,
    FencedError,
    NothingUnfinishedError,
    ParkedError,
    SessionBusyError,
    StoredDataError,
)
from strands_dapr_session.hooks.owed import only_what_is_owed
from strands_dapr_session.hooks.standing import Standing
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.sessions import list_roots, list_sessions
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.stores.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strands_dapr_session.records.records import Acquired
    from strands_dapr_session.stores.base import StateStore

logger = logging.getLogger(__name__)

Build = Callable[[str], Any]
"""Builds the agent, graph or swarm of a session, given the session id, with a session manager on the same store."""

Outcome = Literal["finished", "interrupted", "failed", "parked", "busy", "gone", "unknown"]
"""``interrupted``: it now waits for a person. ``busy``: another worker was faster and runs it. ``gone``: another worker
was faster and has finished it. ``unknown``: `Build` made nothing of that name."""

_LEASE: Final = JournalSettings().lease

_TOGETHER: Final = 16
"""Journals that are read at the same time: enough to hide the way to the store."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What became of one abandoned run.

    Attributes:
        session_id: The session.
        root_id: The agent, graph or swarm.
        outcome: See `Outcome`.
        result: What the call returned.
        error: What it raised.
    """

    session_id: str
    root_id: str
    outcome: Outcome
    result: Any = None
    error: BaseException | None = None


def resume_abandoned(  # noqa: PLR0913  (each is a choice that users have)
    build: Build,
    *,
    store: str | StateStore | None = None,
    sessions: Iterable[str] | None = None,
    failed: bool = False,
    concurrency: int = 1,
    invocation_state: Mapping[str, Any] | None = None,
) -> list[Resumed]:
    """Find unfinished runs whose worker is dead, and finish them. Returns when all are done.

    A run is abandoned when it is unfinished and its worker is known to be gone, or has given no sign of life for its
    lease while this looked. Runs that wait for a person, that are parked, or that a live worker has, are left alone.

    Every session is read once: delete those that nobody needs any more.

    Args:
        build: See `Build`. It is called in the thread that makes the call.
        store: Where to look, as for `DaprSessionManager`.
        sessions: Only these sessions.
        failed: Finish also runs that raised: their callers know, and may have given them up.
        concurrency: How many to run at the same time, each in a thread.
        invocation_state: Handed to each call; what the first caller handed over is not recorded.

    Returns:
        What became of each, by session and root.

    Raises:
        ConfigurationError: `concurrency` is less than 1, or `store` cannot be understood.
        StoreError: The store cannot be read.
        StoredDataError: `sessions` names one that is damaged; without it, damaged sessions are logged and passed over.
    """
    if concurrency < 1:
        raise ConfigurationError(f"concurrency must be at least 1, not {concurrency!r}")
    found = io_thread.run_sync(find_abandoned(open_store(store), sessions, failed=failed))
    with ThreadPoolExecutor(concurrency, thread_name_prefix="resume-abandoned") as pool:
        return list(pool.map(partial(_resume, build, dict(invocation_state or {})), found))


async def find_abandoned(
    store: StateStore, sessions: Iterable[str] | None = None, *, failed: bool = False
) -> list[Standing]:
    """Find unfinished runs whose worker is dead. See `resume_abandoned`."""
    gate = asyncio.Semaphore(_TOGETHER)
    is_strict = sessions is not None

    async def look(session_id: str) -> list[Standing]:
        try:
            async with gate:
                roots = await list_roots(store, session_id)
                standings = [await read_standing(store, session_id, root_id) for root_id in roots]
        except StoredDataError as error:
            if is_strict:
                raise
            logger.error("session_id=<%s>, error=<%s> | passed over a damaged session", session_id, error)  # noqa: TRY400
            return []
        due = [each for each in standings if each.state == "running" or (failed and each.state == "failed")]
        return [each for each in due if await _is_abandoned(store, each)]

    names = list(sessions) if sessions is not None else await list_sessions(store)
    return [standing for found in await asyncio.gather(*map(look, names)) for standing in found]


async def read_standing(store: StateStore, session_id: str, root_id: str) -> Standing:
    """Read how a root stands.

    Raises:
        StoredDataError: What is stored is damaged.
        StoreError: The store cannot be read.
    """
    return Standing.read(await Journal(store, session_id, root_id).load(), session_id, root_id)


async def _is_abandoned(store: StateStore, before: Standing) -> bool:
    """Tell whether nobody works on an unfinished run; may watch it for a lease."""
    owner = before.owner
    if owner is None and before.state == "failed":
        return True
    alive = None if owner is None else this_process.is_alive(owner)
    if alive is not None:
        return not alive
    beat = await _heartbeat(store, owner)
    if owner is not None and this_process.has_given_up(owner, beat):
        return True
    # Without an owner, a call that a hook lets go on may be about to acquire the journal again.
    await asyncio.sleep(_LEASE if owner is None else owner.lease)
    after = await read_standing(store, before.session_id, before.root_id)
    return (after.sequence, after.owner) == (before.sequence, owner) and await _heartbeat(store, owner) == beat


async def _heartbeat(store: StateStore, owner: Acquired | None) -> bytes | None:
    key = None if owner is None else this_process.heartbeat_key(owner)
    entry = None if key is None else await io_thread.run(store.get(key))
    return None if entry is None else entry.value


def _resume(build: Build, invocation_state: Mapping[str, Any], standing: Standing) -> Resumed:
    """Finish one run."""
    session_id, root_id = standing.session_id, standing.root_id
    try:
        built = build(session_id)
        if root_of(built) != root_id:
            return Resumed(session_id, root_id, "unknown")
        with only_what_is_owed():
            result = built(None, invocation_state=dict(invocation_state))
    except NothingUnfinishedError as error:
        return Resumed(session_id, root_id, "gone", error=error)
    except (SessionBusyError, FencedError) as error:
        return Resumed(session_id, root_id, "busy", error=error)
    except ParkedError as error:
        return Resumed(session_id, root_id, "parked", error=error)
    except Exception as error:
        logger.exception("session_id=<%s>, root_id=<%s> | an abandoned run failed again", session_id, root_id)
        return Resumed(session_id, root_id, "failed", error=error)
    return Resumed(session_id, root_id, _outcome(result), result)


def root_of(built: Any) -> str:
    """Get the id by which the journal of an agent, graph or swarm goes."""
    return str(getattr(built, "agent_id", None) or built.id)


def _outcome(result: Any) -> Outcome:
    status = getattr(getattr(result, "status", None), "value", None)  # of a graph or swarm
    if status == "failed":
        return "failed"
    is_waiting = status == "interrupted" or getattr(result, "stop_reason", None) == "interrupt"
    return "interrupted" if is_waiting else "finished"
