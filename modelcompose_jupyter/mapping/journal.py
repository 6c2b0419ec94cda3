"""Results of many rows in a file: durable as they end, and read again to go on from there.

The thread ``modelcompose-journal`` belongs to a Journal: it alone writes the file, so that neither
an interrupt of the caller's thread nor a slow disk gets in the way of anything else.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ..document.to_plain import to_plain
from ..errors import ComposeError, InputError, UsageError, did_you_mean

JOURNAL_THREAD_NAME = "modelcompose-journal"
_SUFFIXES = (".jsonl", ".parquet")
_BEGINNING = b'{"index": '  # of every line
_PARQUET_ROWS = 10_000  # in memory at a time

Line = dict[str, Any]
Entry = tuple[Callable[[], Line], Callable[[], None]]


def open_journal(path: str | os.PathLike[str], workflow: str, document: str) -> Journal:
    """The journal for a file of results of a workflow (its id) of a document (its hash).

    Raises:
        UsageError: the file cannot be written, or holds something else.
    """
    file = Path(path).expanduser()
    suffix = file.suffix.lower()
    if suffix == ".jsonl":
        return Journal(file, workflow, document)
    if suffix == ".parquet":
        return ParquetJournal(file, workflow, document)
    raise UsageError(
        f"results cannot be saved to {file}",
        hint=did_you_mean(suffix, _SUFFIXES) or "Name a file that ends in .jsonl or .parquet.",
    )


class Journal:
    """A file with a JSON line for each row that ended, with its output or its error.

    The newest line of a row counts. Only one journal at a time may have a file, the ``path`` that
    the user named. ``error`` is why nothing is written any more; None while all is well.
    """

    def __init__(
        self, path: Path, workflow: str, document: str, *, lines: Path | None = None
    ) -> None:
        self.path = path
        self.error: ComposeError | None = None
        self._lines = lines or path
        self._origin = {"workflow": workflow, "document": document}
        self._places: dict[int, int] = {}
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        with contextlib.ExitStack() as files:
            try:
                self._file = files.enter_context(_opened(self._lines))
                self._reader = files.enter_context(self._lines.open("rb"))
                self._find_places()
            except OSError as error:
                raise UsageError(_unwritable(path, error)) from None
            self._thread = threading.Thread(
                target=self._work, name=JOURNAL_THREAD_NAME, daemon=True
            )
            self._thread.start()
            files.pop_all()

    # What is there

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
                    f"{self._lines} is not UTF-8 text",
                    hint="Save it as UTF-8 again, or save results to another file.",
                )
            if line is None:
                raise UsageError(
                    f"line {number} of {self._lines} is no result of a row",
                    hint="Save to another file, or remove that line.",
                )
            _check_origin(line["record"], self._origin, self._lines)
            self._places.pop(line["index"], None)
            if "output" in line:
                self._places[line["index"]] = offset
            offset += len(text)
        if not text.endswith(b"\n"):
            self._file.write(b"\n")

    def __len__(self) -> int:
        """How many rows are done, and were not restored yet."""
        return len(self._places)

    def __contains__(self, index: int) -> bool:
        """Whether a row is done, and was not restored yet."""
        return index in self._places

    def restore(self, index: int, inputs: Any) -> Any:
        """The output of a row that is done; raises InputError as `check` does."""
        output = self.check(index, inputs)["output"]
        del self._places[index]
        return output

    def check(self, index: int, inputs: Any) -> Line:
        """The line of a row that is done; raises InputError where it had other inputs."""
        self._reader.seek(self._places[index])
        line: Line = json.loads(self._reader.readline())
        before, now = line["input"], to_plain(inputs)
        if _canonical(before) != _canonical(now):
            raise InputError(
                f"row {index} of {self.path} was done with another input",
                hint=f"It was {_short(before)}, and is {_short(now)} now. "
                "Give the rows as they were, or save to another file.",
                code="changed_input",
            )
        return line

    # Writing

    def add(self, line: Callable[[], Line], written: Callable[[], None]) -> None:
        """Write a line soon, and call back when it is durable, or when `error` says why not.

        Both are called on the journal's thread. The line has ``index``, ``input``, ``output`` or
        ``error``, and ``record``. May be called from any thread; never blocks.
        """
        self._queue.put((line, written))

    def close(self) -> None:
        """Write what was added, and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._reader.close()

    def _work(self) -> None:
        assert threading.current_thread().name == JOURNAL_THREAD_NAME
        with self._file:
            waiting: list[Entry | None] = []
            while None not in waiting:
                waiting = self._all_that_waits()
                entries = [entry for entry in waiting if entry is not None]
                if self.error is None:
                    self._append(entries)
                for _, written in entries:
                    written()

    def _all_that_waits(self) -> list[Entry | None]:
        """What is to be written, after waiting for some; None among it is the end."""
        waiting = [self._queue.get()]
        with contextlib.suppress(Empty):
            while True:
                waiting.append(self._queue.get_nowait())
        return waiting

    def _append(self, entries: list[Entry]) -> None:
        """Write lines, which one wait for the disk makes durable together."""
        try:
            lines = (line() for line, _ in entries)
            # A row that never ran has no record of its own, and comes from somewhere all the same.
            whole = ({**line, "record": {**line["record"], **self._origin}} for line in lines)
            data = b"".join(map(_encoded, whole))
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except Exception as error:  # whatever it is: those who wait must hear of it
            self.error = ComposeError(
                _unwritable(self.path, error),
                hint="What was written stays; when there is a remedy, run it again to go on.",
                code="not_saved",
            )


class ParquetJournal(Journal):
    """A Parquet file, written whole at the end; until then its rows are lines of a file beside it.

    Where that file exists, it holds all rows that the Parquet file has.
    """

    def __init__(self, path: Path, workflow: str, document: str) -> None:
        _parquet()
        lines = path.with_name(f"{path.name}.jsonl")
        if path.is_dir():
            raise UsageError(f"{path} cannot be written: it is a folder")
        if path.exists() and not lines.exists():
            _unpack(path, lines, {"workflow": workflow, "document": document})
        super().__init__(path, workflow, document, lines=lines)

    def close(self) -> None:
        """Write what was added, and all of it as the Parquet file; ComposeError where that file
        cannot be written: then the lines beside it stay."""
        super().close()
        try:
            _pack(self._lines, self.path.resolve())
            self._lines.unlink()
        except OSError as error:
            raise ComposeError(
                _unwritable(self.path, error),
                hint=f"All results are in {self._lines}; run it again to go on.",
                code="not_saved",
            ) from None


# Lines


def _opened(path: Path) -> io.FileIO:
    """A file to append to, which no other journal has."""
    if path.exists() and not path.is_file():
        raise OSError(f"it is a {'folder' if path.is_dir() else 'device'}")
    file = path.open("ab", buffering=0)
    try:
        _lock(file, path)
        _sync_folder(path.parent)
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


def _sync_folder(path: Path) -> None:
    """Make a new name in a folder durable, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _encoded(line: Line) -> bytes:
    text = json.dumps(line, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"


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
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return f"{path} cannot be written: {reason[:1].lower()}{reason[1:]}"


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
                    file.write(_encoded(line))
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
        _sync_folder(target.parent)
    finally:
        fresh.unlink(missing_ok=True)
