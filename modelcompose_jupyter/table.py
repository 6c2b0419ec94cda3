"""A small table that shows as HTML in a notebook and as text elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any

from .document.types import show
from .errors import UsageError
from .terminal import width_of
from .translation import localized

_CELL_LENGTH = 48
READABLE = (
    # Of an untrusted notebook JupyterLab leaves the first alone.
    "text-align:left;text-align:start;vertical-align:top;white-space:normal;"
    "overflow-wrap:break-word;"
)
"""The style of a table's cells that hold texts: JupyterLab's own is for numbers."""
_STYLE = f'dir="auto" style="{READABLE}max-width:40em"'


class Table:
    """Rows of text under headers, and a note below.

    ``empty`` is what stands there when there are no rows.
    """

    def __init__(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], empty: str, note: str = ""
    ) -> None:
        self.headers = list(headers)
        self.rows = [[str(cell) for cell in row] for row in rows]
        self._empty = empty
        self._note = note

    def __repr__(self) -> str:
        return "\n".join([*self._lines(), *([localized(self._note)] if self._note else [])])

    def _lines(self) -> list[str]:
        if not self.rows:
            return [localized(self._empty)]
        lines = [[*map(localized, self.headers)], *self.rows]
        widths = [max(width_of(line[i]) for line in lines) for i in range(len(self.headers))]
        return ["  ".join(map(_padded, line, widths)).rstrip() for line in lines]

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, localized(self._note).splitlines()))
        note = f"<div><small>{lines}</small></div>" if lines else ""
        if not self.rows:
            return f"<em>{escape(localized(self._empty))}</em>{note}"
        head = "".join(f"<th {_STYLE}>{escape(localized(header))}</th>" for header in self.headers)
        body = "".join(
            "<tr>" + "".join(f"<td {_STYLE}>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - width_of(cell))


def data_frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """A DataFrame of pandas with a row for each record.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise UsageError(
            "a DataFrame needs pandas, which is not installed", hint="pip install pandas"
        ) from None
    return pandas.DataFrame(records, columns=columns)


def one_line_each(values: Sequence[Any], length: int = _CELL_LENGTH) -> list[str]:
    """Values in a line each, of a length at most; None is empty. What all texts begin with is left
    out, up to a word, where otherwise too little would be seen of how they differ."""
    lines = [_one_line(value, length) for value in values]
    start = 0
    if any(len(line) > length for line in lines) and len(set(lines)) > 1:
        first, last = min(lines), max(lines)  # which have no more in common than all have
        shared = [a == b for a, b in zip(first, last, strict=False)]
        same = shared.index(False) if False in shared else len(shared)
        start = first[:same].rfind(" ") + 1
    if start > length // 2:
        lines = [f"…{line[start:]}" for line in lines]
    return [line if len(line) <= length else f"{line[: length - 1]}…" for line in lines]


def _one_line(value: Any, length: int) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    return "" if value is None else show(value, length)
