"""Values from outside, as plain data: what JSON can say, of Python's own types."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from ..errors import InputError


def to_plain(value: Any) -> Any:
    """A copy of an input, with arrays and numbers of NumPy and pandas, paths, pydantic's objects
    (a client's message, say) and the like as Python's own values. What has no plain form is left
    as it is.

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
        return {_to_plain(key): _to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(element) for element in value]
    if isinstance(value, BaseModel):
        return _to_plain(value.model_dump())
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Decimal):
        return float(value)
    return value


def _unicode(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text of the input is not valid Unicode, at character {error.start}",
            hint="Decode it with the encoding that it has; a terminal needs a UTF-8 locale.",
        ) from None
    return str(text)
