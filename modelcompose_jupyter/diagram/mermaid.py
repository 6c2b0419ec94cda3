"""A graph of jobs as a flowchart in the language of mermaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .graph import Edge, Link, Node
from .svg import heading, rows
from .words import LABEL, cut


def mermaid(nodes: Sequence[Node], links: Mapping[Edge, Link], *, sideways: bool) -> str:
    """The flowchart."""
    ids = ["input", *(f"j{index}" for index in range(len(nodes) - 2)), "output"]
    lines = [f"flowchart {'LR' if sideways else 'TD'}"]
    for id_, node in zip(ids, nodes, strict=True):
        shown = map(_text, (" ".join(heading(node)), *rows(node)))
        begin, end = _shape(node)
        lines.append(f'  {id_}{begin}"{"<br/>".join(shown)}"{end}')
    lines += [f"  {ids[a]} {_arrow(link)} {ids[b]}" for (a, b), link in links.items()]
    return "\n".join(lines)


def _shape(node: Node) -> tuple[str, str]:
    if node.kind != "job":
        return "([", "])"
    if node.is_choice:
        return "{", "}"
    return ("[[", "]]") if node.type in ("for-each", "loop", "accumulate") else ("[", "]")


def _arrow(link: Link) -> str:
    label = f'|"{_text(cut(link.label, LABEL))}"|' if link.label else ""
    return f"{'-.->' if link.is_route else '-->'}{label}"


def _text(text: str) -> str:
    """Text for a quoted label, in which mermaid finds no marks of its own, Markdown or HTML.

    It looks for statements in quotes too, for ``direction LR`` say, so that spaces are not safe.
    """
    return "".join(char if char.isalnum() else f"#{ord(char)};" for char in text)
