"""Messages as agents have them: calls of tools with their input, results of about 4 KB, usage in the metadata.

Made by chance from a seed, so that every run has the same ones. They compress as logs and JSON do: one message to about
0.4 of its size, a megabyte of them to about 0.3.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strands.types.content import Message

RESULT_BYTES = 4000
"""What a tool returns, about."""

_STATES = ("reserved", "picked", "packed", "in transit", "delivered", "returned", "backordered", "cancelled")
_PLACES = ("OSL", "FRA", "AMS", "GDN", "MXP", "BCN", "DUB", "CPH", "VIE", "PRG")
_REMARKS = (
    "left at the door",
    "customer asked for a later window",
    "carrier changed, see the ticket",
    "label printed twice",
    "weight differs from the declared one",
    "",
)


def tool_result(chance: random.Random) -> str:
    """Make what a tool returns: lines of JSON."""
    lines: list[str] = []
    size = 0
    while size < RESULT_BYTES:
        lines.append(_line(chance))
        size += len(lines[-1]) + 1
    return "\n".join(lines)[:RESULT_BYTES]


def conversation(length: int, seed: int = 7) -> list[Message]:
    """Make so many messages.

    Args:
        length: How many.
        seed: Other messages for another one.
    """
    messages = messages_for_ever(seed)
    return [next(messages) for _ in range(length)]


def messages_for_ever(seed: int = 7) -> Iterator[Message]:
    """Make messages one by one: the assistant calls a tool, the tool answers."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        use: Any = {"toolUseId": f"tooluse_{chance.getrandbits(88):022x}", "name": "look_up", "input": _input(chance)}
        text = f"Order {number} needs a look before I can answer; I will fetch its history."
        yield {"role": "assistant", "content": [{"text": text}, {"toolUse": use}], "metadata": _metadata(chance)}
        result: Any = {"toolUseId": use["toolUseId"], "status": "success", "content": [{"text": tool_result(chance)}]}
        yield {"role": "user", "content": [{"toolResult": result}]}


def _line(chance: random.Random) -> str:
    return (
        f'{{"at": "2026-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}T{chance.randint(0, 23):02d}:'
        f'{chance.randint(0, 59):02d}:{chance.randint(0, 59):02d}Z", "order": {chance.randint(10**6, 10**7)}, '
        f'"event": "{chance.getrandbits(192):048x}", "sku": "{chance.getrandbits(32):08x}", '
        f'"state": "{chance.choice(_STATES)}", '
        f'"warehouse": "{chance.choice(_PLACES)}", "cents": {chance.randint(99, 99999)}, '
        f'"remark": "{chance.choice(_REMARKS)}"}}'
    )


def _input(chance: random.Random) -> dict[str, Any]:
    return {
        "order": chance.randint(10**6, 10**7),
        "include": ["history", "payments"],
        "customer": {"id": f"{chance.getrandbits(64):016x}", "region": chance.choice(_PLACES)},
    }


def _metadata(chance: random.Random) -> Any:
    tokens = chance.randint(800, 9000)
    usage = {"inputTokens": tokens, "outputTokens": chance.randint(20, 400), "totalTokens": tokens + 200}
    return {"usage": usage, "metrics": {"latencyMs": chance.randint(300, 4000)}}
