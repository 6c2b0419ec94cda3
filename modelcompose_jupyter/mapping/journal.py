"""Results of many rows in a file: durable as they end, and read again to go on from there.

The thread ``modelcompose-journal`` belongs to a WritingKeeper: it alone writes what that keeps, so
that neither an interrupt of the caller's thread nor a slow disk gets in the way of anything else.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import threading
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ..document.to_plain import to_plain
from ..errors import ComposeError, InputError, UsageError
from ..seeds import draw_seed, first_of_rows
from .job_folder import not_saved
from .parts import Line, encoded
from .storage import sync_folder

JOURNAL_THREAD_NAME = "modelcompose-journal"
_BEGINNING = b'{"index": '  # of every line
_PARQUET_ROWS = 10_000  # in memory at a time

Entry = tuple[Callable[[], Line], Callable[[], None]]


class Keeper(ABC):
    """Keeps rows that have ended, with their outputs or errors.

    Attributes:
        path: where, as it is told.
        error: why nothing is kept any more; None while all is well.
        seed: that of the row 0; see `seeds.seed_of_row`.
    """

    path: Path
    seed: int
    error: ComposeError | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many rows are done, and were not restored yet."""

    @abstractmethod
    def __contains__(self, index: int) -> bool:
        """Whether a row is done, and was not restored yet."""

    @abstractmethod
    def restore(self, index: int, inputs: Any) -> Any:
        """The output of a row that is done, or its error; raises InputError as `check` does."""

    @abstractmethod
    def check(self, index: int, inputs: Any) -> Line:
        """The line of a row that is done; raises InputError where it had other inputs."""

    @abstractmethod
    def add(self, line: Callable[[], Line], written: Callable[[], None]) -> None:
        """Keep a line, and call back when it is kept, or when `error` says why not.

        The line has ``index``, ``input``, ``output`` or ``error``, and ``record``. May be called
        from any thread; never blocks.
        """

    @abstractmethod
    def close(self, end: int | None = None) -> None:
        """Keep all that was added, and let go of files. ``end`` is how many rows there are, where
        all of them have ended."""


class WritingKeeper(Keeper):
    """Keeps rows in files, which a thread of its own writes."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=JOURNAL_THREAD_NAME, daemon=True)

    def add(self, line: Callable[[], Line], written: Callable[[], None]) -> None:
        """Both are called on the keeper's thread, ``written`` when the line is durable."""
        self._queue.put((line, written))

    def close(self, end: int | None = None) -> None:
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        assert threading.current_thread().name == JOURNAL_THREAD_NAME
        waiting: list[Entry | None] = []
        while None not in waiting:
            waiting = self._all_that_waits()
            entries = [entry for entry in waiting if entry is not None]
            self._do(partial(self._write_all, entries))
            for _, written in entries:
                written()
            self._do(self._tidy)

    def _write_all(self, entries: list[Entry]) -> None:
        self._write([line() for line, _ in entries])

    def _do(self, write: Callable[[], None]) -> None:
        """Do what writes, unless something went wrong before."""
        if self.error is not None:
            return
        try:
            write()
        except ComposeError as error:
            self.error = error
        except Exception as error:  # whatever it is: those who wait must hear of it
            self.error = not_saved(self.path, error)

    def _all_that_waits(self) -> list[Entry | None]:
        """What is to be written, after waiting for some; None among it is the end."""
        waiting = [self._queue.get()]
        with contextlib.suppress(Empty):
            while True:
                waiting.append(self._queue.get_nowait())
        return waiting

    @abstractmethod
    def _write(self, lines: list[Line]) -> None:
        """Make lines durable, with one wait for the disk if it can be."""

    @abstractmethod
    def _tidy(self) -> None:
        """Do what nobody waits for, after lines were written."""


class LinesFile:
    """A file with a JSON line for each row that ended. The newest line of a row counts.

    Only one at a time may have a file. ``seed`` is that of the row 0 of those that are there, if
    one tells of its own; ``places`` are of the lines of rows that are done.

    Args:
        origin: the workflow and the document that its lines come from.

    Raises:
        UsageError: it holds something else, or is being written.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, origin: Mapping[str, str]) -> None:
        self.path = path
        self.seed: int | None = None
        self.places: dict[int, int] = {}
        self._origin = origin
        with contextlib.ExitStack() as files:
            self._file = files.enter_context(_opened(path))
            self._reader = files.enter_context(path.open("rb"))
            self._find_places()
            self._files = files.pop_all()

    def _find_places(self) -> None:
        """Note where each row that is done has its line; mend the end that a crash left."""
        offset, text = 0, b"\n"
        for number, text in enumerate(self._reader, 1):
            line = _parsed(text)
            if line is None and _is_torn(text):
                self._file.truncate(offset)
                return
            if line is None and b"\0" in text:
                raise UsageError(
                    f"{self.path} is not UTF-8 text",
                    hint="Save it as UTF-8 again, or save results to another file.",
                )
            if line is None:
                raise UsageError(
                    f"line {number} of {self.path} is no result of a row",
                    hint="Save to another file, or remove that line.",
                )
            _check_origin(line["record"], self._origin, self.path)
            seed = line["record"].get("seed")
            if self.seed is None and isinstance(seed, int):
                self.seed = first_of_rows(seed, line["index"])
            self.places.pop(line["index"], None)
            if "output" in line:
                self.places[line["index"]] = offset
            offset += len(text)
        if not text.endswith(b"\n"):
            self._file.write(b"\n")

    def line(self, index: int) -> Line:
        """The line of a row that is done."""
        self._reader.seek(self.places[index])
        line: Line = json.loads(self._reader.readline())
        return line

    def newest(self) -> dict[int, Line]:
        """The newest line of each row, by its number; also of those that failed."""
        self._reader.seek(0)
        lines = filter(None, map(_parsed, self._reader))
        return {line["index"]: line for line in lines}

    def append(self, lines: Iterable[Line]) -> None:
        """Write lines, which one wait for the disk makes durable together."""
        # A row that never ran has no record of its own, and comes from somewhere all the same.
        whole = ({**line, "record": {**line["record"], **self._origin}} for line in lines)
        data = b"".join(map(encoded, whole))
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._files.close()


class Journal(WritingKeeper):
    """Keeps rows in a `LinesFile`. ``path`` is what the user named.

    Raises:
        UsageError: the file cannot be written, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        workflow: str,
        document: str,
        seed: int | None = None,
        *,
        lines: Path | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        try:
            self._file = LinesFile(lines or path, {"workflow": workflow, "document": document})
        except OSError as error:
            raise UsageError(_unwritable(path, error)) from None
        found = self._file.seed
        if None not in (seed, found) and seed != found:
            self._file.close()
            raise UsageError(
                f"{path} holds results of another seed: {found}, and {seed} is asked for",
                hint="Leave the seed out to go on, or save to another file.",
            )
        self.seed = next((each for each in (seed, found) if each is not None), draw_seed())
        self._thread.start()

    def __len__(self) -> int:
        return len(self._file.places)

    def __contains__(self, index: int) -> bool:
        return index in self._file.places

    def restore(self, index: int, inputs: Any) -> Any:
        output = self.check(index, inputs)["output"]
        del self._file.places[index]
        return output

    def check(self, index: int, inputs: Any) -> Line:
        return same_inputs(self._file.line(index), inputs, self.path)

    def close(self, end: int | None = None) -> None:
        super().close(end)
        self._file.close()

    def _write(self, lines: list[Line]) -> None:
        self._file.append(lines)

    def _tidy(self) -> None:
        """There is nothing."""


class ParquetJournal(Journal):
    """A Parquet file, written whole at the end; until then its rows are lines of a file beside it.

    Where that file exists, it holds all rows that the Parquet file has.
    """

    def __init__(self, path: Path, workflow: str, document: str, seed: int | None = None) -> None:
        _parquet()
        self._lines = path.with_name(f"{path.name}.jsonl")
        if path.is_dir():
            raise UsageError(f"{path} cannot be written: it is a folder")
        if path.exists() and not self._lines.exists():
            _unpack(path, self._lines, {"workflow": workflow, "document": document})
        super().__init__(path, workflow, document, seed, lines=self._lines)

    def close(self, end: int | None = None) -> None:
        """Write what was added, and all of it as the Parquet file; ComposeError where that file
        cannot be written: then the lines beside it stay."""
        super().close(end)
        try:
            _pack(self._lines, self.path.resolve())
            self._lines.unlink()
        except OSError as error:
            raise ComposeError(
                _unwritable(self.path, error),
                hint=f"All results are in {self._lines}; run it again to go on.",
                code="not_saved",
            ) from None


def same_inputs(line: Line, inputs: Any, path: Path) -> Line:
    """A line of a row; InputError where that had other inputs."""
    before, now = line["input"], to_plain(inputs)
    if _canonical(before) != _canonical(now):
        raise InputError(
            f"row {line['index']} of {path} was done with another input",
            hint=f"It was {_short(before)}, and is {_short(now)} now. "
            "Give the rows as they were, or save to another file.",
            code="changed_input",
        )
    return line


# Lines


def _opened(path: Path) -> io.FileIO:
    """A file to append to, which no other journal has."""
    if path.exists() and not path.is_file():
        raise OSError(f"it is a {'folder' if path.is_dir() else 'device'}")
    file = path.open("ab", buffering=0)
    try:
        _lock(file, path)
        sync_folder(path.parent)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: io.FileIO, path: Path) -> None:
    """Keep other journals out until the file is closed, where the system can do that."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{path} is being written by another map",
            hint="Wait for that one, or stop it; an iterator of .imap() is stopped by .close().",
        ) from None
    except OSError:
        return  # a file system without locks


def _parsed(text: bytes) -> Line | None:
    """A line as data, or None where it is no result of a row."""
    try:
        line = json.loads(text)
        whole = isinstance(line["index"], int) and isinstance(line["record"], dict)
        return line if whole and "input" in line and ("output" in line or "error" in line) else None
    except (ValueError, LookupError, TypeError):
        return None


def _check_origin(record: Mapping[str, Any], origin: Mapping[str, str], path: Path) -> None:
    for what, own in origin.items():
        if (found := record.get(what)) != own:
            if what == "workflow" and _without_format(found) == _without_format(own):
                what = "format"
            raise UsageError(
                f"{path} holds results of another {what}",
                hint="Save to another file, or remove this one to begin again.",
            )


def _without_format(id: Any) -> str:
    """A workflow's id, without what stands for a call's format behind it."""
    return str(id).partition("#")[0]


def _is_torn(text: bytes) -> bool:
    """Whether this can be the beginning of a line of ours, of which the rest is missing."""
    begun = text.removeprefix(BOM_UTF8)[: len(_BEGINNING)]
    return not text.endswith(b"\n") and begun == _BEGINNING[: len(begun)]


def _canonical(value: Any) -> str:
    """The same text for values that JSON cannot tell apart."""
    data = json.loads(json.dumps(value, default=str))
    return json.dumps(data, sort_keys=True)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"


def _unwritable(path: Path, error: Exception) -> str:
    told = (isinstance(error, OSError) and error.strerror) or str(error)
    reason = f"{told[:1].lower()}{told[1:]}"
    return f"{path} cannot be written: {reason}"


# Parquet


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet files need pyarrow, which is not installed",
            hint="Install it with 'pip install pyarrow', or save to a .jsonl file.",
        ) from None
    return pyarrow, pyarrow.parquet


def _pack(lines: Path, target: Path) -> None:
    """Write the newest line of each row, in the order of rows, as a Parquet file, whole or not."""
    pyarrow, parquet = _parquet()
    places = _newest(lines)
    own_types = {name: _own_type(lines, places, name) for name in ("input", "output")}
    fields = [pyarrow.field("index", pyarrow.int64())]
    for name in ("input", "output", "error", "record"):
        type_ = own_types.get(name)
        marks = {"encoding": "json"} if type_ is None else None
        fields.append(pyarrow.field(name, type_ or pyarrow.string(), metadata=marks))
    schema = pyarrow.schema(fields)
    with _replacing(target) as fresh, parquet.ParquetWriter(fresh, schema) as writer:
        for chunk in _chunks(_at(lines, places)):
            columns = [_column(pyarrow, field, chunk) for field in schema]
            writer.write_table(pyarrow.table(columns, schema=schema))


def _newest(lines: Path) -> list[int]:
    """Where each row has its newest line, in the order of rows."""
    places: dict[int, int] = {}
    offset = 0
    with lines.open("rb") as file:
        for text in file:
            line = _parsed(text)
            if line is not None:  # it is torn, if writing it failed
                places[line["index"]] = offset
            offset += len(text)
    return [places[index] for index in sorted(places)]


def _at(lines: Path, places: Iterable[int]) -> Iterator[Line]:
    with lines.open("rb") as file:
        for place in places:
            file.seek(place)
            yield json.loads(file.readline())


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while chunk := list(itertools.islice(lines, _PARQUET_ROWS)):
        yield chunk


def _own_type(lines: Path, places: list[int], name: str) -> Any:
    """The Arrow type of a column whose values all have it, or None where JSON text must do."""
    pyarrow, _ = _parquet()
    common = None
    for chunk in _chunks(_at(lines, places)):
        values = [line.get(name) for line in chunk]
        if all(value is None for value in values):
            continue
        type_ = _type_of(values)
        if type_ is None or (common is not None and type_ != common):
            return None
        common = type_
    return common or pyarrow.string()


def _type_of(values: list[Any]) -> Any:
    """The Arrow type in which a Parquet file gives values back as they are, or None."""
    pyarrow, parquet = _parquet()
    try:
        array = pyarrow.array(values)
        buffer = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.table({"values": array}), buffer)
        back = parquet.read_table(pyarrow.py_buffer(buffer.getvalue()))["values"].to_pylist()
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):
        return None
    return array.type if _canonical(back) == _canonical(values) else None


def _column(pyarrow: Any, field: Any, lines: list[Line]) -> Any:
    values = [line.get(field.name) for line in lines]
    if field.metadata is not None:
        values = [None if each is None else json.dumps(each, ensure_ascii=False) for each in values]
    return pyarrow.array(values, field.type)


def _unpack(path: Path, lines: Path, origin: Mapping[str, str]) -> None:
    """Write the rows of a Parquet file as lines, whole or not."""
    pyarrow, parquet = _parquet()
    try:
        with (
            _replacing(lines) as fresh,
            parquet.ParquetFile(path) as table,
            fresh.open("wb") as file,
        ):
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
                for line in _lines_of(batch):
                    _check_origin(line["record"], origin, path)
                    file.write(encoded(line))
    except (pyarrow.ArrowException, LookupError, AttributeError, TypeError, ValueError):
        raise UsageError(
            f"{path} holds no results of rows", hint="Save to another file, or remove this one."
        ) from None
    except OSError as error:
        raise UsageError(_unwritable(path, error)) from None


def _lines_of(batch: Any) -> Iterator[Line]:
    marks = {field.name: field.metadata or {} for field in batch.schema}
    in_json = {name for name, mark in marks.items() if mark.get(b"encoding") == b"json"}
    for row in batch.to_pylist():
        data = {
            name: json.loads(value) if name in in_json and value is not None else value
            for name, value in row.items()
        }
        ended = "output" if data["error"] is None else "error"
        yield {key: data[key] for key in ("index", "input", ended, "record")}


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A new file, which takes the place of another durably, once it has been written whole."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield fresh
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(target)
        sync_folder(target.parent)
    finally:
        fresh.unlink(missing_ok=True)
