"""The command line: what is in a store and was, and finishing what was left in it."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import io
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from strands_dapr_session import io_thread
from strands_dapr_session.abandoned import read_standing, resume_abandoned
from strands_dapr_session.errors import ConfigurationError, DurableSessionError, StoredDataError
from strands_dapr_session.hooks.checks import check_messages
from strands_dapr_session.hooks.parking import restart
from strands_dapr_session.hooks.standing import Standing
from strands_dapr_session.hooks.stash import is_stash
from strands_dapr_session.journal.journal import Journal
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.journal.sessions import delete_session, list_roots, list_sessions
from strands_dapr_session.journal.worker import describe
from strands_dapr_session.readable import as_json
from strands_dapr_session.records.codec import unpack_value
from strands_dapr_session.records.records import Derived, InvocationStarted
from strands_dapr_session.stores.locate import open_store
from strands_dapr_session.timeline.timeline import read_timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from strands_dapr_session.records.records import Record
    from strands_dapr_session.stores.base import StateStore

_LONGEST_TEXT: Final = 200
"""Characters of a value in a line that people read."""

_FAILED: Final = frozenset({"failed", "parked", "unknown"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Those of the command line, without the program's name.

    Returns:
        0 if all went well, 1 if something failed, 2 if the command could not be understood.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(open_store(options.store), options)
    except DurableSessionError as error:
        print(f"strands-dapr-session: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("strands-dapr-session", description="Look at durable sessions, and finish them.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", help="URL or Dapr component; default: STRANDS_DAPR_SESSION_STORE, or `statestore`")
    common.add_argument("--json", action="store_true", help="one JSON value for each line")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("list", _list, "List sessions and how their last runs stand.")
    for name, run, text in (
        ("show", _show, "Show how a session stands, and its messages, now or at a step of its history."),
        ("history", _history, "Show what happened in a session, step by step, from the first."),
        ("inspect", _inspect, "Write a page for a browser that shows what happened in a session, on standard output."),
        ("fork", _fork, "Begin a new session with what another one was at the end of an invocation."),
        ("restart", _restart, "Let what is parked in a session be tried again by the next call."),
        ("delete", _delete, "Delete a session and everything in it."),
    ):
        command = add(name, run, text)
        command.add_argument("session")
        if run is _fork:
            command.add_argument("new", help="the id of the new session")
        if run in {_show, _fork}:
            command.add_argument("--at", type=int, metavar="STEP", help="a step, by its number in `history`")
        if run in {_show, _history, _inspect, _fork}:
            command.add_argument("--root", metavar="ID", help="only this agent, graph or swarm of the session")
        if run is _inspect:
            command.add_argument("--output", metavar="FILE", type=Path, help="write it there")
        if run is _history:
            command.add_argument("--records", action="store_true", help="every record instead of steps")
    command = add("resume", _resume, "Finish runs whose worker is dead. Safe when several do it at once.")
    command.add_argument("build", metavar="MODULE:FUNCTION", help="builds the agent of a session, given its id")
    command.add_argument("--session", action="append", dest="sessions", help="only this one; may be repeated")
    command.add_argument("--failed", action="store_true", help="also runs that raised")
    command.add_argument("--concurrency", type=int, default=1, metavar="N", help="how many at a time (default: 1)")
    return parser


# -- commands ---------------------------------------------------------------------------------------------------------


def _list(store: StateStore, options: argparse.Namespace) -> int:
    code = 0
    for session_id in io_thread.run_sync(list_sessions(store)):
        try:
            standings = _standings(store, session_id)
        except StoredDataError as error:  # the others are wanted all the more
            code = 1
            plain = {"session_id": session_id, "state": "damaged", "error": str(error)}
            _say(options, plain, f"{session_id} damaged: {error}")
            continue
        for standing in standings:
            _say(options, _plain(standing), _line(standing))
    return code


def _show(store: StateStore, options: argparse.Namespace) -> int:
    if options.at is not None:
        return _show_past(store, options)
    for root_id in _roots(store, options.session, options.root):
        journal = Journal(store, options.session, root_id)
        view = io_thread.run_sync(journal.load())
        standing = Standing.read(view, options.session, root_id)
        scopes = {
            path: [unpack_value(body) for body in scope.messages]
            for path, scope in view.scopes.items()
            if not is_stash(path)
        }
        for messages in scopes.values():
            check_messages(messages, key=journal.name)
        text = [_line(standing), *_said(scopes)]
        _say(options, {**_plain(standing), "messages": scopes}, "\n".join(text))
    return 0


def _show_past(store: StateStore, options: argparse.Namespace) -> int:
    moment = read_timeline(options.session, options.root, store=store).at(options.at)
    plain = asdict(moment)
    text = [f"{moment.session_id} {moment.root_id} step {moment.number}"]
    for path, agent in moment.agents.items():
        text += _said({path: agent.messages})
        text += [f"    {result['toolUseId']}: {_short(result)}" for result in agent.tool_results]
        text.append(f"    state: {'not kept' if agent.state is None else _short(agent.state)}")
    _say(options, plain, "\n".join(text))
    return 0


def _history(store: StateStore, options: argparse.Namespace) -> int:
    for root_id in _roots(store, options.session, options.root):
        if options.records:
            _say_records(store, options, root_id)
            continue
        for step in read_timeline(options.session, root_id, store=store).steps:
            happened = "; ".join(
                " ".join(filter(None, (event.path, event.kind.replace("_", " "), _short(event.text))))
                for event in step.events
            )
            marks = f"{step.invocation or '':>4} {'*' if step.can_fork else ' '}"
            text = f"{step.number:>6} {marks} {happened} ({step.messages} messages)"
            _say(options, {"root": root_id, **asdict(step)}, text)
    return 0


def _say_records(store: StateStore, options: argparse.Namespace, root_id: str) -> None:
    for number, records in io_thread.run_sync(read_history(store, options.session, root_id)):
        for record in records:
            fields = _fields(record)
            kind = type(record).__name__
            text = " ".join(f"{name}={_short(value)}" for name, value in fields.items() if value not in ("", None))
            _say(options, {"root": root_id, "commit": number, "record": kind, **fields}, f"{number:>6} {kind} {text}")


def _inspect(store: StateStore, options: argparse.Namespace) -> int:
    try:
        from strands_dapr_session.inspector.page import Inspected, render_page  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"pages need another package: pip install 'strands-dapr-session[inspector]' ({error})"
        ) from error
    every = [
        Inspected(read_timeline(options.session, standing.root_id, store=store), _line(standing))
        for standing in _chosen(store, options)
    ]
    # Text may hold halves of characters, which no file may.
    page = render_page(options.session, store.name, every).encode("utf-8", "backslashreplace")
    if options.output is None:
        sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
        return 0
    try:
        options.output.write_bytes(page)
    except OSError as error:
        raise ConfigurationError(f"the page cannot be written: {error}") from error
    _say(options, {"session": options.session, "page": str(options.output)}, f"{options.output}: open it in a browser")
    return 0


def _fork(store: StateStore, options: argparse.Namespace) -> int:
    step = read_timeline(options.session, options.root, store=store).fork(options.new, options.at)
    plain = {"session": options.session, "step": step.number, "new": options.new, "messages": step.messages}
    _say(options, plain, f"{options.new}: begins where {options.session} was at step {step.number}")
    return 0


def _restart(store: StateStore, options: argparse.Namespace) -> int:
    restarted = {
        root: io_thread.run_sync(restart(Journal(store, options.session, root)))
        for root in _roots(store, options.session)
    }
    count = sum(map(len, restarted.values()))
    _say(options, {"session": options.session, "restarted": restarted}, f"{count} parked, now free to go on")
    return 0


def _delete(store: StateStore, options: argparse.Namespace) -> int:
    _roots(store, options.session)
    io_thread.run_sync(delete_session(store, options.session))
    _say(options, {"session": options.session, "deleted": True}, f"{options.session}: deleted")
    return 0


def _resume(store: StateStore, options: argparse.Namespace) -> int:
    resumed = resume_abandoned(
        _load(options.build),
        store=store,
        sessions=options.sessions,
        failed=options.failed,
        concurrency=options.concurrency,
    )
    for each in resumed:
        error = None if each.error is None else f"{type(each.error).__name__}: {each.error}"
        plain = {"session": each.session_id, "root": each.root_id, "outcome": each.outcome, "error": error}
        _say(options, plain, f"{each.session_id} {each.root_id} {each.outcome} {error or ''}".rstrip())
    return 1 if any(each.outcome in _FAILED for each in resumed) else 0


def _load(name: str) -> Any:
    """Import a function, from the current directory too, as servers do that are given an application.

    Raises:
        ConfigurationError: There is no such function.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{name!r}: expected MODULE:FUNCTION that can be imported ({error})") from error
    if not callable(function):
        raise ConfigurationError(f"{name!r} is not a function")
    return function


# -- what they say ----------------------------------------------------------------------------------------------------


def _roots(store: StateStore, session_id: str, only: str | None = None) -> list[str]:
    roots = [root for root in io_thread.run_sync(list_roots(store, session_id)) if only in {None, root}]
    if not roots and only is not None:
        raise ConfigurationError(f"there is no {only!r} in session {session_id!r} in {store.name}")
    if not roots:
        raise ConfigurationError(f"there is no session {session_id!r} in {store.name}")
    return roots


def _standings(store: StateStore, session_id: str) -> list[Standing]:
    """Read how the roots of a session stand; none if it was deleted meanwhile."""

    async def read() -> list[Standing]:
        roots = await list_roots(store, session_id)
        return await asyncio.gather(*(read_standing(store, session_id, root) for root in roots))

    return io_thread.run_sync(read())


def _chosen(store: StateStore, options: argparse.Namespace) -> list[Standing]:
    """Read how those roots of a session stand that the command is about."""
    roots = _roots(store, options.session, options.root)
    return [standing for standing in _standings(store, options.session) if standing.root_id in roots]


def _plain(standing: Standing) -> dict[str, Any]:
    return {**asdict(standing), "owner": None if standing.owner is None else standing.owner.worker}


def _line(standing: Standing) -> str:
    owner = "" if standing.owner is None else f", of {describe(standing.owner.worker)}"
    attempts = f", attempt {standing.attempt}" if standing.attempt > 1 else ""
    error = f": {_short(standing.error)}" if standing.error else ""
    counts = f"{standing.messages} messages, {standing.sequence} commits"
    return f"{standing.session_id} {standing.root_id} {standing.state}{attempts}{owner} ({counts}){error}"


def _said(scopes: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    for path, messages in scopes.items():
        if path:
            yield f"  {path}:"
        yield from (f"    {each['role']}: {_short(each['content'])}" for each in messages)


def _fields(record: Record) -> dict[str, Any]:
    """Take a record apart, with what is packed in it unpacked."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in record.__dataclass_fields__}
    if isinstance(record, InvocationStarted):
        fields.pop("fingerprint")
    return {name: _open(value) for name, value in fields.items()}


def _open(value: Any) -> Any:
    if isinstance(value, bytes):
        return unpack_value(value) if value else None  # packing leaves empty what is told elsewhere
    if isinstance(value, Derived):
        return {**unpack_value(value.template), "content": {"results": list(value.results)}}
    return [_open(each) for each in value] if isinstance(value, tuple) else value


def _say(options: argparse.Namespace, plain: Any, text: str) -> None:
    """Say something, without letting what was stored speak to the terminal."""
    said = "\n".join(map(printable, text.split("\n")))
    print(as_json(plain, ascii_only=True) if options.json else said)  # noqa: T201


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else as_json(value)
    return text.replace("\n", "\\n") if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…".replace("\n", "\\n")


def printable(text: str) -> str:
    """Escape what a terminal would take for more than text: control characters, and those that turn text around."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def run() -> NoReturn:
    """Run the command of this process."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever the terminal can show, as for standard error
    sys.exit(main())
