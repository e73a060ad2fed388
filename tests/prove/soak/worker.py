"""A process of the soak: it runs, continues and deletes sessions until it is told to stop or is killed."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from dataclasses import replace
from pathlib import Path

from strands import Agent, tool

from strands_dapr_session import DaprSessionManager
from strands_dapr_session.errors import DurableSessionError
from strands_dapr_session.testing.ledger import Ledger
from strands_dapr_session.testing.model import ScriptedModel

CALLS = 6
"""Calls that a session lives for; the last one deletes it."""

_SAMPLE_EVERY = 2.0
_PAUSE = 0.2


@tool
async def note(text: str) -> str:
    """Take a note."""
    return text * 20


@tool
async def add(a: int, b: int) -> str:
    """Add, slowly enough to be killed meanwhile."""
    await asyncio.sleep(0.05)
    return str(a + b)


def build(session_id: str, store: str) -> tuple[Agent, DaprSessionManager]:
    """Make the agent of a session."""
    manager = DaprSessionManager(session_id, store=store, lease=0.6, busy_timeout=20.0)
    manager._journal_settings = replace(manager._journal_settings, compact_slots=6)
    script = {
        f"call {number}": [
            [("note", {"text": f"{number} "}), ("add", {"a": number, "b": 1})],
            [("add", {"a": 2, "b": 2})],
            f"done {number}",
        ]
        for number in range(CALLS)
    }
    model = ScriptedModel(script)
    return Agent(model=model, tools=[note, add], session_manager=manager, callback_handler=None), manager


def sample() -> dict[str, int]:
    """Measure this process: resident memory in KiB, open files, threads."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return {
        "rss": int(status.partition("VmRSS:")[2].split()[0]),
        "fds": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status.partition("Threads:")[2].split()[0]),
    }


def work(store: str, ledger: Ledger, seed: int, sessions: int, until: float) -> None:
    """Take a session by chance and make its next call, again and again."""
    chance = random.Random(seed)
    sampled = calls = 0.0
    while time.time() < until:
        session = f"soak-{chance.randrange(sessions)}"
        try:
            calls += _next_call(session, store, ledger)
        except DurableSessionError as error:
            ledger.note("refused", session=session, error=type(error).__name__)
        # Users and models take their time: without any, a soak is one of the scheduler and of the sidecar's queue.
        time.sleep(chance.random() * _PAUSE)
        if time.time() - sampled > _SAMPLE_EVERY:
            sampled = time.time()
            ledger.note("sample", calls=calls, **sample())


def _next_call(session: str, store: str, ledger: Ledger) -> int:
    agent, manager = build(session, store)
    done = sum(message["role"] == "assistant" and "done" in str(message["content"]) for message in agent.messages)
    if done >= CALLS:
        manager.delete()
        ledger.note("deleted", session=session)
        return 0
    agent(f"call {done}", invocation_state={"invocation_id": f"{session}-{done}"})
    ledger.note("called", session=session, number=done)
    return 1


def main(arguments: list[str]) -> None:
    """Work as told: store, ledger, seed, sessions, and when to stop."""
    logging.disable(logging.CRITICAL)
    store, path, seed, sessions, until = arguments
    ledger = Ledger(path)
    ledger.note("birth")
    work(store, ledger, int(seed), int(sessions), float(until))
    ledger.note("end", **sample())
