"""Heads that this process has read lately, so that the next load of the same journal begins with what it will need.

A head that is remembered proves nothing. It only says which keys to ask for; the answer shows whether the registry
still names that journal and whether its head is still the same, and if not, the journal is read from the beginning.
Processes that make an agent for every request load the same sessions again and again: for them this saves two round
trips of three.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strands_dapr_session.journal.layout import Layout
    from strands_dapr_session.journal.load import Log
    from strands_dapr_session.stores.base import StateStore

_KEPT: Final = 256
"""Heads of one store that are remembered: most have about a kilobyte."""


class RecentLogs:
    """The logs that were read last, without anything but their heads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: OrderedDict[tuple[str, str], Log] = OrderedDict()

    @staticmethod
    def of(store: StateStore) -> RecentLogs:
        """Get those of a store."""
        recent = _recent.get(store)
        if recent is None:
            recent = _recent.setdefault(store, RecentLogs())
        return recent

    def remember(self, log: Log) -> None:
        """Remember the head of a log."""
        layout = log.layout
        with self._lock:
            self._logs[layout.session_id, layout.root_id] = log.only_head()
            self._logs.move_to_end((layout.session_id, layout.root_id))
            if len(self._logs) > _KEPT:
                self._logs.popitem(last=False)

    def forget(self, layout: Layout) -> None:
        """Forget a journal whose head has just been moved."""
        with self._lock:
            self._logs.pop((layout.session_id, layout.root_id), None)

    def find(self, session_id: str, root_id: str) -> Log | None:
        """Get what is remembered of a journal: a log with a head, from which it can be read on."""
        with self._lock:
            found = self._logs.get((session_id, root_id))
        return None if found is None else found.only_head()


_recent: weakref.WeakKeyDictionary[StateStore, RecentLogs] = weakref.WeakKeyDictionary()
