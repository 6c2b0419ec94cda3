"""What functions give: as the text that a model is told, and as what a job gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, time
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from ..document.to_plain import to_plain
from ..errors import ComposeError, InputError, one_line, shortened
from ..redaction import redact

MOST_RESULT = 20_000
"""Characters; some 5,000 tokens, beyond what a model reads well."""


def result_text(value: Any) -> str:
    """A result: text as it is, any other value as JSON, what JSON has not as Python writes it. A
    long one is cut, and says so."""
    if isinstance(value, str):
        return _cut(value)
    try:
        text = json.dumps(to_plain(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, ComposeError):
        text = to_json(value, fallback=str).decode()
    return _cut(text)


def plain_result(value: Any) -> Any:
    """A result as plain data: null, texts, numbers, lists, and mappings with texts as keys.

    Raises:
        InputError: it is none, or something in it is not.
    """
    return _plain(to_plain(value), "")


def _plain(value: Any, place: str) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, list):
        return [_plain(each, f"{place}[{n}]") for n, each in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str | int | float) for key in value):
        return {str(key): _plain(each, f"{place}.{key}") for key, each in value.items()}
    if isinstance(value, Enum):
        return _plain(value.value, place)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    kind = type(value).__name__
    at = f", at {shortened(place.removeprefix('.'))}" if place else ""
    raise InputError(
        f"it gives no plain data, but a '{kind}'{at}",
        hint="Return texts, numbers, lists and dicts; of another object, what is to go on.",
    )


def error_text(error: BaseException) -> str:
    """An error of a function's, in a line without secrets."""
    if isinstance(error, ComposeError):
        return redact(error.message)
    return redact(f"{type(error).__name__}: {one_line(error)}")


def _cut(text: str) -> str:
    if len(text) <= MOST_RESULT:
        return text
    return f"{text[:MOST_RESULT]}… (cut here: {len(text):,} characters in all)"
