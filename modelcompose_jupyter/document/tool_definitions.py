"""Tools that a chat's model may call, as they are described to it: OpenAI's shape.

What is described is data. Functions that can be called are `tools.FunctionTool`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import Where, did_you_mean
from . import grammars
from .json_schemas import SchemaError
from .types import ConversionError, show

MOST_TOOLS = 128
"""Of one request, as in OpenAI's interface."""
_NAME = re.compile(r"[\w.-]{1,64}")
_OF_FUNCTION = ("name", "description", "parameters", "strict")
_MOST_DESCRIPTION = 10_000  # characters
CHOICES = ("auto", "none", "required")
"""What ``tool_choice`` may be, beside the name of a tool."""

Definition = dict[str, Any]
"""``{"type": "function", "function": {"name": …, "description": …, "parameters": JSON schema}}``"""


def name_of(tool: str | Mapping[str, Any]) -> str:
    """What a tool is called."""
    return tool if isinstance(tool, str) else str(tool["function"]["name"])


def definition(value: Mapping[str, Any]) -> Definition:
    """A tool's description as it is used: with all its keys.

    Raises:
        ConversionError: it is none in OpenAI's shape.
    """
    _check_keys(value, "a tool", ("type", "function"))
    if value.get("type", "function") != "function":
        raise ConversionError(f"there is no tool of type {show(value['type'])}; write function")
    function = value.get("function")
    if not isinstance(function, Mapping):
        raise ConversionError(
            "a tool has a 'function', a mapping of its name, description and parameters"
        )
    _check_keys(function, "a tool's function", _OF_FUNCTION)
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConversionError(
            f"{show(name)} is no name of a tool: it has up to 64 letters, digits, _, - and dots"
        )
    description = function.get("description") or ""
    if not isinstance(description, str) or len(description) > _MOST_DESCRIPTION:
        raise ConversionError(
            f"the description of '{name}' is a text of at most {_MOST_DESCRIPTION:,} characters"
        )
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise ConversionError(
            f"the parameters of '{name}' are a JSON schema of type object,"
            " such as {type: object, properties: {city: {type: string}}}"
        )
    try:
        grammars.of_arguments(parameters)
    except SchemaError as error:
        raise located(error, f"the parameters of '{name}'") from None
    described = {"name": name, "description": description, "parameters": dict(parameters)}
    return {"type": "function", "function": described}


def located(error: SchemaError, what: str) -> ConversionError:
    """What is wrong with the parameters of a tool, with the place in them."""
    at = f" at {Where('', error.path).keys}" if error.path else ""
    return ConversionError(f"{what}{at}: {error}", error.hint)


def _check_keys(value: Mapping[str, Any], what: str, known: tuple[str, ...]) -> None:
    unknown = next((key for key in value if key not in known), None)
    if unknown is not None:
        hint = did_you_mean(str(unknown), known)
        if "function" in known and unknown in _OF_FUNCTION:
            hint = f"its {', '.join(_OF_FUNCTION[:-1])} stand in 'function'"
        raise ConversionError(f"{what} has no {show(unknown)}" + (f"; {hint}" if hint else ""))


def tools(value: Any) -> list[str | Definition]:
    """What ``tools`` is: a list of names of Python functions, and of tools that are described.

    Raises:
        ConversionError: it is something else.
    """
    listed = value if isinstance(value, list | tuple) else [value]
    if len(listed) > MOST_TOOLS:
        raise ConversionError(f"there are {len(listed)} of them, and at most {MOST_TOOLS}")
    found: list[str | Definition] = [_tool(each) for each in listed]
    names = [name_of(each) for each in found]
    length = sum(len(json.dumps(each)) for each in found)
    if length > grammars.MAX_SOURCE:
        raise ConversionError(
            f"they are described in {length:,} characters, and at most {grammars.MAX_SOURCE:,}"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConversionError(f"two tools are called '{twice}'")
    return found


def _tool(value: Any) -> str | Definition:
    if isinstance(value, Mapping):
        return definition(value)
    if not isinstance(value, str) or not value.isidentifier():
        raise ConversionError(
            f"{show(value)} is neither a Python function's name nor a tool's description"
        )
    return value


def tool_choice(value: Any) -> str:
    """What ``tool_choice`` is: one of `CHOICES`, or the name of a tool; OpenAI's mapping of one is
    taken, too.

    Raises:
        ConversionError: it is something else.
    """
    if isinstance(value, Mapping):
        function = value.get("function")
        value = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConversionError(f"it is {', '.join(CHOICES)} or the name of a tool")
    return value
