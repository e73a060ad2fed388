"""A picture of a graph or swarm, each node coloured by what became of it in this process.

Needs the extra ``strands-dapr-session[picture]``.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import svg

from strands_dapr_session.multiagent.tally import NodeTally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COLOURS: Final = {
    "failed": ("#fde0e0", "#c62828", "did not finish"),
    "resumed": ("#fff0cc", "#b26a00", "went on where another process had stopped"),
    "run": ("#dff3e1", "#2e7d32", "ran here"),
    "replayed": ("#dde9fb", "#1e5aa8", "finished before: the recorded result was used"),
    "idle": ("#f2f2f2", "#8a8a8a", "nothing happened here"),
}
"""Fill, line, and meaning of each colour. A node gets the first that applies."""

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _TITLE, _LINE = 150.0, 52.0, 56.0, 22.0, 16.0, 26.0, 20.0
_FONT: Final = "Helvetica, Arial, sans-serif"
_INK: Final = "#333333"


def draw(orchestrator: Any, tally: Mapping[str, NodeTally]) -> str:
    """Draw a graph or swarm as SVG.

    Args:
        orchestrator: The graph or swarm.
        tally: What became of its nodes, from `DaprSessionManager.tally`.
    """
    drawn = _Drawn.of(orchestrator, tally)
    width = max(drawn.width, 460.0)
    legend = [
        element
        for number, (fill, line, meaning) in enumerate(COLOURS.values())
        for element in (
            svg.Rect(x=_MARGIN, y=drawn.height + number * _LINE, width=14, height=14, rx=3, fill=fill, stroke=line),
            _text(_MARGIN + 22, drawn.height + number * _LINE + 11, meaning, size=12),
        )
    ]
    height = drawn.height + len(COLOURS) * _LINE + _MARGIN
    background = svg.Rect(width=width, height=height, fill="white")
    return str(svg.SVG(width=width, height=height, elements=[_arrow(), background, *drawn.elements, *legend]))


@dataclass
class _Drawn:
    """Something drawn, with its size in pixels."""

    width: float
    height: float
    elements: list[svg.Element]

    @classmethod
    def of(cls, orchestrator: Any, tally: Mapping[str, NodeTally]) -> _Drawn:
        """Draw the nodes in columns: each to the right of those from which it is reached."""
        edges = _edges(orchestrator)
        nodes: dict[str, _Drawn] = {}
        places: dict[str, tuple[float, float]] = {}
        x, bottom = _MARGIN, 0.0
        for column in _columns(orchestrator, edges):
            tallies = {name: tally.get(name, NodeTally()) for name in column}
            inner = {name: cls._inside(orchestrator.nodes[name], tallies[name]) for name in column}
            width = max(_WIDTH, *(each.width for each in inner.values()))
            y = _MARGIN
            for name in column:
                nodes[name] = cls.node(name, tallies[name], inner[name], width)
                places[name] = (x, y)
                y += nodes[name].height + _GAP_Y
            x += width + _GAP_X
            bottom = max(bottom, y - _GAP_Y)
        arrows = [_edge(places, nodes, one, other, bottom) for one, other in sorted(edges)]
        boxes = [svg.G(transform=[svg.Translate(*places[name])], elements=nodes[name].elements) for name in places]
        is_back = any(places[one][0] >= places[other][0] for one, other in edges)
        return cls(x - _GAP_X + _MARGIN, bottom + _MARGIN + (_GAP_Y if is_back else 0), [*arrows, *boxes])

    @classmethod
    def _inside(cls, node: Any, tally: NodeTally) -> _Drawn:
        """Draw the nodes of a nested orchestrator."""
        return cls.of(node.executor, tally.nodes) if hasattr(node.executor, "nodes") else cls(0, 0, [])

    @classmethod
    def node(cls, name: str, tally: NodeTally, inner: _Drawn, width: float) -> _Drawn:
        """Draw one node, with what is inside, as wide as its column."""
        fill, line, _ = COLOURS[_kind(tally)]
        counts = " · ".join(
            f"{kind}: {count}" for kind in ("run", "resumed", "replayed", "failed") if (count := getattr(tally, kind))
        )
        height = _HEIGHT + inner.height
        box = svg.Rect(width=width, height=height, rx=8, fill=fill, stroke=line, stroke_width=1.5)
        return cls(
            width,
            height,
            [
                box,
                _text(width / 2, 22, name, size=14, anchor="middle", weight="bold"),
                _text(width / 2, 40, counts or "not reached", size=11, anchor="middle", fill=line),
                svg.G(transform=[svg.Translate(0, _HEIGHT - 10)], elements=inner.elements),
            ],
        )


def _kind(tally: NodeTally) -> str:
    if tally.failed and tally.failed >= tally.run + tally.resumed:
        return "failed"
    return next((kind for kind in ("resumed", "run", "replayed") if getattr(tally, kind)), "idle")


def _edges(orchestrator: Any) -> set[tuple[str, str]]:
    """List the edges of a graph, or the handoffs that a swarm made."""
    if hasattr(orchestrator, "edges"):
        return {(edge.from_node.node_id, edge.to_node.node_id) for edge in orchestrator.edges}
    return set(pairwise(node.node_id for node in orchestrator.state.node_history))


def _columns(orchestrator: Any, edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Put each node one column after the last one that leads to it, leaving out edges that lead back."""
    ahead: dict[str, list[str]] = {name: [] for name in orchestrator.nodes}
    for one, other in sorted(edges):
        ahead[one].append(other)
    first = sorted(node.node_id for node in getattr(orchestrator, "entry_points", ()))
    order: list[str] = []
    for name in [*first, *orchestrator.nodes]:
        _cut_cycles(name, ahead, order, ())
    column = dict.fromkeys(orchestrator.nodes, 0)
    for name in reversed(order):
        for other in ahead[name]:
            column[other] = max(column[other], column[name] + 1)
    return [[name for name in orchestrator.nodes if column[name] == at] for at in range(max(column.values()) + 1)]


def _cut_cycles(name: str, ahead: dict[str, list[str]], order: list[str], path: tuple[str, ...]) -> None:
    """Take out the edges that lead back, and put the nodes into an order in which each comes after those behind it."""
    if name in order:
        return
    path = (*path, name)
    ahead[name] = [other for other in ahead[name] if other not in path]
    for other in ahead[name]:
        _cut_cycles(other, ahead, order, path)
    order.append(name)


def _edge(
    places: Mapping[str, tuple[float, float]], nodes: Mapping[str, _Drawn], one: str, other: str, bottom: float
) -> svg.Element:
    (from_x, from_y), (to_x, to_y) = places[one], places[other]
    style: Any = {"fill": "none", "stroke": "#777777", "stroke_width": 1.5, "marker_end": "url(#arrow)"}
    if from_x < to_x:
        start, y = from_x + nodes[one].width, from_y + _HEIGHT / 2
        end, to_y = to_x - 6, to_y + _HEIGHT / 2
        bend = (end - start) / 2
        return svg.Path(d=[svg.M(start, y), svg.C(start + bend, y, end - bend, to_y, end, to_y)], **style)
    start, y = from_x + nodes[one].width / 2, from_y + nodes[one].height
    end, to_y = to_x + nodes[other].width / 2, to_y + nodes[other].height + 6
    low = bottom + _GAP_Y
    curve = svg.C(start, low, end, low, end, to_y)
    return svg.Path(d=[svg.M(start, y), curve], stroke_dasharray=[5, 4], **style)


def _arrow() -> svg.Element:
    head = svg.Path(d=[svg.M(0, 0), svg.L(8, 4), svg.L(0, 8), svg.Z()], fill="#777777")
    marker = svg.Marker(
        id="arrow",
        markerWidth=8,
        markerHeight=8,
        refX=4,
        refY=4,
        orient="auto",
        markerUnits="userSpaceOnUse",
        elements=[head],
    )
    return svg.Defs(elements=[marker])


def _text(x: float, y: float, text: str, *, size: int, fill: str = _INK, **style: Any) -> svg.Text:
    return svg.Text(
        x=x,
        y=y,
        text=html.escape(text),  # svg.py leaves that to its users
        font_size=size,
        font_family=_FONT,
        fill=fill,
        text_anchor=style.get("anchor", "start"),
        font_weight=style.get("weight", "normal"),
    )
