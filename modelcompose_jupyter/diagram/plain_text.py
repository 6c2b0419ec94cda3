"""A graph of jobs in words: one line where each job waits for the one before, else one for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

from .graph import WAITS, Edge, Link, Node
from .words import LINE, WORD, Say, columns, cut


def plain_text(
    nodes: Sequence[Node], links: Mapping[Edge, Link], order: Sequence[int], say: Say
) -> str:
    """The text; ``order`` is one in which the nodes can run."""
    words = list(_words([nodes[place] for place in order]))
    line = " ─▶ ".join(words)
    is_chain = set(links) == set(itertools.pairwise(order)) and set(links.values()) <= {WAITS}
    if is_chain and not any(node.marks for node in nodes) and columns(line) <= LINE:
        return line
    places = zip(order, words, strict=True)
    told = [word + _more(nodes, links, place, say) for place, word in places]
    first, *jobs, last = told
    return "\n".join([first, *(f"  {job}" for job in jobs), last])


def _words(nodes: Sequence[Node]) -> Iterator[str]:
    """Nodes, calls with their model unless it is that of the call before."""
    model = ""
    for node in nodes:
        details = [cut(each, WORD) for each in node.details]
        if node.kind != "job":
            yield f"{node.label.lower()}({', '.join(details)})"
            continue
        label, *others = (cut(each, WORD) for each in node.heading)
        if node.type == "component":
            shown = [] if node.details[0] == model else [f"[{details[0]}]"]
            model = node.details[0]
            yield " ".join([label, *others, *shown])
        else:
            yield f"{label} [{' '.join([*others, ', '.join(details)]).rstrip()}]"


def _more(nodes: Sequence[Node], links: Mapping[Edge, Link], place: int, say: Say) -> str:
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
        *([_any(found["any"], say)] if "any" in found else ()),
        *(say("{0} if it ran", name) for name in found.get("ended", ())),
    ]
    led = [*found.get("route", ()), *(say("{0} fails", name) for name in found.get("error", ()))]
    parts = [
        ", ".join(nodes[place].marks),
        say("after: {0}", ", ".join(after)) if after else "",
        say("where {0}", reduce(lambda a, b: say("{0}, or {1}", a, b), led)) if led else "",
    ]
    return "".join(f"  {part}" for part in parts if part)


def _any(names: Sequence[str], say: Say) -> str:
    return reduce(lambda before, name: say("{0} or {1}", before, name), names)
