"""What is done with whole sessions: list them, and delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strands_dapr_session import io_thread
from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.journal import registry
from strands_dapr_session.journal.acquire import Wish, give_back
from strands_dapr_session.journal.context import Context
from strands_dapr_session.journal.delete import delete_journal, fence_off
from strands_dapr_session.journal.fence import DELETION
from strands_dapr_session.journal.layout import check_id, random_name, session_prefix, shard_key
from strands_dapr_session.journal.settings import JournalSettings
from strands_dapr_session.journal.tenure import Tenure
from strands_dapr_session.journal.worker import this_process
from strands_dapr_session.records.wire import encode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strands_dapr_session.journal.acquire import Claim
    from strands_dapr_session.stores.base import StateStore


async def list_sessions(store: StateStore) -> list[str]:
    """List the ids of all sessions in a store, sorted; also of those that were not deleted to the end."""

    async def read() -> list[str]:
        await store.open()
        return await registry.all_sessions(Context(store, this_process))

    return await io_thread.run(read())


async def list_roots(store: StateStore, session_id: str) -> list[str]:
    """List the ids of the agents and orchestrators that have a journal in a session, sorted."""
    check_id("session_id", session_id)

    async def read() -> list[str]:
        await store.open()
        return sorted(await registry.roots_of(Context(store, this_process), session_id))

    return await io_thread.run(read())


async def delete_session(store: StateStore, session_id: str, settings: JournalSettings | None = None) -> None:
    """Delete a session: every journal of it. Can be run again when it was killed.

    Raises:
        SessionBusyError: Another live worker runs an invocation of it; nothing was changed.
        DamagedDataError: What names its keys cannot be read; says how to delete them nevertheless.
        StoreError: The store does not answer. Run it again.
    """
    try:
        roots = await list_roots(store, session_id)
        await delete_journals(Context(store, this_process), session_id, roots, settings or JournalSettings())
    except DamagedDataError as error:
        raise DamagedDataError(error.key, f"{error.reason}. {_by_hand(session_id, error.key)}") from error


def _by_hand(session_id: str, damaged: str) -> str:
    prefix = f"every key that begins with {session_prefix(session_id)!r} (behind the application id, with Dapr)"
    if damaged == shard_key(session_id):
        return (
            "This is the part of the registry that knows the session, so its keys cannot be found. Put it back from a "
            f"backup of the store. Without one, delete {prefix} with the tools of the store; the other sessions in "
            "that part of the registry are lost as well, and it can then be deleted too."
        )
    return (
        "It is needed to find the other keys, so the session cannot be deleted from here. Delete "
        f"{prefix} with the tools of the store, then call delete() again."
    )


async def delete_journals(context: Context, session_id: str, roots: Sequence[str], settings: JournalSettings) -> None:
    """Delete journals of a session, all of them or none."""
    holder = _Holder()
    tenure = Tenure(context, random_name(), settings.lease, holder)
    wishes = [
        Wish(session_id, root, settings, tenure.acquisition, (encode_record(DELETION),), understand=None)
        for root in roots
    ]
    try:
        await io_thread.run(_delete(context, wishes))
    except BaseException:
        tenure.give_up()
        raise
    tenure.end()


async def _delete(context: Context, wishes: Sequence[Wish]) -> None:
    await context.store.open()
    claims: dict[str, Claim | None] = {}
    try:
        for wish in wishes:
            claims[wish.root_id] = await fence_off(context, wish)
    except BaseException:
        for claim in filter(None, claims.values()):
            await give_back(context, claim)
        raise
    for wish in wishes:
        await delete_journal(context, wish, claims[wish.root_id])


class _Holder:
    """Holds what is being deleted."""
