"""What reads a stored value, by the key that it is under: the codec directly, without a store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.checkpoint import read_checkpoint, read_segment
from strands_dapr_session.journal.commit import part_keys, read_records
from strands_dapr_session.journal.head import read_head, read_page
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.registry import read_shard
from strands_dapr_session.journal.worker import ThisProcess
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.frames import open_sealed
from strands_dapr_session.records.records import Acquired, Record, Spliced
from strands_dapr_session.records.view import View
from strands_dapr_session.stores.base import Entry

Reader = Callable[[Layout, str, bytes], object]

_OWNER: Final = Acquired("a", f"{'0' * 16}/host/1///", takeover=False, lease=1.0)
_WORKERS: Final = ThisProcess()


def read(layout: Layout, key: str, value: bytes) -> None:
    """Read a value as everybody would who might find it under its key.

    Raises:
        StoredDataError: It is refused by all of them.
    """
    refused: list[StoredDataError] = []
    readers = _readers(layout, key)
    for reader in readers:
        try:
            reader(layout, key, value)
        except StoredDataError as error:
            refused.append(error)
    if len(refused) == len(readers):
        raise refused[0]


def _readers(layout: Layout, key: str) -> tuple[Reader, ...]:
    last = key.removeprefix(f"{layout.base}:")
    if key.startswith("strands:sessions:"):
        return (_registry,)
    if key.startswith("strands:worker:"):
        return (_heartbeat,)
    if last == "head":
        return (_head,)
    if last.isdigit():
        return (_slot,)
    return (_part,) if re.fullmatch(r"\d+\.\d+", last) else (_checkpoint, _segment, _page)


def _registry(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    return read_shard(key, Entry(value, ""))


def _heartbeat(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    return _WORKERS.has_given_up(_OWNER, value)


def _head(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    head = read_head(layout, Entry(value, ""))
    return [run.keys(layout) for run in head.garbage if run.count < 1000]


def _slot(layout: Layout, key: str, value: bytes) -> object:
    number = int(key.rpartition(":")[2])
    part_keys(layout, number, Entry(value, ""))
    records = read_records(layout, number, Entry(value, ""), {})
    with contextlib.suppress(StoredDataError):  # most records follow others, which are not here
        _fold(records)
    for record in records:
        for body in record.bodies if isinstance(record, Spliced) else ():
            _message(key, body)
    return records


def _fold(records: list[Record]) -> None:
    view = View()
    for record in records if isinstance(records[0], Acquired) else [_OWNER, *records]:
        view.apply(record)


def _part(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    return open_sealed(key, value)


def _checkpoint(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    return read_checkpoint(key, open_sealed(key, value))


def _segment(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    for body in read_segment(key, open_sealed(key, value))[1]:
        _message(key, body)
    return None


def _page(layout: Layout, key: str, value: bytes) -> object:  # noqa: ARG001
    return read_page(key, open_sealed(key, value))


def _message(key: str, body: Any) -> object:
    return unpack_value(body, key=key) if type(body) is bytes else None
