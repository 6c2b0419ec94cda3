"""A graph of jobs in words: one line where each job waits for the one before, else one for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from .graph import WAITS, Edge, Link, Node
from .words import LINE, WORD, columns, cut


def plain_text(nodes: Sequence[Node], links: Mapping[Edge, Link], order: Sequence[int]) -> str:
    """The text; ``order`` is one in which the nodes can run."""
    words = list(_words([nodes[place] for place in order]))
    line = " ─▶ ".join(words)
    is_chain = set(links) == set(itertools.pairwise(order)) and set(links.values()) <= {WAITS}
    if is_chain and not any(node.marks for node in nodes) and columns(line) <= LINE:
        return line
    told = [word + _more(nodes, links, place) for place, word in zip(order, words, strict=True)]
    first, *jobs, last = told
    return "\n".join([first, *(f"  {job}" for job in jobs), last])


def _words(nodes: Sequence[Node]) -> Iterator[str]:
    """Nodes, calls with their model unless it is that of the call before."""
    model = ""
    for node in nodes:
        details = [cut(each, WORD) for each in node.details]
        if node.kind != "job":
            yield f"{node.kind}({', '.join(details)})"
            continue
        label, *others = (cut(each, WORD) for each in node.heading)
        if node.type == "component":
            shown = [] if node.details[0] == model else [f"[{details[0]}]"]
            model = node.details[0]
            yield " ".join([label, *others, *shown])
        else:
            yield f"{label} [{' '.join([*others, ', '.join(details)]).rstrip()}]"


def _more(nodes: Sequence[Node], links: Mapping[Edge, Link], place: int) -> str:
    """What there is to say of a node beside what it does: marks, what it waits for, what leads to
    it."""
    found: dict[str, list[str]] = {}
    for (first, last), link in links.items():
        if last == place and first:
            name = cut(nodes[first].label, WORD)
            when = f": {link.label}" if link.kind == "route" and link.label else ""
            found.setdefault(link.kind, []).append(f"{name}{when}")
    after = [
        *found.get("waits", ()),
        *([" or ".join(found["any"])] if "any" in found else ()),
        *(f"{name} if it ran" for name in found.get("ended", ())),
    ]
    led = [*found.get("route", ()), *(f"{name} fails" for name in found.get("error", ()))]
    parts = [
        ", ".join(nodes[place].marks),
        f"after: {', '.join(after)}" if after else "",
        f"where {', or '.join(led)}" if led else "",
    ]
    return "".join(f"  {part}" for part in parts if part)
