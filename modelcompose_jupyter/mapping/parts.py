"""Results of many rows as bytes of a file: JSON lines, or Parquet with the same columns in all
parts of a job.

Texts are columns of their own. What no column says exactly, such as values of other types, is JSON
in the column ``output``; so are ``input``, ``error`` and ``record``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Literal

from ..document import Signature
from ..errors import UsageError

Kind = Literal["parquet", "jsonl"]
Line = dict[str, Any]

_INDEX, _TEXT = "index", "text"
_JSON = ("output", "error", "input", "record")


def default_kind() -> Kind:
    """Parquet where pyarrow is installed, else JSON lines."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return "jsonl"
    return "parquet"


def parquet() -> Any:
    """pyarrow.parquet; UsageError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet files need pyarrow, which is not installed",
            hint="Install it with 'pip install pyarrow', or save as JSON lines.",
        ) from None
    return pyarrow.parquet


class Parts:
    """How results of a workflow become the files of a folder, and are read again.

    Args:
        kind: of the files.
        signature: of the workflow: its texts are columns.
    """

    def __init__(self, kind: Kind, signature: Signature) -> None:
        self.kind = kind
        if kind == "parquet":
            parquet()  # say now that it is not there
        self._names: dict[str | None, str] = {}
        outputs = signature.outputs
        names = [each.name or _TEXT for each in outputs]
        are_texts = all(each.type.name == "text" and not each.type.is_list for each in outputs)
        if are_texts and not {_INDEX, *_JSON} & set(names):
            self._names = {each.name: name for each, name in zip(outputs, names, strict=True)}

    def encode(self, lines: Sequence[Line]) -> bytes:
        """The file of some rows, which are in their order."""
        if self.kind == "jsonl":
            return b"".join(encoded(line) for line in lines)
        import pyarrow

        columns: dict[str, Any] = {_INDEX: [line["index"] for line in lines]}
        columns |= {name: [] for name in self._names.values()}
        columns["output"] = []
        for line in lines:
            texts = self._texts(line)
            for key, name in self._names.items():
                columns[name].append(texts and texts[key])
            given = "output" in line and texts is None
            columns["output"].append(_json(line["output"]) if given else None)
        for name in _JSON[1:]:
            columns[name] = [_json(line[name]) if name in line else None for line in lines]
        types = {_INDEX: pyarrow.int64()}
        fields = [
            pyarrow.field(
                name,
                types.get(name, pyarrow.string()),
                metadata={"encoding": "json"} if name in _JSON else None,
            )
            for name in columns
        ]
        schema = pyarrow.schema(fields)
        table = pyarrow.table(columns, schema=schema)
        buffer = io.BytesIO()
        parquet().write_table(table, buffer, compression="zstd")
        return buffer.getvalue()

    def decode(self, file: BinaryIO) -> list[Line]:
        """The rows of a file."""
        if self.kind == "jsonl":
            return list(map(json.loads, file))
        return [self._line(row) for row in parquet().read_table(file).to_pylist()]

    def failures(self, file: BinaryIO) -> int:
        """How many rows of a file have failed."""
        if self.kind == "jsonl":
            return sum("error" in line for line in map(json.loads, file))
        errors = parquet().read_table(file, columns=["error"])["error"]
        return len(errors) - int(errors.null_count)

    def _texts(self, line: Line) -> Mapping[str | None, str] | None:
        """The output as texts, by names of outputs; None where it is no such, or none."""
        output = line.get("output")
        if not self._names or output is None:
            return None
        texts = {None: output} if None in self._names else output
        if not isinstance(texts, dict) or texts.keys() != self._names.keys():
            return None
        return texts if all(map(_is_storable, texts.values())) else None

    def _line(self, row: Mapping[str, Any]) -> Line:
        data = {name: json.loads(row[name]) for name in _JSON if row[name] is not None}
        if "error" not in data and "output" not in data:
            texts = {key: row[name] for key, name in self._names.items()}
            data["output"] = texts.get(None, texts)
        ended = "error" if "error" in data else "output"
        return {
            "index": row[_INDEX],
            "input": data["input"],
            ended: data[ended],
            "record": data["record"],
        }


def _is_storable(value: Any) -> bool:
    """Whether it is a text without half characters, which no file of UTF-8 holds."""
    return isinstance(value, str) and (value.isascii() or _is_whole(value))


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isascii() or _is_whole(text) else json.dumps(value, default=str)


def encoded(line: Line) -> bytes:
    """A row as a line of a file."""
    text = json.dumps(line, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"
