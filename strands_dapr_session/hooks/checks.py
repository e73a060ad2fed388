"""What is recorded of an agent must look like, before anything is made of it: stored bytes are untrusted.

A checksum tells that a value is what somebody sealed, not that it was this package. What is looked at here would be
taken as it is by Strands, or by code that is about to start a tool. Everything that a recording can hold passes.

All functions take the session and root as `key`, for the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from strands_dapr_session.errors import DamagedDataError
from strands_dapr_session.hooks.invocation import FAILED, INTERRUPTED, PARKED, RUNNING, STATUS, unpack_prompt
from strands_dapr_session.records.codec import unpack_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from strands.types.content import Messages

    from strands_dapr_session.records.view import ScopeView

_Fields: TypeAlias = dict[str, tuple[type, ...]]

_NUMBER: Final = (int, float)
_LISTS_OF_IDS: Final = ("answers", "settled", "asking")
_STATUS: Final[_Fields] = {
    "attempt": (int,),
    "tries": (int,),
    "place": (list, type(None)),
    "began": (*_NUMBER, type(None)),
    "stop": (dict, type(None)),
    **dict.fromkeys(_LISTS_OF_IDS, (list,)),
}
_PROGRESS: Final[_Fields] = {
    "messages": (int,),
    "batches": (int,),
    "usage": (dict,),
    "latency": _NUMBER,
    "asked": (dict,),
}
_RESULT: Final[_Fields] = {
    "stop_reason": (str,),
    "message": (dict,),
    "usage": (dict,),
    "usage_of_call": (dict,),
    "latency": _NUMBER,
    "output": (str, type(None)),
    "asked": (bytes,),
}


def read_status(scope: ScopeView, *, key: str) -> dict[str, Any]:
    """Read the note that says how the last invocation of a scope stands; empty if there is none.

    Raises:
        DamagedDataError: It is no such note.
    """
    if STATUS not in scope.notes:
        return {}
    status: dict[str, Any] = _fields(unpack_value(scope.notes[STATUS], key=key), _STATUS, "a status", key)
    if status.get("state") not in (RUNNING, INTERRUPTED, FAILED, PARKED):
        raise _damaged("a status", key)
    for name in _LISTS_OF_IDS:
        if not all(type(id_) is str for id_ in status.get(name, ())):
            raise _damaged(name, key)
    return status


def read_prompt(packed: bytes, *, key: str) -> tuple[list[Any], Messages]:
    """Read a recorded prompt; see `unpack_prompt`.

    Raises:
        DamagedDataError: It is none.
    """
    try:
        asked, messages = unpack_prompt(packed)
    except (TypeError, ValueError) as error:
        raise _damaged("a prompt", key) from error
    check_messages(messages, key=key)
    return asked, messages


def read_result(packed: bytes, *, key: str) -> dict[str, Any]:
    """Read what an invocation came to.

    Raises:
        DamagedDataError: It is no result of an agent.
    """
    result: dict[str, Any] = _fields(unpack_value(packed, key=key), _RESULT, "a result", key)
    if "stop_reason" not in result:
        raise _damaged("a result", key)
    check_messages([result["message"]] if "message" in result else [], key=key)
    for name in ("usage", "usage_of_call"):
        _check_counts(result.get(name, {}), key)
    return result


def check_documents(documents: Mapping[str, Any], *, key: str) -> None:
    """Check parts of an agent's snapshot.

    Raises:
        DamagedDataError: One of them is none.
    """
    for name, document in documents.items():
        if type(document) is not dict:
            raise _damaged(name, key)
    if "interrupt_state" not in documents:
        return
    state = _fields(
        documents["interrupt_state"],
        {"interrupts": (dict,), "context": (dict,), "activated": (bool,), "pending_tool_execution": (dict, type(None))},
        "interrupt_state",
        key,
    )
    if not {"interrupts", "context", "activated"} <= state.keys():
        raise _damaged("interrupt_state", key)
    if not all(type(id_) is str and type(each) is dict for id_, each in state["interrupts"].items()):
        raise _damaged("interrupts", key)
    pending = state.get("pending_tool_execution") or {"completed_tool_results": []}
    for results in (state["context"].get("tool_results", []), pending.get("completed_tool_results")):
        if type(results) is not list:
            raise _damaged("results of tools", key)
        check_tool_results(results, key=key)


def check_messages(messages: Iterable[Any], *, key: str) -> None:
    """Check messages of a conversation.

    Raises:
        DamagedDataError: One of them is none.
    """
    for message in messages:
        if type(message) is not dict or type(message.get("role")) is not str or "content" not in message:
            raise DamagedDataError(key, "a recorded message has no role or no content")
        content = message["content"]
        # Strands wants a list of dictionaries. A model of the user's own may take texts, and Strands lets them pass.
        if type(content) not in (list, tuple, str):
            raise _damaged("the content of a message", key)
        for block in content:  # a generator expression takes five times as long, a tenth of a load
            if type(block) is not dict and type(block) is not str:
                raise _damaged("the content of a message", key)


def check_tool_results(results: Iterable[Any], *, key: str) -> None:
    """Check results of tools.

    Raises:
        DamagedDataError: One of them is none.
    """
    if not all(type(each) is dict and type(each.get("toolUseId")) is str for each in results):
        raise DamagedDataError(key, "a recorded result is none of a tool")


def check_progress(progress: Any, *, key: str) -> None:
    """Check the document that says how far an invocation has come.

    Raises:
        DamagedDataError: It does not.
    """
    _fields(progress, _PROGRESS, "progress", key)
    if not _PROGRESS.keys() - {"asked"} <= progress.keys():
        raise _damaged("progress", key)
    for name in ("usage", "asked"):
        _check_counts(progress.get(name, {}), key)


def check_fingerprint(fingerprint: Any, *, key: str) -> None:
    """Check the fingerprint of an agent.

    Raises:
        DamagedDataError: It is none.
    """
    is_one = type(fingerprint) is dict and {"tools", "system_prompt", "model"} <= fingerprint.keys()
    if not is_one or type(fingerprint["tools"]) is not dict:
        raise _damaged("a fingerprint", key)


def _fields(value: Any, fields: _Fields, what: str, key: str) -> dict[str, Any]:
    """Check a dictionary, as far as it has some fields."""
    if type(value) is not dict:
        raise _damaged(what, key)
    for name, types in fields.items():
        if name in value and type(value[name]) not in types:
            raise _damaged(f"{name} of {what}", key)
    return value


def _check_counts(counts: dict[Any, Any], key: str) -> None:
    if not all(type(name) is str and type(count) in _NUMBER for name, count in counts.items()):
        raise _damaged("counts", key)


def _damaged(what: str, key: str) -> DamagedDataError:
    return DamagedDataError(key, f"the records do not describe an agent: what is there for {what} is something else")
