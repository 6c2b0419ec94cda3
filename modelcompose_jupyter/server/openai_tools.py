"""Tools and their calls as OpenAI's clients describe, demand, get and send them back.

A server calls none of them: it says what a model calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from ..document import grammars
from ..document.json_schemas import SchemaError
from ..document.tool_definitions import (
    CHOICES,
    MOST_TOOLS,
    Definition,
    definition,
    located,
    name_of,
)
from ..document.types import ConversionError, show
from ..errors import listed
from .openai_errors import InvalidRequestError

_ID = "call_"
"""What clients' ids begin with, before our own."""


def _tools(value: Any) -> list[dict[str, Any]]:
    """Tools as they are sent. A name alone, which would be that of a function here, is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid("tools", f"is a list of tools, and not {show(value)}")
    for place, each in enumerate(value):
        if not isinstance(each, dict):
            raise _invalid(
                "tools", f"has mappings with type and function; at {place} there is {show(each)}"
            )
    return value


def _tool_choice(value: Any) -> str | dict[str, Any] | None:
    """One of `CHOICES`, the name of a tool, or ``{"mode": …, "names": [of those allowed]}``."""
    if value is None or (isinstance(value, str) and value in CHOICES):
        return value
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "function":
        return _name(value, "tool_choice")
    if kind == "allowed_tools":
        allowed = value.get("allowed_tools")
        if not isinstance(allowed, dict) or allowed.get("mode") not in ("auto", "required"):
            raise _invalid("tool_choice", "has allowed_tools with mode auto or required, and tools")
        if not isinstance(allowed.get("tools"), list) or not allowed["tools"]:
            raise _invalid("tool_choice", "has allowed_tools without tools")
        names = [_name(each, "tool_choice") for each in allowed["tools"]]
        return {"mode": allowed["mode"], "names": names}
    raise _invalid(
        "tool_choice",
        f"is {', '.join(CHOICES)}, or a mapping of type function or allowed_tools,"
        f" and not {show(value)}",
    )


def _name(value: Any, param: str) -> str:
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name in CHOICES:
        raise _invalid(
            param, f"names a tool as {{type: function, function: {{name}}}}, not {show(value)}"
        )
    return name


def _invalid(param: str, text: str) -> InvalidRequestError:
    return InvalidRequestError(f"'{param}' {text}", param=param)


Tools = Annotated[
    Sequence[dict[str, Any]],
    PlainValidator(_tools, json_schema_input_type=list[dict[str, Any]] | None),
    Field(description="What the model may call: each with type: function, and function: {name, "
          "description, parameters, strict}. Calls are told, and nothing is called here."),
]  # fmt: skip
ToolChoice = Annotated[
    str | dict[str, Any] | None,
    PlainValidator(_tool_choice, json_schema_input_type=str | dict[str, Any] | None),
    Field(description="auto if unset, none, required, {type: function, function: {name}}, or "
          "{type: allowed_tools, allowed_tools: {mode, tools}}."),
]  # fmt: skip


def described(tools: Sequence[Mapping[str, Any]]) -> list[Definition]:
    """Tools as they are used. Checking them takes time.

    Raises:
        InvalidRequestError: one is none, or cannot be held to as strictly as it asks.
    """
    found = []
    for place, each in enumerate(tools[: MOST_TOOLS + 1]):  # more are refused together
        try:
            found.append(_described(each))
        except ConversionError as error:
            text = f"tools[{place}]: {error}"
            raise InvalidRequestError(text, param="tools", hint=error.hint) from None
    return found


def _described(value: Mapping[str, Any]) -> Definition:
    tool = definition(value)
    name, function = name_of(tool), value["function"]
    if name in CHOICES:
        raise ConversionError(f"a tool cannot be called '{name}'")
    if function.get("strict") not in (None, True, False):
        raise ConversionError(f"strict is true or false, and not {show(function['strict'])}")
    if function.get("strict"):
        try:
            grammars.of_schema(tool["function"]["parameters"])
        except SchemaError as error:
            raise located(error, f"the strict parameters of '{name}'") from None
    return tool


def chosen(
    tools: Sequence[Definition], choice: str | Mapping[str, Any] | None
) -> tuple[list[Definition], str | None]:
    """The tools that may be called, and what must be, as the parameter ``tool_choice`` has it.

    Raises:
        InvalidRequestError: a tool is chosen that there is not.
    """
    names = choice["names"] if isinstance(choice, Mapping) else [choice]
    mode = choice["mode"] if isinstance(choice, Mapping) else choice
    known = [name_of(each) for each in tools]
    for name in names:
        if name not in (None, "none", "auto", *known) and (name != "required" or not tools):
            has = f"'tools' has {listed(known)}" if known else "there are no tools"
            raise _invalid("tool_choice", f"asks for {show(name)}, and {has}")
    if isinstance(choice, Mapping):
        return [each for each in tools if name_of(each) in names], mode
    return list(tools), mode


# Answers


def message_of(text: str, thought: str, calls: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """A reply of some text, of what was thought before it, and of calls as a run tells them that
    are written."""
    message = {"role": "assistant", "content": text, "refusal": None}
    if thought:
        message["reasoning_content"] = thought
    if not calls:
        return message
    told = [
        {
            "id": _ID + call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in calls
    ]
    return message | {"content": text or None, "tool_calls": told}


class CallStream:
    """The calls of one reply, as a stream has them: each begins with its id and name, and goes on
    with its arguments."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}  # characters of arguments by calls

    def delta(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """What an event of the type ``call`` adds, if anything. A run that ends tells all again."""
        place, end = data["call"], data["offset"] + len(data["text"])
        known = self._known.get(place)
        if known is not None and end <= known:
            return None
        self._known[place] = end
        call: dict[str, Any] = {"index": place}
        if known is None:
            call |= {"id": _ID + data["id"], "type": "function"}
        function = {"arguments": data["text"][max(0, (known or 0) - data["offset"]) :]}
        return call | {
            "function": {"name": data["name"], **function} if known is None else function
        }


# Messages


def with_own_ids(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as it was sent, its calls' ids as they were before they were told."""
    found = dict(message)
    if isinstance(calls := found.get("tool_calls"), list):
        found["tool_calls"] = [
            {**each, "id": _own(each.get("id"))}
            if isinstance(each, dict) and "id" in each
            else each
            for each in calls
        ]
    if "tool_call_id" in found:
        found["tool_call_id"] = _own(found["tool_call_id"])
    return found


def _own(id: Any) -> Any:
    return id.removeprefix(_ID) or id if isinstance(id, str) else id
