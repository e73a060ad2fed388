"""The figures in README and docs, made from the committed results: `python -m benchmarks.figures [--check]`.

Plots need the environment of the benchmarks (`make figures`); that they are of the same results is checked without it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import floor, scaling_page
from benchmarks.results import LATEST, Results, Row
from benchmarks.subjects import DAPR_EXT, FILE, OURS, S3, SNAPSHOT
from benchmarks.tables import number
from benchmarks.targets import TARGETS, WHY_MISSED

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"
SCALING = ROOT / "docs" / "scaling.md"
PLOTS = ROOT / "docs" / "figures"

_BEGIN, _END = "<!-- figures, made by `make figures` -->\n", "<!-- end of figures -->\n"
_SHOWN = (OURS, SNAPSHOT, FILE, S3, DAPR_EXT)
_HEADINGS = {
    "load": "Load, everything live",
    "window": "Load, 40 messages live",
    "step": "One recorded step",
    "round_trips": "Round trips",
}


def readme(text: str, results: Results) -> str:
    """Put the figures into README.

    Raises:
        ValueError: It has no place for them.
    """
    return _put(text, _summary(results))


def scaling(text: str, results: Results) -> str:
    """Put the figures into docs/scaling.md.

    Raises:
        ValueError: It has no place for them.
    """
    return _put(text, "\n" + scaling_page.figures(results) + "\n")


def _put(text: str, figures: str) -> str:
    before, found, rest = text.partition(_BEGIN)
    _, also_found, after = rest.partition(_END)
    if not (found and also_found):
        raise ValueError(f"figures need the lines {_BEGIN!r} and {_END!r}")
    return before + _BEGIN + figures + _END + after


def page(results: Results) -> str:
    """Write docs/benchmarks.md."""
    sections = [_INTRODUCTION, _machine(results), "## Targets\n", _targets(results)]
    for measure in results.measures:
        sections += [f"## {_HEADINGS.get(measure, measure.replace('_', ' ').capitalize())}\n", _rows(results, measure)]
    return "\n".join(sections)


_INTRODUCTION = """# Benchmarks

Made by `make figures` from `benchmarks/results/latest.json`, which `make bench` writes; do not edit. Times are medians
of interleaved repetitions in one run, and depend on the machine; ratios within a run hardly do. What each measure does
is said at the top of its module in `benchmarks/measures`.

![Load](figures/load.svg)

![One step](figures/step.svg)

Where the time of loading 5,000 messages goes, in all threads, is in a [flame graph](figures/flame.svg) (`make flame`).
"""


def _summary(results: Results) -> str:
    lengths = sorted({int(row.setting["messages"]) for row in results.rows("load") if "messages" in row.setting})
    lines = [
        f"| load of so many messages | {' | '.join(map(str, lengths))} |",
        f"|---|{'---|' * len(lengths)}",
    ]
    for subject, store in (
        (OURS, "redis"),
        (OURS, "sqlite"),
        (SNAPSHOT, "files"),
        (FILE, "files"),
        (DAPR_EXT, "redis"),
    ):
        cells = [
            _milliseconds(results.find("load", subject, "load", messages=length, process="warm", store=store))
            for length in lengths
        ]
        bold = "**" if subject == OURS else ""
        lines.append(f"| {bold}{subject}{bold} ({_STORES[store]}) | {' | '.join(cells)} |")
    window = results.find("window", OURS, "load", messages=50_000) or results.find("window", OURS, "load")
    ours, raw = (results.find("step", subject, "step", store="redis") for subject in (OURS, floor.NAME))
    told = []
    if window is not None and window.median is not None:
        told.append(
            f"With {window.setting['window']} messages live, a session of {window.setting['messages']:,} loads in "
            f"{number(window.median)} ms."
        )
    if ours and raw and ours.median and raw.median:
        told.append(
            f"A recorded step through a sidecar to Redis takes {number(ours.median)} ms, "
            f"{ours.median / raw.median:.2f} times what the bare state API takes to write the same bytes."
        )
    if not lengths:
        lines = []
    return "\n".join([*lines, "", " ".join(told), "", "![Load time by messages](docs/figures/load.svg)", ""])


_STORES = {"redis": "sidecar, Redis", "sqlite": "SQLite", "files": "files"}


def _milliseconds(row: Row | None) -> str:
    return "" if row is None or row.median is None else f"{number(row.median)} ms"


def _machine(results: Results) -> str:
    lines = ["| measure | taken at | commit | machine | Python | strands-agents |", "|---|---|---|---|---|---|"]
    for name, taken in results.measures.items():
        machine = taken["machine"]
        quick = " (quick)" if taken["quick"] else ""
        lines.append(
            f"| {name}{quick} | {taken['at']} | {taken['commit']} | {machine['cores']} cores, {machine['cpu']}, "
            f"{machine['memory_gib']} GiB | {machine['python']} | {taken['versions'].get('strands-agents', '')} |"
        )
    return "\n".join([*lines, ""])


def _targets(results: Results) -> str:
    lines = ["| about | what | target | measured | |", "|---|---|---|---|---|"]
    for target in TARGETS:
        value, met = target.value(results), target.is_met(results)
        bound = "≥" if target.floor else "≤"
        lines.append(
            f"| {target.group} | {target.what} | {bound} {number(target.limit)} {target.unit} | "
            f"{'not measured' if value is None else f'{number(value)} {target.unit}'} | "
            f"{'' if met is None else 'met' if met else '**missed**'} |"
        )
    missed = dict.fromkeys(target.group for target in TARGETS if target.is_met(results) is False)
    reasons = [f"* {group}: {WHY_MISSED[group]}" for group in missed if group in WHY_MISSED]
    told = ["", "What stands in the way of those that are missed:", "", *reasons] if reasons else []
    return "\n".join([*lines, *told, ""]).replace("  |", " |")


def _rows(results: Results, measure: str) -> str:
    lines = ["| quantity | setting | subject | median | least to most | p99 |", "|---|---|---|---:|---:|---:|"]
    for row in results.rows(measure):
        setting = ", ".join(f"{key} {value}" for key, value in row.setting.items())
        median = row.note if row.median is None else f"{number(row.median)} {row.unit}".rstrip()
        spread = "" if row.minimum is None else f"{number(row.minimum)} to {number(row.maximum)}"
        lines.append(f"| {row.quantity} | {setting} | {row.subject} | {median} | {spread} | {number(row.p99)} |")
    return "\n".join([*lines, ""])


def outdated(results: Results) -> list[str]:
    """List the files that show other figures than the results."""
    found = []
    if README.read_text() != readme(README.read_text(), results):
        found.append("README.md")
    if SCALING.read_text() != scaling(SCALING.read_text(), results):
        found.append("docs/scaling.md")
    if not PAGE.exists() or PAGE.read_text() != page(results):
        found.append("docs/benchmarks.md")
    for name in ("load", "step"):
        plot = PLOTS / f"{name}.svg"
        if not plot.exists() or results.digest(name, "window") not in plot.read_text():
            found.append(f"docs/figures/{name}.svg")
    return found


def main() -> int:
    """Make them, or check them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__.partition(":")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if anything would be changed")
    options = parser.parse_args()
    results = Results.load(LATEST)
    if options.check:
        found = outdated(results)
        if found:
            sys.stderr.write(f"other figures than in {LATEST.name}: {', '.join(found)}. Run `make figures`.\n")
        return bool(found)
    from benchmarks import plots  # noqa: PLC0415 - its library is in the environment of the benchmarks

    README.write_text(readme(README.read_text(), results))
    SCALING.write_text(scaling(SCALING.read_text(), results))
    PAGE.write_text(page(results))
    PLOTS.mkdir(exist_ok=True)
    plots.draw(results, PLOTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
