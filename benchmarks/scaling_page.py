"""The figures of docs/scaling.md: worked out from the measured costs of a commit, so that they change with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.capacity import Costs
from benchmarks.subjects import OURS
from benchmarks.tables import number

if TYPE_CHECKING:
    from benchmarks.results import Results, Row

SESSIONS_A_DAY = 1_000_000
TURNS, COMMITS_OF_A_TURN, COMMITS_AROUND = 10, 2, 3
"""A session of ten turns with tools: each commits what the model asked for and what the tools gave. Three commits begin
and end the invocation."""

PEAK = 4
"""How much busier the busiest hour is than the average one."""

_DAY = 86_400
_MICRO = 1e6


def figures(results: Results) -> str:
    """Write them; nothing where the measure was not taken."""
    taken = [results.find("scaling", part, "processor time of a commit") for part in ("client", "sidecar", "Redis")]
    seconds = [row.median / _MICRO for row in taken if row is not None and row.median is not None]
    if len(seconds) < len(taken):
        return ""
    costs = Costs(*seconds)
    return "\n".join([_costs(costs), _carried(results), _day(costs), _registry(results), _million(results)])


def _costs(costs: Costs) -> str:
    return f"""| a commit takes | processor time |
|---|---:|
| in the process of the agent | {number(costs.client * _MICRO)} µs |
| in the sidecar | {number(costs.sidecar * _MICRO)} µs |
| in Redis | {number(costs.store * _MICRO)} µs |

So one core of a sidecar carries {_rate(1 / costs.sidecar)} commits a second, and one Redis, which uses one core,
{_rate(1 / costs.store)}: as much as {number(costs.sidecar / costs.store)} cores of sidecars send.
"""


def _carried(results: Results) -> str:
    lines = ["| sidecars | where | commits a second, measured | model | simulation |", "|---:|---|---:|---:|---:|"]
    by_setting: dict[tuple[tuple[str, str | int], ...], dict[str, Row]] = {}
    for row in results.rows("scaling"):
        if row.quantity == "commits":
            by_setting.setdefault(tuple(row.setting.items()), {})[row.subject] = row
    for setting, rows in by_setting.items():
        known = dict(setting)
        where = (
            f"all on {known['cores together']} cores, with Redis and the clients"
            if "cores together" in known
            else f"{known['cores of each sidecar and its clients']} cores for each and its clients, one more for Redis"
        )
        cells = " | ".join(_cell(rows.get(subject)) for subject in ("measured", "the model", "simulation"))
        lines.append(f"| {known['sidecars']} | {where} | {cells} |")
    return "\n".join([*lines, ""])


def _day(costs: Costs) -> str:
    commits = SESSIONS_A_DAY * (TURNS * COMMITS_OF_A_TURN + COMMITS_AROUND)
    peak = commits / _DAY * PEAK
    return f"""A million sessions a day, each of {TURNS} turns with tools, are {commits:,} commits:
{_rate(commits / _DAY)} a second on average, {_rate(peak)} when it is {PEAK} times as busy. That keeps
{number(peak * costs.client)} cores busy in the agents' processes, {number(peak * costs.sidecar)} in sidecars, and
{number(100 * peak * costs.store)} % of one Redis.
"""


def _registry(results: Results) -> str:
    rows = [row for row in results.rows("scaling") if row.quantity == "document of the registry"]
    if not rows:
        return ""
    lines = ["| sessions in the store | a document of the registry |", "|---:|---:|"]
    lines += [f"| {row.setting['sessions']:,} | {number(row.median)} B |" for row in rows]
    return "\n".join([*lines, ""])


def _million(results: Results) -> str:
    head = results.find("window", OURS, "longest head", messages=1_000_000)
    written = results.find("bytes", OURS, "written beside payload", live=40)
    told = []
    if head is not None and head.median is not None:
        told.append(f"A session of a million messages has a head of {number(head.median)} bytes.")
    if written is not None and written.median is not None:
        told.append(
            f"Over its life {number(written.median)} times its messages are written, compressed and packed: "
            f"{number(written.median * 2.2)} GB for a million messages of 2.2 KB."
        )
    return " ".join(told) + "\n"


def _cell(row: Row | None) -> str:
    return "" if row is None or row.median is None else _rate(row.median)


def _rate(value: float) -> str:
    return f"{value:,.0f}"
