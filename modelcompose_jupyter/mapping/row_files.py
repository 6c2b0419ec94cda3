"""Rows in files: Parquet, JSON lines, CSV; on this computer or in an object store.

What there is is looked through once, for how many rows there are and where they can be gone on
with. After that any row can be read without those before it.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from ..errors import InputError, UsageError, did_you_mean, one_line
from ..text_encoding import has_mark
from .storage import files_at, open_binary

SUFFIXES = (".parquet", ".jsonl", ".csv")
_MARKED = 512  # rows between two places that can be gone on from
_BATCH = 1000  # rows of Parquet in memory at a time
_TEXT_MARK = codecs.BOM_UTF8

Numbered = tuple[int, Any]


@dataclass(frozen=True)
class RowFile:
    """One file of rows.

    Attributes:
        path: where it is.
        suffix: what it is, one of `SUFFIXES`.
        count: of its rows.
        marks: rows that can be gone on from, in their order, each with its place: a byte, or the
            number of a row group. The first is the row 0.
        columns: their names; None where each row has its own.
        digest: of its content, or of what Parquet says at its end of the content.
    """

    path: str
    suffix: str
    count: int
    marks: tuple[tuple[int, int], ...]
    columns: tuple[str, ...] | None
    digest: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path.replace(os.sep, "/")).name


class RowFiles:
    """The rows of files, one after the other. A copy may be sent to another process.

    One thread at a time may read. Rows that follow each other are read in one go, in however many
    calls.

    Args:
        files: of one kind.
        names: what columns are called; others keep their own names.
    """

    def __init__(self, files: Sequence[RowFile], names: Mapping[str, str] | None = None) -> None:
        self._files = list(files)
        self._names = dict(names or {})
        self._first = [0]
        for each in files:
            self._first.append(self._first[-1] + each.count)
        self._chosen: tuple[str, ...] | None = None
        self._cursor: _Cursor | None = None
        self._count = self._first[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cursor": None}

    def __len__(self) -> int:
        return self._count

    def limit(self, count: int) -> None:
        """Leave out all but the first rows."""
        self._count = min(count, self._count)

    @property
    def columns(self) -> list[str] | None:
        """The columns that all files have, as they are called here; None where each row has its
        own."""
        if any(each.columns is None for each in self._files):
            return None
        common = dict.fromkeys(self._files[0].columns or ())
        for each in self._files:
            common = {name: None for name in common if name in (each.columns or ())}
        return [self._names.get(name, name) for name in common]

    @property
    def renamed(self) -> list[str]:
        """What columns are called here that have another name there."""
        return list(self._names.values())

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these rows from others, as plain data."""
        files = [{"name": e.name, "rows": e.count, "digest": e.digest} for e in self._files]
        return {"files": files, **({"columns": self._names} if self._names else {})}

    def choose(self, columns: Iterable[str]) -> None:
        """Read no other columns than these."""
        chosen = tuple(columns)
        if chosen != self._chosen:
            self._chosen, self._cursor = chosen, None

    def read(self, ranges: Iterable[range]) -> Iterator[Numbered]:
        """Rows with their numbers, of some ranges that follow each other.

        A row is a mapping, or what a JSON line is; an InputError where it cannot be read.

        Raises:
            InputError: a file cannot be read any more.
        """
        for each in ranges:
            start, stop = each.start, min(each.stop, len(self))
            while start < stop:
                place = bisect_right(self._first, start) - 1
                first, end = self._first[place], min(stop, self._first[place + 1])
                for number, row in self._rows_of(place, start - first, end - first):
                    yield first + number, row
                start = end

    def _rows_of(self, place: int, start: int, stop: int) -> Iterator[Numbered]:
        file = self._files[place]
        mark, where = file.marks[bisect_right(file.marks, start, key=lambda each: each[0]) - 1]
        cursor = self._cursor
        if cursor is None or cursor.place != place or not mark <= cursor.at <= start:
            read = _READERS[file.suffix]
            columns = None if self._chosen is None else self._written(file)
            cursor = self._cursor = _Cursor(place, mark, read(file, where, columns))
        for _ in islice(cursor.rows, start - cursor.at):
            pass
        cursor.at = start
        while cursor.at < stop:
            try:
                row = next(cursor.rows)
            except StopIteration:
                raise InputError(
                    f"{file.path} has less rows than before",
                    hint="Give the file as it was, or save to another folder.",
                ) from None
            cursor.at += 1
            yield cursor.at - 1, self._named(row)

    def _written(self, file: RowFile) -> list[str]:
        """The chosen columns, as a file calls them."""
        wanted = set(self._chosen or ())
        return [name for name in file.columns or () if self._names.get(name, name) in wanted]

    def _named(self, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        named = {self._names.get(name, name): value for name, value in row.items()}
        if self._chosen is None:
            return named
        return {name: value for name, value in named.items() if name in self._chosen}


@dataclass
class _Cursor:
    """A file that is being read: the row ``at`` comes next."""

    place: int
    at: int
    rows: Iterator[Any]


def row_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    names: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
) -> RowFiles:
    """The rows of files, of folders of files, and of those that a pattern fits: what
    `Workflow.map` takes.

    Args:
        paths: where they are; URIs of object stores need pyarrow.
        names: what columns are called, by the names that they have there.
        limit: the first rows alone, so many.

    Raises:
        InputError: there is no such file, or no rows can be read from it.
    """
    found = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = os.fspath(path)
        try:
            files = list(files_at(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {one_line(error)}") from None
        known = [each for each in files if _suffix(each) in SUFFIXES]
        if not files:
            raise InputError(f"there is no file {path}")
        if not known:
            suffix = _suffix(files[0])
            raise InputError(
                f"rows are not read from {files[0]}",
                hint=did_you_mean(suffix, SUFFIXES)
                or "Name files that end in .parquet, .jsonl or .csv.",
            )
        found += known
    kinds = sorted({_suffix(each) for each in found})
    if len(kinds) > 1:
        raise InputError(f"the files are of several kinds: {', '.join(kinds)}")
    files_of_rows = [_looked_through(each) for each in found]
    for name in names or {}:
        if all(each.columns is not None and name not in each.columns for each in files_of_rows):
            known = sorted({column for each in files_of_rows for column in each.columns or ()})
            raise InputError(
                f"there is no column '{name}'",
                hint=did_you_mean(name, known) or f"There are {', '.join(known[:10])}.",
            )
    rows = RowFiles(files_of_rows, names)
    if limit is not None:
        rows.limit(limit)
    return rows


def as_row_files(rows: Any) -> RowFiles | None:
    """The files that rows are read from, where that is what is given; None where they are rows."""
    if isinstance(rows, RowFiles):
        return rows
    if not isinstance(rows, str | os.PathLike):
        return None
    path = os.fspath(rows)
    is_named = isinstance(rows, os.PathLike) or _suffix(path) in SUFFIXES or path.endswith("/")
    return row_files(path) if is_named else None


def _suffix(path: str) -> str:
    return PurePosixPath(path.replace(os.sep, "/")).suffix.lower()


def _looked_through(path: str) -> RowFile:
    try:
        with open_binary(path) as file:
            return _SCANS[_suffix(path)](path, file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {one_line(error)}") from None


# JSON lines


def scan_lines(path: str, file: BinaryIO) -> RowFile:
    """A file of JSON lines that is, or will be, at a path."""
    digest, marks, count = hashlib.sha256(), list[tuple[int, int]](), 0
    _check_encoding(file, path)
    at = file.tell()
    for line in file:
        digest.update(line)
        if line.strip():
            if count % _MARKED == 0:
                marks.append((count, at))
            count += 1
        at += len(line)
    return RowFile(path, ".jsonl", count, tuple(marks), None, digest.hexdigest())


def _read_lines(file: RowFile, at: int, _: list[str] | None) -> Iterator[Any]:
    with _opened(file, at) as lines:
        for line in filter(bytes.strip, lines):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", None) or one_line(error)
                yield InputError(f"the line is not JSON: {reason}", code="bad_row")


def _check_encoding(file: BinaryIO, path: str) -> None:
    """Pass over the mark at the beginning of a text; InputError where it is not UTF-8."""
    beginning = file.read(4)
    if has_mark(beginning) and not beginning.startswith(_TEXT_MARK):
        raise InputError(f"{path} is not UTF-8 text", hint="Save it as UTF-8.")
    file.seek(len(_TEXT_MARK) if beginning.startswith(_TEXT_MARK) else 0)


# CSV


class _Lines(Iterator[str]):
    """The lines of a file as text. ``at`` is the byte after those that were taken."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.at = file.tell()
        self.digest = hashlib.sha256()
        self._file = file
        self._path = path

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.at += len(line)
        self.digest.update(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{self._path} is not UTF-8 text", hint="Save it as UTF-8.") from None


def _records(lines: Iterator[str]) -> Any:
    csv.field_size_limit(sys.maxsize)  # of this process: texts may be long
    return csv.reader(lines)


def _scan_csv(path: str, file: BinaryIO) -> RowFile:
    marks, count = list[tuple[int, int]](), 0
    _check_encoding(file, path)
    lines = _Lines(file, path)
    records = _records(lines)
    try:
        columns = tuple(next(records, ()))
        at = lines.at
        for record in records:
            if record:
                if count % _MARKED == 0:
                    marks.append((count, at))
                count += 1
            at = lines.at
    except csv.Error as error:
        raise InputError(f"line {records.line_num} of {path} is no CSV: {error}") from None
    if not columns:
        raise InputError(f"{path} has no line with the names of its columns")
    if len(set(columns)) < len(columns):
        raise InputError(f"{path} has several columns of one name: {', '.join(columns)}")
    return RowFile(path, ".csv", count, tuple(marks), columns, lines.digest.hexdigest())


def _read_csv(file: RowFile, at: int, _: list[str] | None) -> Iterator[Any]:
    columns = file.columns or ()
    with _opened(file, at) as opened:
        for record in filter(None, _records(_Lines(opened, file.path))):
            if len(record) != len(columns):
                has = f"{len(record)} values, and there are {len(columns)} columns"
                yield InputError(f"the row has {has}", code="bad_row")
                continue
            # An empty cell is a value that is missing, as in a table.
            yield {name: value for name, value in zip(columns, record, strict=True) if value}


def _opened(file: RowFile, at: int) -> BinaryIO:
    try:
        opened = open_binary(file.path)
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {one_line(error)}") from None
    opened.seek(at)
    return opened


# Parquet


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet files need pyarrow, which is not installed",
            hint="Install it with 'pip install pyarrow', or give a .jsonl or .csv file.",
        ) from None
    return pyarrow.parquet


def _scan_parquet(path: str, file: BinaryIO) -> RowFile:
    try:
        metadata = _parquet().read_metadata(file)
    except UsageError:
        raise
    except Exception as error:
        raise InputError(f"{path} is no Parquet file: {one_line(error)}") from None
    file.seek(-(metadata.serialized_size + 8), os.SEEK_END)
    digest = hashlib.sha256(file.read()).hexdigest()
    marks, first = list[tuple[int, int]](), 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if rows:
            marks.append((first, group))
        first += rows
    columns = tuple(metadata.schema.to_arrow_schema().names)
    return RowFile(path, ".parquet", first, tuple(marks), columns, digest)


def _read_parquet(file: RowFile, group: int, columns: list[str] | None) -> Iterator[Any]:
    with _opened(file, 0) as opened:
        # Read as it is needed, not a whole row group at a time.
        table = _parquet().ParquetFile(opened, buffer_size=1 << 16, pre_buffer=False)
        groups = list(range(group, table.num_row_groups))
        for batch in table.iter_batches(_BATCH, row_groups=groups, columns=columns):
            yield from batch.to_pylist()


_SCANS: dict[str, Callable[[str, BinaryIO], RowFile]] = {
    ".jsonl": scan_lines,
    ".csv": _scan_csv,
    ".parquet": _scan_parquet,
}
_READERS: dict[str, Callable[[RowFile, int, list[str] | None], Iterator[Any]]] = {
    ".jsonl": _read_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
