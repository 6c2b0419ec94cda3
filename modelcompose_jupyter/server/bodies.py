"""Bodies of requests as plain data: JSON and forms, within bounds that hold before anything of them
is built, since what says the least takes the most memory (``[[],[],…``).
"""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF8
from typing import Any

from tornado.httputil import HTTPFile, HTTPInputError, parse_body_arguments

from ..errors import UsageError, shortened
from ..text_encoding import EncodingError, decode
from .access import AccessError

MAX_DEPTH = 50
"""Levels of values in values. Inputs of workflows have a handful."""
MAX_VALUES = 50_000
"""Values of a body, an empty list or mapping counted as two, and of whole numbers in a row, as the
tokens of prompts are, `_NUMBERS` as one. Conversations of a thousand turns have some thousands."""

_NUMBERS = 4

_MAX_DIGITS = 4000  # of an integer; Python itself reads few more

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

# Whole numbers in a row; or what is between two marks of JSON's structure, strings with all that is
# in them, and the mark. Nothing is tried twice but a number, whatever the text.
_MARKS = re.compile(
    r'((?:\s*+[0-9]{1,10}\s*+,)++)|(?:[^"\[\]{},]++|"(?:[^"\\]++|\\.)*+"?)*+([\[\]{},]|\Z)',
    re.DOTALL,
)


def read_body(content_type: str, body: bytes, *, forms: bool, from_page: bool) -> Any:
    """A body as plain data, by its Content-Type.

    Args:
        content_type: the header.
        body: all of it.
        forms: whether it may be a form instead of JSON.
        from_page: whether a page in a browser sends it. Pages can send forms anywhere without being
            asked, and JSON not, so theirs are not taken.

    Raises:
        AccessError: ``unsupported_media_type``.
        UsageError: it is not what its header says, or beyond the bounds.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return read_json(body)
    if not forms or kind not in _FORMS or from_page:
        kinds = "application/json" + (" or a form" if forms else "")
        raise AccessError(
            f"the body must be {kinds}",
            hint="Set 'Content-Type: application/json'.",
            code="unsupported_media_type",
        )
    # What curl -d says of everything.
    if body.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
        raise UsageError(
            "the body is JSON, and its Content-Type says that it is a form",
            hint="Send the header 'Content-Type: application/json'.",
            code="invalid_request",
        )
    return read_form(content_type, body)


def read_json(body: bytes) -> Any:
    """JSON as plain data; numbers are finite.

    Raises:
        UsageError: it is no JSON, or beyond the bounds.
    """
    try:
        text = decode(body)
        _check_structure(text)
        return json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except EncodingError as error:
        message = f"the body cannot be read: {error}"
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    except ValueError as error:
        message = f"the body is not JSON: {error}"
    raise UsageError(message, code="invalid_request")


def _check_structure(text: str) -> None:
    """Raise UsageError where JSON has too many values or levels; what is none is left alone."""
    depth, values = 0, 1
    for mark in _MARKS.finditer(text):
        if mark[1]:
            values += 1 + mark[1].count(",") // _NUMBERS
        match mark[2]:
            case ",":
                values += 1
            case "[" | "{":
                values, depth = values + 1, depth + 1
            case "]" | "}":
                depth -= 1
        if depth < 0:
            return
        if depth >= MAX_DEPTH:
            raise _too_deep()
        if values > MAX_VALUES:
            raise UsageError(
                f"the body has more than {MAX_VALUES:,} values", code="invalid_request"
            )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shortened(text)} is too large a number")
    return value


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"{shortened(text)} is too large a number")
    return int(text)


def read_form(content_type: str, body: bytes) -> dict[str, Any]:
    """A form as the JSON that it stands for: ``input[prompt]`` and ``input.prompt`` nest. Tornado
    bounds the numbers of fields and parts.

    Raises:
        UsageError: it cannot be read, has files, or is beyond the bounds.
    """
    arguments: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    try:
        parse_body_arguments(content_type, body, arguments, files)
    except (HTTPInputError, ValueError):
        raise UsageError("the form cannot be read", code="invalid_request") from None
    if files:
        raise UsageError("files are not taken", code="invalid_request")
    data: dict[str, Any] = {}
    for name, values in arguments.items():
        keys = [key for key in re.split(r"[\[\].]+", name, maxsplit=MAX_DEPTH) if key]
        if len(keys) >= MAX_DEPTH:
            raise _too_deep()
        target = data
        for key in keys[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise UsageError(
                    f"'{shortened(name)}' stands beside '{shortened(key)}'", code="invalid_request"
                )
        texts = [value.decode("utf-8", "replace") for value in values]
        if keys:
            target[keys[-1]] = texts[0] if len(texts) == 1 else texts
    if isinstance(data.get("input"), str):
        data["input"] = read_json(data["input"].encode())
    return data


def _too_deep() -> UsageError:
    return UsageError("the body is nested too deeply", code="invalid_request")
