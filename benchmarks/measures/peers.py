"""A durable step elsewhere: what other systems take to make one message safe, on SQLite, in environments of their own.

Each is installed when it is first measured, below `~/.cache/strands-dapr-session/peers`, and runs a program of
`benchmarks/peers`. They promise other things than this package does; see the notes. What could not be measured is
listed with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.conversation import conversation
from benchmarks.results import Row
from dev.programs.cache import cache_directory

if TYPE_CHECKING:
    from benchmarks.bench import Bench

STEPS = 400

_SHARE = 8
_UNMEASURED = {
    "temporalio": "its test server is a program that it downloads at run time, which this benchmark does not do",
    "Diagrid's runner": "no program for it is written here yet",
}


@dataclass(frozen=True)
class _Peer:
    name: str
    program: str
    packages: tuple[str, ...]
    note: str


_PEERS = (
    _Peer(
        "LangGraph, SqliteSaver",
        "langgraph_steps.py",
        ("langgraph>=1", "langgraph-checkpoint-sqlite>=3"),
        "keeps the whole state with each step; resumes a graph between its nodes",
    ),
    _Peer("DBOS", "dbos_steps.py", ("dbos>=2",), "resumes functions that are written as its workflows and steps"),
)


def measure(bench: Bench) -> list[Row]:
    """Measure."""
    rows = []
    steps = STEPS // 4 if bench.quick else STEPS
    for peer in _PEERS:
        bench.say(f"{peer.name}: {steps} steps")
        try:
            times = _run(peer, bench.places.path, steps)
        except (subprocess.CalledProcessError, OSError, ValueError) as error:
            rows.append(Row.missing(peer.name, {}, "durable step", "ms", f"could not be measured: {error}"))
            continue
        share = len(times) // _SHARE
        rows += [
            Row.of(peer.name, {"steps before": "few"}, "durable step", "ms", times[share : 2 * share]),
            Row.of(peer.name, {"steps before": steps}, "durable step", "ms", times[-share:]),
            Row(peer.name, {}, "what it keeps", "", None, note=peer.note),
        ]
    return rows + [Row.missing(name, {}, "durable step", "ms", why) for name, why in _UNMEASURED.items()]


def _run(peer: _Peer, directory: Path, steps: int) -> list[float]:
    """Run the program of a peer; get the milliseconds of each step."""
    wanted = {"directory": str(directory), "messages": conversation(steps)}
    done = subprocess.run(
        [_environment(peer), Path(__file__).parent.parent / "peers" / peer.program],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=True,
    )
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def _environment(peer: _Peer) -> Path:
    """Get the interpreter of an environment with the packages of a peer, made if it is not there."""
    place = cache_directory() / "peers" / peer.program.removesuffix("_steps.py")
    python = place / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True, capture_output=True)
    install = ["pip", "install", "--quiet", "--python", str(python), *peer.packages]
    subprocess.run([str(uv), *install], check=True, capture_output=True)
    return python
