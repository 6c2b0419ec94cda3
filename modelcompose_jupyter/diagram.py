"""Pictures of workflows: which job waits for which, as mermaid, as SVG and as plain text.

The SVG stands by itself: it takes its colours from the theme of JupyterLab or VS Code where there
is one, and has neither styles nor ids that could meet those of its page.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from html import escape
from statistics import fmean
from typing import Any, Literal

from .document import Document, Job, Template, Workflow, signature
from .document.jobs import model_calls
from .document.reachability import predecessors
from .path_redaction import public_source, without_folders
from .redaction import redact

Edge = tuple[int, int]

# How many columns of text are shown of a job's id and of other words in a box, of a word in plain
# text, of a whole graph on one line, and of one that is read aloud.
_LABEL, _DETAIL, _WORD, _LINE, _SPOKEN = 28, 36, 60, 120, 1000
_MANY_NAMES, _MANY_EDGES = 6, 250
MAX_JOBS = 1000
"""Jobs that are drawn; of more, which nobody can follow and which take long, only how many."""
# A page draws no larger mermaid than this, unless it was set up to.
_MERMAID_EDGES, _MERMAID_CHARACTERS = 500, 100_000


def diagram(document: Document, workflow: Workflow, *, for_guests: bool = False) -> Diagram:
    """The diagram of one of a document's workflows; for guests without this computer's folders."""
    described = signature(document, workflow)
    inputs = [_clean(each.name) for each in described.inputs] + ["…"] * described.open
    outputs = [_clean(each.name or str(each.type)) for each in described.outputs]
    first, last = Node("input", "Input", tuple(inputs)), Node("output", "Output", tuple(outputs))
    if len(workflow.jobs) > MAX_JOBS:
        models = tuple(_models(workflow.jobs, for_guests))
        together = Node("job", f"{len(workflow.jobs):,} jobs", models)
        return Diagram((first, together, last), ((0, 1), (1, 2)))
    nodes = (first, *(_job_node(job, for_guests) for job in workflow.jobs), last)
    return Diagram(nodes, tuple(_edges(workflow)))


@dataclass(frozen=True)
class Node:
    """A job with its model and repeats, or the names of the inputs or outputs."""

    kind: Literal["input", "job", "output"]
    label: str
    details: tuple[str, ...]
    repeats: str = ""


@dataclass(frozen=True, repr=False)
class Diagram:
    """The jobs of a workflow as a graph, from its inputs to its outputs.

    ``nodes`` are the input, the jobs in the document's order, and the output; ``edges`` are pairs
    of their indexes, the awaited one first.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def text(self) -> str:
        """One line where each job waits for the one before, else a line for each job."""
        order = sorted(range(len(self.nodes)), key=self._layers.__getitem__)
        words = list(_words(map(self.nodes.__getitem__, order)))
        line = " ─▶ ".join(words)
        if set(self.edges) == set(itertools.pairwise(order)) and _columns(line) <= _LINE:
            return line
        first, *jobs, last = (w + self._after(n) for n, w in zip(order, words, strict=True))
        return "\n".join([first, *(f"  {job}" for job in jobs), last])

    def _after(self, node: int) -> str:
        names = [_cut(self.nodes[each].label, _WORD) for each in self._awaited[node] if each]
        return f"  after: {', '.join(names)}" if names else ""

    @cached_property
    def mermaid(self) -> str:
        """A flowchart in the language of mermaid."""
        ids = ["input", *(f"j{index}" for index in range(len(self.nodes) - 2)), "output"]
        lines = [f"flowchart {'LR' if self._layout.sideways else 'TD'}"]
        for id_, node in zip(ids, self.nodes, strict=True):
            label = "<br/>".join(map(_mermaid_text, (" ".join(_heading(node)), *_rows(node))))
            lines.append(f'  {id_}["{label}"]' if node.kind == "job" else f'  {id_}(["{label}"])')
        lines += [f"  {ids[first]} --> {ids[last]}" for first, last in self.edges]
        return "\n".join(lines)

    @cached_property
    def svg(self) -> str:
        """A picture that scales to the width that it is given, as long as it can be read."""
        layout = self._layout
        width, height = layout.size
        least = width * _LEAST_SCALE
        curves = "".join(map(layout.curve, layout.ways))
        tips = "".join(layout.tip(node) for node in range(1, len(self.nodes)))
        spoken = _cut(" ".join(self.text.split()), _SPOKEN)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(spoken)}"',
            f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"',
            f'font-family="sans-serif" style="max-width:100%;min-width:{least:.0f}px;height:auto;'
            'font-family:var(--jp-ui-font-family,system-ui,sans-serif)">',
            f'<path d="{curves}" {_paint(fill="none", stroke="edge")} stroke-width="1.5"/>',
            f'<path d="{tips}" {_paint(fill="edge")}/>',
            *(_drawn(node, layout.box(place)) for place, node in enumerate(self.nodes)),
            "</svg>",
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        small = len(self.edges) <= _MERMAID_EDGES and len(self.mermaid) <= _MERMAID_CHARACTERS
        return {
            "text/plain": self.text,
            "text/html": f'<div style="overflow:auto">{self.svg}</div>',
            "image/svg+xml": self.svg,
            **({"text/vnd.mermaid": self.mermaid} if small else {}),
        }

    @cached_property
    def _awaited(self) -> dict[int, list[int]]:
        """The nodes that each one waits for."""
        awaited: dict[int, list[int]] = {node: [] for node in range(len(self.nodes))}
        for first, last in self.edges:
            awaited[last].append(first)
        return awaited

    @cached_property
    def _layers(self) -> list[int]:
        """For each node, the length of the longest way to it from the input."""
        layers = [0] * len(self.nodes)
        for node in TopologicalSorter(self._awaited).static_order():
            layers[node] = max((layers[each] + 1 for each in self._awaited[node]), default=0)
        return layers

    @cached_property
    def _layout(self) -> _Layout:
        """Sideways where that fits a page, else in the direction that takes less width."""
        sizes = [_size(node) for node in self.nodes]
        sideways = _Layout(sizes, self.edges, self._layers, sideways=True)
        down = _Layout(sizes, self.edges, self._layers, sideways=False)
        return sideways if sideways.size[0] <= max(_PAGE_WIDTH, down.size[0]) else down


# The graph


def _job_node(job: Job, for_guests: bool) -> Node:
    call = job.call
    ids = (job.id, *(() if call is None else (call.component.id,)))
    named = [each for each in ids if not each.startswith("__")]
    repeat_count = None if call is None else call.repeat_count
    count = "" if repeat_count is None else _brief(repeat_count)
    repeats = count and f"× {_clean(without_folders(count) if for_guests else count)}"
    label = _clean(named[0] if named else "Default")
    return Node("job", label, tuple(_models((job,), for_guests)), repeats)


def _models(jobs: tuple[Job, ...], for_guests: bool) -> list[str]:
    sources = (call.component.sources[0] for call in model_calls(jobs))
    shown = (public_source(source) if for_guests else source for source in sources)
    return list(dict.fromkeys(map(_clean, shown)))


def _brief(template: Template) -> str:
    """A template, without type and default where it is one plain expression."""
    only = template.only
    if only is None or len(only.keys) < len(only.path):
        return str(template)
    return f"${{{'.'.join((only.source, *only.keys))}}}"


def _edges(workflow: Workflow) -> list[Edge]:
    """What waits for what, with the input before the first jobs and the output after the last.

    Where that is more than anyone can follow, what is implied by the rest is left out.
    """
    places = {job.id: place for place, job in enumerate(workflow.jobs, 1)}
    awaited = predecessors(workflow.jobs)
    if sum(map(len, awaited.values())) > _MANY_EDGES:
        awaited = _reduced(awaited)
    return [
        *((0, places[name]) for name, others in awaited.items() if not others),
        *((places[each], places[name]) for name, others in awaited.items() for each in others),
        *((places[job.id], len(places) + 1) for job in workflow.last_jobs),
    ]


def _reduced(awaited: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What each job waits for, without what others of these wait for themselves."""
    before: dict[str, set[str]] = {}
    reduced: dict[str, tuple[str, ...]] = {}
    for name in TopologicalSorter(awaited).static_order():
        implied = set[str]().union(*(before[each] for each in awaited[name]))
        before[name] = implied.union(awaited[name])
        reduced[name] = tuple(each for each in awaited[name] if each not in implied)
    return {name: reduced[name] for name in awaited}


# Text


def _clean(text: str) -> str:
    """Text on one line, without characters that steer terminals or that XML forbids."""
    return "".join(map(_printable, " ".join(redact(text).split())))


def _printable(char: str) -> str:
    steers = unicodedata.category(char) in ("Cc", "Cs") or char in "\ufffe\uffff"
    return "\N{REPLACEMENT CHARACTER}" if steers else char


def _columns(text: str) -> int:
    """How wide a text is, in columns of a terminal."""
    return sum(map(_char_columns, text))


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, columns: int) -> str:
    """A text, or its beginning where it is wider than that."""
    if _columns(text) <= columns:
        return text
    ends = itertools.accumulate(map(_char_columns, text))
    return "".join(char for char, end in zip(text, ends, strict=True) if end < columns) + "…"


def _heading(node: Node, columns: int = _LABEL) -> list[str]:
    """The label, and the repeats if there are any, as a box shows them."""
    return [_cut(each, columns) for each in (node.label, node.repeats) if each]


def _rows(node: Node) -> list[str]:
    """The details as a box shows them."""
    shown = node.details
    if len(shown) > _MANY_NAMES:
        shown = (*shown[: _MANY_NAMES - 1], f"… {len(shown) - _MANY_NAMES + 1} more")
    return [_cut(each, _DETAIL) for each in shown]


def _words(nodes: Iterator[Node]) -> Iterator[str]:
    """Nodes as plain text, jobs with their model unless it is that of the job before."""
    model = ""
    for node in nodes:
        details = [_cut(each, _WORD) for each in node.details]
        if node.kind == "job":
            shown = [] if node.details[0] == model else [f"[{details[0]}]"]
            model = node.details[0]
            yield " ".join([*_heading(node, _WORD), *shown])
        else:
            yield f"{node.kind}({', '.join(details)})"


def _mermaid_text(text: str) -> str:
    """Text for a quoted label, in which mermaid finds no marks of its own, Markdown or HTML.

    It looks for statements in quotes too, for ``direction LR`` say, so that spaces are not safe.
    """
    return "".join(char if char.isalnum() else f"#{ord(char)};" for char in text)


# The layout, in pixels

# What a notebook's page is sure to be wide; and how far a picture shrinks before it scrolls.
_PAGE_WIDTH, _LEAST_SCALE = 860, 0.7
_LAYER_GAP, _GAP, _MARGIN, _TIP = 38, 14, 4, 7
_SWEEPS = 4


class _Layout:
    """Where the boxes are: in layers, each behind all that it waits for.

    Layers follow each other along the arrows; the boxes of a layer stand across them. An edge that
    passes a layer has a bend there, which takes a place as boxes do, so that it runs beside them.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        edges: Sequence[Edge],
        layers: Sequence[int],
        *,
        sideways: bool,
    ) -> None:
        self.sideways = sideways
        self._layers = list(layers)
        ordered = [self._ordered(width, height) for width, height in sizes]
        self._lengths = [length for length, _ in ordered]
        self._breadths = [breadth for _, breadth in ordered]
        self._before: dict[int, list[int]] = defaultdict(list)
        self._after: dict[int, list[int]] = defaultdict(list)
        self.ways = [self._way(first, last) for first, last in edges]
        self._centres = dict.fromkeys(range(len(self._layers)), 0.0)
        self._rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
        for place, layer in enumerate(self._layers):
            self._rows[layer].append(place)
        for _ in range(_SWEEPS):
            self._settle(self._rows, self._before)
            self._settle(self._rows[::-1], self._after)
        self._measure()

    def _way(self, first: int, last: int) -> list[int]:
        """The places that an edge goes through, with new ones for its bends."""
        passed = range(self._layers[first] + 1, self._layers[last])
        way = [first, *range(len(self._layers), len(self._layers) + len(passed)), last]
        self._layers += passed
        self._lengths += [0.0] * len(passed)
        self._breadths += [0.0] * len(passed)
        for one, other in itertools.pairwise(way):
            self._after[one].append(other)
            self._before[other].append(one)
        return way

    def _settle(self, rows: Sequence[list[int]], neighbours: Mapping[int, list[int]]) -> None:
        """Move the places of each row as near to their neighbours as their room allows."""
        centres = self._centres
        for row in rows:
            wanted = {
                place: fmean(centres[each] for each in neighbours[place] or [place])
                for place in row
            }
            row.sort(key=wanted.__getitem__)
            room = [self._breadths[place] + _GAP for place in row]
            centres.update(zip(row, _spread([wanted[each] for each in row], room), strict=True))

    def _measure(self) -> None:
        """Fix where each layer begins and ends, and the size of it all."""
        self._spans: list[tuple[float, float]] = []
        begin: float = _MARGIN
        for row in self._rows:
            end = begin + max(self._lengths[place] for place in row)
            self._spans.append((begin, end))
            begin = end + _LAYER_GAP
        halves = [(centre, self._breadths[p] / 2) for p, centre in self._centres.items()]
        low, high = min(c - half for c, half in halves), max(c + half for c, half in halves)
        self._centres = {p: centre - low + _MARGIN for p, centre in self._centres.items()}
        self.size = self._ordered(end + _MARGIN, high - low + 2 * _MARGIN)

    def box(self, place: int) -> tuple[float, float, float, float]:
        """A box's left and top, width and height. It is as long as its layer."""
        begin, end = self._span(place)
        breadth = self._breadths[place]
        left, top = self._ordered(begin, self._centres[place] - breadth / 2)
        return left, top, *self._ordered(end - begin, breadth)

    def curve(self, way: Sequence[int]) -> str:
        """The SVG path of an edge."""
        path = f"M{self._point(self._span(way[0])[1], self._centres[way[0]])}"
        for one, other in itertools.pairwise(way):
            (_, begin), (end, beyond) = self._span(one), self._span(other)
            across, then = self._centres[one], self._centres[other]
            end -= _TIP if other == way[-1] else 0
            middle = (begin + end) / 2
            points = ((middle, across), (middle, then), (end, then))
            path += "C" + " ".join(self._point(*point) for point in points)
            if other != way[-1]:
                path += f"L{self._point(beyond, then)}"
        return path

    def tip(self, place: int) -> str:
        """The SVG path of the arrowhead at a box."""
        begin, centre = self._span(place)[0], self._centres[place]
        sides = (self._point(begin - _TIP, centre + side * _TIP / 2) for side in (-1, 1))
        return f"M{self._point(begin, centre)}L{'L'.join(sides)}Z"

    def _span(self, place: int) -> tuple[float, float]:
        return self._spans[self._layers[place]]

    def _point(self, along: float, across: float) -> str:
        return " ".join(f"{each:.6g}" for each in self._ordered(along, across))

    def _ordered(self, along: float, across: float) -> tuple[float, float]:
        """What lies along the arrows and across them as horizontal and vertical, or back."""
        return (along, across) if self.sideways else (across, along)


def _spread(wanted: Sequence[float], room: Sequence[float]) -> list[float]:
    """The centres that are nearest to those wanted, in their order, each with room around it.

    Isotonic regression: neighbours that are in each other's way are pooled.
    """
    reach = ((one + other) / 2 for one, other in itertools.pairwise(room))
    offsets = list(itertools.accumulate(reach, initial=0.0))
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        start, count = want - offset, 1
        while pools and pools[-1][0] > start:
            other, others = pools.pop()
            start = (start * count + other * others) / (count + others)
            count += others
        pools.append((start, count))
    starts = itertools.chain.from_iterable([start] * count for start, count in pools)
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


# The boxes

_HEADING_ROW, _ROW, _PADDING = 18, 16, 14
# What a column of text takes at most in common fonts.
_HEADING_COLUMN, _COLUMN = 8.3, 6.7
_MONOSPACE = "font-family:var(--jp-code-font-family,monospace);"
# In JupyterLab's themes, in VS Code's, and anywhere else.
_COLOURS = {
    "none": ("none",),
    "ink": ("--jp-content-font-color1", "--vscode-editor-foreground", "#212121"),
    "muted": ("--jp-content-font-color2", "--vscode-descriptionForeground", "#616161"),
    "edge": ("--jp-content-font-color3", "--vscode-descriptionForeground", "#8a8a8a"),
    "card": ("--jp-layout-color1", "--vscode-editor-background", "#ffffff"),
    "end": ("--jp-layout-color2", "--vscode-editorWidget-background", "#eeeeee"),
    "border": ("--jp-border-color1", "--vscode-editorWidget-border", "#bdbdbd"),
    "accent": ("--jp-brand-color1", "--vscode-textLink-foreground", "#1976d2"),
}


def _size(node: Node) -> tuple[float, float]:
    """The width and height that a node's text needs."""
    rows = _rows(node)
    widths = [_HEADING_COLUMN * _columns(" ".join(_heading(node)))]
    widths += [_COLUMN * _columns(row) for row in rows]
    return max(widths) + 2 * _PADDING, _HEADING_ROW + _ROW * len(rows) + _PADDING


def _drawn(node: Node, box: tuple[float, float, float, float]) -> str:
    """A node's box with its text, and all of that as a tooltip where the box shows less.

    Each line of text ends with a line break, so that a page which takes the tags away shows words.
    """
    left, base = box[0] + _PADDING, box[1] + _HEADING_ROW + 3
    heading, rows = _heading(node), _rows(node)
    whole = [*filter(None, (node.label, node.repeats)), *node.details]
    tooltip = "\n".join(whole) if [*heading, *rows] != whole else ""
    first, *others = map(escape, heading)
    lighter = f'<tspan font-weight="400" {_paint(fill="accent")}>'
    spans = [first, *(f"{lighter}{each}</tspan>" for each in others)]
    lines = [
        "<g>" + (f"<title>{escape(tooltip)}</title>" if tooltip else ""),
        *_shapes(node, box),
        f'<text x="{left:.6g}" y="{base:.6g}" font-size="13" font-weight="600"'
        f" {_paint(fill='ink')}>{' '.join(spans)}</text>",
        f'<g font-size="11" {_paint(_MONOSPACE, fill="muted")}>',
        *(
            f'<text x="{left:.6g}" y="{base + number * _ROW:.6g}">{escape(row)}</text>'
            for number, row in enumerate(rows, 1)
        ),
        "</g></g>",
    ]
    return "\n".join(lines)


def _shapes(node: Node, box: tuple[float, float, float, float]) -> Iterator[str]:
    x, y, width, height = box
    if node.kind != "job":
        yield _rectangle(x, y, width, height, radius=16, fill="end")
        return
    if node.repeats:  # like several jobs, one behind the other
        yield _rectangle(x + 4, y + 4, width, height, radius=6, fill="card", stroke="border")
    yield _rectangle(x, y, width, height, radius=6, fill="card", stroke="border")
    yield _rectangle(x + 5, y + 8, 3, height - 16, radius=1.5, fill="accent")


def _rectangle(
    x: float, y: float, width: float, height: float, *, radius: float, **paints: str
) -> str:
    return (
        f'<rect x="{x:.6g}" y="{y:.6g}" width="{width:.6g}" height="{height:.6g}" rx="{radius:g}"'
        f" {_paint(**paints)}/>"
    )


def _paint(style: str = "", **paints: str) -> str:
    """Attributes that colour a shape: by the theme, and plainly where CSS is not known."""
    plain = (f'{key}="{_COLOURS[name][-1]}"' for key, name in paints.items())
    themed = (f"{key}:{_themed(*_COLOURS[name])}" for key, name in paints.items())
    return f'{" ".join(plain)} style="{style}{";".join(themed)}"'


def _themed(*choices: str) -> str:
    """The first colour of these that there is."""
    first, *rest = choices
    return f"var({first},{_themed(*rest)})" if rest else first
