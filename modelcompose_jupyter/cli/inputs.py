"""Inputs of a workflow, as options of a command say them."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ..errors import UsageError
from ..text_encoding import EncodingError, decode, without_mark

input_option = click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="INPUT",
    help="A JSON object, key=text, key:=json, or - for a JSON object on standard input. "
    "May be repeated; later ones win.",
)


def inputs_of(given: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        if text == "-":
            values |= _json_object(_standard_input(), "standard input")
        elif without_mark(text).lstrip().startswith("{"):
            values |= _json_object(text, "--input")
        else:
            values |= _pair(text)
    return values


def _standard_input() -> str:
    try:
        return decode(sys.stdin.buffer.read())
    except EncodingError as error:
        raise UsageError(f"standard input cannot be read: {error}", hint=error.hint) from None


def _json_object(text: str, name: str) -> dict[str, Any]:
    value = _json(text, name)
    if not isinstance(value, dict):
        raise UsageError(f"{name} must be a JSON object", hint='For example {"prompt": "…"}.')
    return value


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(without_mark(text))
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{name} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            hint="Keys and texts stand in double quotes; or write --input key=text.",
        ) from None
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{name} cannot be read: {what}") from None


def _pair(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name or name == ":":
        raise UsageError(
            f"'{text}' is no input", hint="Write key=text, key:=json or a JSON object."
        )
    if name.endswith(":"):
        return {name[:-1]: _json(value, f"the value of '{name[:-1]}'")}
    return {name: value}
