"""Values from outside, as plain data: what JSON can say, of Python's own types."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from ..errors import InputError


def to_plain(value: Any) -> Any:
    """A copy of an input, with arrays and numbers of NumPy and pandas, paths, dataclasses,
    pydantic's objects (a client's message, say) and the like as Python's own values; tables are
    lists of their rows. What has no plain form is left as it is.

    Raises:
        InputError: it is nested too deeply, or holds text that is not valid Unicode.
    """
    try:
        return _to_plain(value)
    except RecursionError:
        raise InputError("the input is nested too deeply, or holds itself") from None


def _to_plain(value: Any) -> Any:
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, Mapping):
        return {_key(key): _to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(element) for element in value]
    if isinstance(value, BaseModel):
        return _to_plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {each.name: _to_plain(getattr(value, each.name)) for each in fields}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "columns") and (rows := _rows(value)) is not None:
        return _to_plain(rows)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Decimal):
        return float(value)
    return value


def _key(key: Any) -> Any:
    plain = _to_plain(key)
    return plain if isinstance(plain, str | int | float) else key  # a list cannot be one


def _rows(table: Any) -> list[dict[str, Any]] | None:
    """The rows of a table of pandas or polars, with null where nothing stands."""
    if hasattr(table, "to_dicts"):
        rows: list[dict[str, Any]] = table.to_dicts()
        return rows
    if not hasattr(table, "to_dict") or not hasattr(table, "isna"):
        return None
    has_none = table.isna().to_dict("records")
    rows = table.to_dict("records")
    return [
        {name: None if lacks[name] else value for name, value in row.items()}
        for row, lacks in zip(rows, has_none, strict=True)
    ]


def _unicode(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text of the input is not valid Unicode, at character {error.start}",
            hint="Decode it with the encoding that it has; a terminal needs a UTF-8 locale.",
        ) from None
    return str(text)
