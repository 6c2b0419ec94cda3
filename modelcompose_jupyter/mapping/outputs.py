"""What a map over a list gives: a list, which a notebook shows as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..document.types import show
from ..errors import ComposeError
from ..table import Table, one_line_each
from .records import Records
from .rows import RowSource

ROWS_SHOWN = 20
_TEXT_LENGTH = 300


class RowOutputs(list[Any]):
    """The outputs in the order of the rows, or a ComposeError for one that failed.

    A notebook shows the first of them beside the inputs in which their rows differ.

    Args:
        inputs: those of the first rows, `ROWS_SHOWN` at most.
    """

    def __init__(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        super().__init__(outputs)
        self._inputs = inputs

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        shown = self[:ROWS_SHOWN]
        inputs = [each if isinstance(each, Mapping) else {} for each in self._inputs]
        asked, common = _columns(inputs[: len(shown)], None)
        given = [_shown(each) for each in shown]
        results, _ = _columns(given, "output", keep_all=True)
        columns = {**asked, **results}
        cells = zip(*columns.values(), strict=True)
        rows = [[number, *row] for number, row in enumerate(cells)]
        notes = [f"the first {len(shown)} of {len(self)} rows"] if len(shown) < len(self) else []
        notes += [f"{name} {show(value)}" for name, value in common.items()]
        return Table(["", *columns], rows, "No rows.", " · ".join(notes))


def in_form(
    source: RowSource, records: Records | None, outputs: list[Any], inputs: Sequence[Any]
) -> Any:
    """Outputs of rows in the form that belongs to the rows. ``inputs`` are those of the first."""
    if records is not None and source.table is not None:
        return source.table(records.columns(outputs))
    result = source.result(outputs)
    return RowOutputs(result, inputs) if type(result) is list else result


def _shown(output: Any) -> Any:
    return {"error": output.message} if isinstance(output, ComposeError) else output


def _columns(
    values: Sequence[Any], name: str | None, *, keep_all: bool = False
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Mappings as columns of text, those alone that differ unless all are to be kept; and what is
    the same in all. Other values are mappings with that name."""
    records = [each if isinstance(each, Mapping) else {name: each} for each in values]
    columns: dict[str, list[str]] = {}
    common = {}
    for key in dict.fromkeys(str(key) for record in records for key in record):
        column = [record.get(key) for record in records]
        if keep_all or any(value != column[0] for value in column):
            columns[key] = one_line_each(column, _TEXT_LENGTH)
        else:
            common[key] = column[0]
    return columns, common
