"""The plots that README and docs show, drawn from the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from benchmarks import floor
from benchmarks.subjects import DAPR_EXT, FILE, OURS, S3, SNAPSHOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Results

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "strands-dapr-session", "font.size": 10})

_COLOURS = {OURS: "#0b6e4f", SNAPSHOT: "#c46210", FILE: "#8c2d19", DAPR_EXT: "#5b4b8a", S3: "#777777"}


def draw(results: Results, directory: Path) -> None:
    """Draw all of them."""
    _save(_load(results), directory / "load.svg", results.digest("load", "window"))
    _save(_step(results), directory / "step.svg", results.digest("step", "window"))


def _save(figure: Any, path: Path, digest: str) -> None:
    """Write a plot, with what tells of which results it is. No date: the same results give the same file."""
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Description": f"results {digest}"})


def _load(results: Results) -> Any:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(figsize=(7, 4))
    for subject, store in ((FILE, "files"), (DAPR_EXT, "redis"), (S3, "moto"), (SNAPSHOT, "files"), (OURS, "redis")):
        points = [
            (int(row.setting["messages"]), row.median)
            for row in results.rows("load")
            if row.subject == subject
            and row.quantity == "load"
            and row.setting.get("store") == store
            and row.setting.get("process") == "warm"
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=subject, color=_COLOURS[subject])
    points = [(int(row.setting["messages"]), row.median) for row in results.rows("window") if row.quantity == "load"]
    if points:
        axes.plot(
            *zip(*points, strict=True), marker="o", linestyle="--", label=f"{OURS}, 40 live", color=_COLOURS[OURS]
        )
    axes.set(xscale="log", yscale="log", xlabel="messages in the session", ylabel="ms until the agent has them")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _step(results: Results) -> Any:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 3.2))
    rows = [row for row in results.rows("step") if row.median is not None]
    labels = [
        f"{row.subject}, {row.setting['store']}"
        + (f", at {row.setting['messages']} messages" if "messages" in row.setting else "")
        for row in rows
    ]
    colours = ["#bbbbbb" if row.subject in {floor.NAME, "raw SQLite"} else _COLOURS[row.subject] for row in rows]
    axes.barh(labels, [row.median for row in rows], color=colours)
    axes.invert_yaxis()
    axes.set_xlabel("ms until one message is safe, median")
    return figure
