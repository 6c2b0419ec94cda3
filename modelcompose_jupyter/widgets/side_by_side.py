"""Runs side by side, as HTML that a notebook keeps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ..progress import status_line
from ..translation import localized
from ..workflow import Run
from .run_history import side_by_side

_COLUMNS = (
    "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(14rem,100%),1fr));gap:10px"
)
_COLUMN = (
    "min-width:0;padding:8px 12px;border:1px solid var(--jp-border-color2,GrayText);"
    "border-radius:6px"
)
_TEXT = (
    "margin:4px 0;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.55;"
    "font-family:var(--jp-content-font-family,sans-serif)"
)
_MARK = (
    "border-radius:2px;color:var(--jp-content-font-color1,CanvasText);"
    "background:color-mix(in srgb,var(--jp-brand-color1,Highlight) 22%,transparent)"
)


class SideBySide:
    """Two runs or more beside each other: what tells them apart, the text, how it ended.

    Marked are words that the first text has not; in the first, those that the second has not.

    Args:
        given: what each of the runs was given, as those who look at it gave it.
    """

    def __init__(self, runs: Sequence[Run], given: Sequence[Any]) -> None:
        self._columns = side_by_side(runs, given)
        for column in self._columns:
            column["label"] = localized(column["label"])
        self._endings = [localized(status_line(run)) for run in runs]

    def __repr__(self) -> str:
        return "\n\n".join(
            f"{column['label']}\n{''.join(text for _, text in column['parts'])}\n[{ending}]"
            for column, ending in zip(self._columns, self._endings, strict=True)
        )

    def _repr_html_(self) -> str:
        columns = "".join(map(_column, self._columns, self._endings))
        return f'<div style="{_COLUMNS}">{columns}</div>'


def _column(column: dict[str, Any], ending: str) -> str:
    pieces = "".join(
        escape(text) if kind == "same" else f'<mark style="{_MARK}">{escape(text)}</mark>'
        for kind, text in column["parts"]
    )
    return (
        f'<article style="{_COLUMN}"><strong>{escape(column["label"])}</strong>'
        f'<div dir="auto" style="{_TEXT}">{pieces}</div><small>{escape(ending)}</small></article>'
    )
