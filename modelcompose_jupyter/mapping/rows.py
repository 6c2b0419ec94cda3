"""Rows in whatever form they come, and how they give a workflow its inputs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..document import Signature
from ..errors import InputError, did_you_mean, nearest
from ..text_encoding import without_mark
from .row_files import RowFiles

_NAMES_SHOWN = 10


class RowInputs:
    """How rows give a workflow its inputs, beside those that all of them share; a row's own win."""

    def __init__(self, signature: Signature, shared: Mapping[str, Any]) -> None:
        self._names = [each.name for each in signature.inputs]
        self._open = signature.open
        self._shared = shared
        self._required = [each.name for each in signature.inputs if each.required]
        self._asked = [name for name in self._required if name not in shared]
        # The input that a plain row stands for.
        choices = (self._asked, self._required, self._names)
        self._plain = next((each[0] for each in choices if len(each) == 1), None)
        try:
            signature.validate(shared)
        except InputError as error:
            if error.code == "unknown_input":  # others may be right once a row's own are there
                raise

    @property
    def names(self) -> list[str] | None:
        """What inputs are called; None where any key is welcome."""
        return None if self._open else self._names

    def of(self, row: Any) -> Any:
        """What to give the workflow for a row."""
        if isinstance(row, Mapping):
            return {**self._shared, **{_name(key): value for key, value in row.items()}}
        return row if self._plain is None else {**self._shared, self._plain: row}

    def check_form(self, row: Any) -> None:
        """Raise InputError where no input can be meant by a plain row."""
        if isinstance(row, Mapping) or self._plain is not None:
            return
        if self._open and not self._shared:  # it is the workflow's input as a whole
            return
        names = _listed(self._names)
        raise InputError(
            "a row is a plain value, and the workflow has no one input that it can stand for",
            hint=f"Its inputs are {names}; make each row a mapping of them."
            if self._names
            else "It takes no input; make each row an empty mapping.",
        )

    def check_names(self, names: Sequence[str]) -> None:
        """Raise InputError where one of these is the name of no input."""
        wrong = [] if self._open else [each for each in names if each not in self._names]
        if wrong:
            raise InputError(
                f"there is no input '{wrong[0]}' to read from a column",
                hint=did_you_mean(wrong[0], self._names) or f"Inputs are {_listed(self._names)}.",
                code="unknown_input",
            )

    def columns(self, table: Sequence[Any]) -> list[str]:
        """The columns of a table that are inputs; at least those that every row needs."""
        texts = (each for each in table if isinstance(each, str))
        found = [each for each in texts if self._open or _name(each) in self._names]
        names = list(map(_name, found))
        lacking = [name for name in self._asked if name not in names]
        if lacking or not found:
            wanted = f"the input '{lacking[0]}'" if lacking else "an input"
            raise InputError(
                f"no column is named like {wanted}: the columns are {_listed(table)}; "
                f"the inputs are {_listed(self._names)}",
                hint=_near(table, lacking or self._names)
                or "Rename the column that holds it, or give the input to all rows by name.",
                code="missing_input",
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"the table has several columns '{twice}'")
        return found


def _name(key: Any) -> Any:
    """A name without the byte order mark of the file that it came from, as of CSV's first one."""
    return without_mark(key) if isinstance(key, str) else key


def _near(columns: Sequence[Any], names: Sequence[str]) -> str | None:
    near = (each for each in map(str, columns) if nearest(each, names))
    column = next(near, None)
    return column and f"{did_you_mean(column, names)} The column is '{column}'."


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:_NAMES_SHOWN])) or "none"
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


@dataclass(frozen=True)
class RowSource:
    """Rows, in whatever form they came.

    Attributes:
        read: begins to read them; each is a mapping of inputs or a plain value.
        count: how many there are; None where only their end tells, and they are read but once.
        result: outputs in the order of the rows, in the form that belongs to them.
        table: the same of columns of outputs, where the rows are a table; else None.
        files: what they are read from, if they are.
    """

    read: Callable[[], Iterator[Any]]
    count: int | None
    files: RowFiles | None = None
    result: Callable[[list[Any]], Any] = lambda outputs: outputs
    table: Callable[[Mapping[str, list[Any]]], Any] | None = None

    def numbered(self, only: Sequence[range] | None = None) -> Iterator[tuple[int, Any]]:
        """Rows with their numbers; of those in files, ``only`` some if they are given."""
        if self.files is None or only is None:
            return enumerate(self.read())
        return map(_given_row, self.files.read(only))


def row_source(rows: Any, inputs: RowInputs) -> RowSource:
    """Take rows as what they are. Libraries of tables are only asked where they are in use."""
    if isinstance(rows, RowFiles):
        return _files_source(rows, inputs)
    makers = {"pandas": _pandas_source, "polars": _polars_source, "datasets": _datasets_source}
    for name, make in makers.items():
        library = sys.modules.get(name)
        source = make(library, rows, inputs) if library is not None else None
        if source is not None:
            return source
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InputError(
            f"rows must be many, and this is one {type(rows).__name__}",
            hint="Give a list, a generator, a DataFrame, a Series or a Dataset.",
        )
    if isinstance(rows, Iterator) or not isinstance(rows, Sized):
        return RowSource(lambda: iter(rows), None)
    return RowSource(lambda: iter(rows), len(rows))


def _files_source(files: RowFiles, inputs: RowInputs) -> RowSource:
    inputs.check_names(files.renamed)
    known = files.columns
    if known is not None:
        files.choose(inputs.columns(known))
    elif (names := inputs.names) is not None:
        files.choose(names)
    read = lambda: (row for _, row in map(_given_row, files.read([range(len(files))])))  # noqa: E731
    return RowSource(read, len(files), files)


def _given_row(numbered: tuple[int, Any]) -> tuple[int, Any]:
    index, row = numbered
    return index, _given(row) if isinstance(row, Mapping) else row


def _pandas_source(pandas: Any, rows: Any, inputs: RowInputs) -> RowSource | None:
    def series(outputs: list[Any]) -> Any:
        return pandas.Series(outputs, index=rows.index, dtype=object, name="output")

    def table(columns: Mapping[str, list[Any]]) -> Any:
        found = {name: _plain_column(pandas, each) for name, each in columns.items()}
        return pandas.DataFrame(found).set_index(rows.index)

    if isinstance(rows, pandas.Series):
        return RowSource(lambda: map(_given_value, rows), len(rows), result=series)
    if isinstance(rows, pandas.DataFrame):
        columns = {name: rows[name] for name in inputs.columns(list(rows.columns))}
        read = partial(_records, columns)
        return RowSource(read, len(rows), result=series, table=table)
    return None


def _plain_column(pandas: Any, values: list[Any]) -> Any:
    """A column of the type that holds its values as they are; of objects, if need be."""
    kinds = {type(each) for each in values if each is not None}
    is_whole = kinds == {int} and all(each is None or abs(each) < 2**63 for each in values)
    if is_whole or kinds == {bool}:  # which would be floats where one is missing
        nullable = "boolean" if kinds == {bool} else "Int64"
        return pandas.Series(values, dtype=nullable if None in values else None)
    return pandas.Series(values, dtype=float if kinds == {float} else object)


def _records(columns: Mapping[str, Iterable[Any]]) -> Iterator[Any]:
    for values in zip(*columns.values(), strict=True):
        yield _given(dict(zip(columns, values, strict=True)))


def _polars_source(polars: Any, rows: Any, inputs: RowInputs) -> RowSource | None:
    def series(outputs: list[Any], name: str = "output") -> Any:
        """Of the type that holds the outputs as they are: of any object, if need be."""
        with suppress(polars.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            found = polars.Series(name, outputs)
            if found.to_list() == outputs:
                return found
        return polars.Series(name, outputs, dtype=polars.Object)

    def table(columns: Mapping[str, list[Any]]) -> Any:
        return polars.DataFrame([series(each, name) for name, each in columns.items()])

    if isinstance(rows, polars.Series):
        frame = rows.to_frame()  # whose rows are Python's own values, lists too
        return RowSource(
            lambda: (_given_value(v) for (v,) in frame.iter_rows()), len(rows), result=series
        )
    if isinstance(rows, polars.DataFrame):
        own = rows.select(inputs.columns(rows.columns))
        read = lambda: map(_given, own.iter_rows(named=True))  # noqa: E731
        return RowSource(read, len(rows), result=series, table=table)
    return None


def _datasets_source(datasets: Any, rows: Any, inputs: RowInputs) -> RowSource | None:
    if not isinstance(rows, datasets.Dataset):
        return None
    table = rows.select_columns(inputs.columns(rows.column_names))
    return RowSource(lambda: map(_given, table), len(table))


def _given(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a table's row has, without what is missing."""
    return {name: value for name, value in record.items() if not _is_missing(value)}


def _given_value(value: Any) -> Any:
    return {} if _is_missing(value) else value


def _is_missing(value: Any) -> bool:
    """Whether a table has nothing there: null, NaN, or pandas' NA and NaT."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    pandas = sys.modules.get("pandas")
    return pandas is not None and pandas.api.types.is_scalar(value) and bool(pandas.isna(value))
