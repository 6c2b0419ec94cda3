"""Values that a model wrote as tables: a record's names beside its values, records as rows.

The HTML does nothing by itself. Styles stand at the elements, since applications take style sheets
out of what they do not trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..progress import as_text
from ..table import READABLE
from .markdown import preformatted

_MOST_ROWS = 200
_MOST_COLUMNS = 12
_DEEPEST = 4  # tables within tables
_CELL = f'dir="auto" style="{READABLE}"'
_TABLE = '<table style="margin:0">'


def record_html(value: Any) -> str:
    """A mapping, or a list of mappings, as a table; of anything else its JSON."""
    return _table(value, 1) or preformatted(as_text(value))


def _table(value: Any, depth: int) -> str:
    """A table; empty where a value is none, or too deep in others."""
    if depth > _DEEPEST or not value:
        return ""
    if isinstance(value, Mapping):
        return _names_and_values(value, depth)
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return _rows(value, depth)
    return ""


def _names_and_values(value: Mapping[str, Any], depth: int) -> str:
    shown = list(value.items())[:_MOST_ROWS]
    rows = (
        f'<tr><th scope="row" {_CELL}>{escape(str(name))}</th>'
        f"<td {_CELL}>{_cell(each, depth)}</td></tr>"
        for name, each in shown
    )
    return f"{_TABLE}<tbody>{''.join(rows)}</tbody></table>{_more(len(value) - len(shown))}"


def _rows(values: Sequence[Mapping[str, Any]], depth: int) -> str:
    names = list(dict.fromkeys(name for each in values for name in each))
    shown = values[:_MOST_ROWS]
    if not names or len(names) > _MOST_COLUMNS:
        tables = "".join(_table(each, depth) for each in shown)
        return f"{tables}{_more(len(values) - len(shown))}"
    head = "".join(f'<th scope="col" {_CELL}>{escape(str(name))}</th>' for name in names)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td {_CELL}>{_cell(each[name], depth) if name in each else ''}</td>" for name in names
        )
        + "</tr>"
        for each in shown
    )
    table = f"{_TABLE}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"{table}{_more(len(values) - len(shown))}"


def _cell(value: Any, depth: int) -> str:
    """A value in a table: a text as it is, texts with commas, a table within, else its JSON."""
    if isinstance(value, str):
        return escape(value)
    if table := _table(value, depth + 1):
        return table
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return escape(", ".join(value))
    if isinstance(value, Mapping | list) and value:
        return preformatted(as_text(value))
    return escape(as_text(value))


def _more(count: int) -> str:
    return f"<div>and {count:,} more</div>" if count > 0 else ""
