"""Messages inside packed bytes: the role of one, and the one that is put together from tool results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack  # type: ignore[import-untyped]

from strands_dapr_session.records.codec import array_header

if TYPE_CHECKING:
    from collections.abc import Iterable

_NONE = b"\xc0"
_ONE_RESULT = b"\x81\xaatoolResult"  # a dict of one key, "toolResult"


def fill(template: bytes, results: Iterable[bytes]) -> bytes:
    """Put packed tool results into the message whose "content" is None.

    Returns:
        Exactly the bytes that packing the whole message would give.

    Raises:
        ValueError: The template is no packed dict with one "content", which is None.
    """
    start = content_hole(template)
    packed = [_ONE_RESULT + result for result in results]
    return b"".join((template[:start], array_header(len(packed)), *packed, template[start + len(_NONE) :]))


def content_hole(template: bytes) -> int:
    """Find the place of the None in a template.

    Raises:
        ValueError: See `fill`.
    """
    start = _place_of(template, "content")
    if start is None or template[start : start + len(_NONE)] != _NONE:
        raise ValueError('the template of a message is not a dict whose "content" is None')
    return start


def is_from_assistant(message: bytes) -> bool:
    """Tell whether a packed message has the role "assistant". Anything that is no message has not."""
    if b"\xa4role\xa9assistant" not in message:
        return False
    try:
        start = _place_of(message, "role")
    except ValueError:
        return False
    return start is not None and message.startswith(b"\xa9assistant", start)


def _place_of(packed: bytes, name: str) -> int | None:
    """Find where the value of a key begins in a packed dict."""
    reader = msgpack.Unpacker(None, max_buffer_size=len(packed), strict_map_key=False, unicode_errors="surrogatepass")
    reader.feed(packed)
    place = None
    try:
        for _ in range(reader.read_map_header()):
            if reader.unpack() == name:
                place = reader.tell()
            reader.skip()
        end = reader.tell()
    except Exception as error:
        raise ValueError(f"not a packed dict ({type(error).__name__}: {error})") from error
    if end != len(packed):
        raise ValueError("more bytes follow the packed dict")
    return place
