"""A small table that shows as HTML in a notebook and as text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


class Table:
    """Rows of text under headers; ``empty`` is what stands there when there are none."""

    def __init__(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], empty: str
    ) -> None:
        self.headers = list(headers)
        self.rows = [[str(cell) for cell in row] for row in rows]
        self._empty = empty

    def __repr__(self) -> str:
        if not self.rows:
            return self._empty
        lines = [self.headers, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.headers))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<em>{escape(self._empty)}</em>"
        style = "style='text-align:left'"
        head = "".join(f"<th {style}>{escape(header)}</th>" for header in self.headers)
        body = "".join(
            "<tr>" + "".join(f"<td {style}>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
