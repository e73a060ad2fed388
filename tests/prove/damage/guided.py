"""A fuzzer chooses the bytes, guided by the branches that they reach in the codec.

    python -m tests.prove.damage.guided -max_total_time=600 found/ tests/prove/damage/corpus/

Inputs that reach something new are kept in the first directory. What was worth keeping is in `corpus`, and is read in
every test run. Needs atheris (`make fuzz` has it); options are those of libFuzzer.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final

from strands_dapr_session.errors import StoredDataError
from strands_dapr_session.journal.layout import Layout, shard_key
from strands_dapr_session.records.frames import seal
from tests.prove.damage.readers import read
from tests.prove.damage.stored import Stored
from tests.prove.damage.ways import sealed_as_compressed

CORPUS: Final = Path(__file__).with_name("corpus")

_LAYOUT: Final = Layout("s", "r", "i")
_KEYS: Final = (
    _LAYOUT.head,
    _LAYOUT.slot(7),
    _LAYOUT.piece("plan", 0),
    shard_key("s"),
    _LAYOUT.part(7, 1),
    "strands:worker:0000000000000000",
)
_COMPRESSED: Final = 0x80


def read_input(data: bytes) -> None:
    """Read one input: a byte that says what it is to be, and the payload, which is sealed; or refuse it in order."""
    if not data:
        return
    key = _KEYS[(data[0] & ~_COMPRESSED) % len(_KEYS)]
    value = sealed_as_compressed(key, data[1:]) if data[0] & _COMPRESSED else seal(key, data[1:], compress=False)
    try:
        read(_LAYOUT, key, value)
    except StoredDataError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error


def inputs_of(stored: list[Stored], longest: int = 600) -> dict[str, bytes]:
    """Make inputs of what sessions really hold, to begin with: one of each sort, the shortest."""
    from strands_dapr_session.records.frames import open_sealed  # noqa: PLC0415 - only to make the corpus

    found: dict[str, bytes] = {}
    for each in stored:
        for row in each.rows:
            payloads = sorted((open_sealed(key, each.values[key]) for key in row), key=len)
            kind = next(n for n, name in enumerate(("head", "slot", "plan", "registry", "part")) if _is(name, row[0]))
            for number, payload in enumerate(payloads[:3]):
                if len(payload) <= longest:
                    found[f"{each.name}-{kind}-{number}"] = bytes([kind]) + payload
    return found


def _is(name: str, key: str) -> bool:
    last = key.rpartition(":")[2]
    match name:
        case "head":
            return last == "head"
        case "registry":
            return key.startswith("strands:sessions:")
        case "slot":
            return last.isdigit() and not key.startswith("strands:sessions:")
        case "plan":
            return last.startswith("p")
        case _:
            return "." in last


def main(arguments: list[str]) -> None:
    """Fuzz until told to stop; a crash file says what was wrong."""
    atheris = importlib.import_module("atheris")  # nothing else needs it
    for name, module in sorted(sys.modules.items()):
        if name.startswith(("strands_dapr_session.records.", "strands_dapr_session.journal.")):
            _instrument(atheris, module)
    atheris.Setup([sys.argv[0], *arguments], read_input)
    atheris.Fuzz()


def _instrument(atheris: Any, module: Any) -> None:
    """Let the fuzzer see which branches of a module are taken."""
    for name, thing in list(vars(module).items()):
        if getattr(thing, "__module__", None) == module.__name__ and hasattr(thing, "__code__"):
            setattr(module, name, atheris.instrument_func(thing))


if __name__ == "__main__":
    main(sys.argv[1:])
