"""The jobs of a run that has ended as HTML that does nothing by itself: what a notebook keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from html import escape
from typing import Any

from ..diagram import Diagram
from ..table import READABLE
from ..translation import localized
from ..workflow import Run
from .steps import LISTS, row, row_of

_MOST_ROWS = 200
_CELL = f'dir="auto" style="{READABLE}"'


def steps_html(run: Run, diagram: Diagram) -> str:
    """The diagram with how the jobs ended, and what they went through as tables."""
    jobs, items = run.jobs, run.items
    types = {name: job["type"] for name, job in jobs.items()}
    texts: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for stream, text in run.streams.items():
        if (place := row_of(stream, types)) is not None:
            texts[place[:2]].append(text)
    tables = (
        _table(name, items[name], {index: texts[name, index] for index in items[name]})
        for name, type_ in types.items()
        if type_ in LISTS and name in items
    )
    return f'<div style="overflow:auto">{diagram.of_run(jobs)}</div>{"".join(tables)}'


def loose_texts(run: Run) -> dict[tuple[Any, ...], str]:
    """The texts that stand in none of these tables."""
    types = {name: job["type"] for name, job in run.jobs.items()}
    return {key: text for key, text in run.streams.items() if row_of(key, types) is None}


def _table(job: str, items: Mapping[int, Mapping[str, Any]], texts: Mapping[int, list[str]]) -> str:
    names = map(localized, ("", "Item", "State", "Result"))
    head = "".join(f'<th scope="col" {_CELL}>{name}</th>' for name in names)
    shown = list(items)[:_MOST_ROWS]
    body = "".join(_row(index, items[index], texts[index]) for index in shown)
    left = len(items) - len(shown)
    more = f"<div>{localized(f'and {left:,} more')}</div>" if left else ""
    return (
        f"<h4>{escape(job)}</h4><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{more}"
    )


def _row(index: int, item: Mapping[str, Any], texts: list[str]) -> str:
    told = row(item)
    result = "\n\n".join(filter(None, [*texts, told["output"], localized(told["error"])]))
    cells = (told["label"], f"{told['mark']} {localized(told['word'])}".strip(), result)
    shown = (
        f'<td {_CELL}><div style="white-space:pre-wrap">{escape(each)}</div></td>' for each in cells
    )
    return f'<tr><th scope="row" {_CELL}>{index + 1}</th>{"".join(shown)}</tr>'
