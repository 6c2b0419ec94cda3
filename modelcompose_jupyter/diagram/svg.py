"""A graph of jobs as SVG.

The SVG stands by itself: it takes its colours from the theme of JupyterLab or VS Code where there
is one, and has neither styles nor ids that could meet those of its page. Where jobs have states,
these are colours that are set at each job and edge, and a row in each box: a page that sets them
by itself, as ``steps.js`` does, draws nothing anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from .graph import Edge, Link, Node
from .layout import Layout
from .states import COLUMNS, EdgeState, JobState
from .words import DETAIL, LABEL, columns, cut

_LEAST_SCALE = 0.7  # how far a picture shrinks before it scrolls
_MANY_NAMES = 6
_HEADING_ROW, _ROW, _PADDING = 18, 16, 14
_LABEL_HEIGHT, _SLANT = 14, 16
# What a column of text takes at most in common fonts.
_HEADING_COLUMN, _COLUMN = 8.3, 6.7
_MONOSPACE = "font-family:var(--jp-code-font-family,monospace);"
# In JupyterLab's themes, in VS Code's, and anywhere else.
_COLOURS = {
    "none": ("none",),
    "ink": ("--jp-content-font-color1", "--vscode-editor-foreground", "#212121"),
    "muted": ("--jp-content-font-color2", "--vscode-descriptionForeground", "#616161"),
    "edge": ("--jp-content-font-color3", "--vscode-descriptionForeground", "#8a8a8a"),
    "page": ("--jp-layout-color0", "--vscode-editor-background", "#ffffff"),
    "card": ("--jp-layout-color1", "--vscode-editor-background", "#ffffff"),
    "end": ("--jp-layout-color2", "--vscode-editorWidget-background", "#eeeeee"),
    "border": ("--jp-border-color1", "--vscode-editorWidget-border", "#bdbdbd"),
    "accent": ("--jp-brand-color1", "--vscode-textLink-foreground", "#1976d2"),
    "good": ("--jp-success-color1", "--vscode-charts-green", "#388e3c"),
    "warn": ("--jp-warn-color1", "--vscode-charts-orange", "#b26a00"),
    "bad": ("--jp-error-color1", "--vscode-errorForeground", "#c62828"),
}
# What a state, or a page, sets where it is drawn; before each of these colours.
_OWN = {"border": "--mc-state", "accent": "--mc-state", "edge": "--mc-edge", "page": "--mc-page"}
_STATE_COLOURS = {
    "running": "accent",
    "waiting": "warn",
    "interrupted": "warn",
    "completed": "good",
    "recovered": "warn",
    "failed": "bad",
}
_DIM = ("skipped", "cancelled")


def heading(node: Node) -> list[str]:
    """The label, and what stands beside it, as a box shows them."""
    return [cut(each, LABEL) for each in node.heading]


def rows(node: Node) -> list[str]:
    """The details as a box shows them, and below them the marks."""
    shown = node.details
    if len(shown) > _MANY_NAMES:
        shown = (*shown[: _MANY_NAMES - 1], f"… +{len(shown) - _MANY_NAMES + 1}")
    return [cut(each, DETAIL) for each in (*shown, *node.marks)]


def size(node: Node, *, has_state: bool) -> tuple[float, float]:
    """The width and height that a node's text needs, with a row for a job's state or without."""
    shown, is_job = rows(node), node.kind == "job"
    state = has_state and is_job
    widths = [_HEADING_COLUMN * columns(" ".join(heading(node)))]
    widths += [_COLUMN * columns(row) for row in shown]
    widths += [_COLUMN * COLUMNS] if state else []
    height = _HEADING_ROW + _ROW * (len(shown) + state) + _PADDING
    return max(widths) + 2 * _PADDING + 2 * _slant(node), height


def label_size(link: Link) -> tuple[float, float]:
    """The width and height of an edge's label."""
    return _COLUMN * columns(cut(link.label, LABEL)), _LABEL_HEIGHT


def svg(
    nodes: Sequence[Node],
    links: Mapping[Edge, Link],
    layout: Layout,
    spoken: str,
    states: Mapping[str, JobState] | None = None,
    edges: Mapping[Edge, EdgeState] | None = None,
) -> str:
    """A picture that scales to the width that it is given, as long as it can be read.

    ``states`` are those of jobs by their ids, and ``edges`` those of edges; None where none are
    shown, and there is no room for them.
    """
    width, height = layout.size
    least = width * _LEAST_SCALE
    tips = "".join(layout.tip(node) for node in range(1, len(nodes)))
    ways = dict(zip(links, layout.ways, strict=True))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(spoken)}"',
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"',
        f'font-family="sans-serif" style="max-width:100%;min-width:{least:.0f}px;height:auto;'
        'font-family:var(--jp-ui-font-family,system-ui,sans-serif)">',
        *(
            _edge(edge, link, layout.curve(ways[edge]), (edges or {}).get(edge, "open"))
            for edge, link in links.items()
        ),
        f'<path d="{tips}" {_paint(fill="tip")}/>',
        *(_label(link, layout.label(ways[edge])) for edge, link in links.items() if link.label),
        *(_node(place, node, layout.box(place), states) for place, node in enumerate(nodes)),
        "</svg>",
    ]
    return "\n".join(lines)


# Edges


def _edge(edge: Edge, link: Link, curve: str, state: EdgeState) -> str:
    first, last = edge
    dashes = {"route": "6 4", "error": "6 4", "ended": "2 3"}.get(link.kind)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    own = {"taken": f"--mc-edge:{_colour('accent')};--mc-width:2.5;", "left": "--mc-seen:0.35;"}
    return (
        f'<path d="{curve}" data-edge="{first}-{last}" data-state="{state}" stroke-width="1.5"'
        f"{dashed} "
        + _paint(
            own.get(state, "") + "stroke-width:var(--mc-width,1.5);opacity:var(--mc-seen,1);",
            fill="none",
            stroke="error" if link.kind == "error" else "edge",
        )
        + "/>"
    )


def _label(link: Link, middle: tuple[float, float]) -> str:
    x, y = middle
    shown = cut(link.label, LABEL)
    tooltip = f"<title>{escape(link.label)}</title>" if shown != link.label else ""
    return (
        f'<text x="{x:.6g}" y="{y + 4:.6g}" font-size="11" text-anchor="middle" stroke-width="4"'
        f' stroke-linejoin="round" paint-order="stroke" {_paint(fill="muted", stroke="page")}>'
        f"{tooltip}{escape(shown)}</text>"
    )


# Boxes


def _node(
    place: int,
    node: Node,
    box: tuple[float, float, float, float],
    states: Mapping[str, JobState] | None,
) -> str:
    """A node's box with its text, and all of that as a tooltip where the box shows less.

    Each line of text ends with a line break, so that a page which takes the tags away shows words.
    """
    left = box[0] + _PADDING + _slant(node)
    base = box[1] + _HEADING_ROW + 3
    shown, below = heading(node), rows(node)
    whole = [*node.heading, *node.details, *node.marks]
    tooltip = "\n".join(whole) if [*shown, *below] != whole else ""
    first, *others = map(escape, shown)
    lighter = f'<tspan font-weight="400" {_paint(fill="kind")}>'
    spans = [first, *(f"{lighter}{each}</tspan>" for each in others)]
    is_state = states is not None and node.kind == "job"
    state = (states or {}).get(node.job)
    lines = [
        f"<g{_attributes(place, state) if is_state else ''}>"
        + (f"<title>{escape(tooltip)}</title>" if tooltip else ""),
        *_shapes(node, box),
        f'<text x="{left:.6g}" y="{base:.6g}" font-size="13" font-weight="600"'
        f" {_paint(fill='ink')}>{' '.join(spans)}</text>",
        f'<g font-size="11" {_paint(_MONOSPACE, fill="muted")}>',
        *(
            f'<text x="{left:.6g}" y="{base + number * _ROW:.6g}">{escape(row)}</text>'
            for number, row in enumerate(below, 1)
        ),
        *([_state(state, left, base + (len(below) + 1) * _ROW)] if is_state else ()),
        "</g></g>",
    ]
    return "\n".join(lines)


def _attributes(place: int, state: JobState | None) -> str:
    """What tells a script which job it is, and the page how that is."""
    named = f' data-node="{place}"'
    if state is None:
        return f'{named} style="opacity:var(--mc-seen,1)"'
    name = _STATE_COLOURS.get(state.state)
    own = f"--mc-state:{_colour(name)};" if name else ""
    own += "--mc-seen:0.55;" if state.state in _DIM else ""
    return f'{named} data-state="{state.state}" style="{own}opacity:var(--mc-seen,1)"'


def _state(state: JobState | None, x: float, y: float) -> str:
    mark, words = ("", "") if state is None else (state.mark, state.words)
    return (
        f'<text x="{x:.6g}" y="{y:.6g}" {_paint(fill="ink")}>'
        f'<tspan font-weight="700" {_paint(fill="mark")}>{mark}</tspan>'
        f' <tspan data-words="">{escape(words)}</tspan></text>'
    )


def _slant(node: Node) -> int:
    """How far the ends of a box run to a point."""
    return _SLANT if node.is_choice else 0


def _shapes(node: Node, box: tuple[float, float, float, float]) -> Iterator[str]:
    x, y, width, height = box
    if node.kind != "job":
        yield _rectangle(x, y, width, height, radius=16, fill="end")
        return
    if node.is_choice:
        yield _diamond(x, y, width, height, _slant(node))
        return
    radius = 16 if node.type == "delay" else 6
    if node.is_many:  # like several jobs, one behind the other
        yield _rectangle(x + 4, y + 4, width, height, radius=radius, fill="card", stroke="border")
    yield _rectangle(x, y, width, height, radius=radius, fill="card", stroke="border")
    if node.type == "loop":
        yield _turn(x + width - _PADDING - 2, y + _PADDING)
    if node.type != "delay":
        yield _rectangle(x + 5, y + 8, 3, height - 16, radius=1.5, fill="accent")


def _diamond(x: float, y: float, width: float, height: float, slant: float) -> str:
    middle, right = y + height / 2, x + width
    corners = (
        (x, middle),
        (x + slant, y),
        (right - slant, y),
        (right, middle),
        (right - slant, y + height),
        (x + slant, y + height),
    )
    path = "L".join(f"{a:.6g} {b:.6g}" for a, b in corners)
    return f'<path d="M{path}Z" stroke-linejoin="round" {_paint(fill="card", stroke="border")}/>'


def _turn(x: float, y: float) -> str:
    """An arrow that turns back."""
    path = f"M{x + 4:.6g} {y - 2:.6g}A4.5 4.5 0 1 0 {x + 4:.6g} {y + 2:.6g}m1.5 -4.5v4.5h-4.5"
    return f'<path d="{path}" stroke-width="1.5" {_paint(fill="none", stroke="accent")}/>'


def _rectangle(
    x: float, y: float, width: float, height: float, *, radius: float, **paints: str
) -> str:
    return (
        f'<rect x="{x:.6g}" y="{y:.6g}" width="{width:.6g}" height="{height:.6g}" rx="{radius:g}"'
        f" {_paint(**paints)}/>"
    )


# Colours

# As others; but those that a state changes alone, or never.
_SAME = {"kind": "accent", "tip": "edge", "error": "warn", "mark": "muted"}


def _paint(style: str = "", **paints: str) -> str:
    """Attributes that colour a shape: by the theme, and plainly where CSS is not known."""
    plain = (f'{key}="{_COLOURS[_SAME.get(name, name)][-1]}"' for key, name in paints.items())
    themed = (f"{key}:{_own(name)}" for key, name in paints.items())
    return f'{" ".join(plain)} style="{style}{";".join(themed)}"'


def _own(name: str) -> str:
    """A colour, or in its place that of a state."""
    own = {**_OWN, "error": "--mc-edge", "mark": "--mc-state"}.get(name)
    colour = _colour(_SAME.get(name, name))
    return f"var({own},{colour})" if own else colour


def _colour(name: str) -> str:
    return _themed(*_COLOURS[name])


def _themed(*choices: str) -> str:
    """The first colour of these that there is."""
    first, *rest = choices
    return f"var({first},{_themed(*rest)})" if rest else first
