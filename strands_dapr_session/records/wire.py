"""Records as bytes and back: a list of a small tag and the fields in the order of the table below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strands_dapr_session.errors import DamagedDataError, NewerFormatError
from strands_dapr_session.records.codec import pack_value
from strands_dapr_session.records.records import (
    Acquired,
    Derived,
    DocumentSet,
    InvocationFinished,
    InvocationStarted,
    Noted,
    Record,
    Released,
    ScopeClosed,
    SegmentsPlanned,
    Spliced,
    ToolFinished,
    ToolStarted,
    Tried,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def encode_record(record: Record) -> bytes:
    """Write a record.

    Raises:
        TypeError: A field is not of its type: a mistake of the caller, which must not get into a journal.
    """
    tag, fields = _BY_TYPE[type(record)]
    values: list[Any] = [tag]
    for name, accepts in fields:
        value = _plain(getattr(record, name))
        if not accepts(value):
            raise TypeError(f"{type(record).__name__}.{name} cannot be {value!r}")
        values.append(value)
    return pack_value(values, path=type(record).__name__)


def decode_record(item: object, *, key: str) -> Record:
    """Read a record from its unpacked list.

    Args:
        item: The list.
        key: Where it was found.

    Raises:
        NewerFormatError: A record of a kind that this version does not know.
        DamagedDataError: No record at all.
    """
    if type(item) is not list or not item or type(item[0]) is not int:
        raise DamagedDataError(key, "holds something that is no record")
    kind = _BY_TAG.get(item[0])
    if kind is None:
        raise NewerFormatError(key, f"holds a record of kind {item[0]}, which this version does not know: upgrade it")
    fields = _BY_TYPE[kind][1]
    if len(item) != len(fields) + 1:
        raise DamagedDataError(key, f"a record of {kind.__name__} has {len(item) - 1} fields instead of {len(fields)}")
    for (name, accepts), value in zip(fields, item[1:], strict=True):
        if not accepts(value):
            raise DamagedDataError(key, f"{kind.__name__}.{name} cannot be a {type(value).__name__} of that value")
    record: Record = kind(*map(_from_plain, item[1:]))
    return record


def _plain(value: Any) -> Any:
    if type(value) is tuple:
        return [[item.template, list(item.results)] if type(item) is Derived else item for item in value]
    return value


def _from_plain(value: Any) -> Any:
    if type(value) is list:
        return tuple(item if type(item) in (str, bytes) else Derived(item[0], tuple(item[1])) for item in value)
    return value


def _text(value: object) -> bool:
    return isinstance(value, str)


def _optional_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _data(value: object) -> bool:
    return type(value) is bytes


def _optional_data(value: object) -> bool:
    return value is None or type(value) is bytes


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _flag(value: object) -> bool:
    return type(value) is bool


def _seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")  # type: ignore[operator]


def _optional_seconds(value: object) -> bool:
    return value is None or _seconds(value)


def _texts(value: object) -> bool:
    return type(value) is list and all(map(_text, value))


def _bodies(value: object) -> bool:
    return type(value) is list and all(type(item) is bytes or _derived(item) for item in value)


def _derived(value: object) -> bool:
    return type(value) is list and len(value) == len(("template", "results")) and _data(value[0]) and _texts(value[1])


_Fields = tuple[tuple[str, "Callable[[object], bool]"], ...]

_BY_TYPE: Final[dict[type[Any], tuple[int, _Fields]]] = {
    Acquired: (1, (("acquisition", _text), ("worker", _text), ("takeover", _flag), ("lease", _seconds))),
    Released: (2, (("acquisition", _text),)),
    InvocationStarted: (
        3,
        (
            ("scope", _text),
            ("invocation_id", _text),
            ("key", _optional_text),
            ("prompt", _data),
            ("fingerprint", _data),
            ("attempt", _count),
        ),
    ),
    Spliced: (4, (("scope", _text), ("at", _count), ("drop", _count), ("bodies", _bodies))),
    ToolStarted: (5, (("scope", _text), ("tool_use_id", _text), ("name", _text))),
    ToolFinished: (6, (("scope", _text), ("tool_use_id", _text), ("result", _data))),
    DocumentSet: (7, (("scope", _text), ("name", _text), ("value", _optional_data))),
    InvocationFinished: (8, (("scope", _text), ("invocation_id", _text), ("outcome", _text), ("result", _data))),
    SegmentsPlanned: (9, (("keys", _texts),)),
    Noted: (10, (("scope", _text), ("kind", _text), ("value", _data))),
    ScopeClosed: (11, (("scope", _text),)),
    Tried: (
        12,
        (
            ("scope", _text),
            ("what", _text),
            ("attempt", _count),
            ("error", _data),
            ("at", _seconds),
            ("delay", _optional_seconds),
        ),
    ),
}
_BY_TAG: Final = {tag: kind for kind, (tag, _) in _BY_TYPE.items()}
