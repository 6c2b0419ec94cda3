"""What functions give, as the text that a model is told."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json

from ..document.to_plain import to_plain
from ..errors import ComposeError, one_line
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


def error_text(error: BaseException) -> str:
    """An error of a function's, in a line without secrets."""
    if isinstance(error, ComposeError):
        return redact(error.message)
    return redact(f"{type(error).__name__}: {one_line(error)}")


def _cut(text: str) -> str:
    if len(text) <= MOST_RESULT:
        return text
    return f"{text[:MOST_RESULT]}… (cut here: {len(text):,} characters in all)"
