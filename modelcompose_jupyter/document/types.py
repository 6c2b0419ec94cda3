"""The value types of the language: what `as number`, `select/a,b` or `text[]` mean.

One definition serves expressions, generation parameters, forms, the command line and the API.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NotRequired, TypedDict, get_args

from ..errors import did_you_mean, listed, shortened
from ..text_encoding import without_mark


class ConversionError(ValueError):
    """A value that is not of the type asked for.

    ``hint`` says what to do, or is None; ``key`` is which key of a message is wrong, if one is.
    """

    def __init__(self, message: str, hint: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.key = key


class FunctionCall(TypedDict):
    """What a call of a tool asks for."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict):
    """A call of a tool, in OpenAI's shape, but with its arguments as a mapping."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """One message of a chat, in its one normal form.

    ``tool_calls`` and ``reasoning_content``, its thoughts, are of the assistant's messages. A
    tool's message always names the call that it answers, and what was called.
    """

    role: str
    content: str
    tool_calls: NotRequired[list[ToolCall]]
    reasoning_content: NotRequired[str]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
"""Who speaks; ``developer`` is another name of ``system``."""
OF_ONE_ROLE: dict[str, Role] = {
    "tool_calls": "assistant",
    "reasoning_content": "assistant",
    "tool_call_id": "tool",
}
"""The keys that a message of one role alone may have."""
MAX_OPTIONS = 1000
"""What a type may have after its slash: many times what anyone chooses from."""
LOOKUP = 8
"""How many tokens ``prompt_lookup: true`` proposes."""


@dataclass(frozen=True)
class Type:
    """A type as written: its name, what stands after the slash, and whether a list of it."""

    name: str
    options: tuple[str, ...] = ()
    is_list: bool = False

    def __str__(self) -> str:
        options = "/" + ",".join(self.options) if self.options else ""
        return f"{self.name}{'[]' if self.is_list else ''}{options}"

    @property
    def holds_list(self) -> bool:
        """Whether values are lists, of one type or of any."""
        return self.is_list or self.name == "list"

    @cached_property
    def choices(self) -> frozenset[str]:
        """What a select lets choose, to look it up."""
        return frozenset(self.options)

    @property
    def range(self) -> tuple[float, float, float | None]:
        """A slider's minimum, maximum and step (None where none was written)."""
        minimum, maximum, *step = (number(option) for option in self.options)
        return minimum, maximum, step[0] if step else None

    @property
    def counts_whole(self) -> bool:
        """Whether values are whole numbers: an integer, or a slider of integers throughout."""
        if self.name == "slider":
            return all(_is_json_integer(option) for option in self.options)
        return self.name == "integer"

    @property
    def empty_is_missing(self) -> bool:
        """Whether an empty string means that no value was given."""
        return not self.is_list and self.name in {"number", "integer", "boolean", "slider"}


def _is_json_integer(text: str) -> bool:
    return re.fullmatch(r"\s*-?[0-9]+\s*", text) is not None


def parse_json(text: str) -> Any:
    """JSON, without the NaN and infinities that Python's reader lets through."""
    try:
        return json.loads(without_mark(text), parse_constant=number, parse_float=number)
    except RecursionError:
        raise ConversionError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ConversionError(f"not JSON: {error}") from None
    except ConversionError:
        raise
    except ValueError:
        raise ConversionError("the JSON has an integer of too many digits") from None


def show(value: Any, limit: int = 60) -> str:
    """A value for an error message: short, and recognisable. Only what is shown is written."""
    text = ""
    try:
        for piece in _SHOWING.iterencode(value[:limit] if isinstance(value, str) else value):
            text += piece
            if len(text) > limit:
                break
    except (TypeError, ValueError, RecursionError):
        try:
            text = repr(value)
        except (ValueError, RecursionError):
            text = f"a very large {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


_SHOWING = json.JSONEncoder(ensure_ascii=False)


def text(value: Any) -> str:
    """Text as it is, and any other value as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ConversionError("a value is nested too deeply for JSON") from None
    except (TypeError, ValueError):
        # Sets and objects, NaN, a list in itself, an integer of thousands of digits.
        raise ConversionError(f"{show(value)} cannot be written as JSON") from None


def number(value: Any) -> float:
    result: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            result = float(value)
        result = math.inf if result is None else result
    elif isinstance(value, str) and value.strip().isascii() and "_" not in value:
        with contextlib.suppress(ValueError):
            result = float(value)
    if result is None:
        raise ConversionError(f"{show(value)} is not a number")
    if not math.isfinite(result):
        raise ConversionError(f"{show(value)} is not a finite number")
    return result


def integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _is_json_integer(value):
        if len(value) > 400:
            raise ConversionError(f"{show(value)} is too long for an integer")
        return int(value)
    try:
        result = number(value)
    except ConversionError:
        raise ConversionError(f"{show(value)} is not an integer") from None
    if not result.is_integer():
        raise ConversionError(f"{show(value)} is not an integer")
    return int(result)


_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ConversionError(f"{show(value)} is not a boolean (true or false)")


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?)B?|B)\s*", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def byte_size(value: Any) -> int:
    """Bytes from a number of gigabytes, or from a text with a unit: ``2``, ``500MB``, ``1.5 GiB``.

    Units with an ``i`` count in 1024, the others in 1000.
    """
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    try:
        if found is None:
            return int(number(value) * 10**9)
        amount, unit, binary = found.groups()
        base = 1024 if binary else 1000
        return int(number(amount) * base ** _POWERS.get((unit or "").lower(), 0))
    except (ConversionError, OverflowError):
        raise ConversionError(f"{show(value)} is not a size such as 2GB") from None


_DURATION = re.compile(r"\s*(?:(?:\d+(?:\.\d+)?)\s*(?:ms|s|m|h|d)\s*)+", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(value: Any) -> float:
    """Seconds, from a number of them or a text with units: ``2``, ``30s``, ``1h 30m``."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        parts = _DURATION_PART.findall(value)
        return sum(float(amount) * _SECONDS[unit.lower()] for amount, unit in parts)
    try:
        seconds = number(value)
    except ConversionError:
        raise ConversionError(f"{show(value)} is not a duration such as 30s or 5m") from None
    return float(seconds)


def lookup_tokens(value: Any) -> int:
    """A number of tokens to look up, from one or from a switch; 0 is off."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return integer(value)
    if isinstance(value, str) and value.strip().isdigit():
        return integer(value.strip())
    try:
        return LOOKUP if boolean(value) else 0
    except ConversionError:
        raise ConversionError(
            f"{show(value)} is neither a number of tokens nor true or false"
        ) from None


def _decoded(value: Any, kind: type | tuple[type, ...], name: str) -> Any:
    """A value, or the JSON of one, that must be a list or an object."""
    decoded = value
    if isinstance(value, str):
        with contextlib.suppress(ConversionError):
            decoded = parse_json(value)
    if not isinstance(decoded, kind):
        raise ConversionError(f"{show(value)} is not {name}")
    return decoded


def _list(value: Any) -> list[Any]:
    return list(_decoded(value, (list, tuple), "a list"))


def _object(value: Any, type_: Type) -> dict[str, Any]:
    value = _decoded(value, dict, "an object")
    if not type_.options:
        return dict(value)
    picked = {}
    for path in type_.options:
        found: Any = value
        *_, name = keys = path.split(".")
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        picked[name] = found
    return picked


def messages(value: Any) -> list[Message]:
    """What a value says as messages: a message, a user's text, or a list of these and of lists."""
    several = list(_apart(value))
    reader = MessageReader()
    found: list[Message] = []
    for number, each in enumerate(several, start=1):
        try:
            found += [] if each is None else [reader.read(each)]
        except ConversionError as error:
            if len(several) == 1:
                raise
            raise ConversionError(f"message {number}: {error}", error.hint, error.key) from None
    if not found:
        raise ConversionError("there is no message", "Give at least one of the user's.")
    return found


def last_said(value: Any) -> Any:
    """Of a conversation the text of its last message; any other value as it is."""
    last = value[-1] if isinstance(value, list) and value else None
    return last["content"] if isinstance(last, dict) and "content" in last else value


def _apart(value: Any) -> Iterator[Any]:
    """What lists hold, however deep in them."""
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, list | tuple):
            rest += reversed(each)
        else:
            yield each


_ONLY_TEXT = "Models here read text alone."
_IN_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Where a part of a message has its text, by the part's type."""
_OF_OTHERS = ("audio", "images", "annotations")
"""What a message has elsewhere, and cannot have here."""
_KNOWN_KEYS = ("role", "content", "name", *OF_ONE_ROLE)


class MessageReader:
    """Reads the messages of one chat, in their order: those of tools answer calls before them.

    Clients send back what they were answered, here or elsewhere: keys that ask for nothing are left
    out, and an assistant may have said nothing.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of what was called, by the calls' ids
        self._unanswered: list[str] = []

    def read(self, value: Any) -> Message:
        """What a value says as the next message: a text (a user's), or a mapping, as documents and
        clients write it.

        Raises:
            ConversionError: it is none, or does not fit what is before it.
        """
        if isinstance(value, str):
            return {"role": "user", "content": value}
        if not isinstance(value, dict):
            raise ConversionError(f"{show(value)} is not a message", "It has a role and a content.")
        role = value.get("role")
        if role not in ROLES:
            raise _no_role(role)
        given = {key: each for key, each in value.items() if not _is_nothing(each)}
        if "reasoning" in given:  # another name of it
            given.setdefault("reasoning_content", given.pop("reasoning"))
        for key in given:
            _check_key(role, key, given[key])
        said = _said(role, value.get("content"))
        message: Message = {
            "role": "system" if role == "developer" else role,
            "content": said + given.get("refusal", ""),
        }
        if "reasoning_content" in given:
            message["reasoning_content"] = given["reasoning_content"]
        if "tool_calls" in given:
            message["tool_calls"] = self._calls(given["tool_calls"])
        if role == "tool":
            id = message["tool_call_id"] = self._answered(given.get("tool_call_id"))
            message["name"] = given.get("name", self._names[id])
        return message

    def _calls(self, value: Any) -> list[ToolCall]:
        if not isinstance(value, list | tuple):
            raise ConversionError("'tool_calls' is a list of calls", _CALL, "tool_calls")
        self._unanswered = []
        return [self._call(each) for each in value if each is not None]

    def _call(self, value: Any) -> ToolCall:
        function = value.get("function") if isinstance(value, dict) else None
        if not isinstance(function, dict) or value.get("type", "function") != "function":
            raise ConversionError(f"{show(value)} is no call of a function", _CALL, "tool_calls")
        name, id = function.get("name"), value.get("id")
        if not isinstance(name, str) or not name:
            raise ConversionError("a call names no function", _CALL, "tool_calls")
        if id is None:  # some templates ask for nine letters and digits
            numbers = itertools.count(len(self._names) + 1)
            id = next(id for n in numbers if (id := f"call{n:05}") not in self._names)
        if not isinstance(id, str) or id in self._unanswered:
            what = f"two calls have the id {show(id)}" if isinstance(id, str) else "an id is a text"
            raise ConversionError(what, "Give each call an id of its own, or none.", "tool_calls")
        self._names[id] = name
        self._unanswered.append(id)
        arguments = _arguments(name, function.get("arguments"))
        return {
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def _answered(self, id: Any) -> str:
        """The id of the call that a message of a tool answers: if it names none, the next one."""
        if id is None and self._unanswered:
            return self._unanswered.pop(0)
        if id is None:
            raise ConversionError(
                "a tool's message answers no call: all that are before it are answered",
                "Put it behind the assistant's message whose 'tool_calls' has the call.",
                "role",
            )
        if not isinstance(id, str) or id not in self._names:
            hint = did_you_mean(str(id), self._names) or (
                f"Calls before it are {listed(map(show, self._names))}."
                if self._names
                else "The assistant's message with the call comes before it, with 'tool_calls'."
            )
            raise ConversionError(
                f"a tool's message answers {show(id)}, and no call before it has that id",
                hint,
                "tool_call_id",
            )
        if id in self._unanswered:
            self._unanswered.remove(id)
        return id


_CALL = 'A call is {"id": …, "type": "function", "function": {"name": …, "arguments": {…}}}.'


def _no_role(role: Any) -> ConversionError:
    hint = did_you_mean(str(role), ROLES) or f"Roles are {', '.join(ROLES)}."
    if role == "function":
        hint = "Write 'tool', and in the assistant's message 'tool_calls'."
    what = "a message lacks its role" if role is None else f"there is no role {show(role)}"
    return ConversionError(what, hint, "role")


def _is_nothing(value: Any) -> bool:
    """Whether the value of a key asks for nothing."""
    return value is None or value is False or (isinstance(value, str | list | dict) and not value)


def _check_key(role: str, key: Any, value: Any) -> None:
    """Raise a ConversionError for what a message of a role cannot have."""
    if key in _OF_OTHERS:
        raise ConversionError(f"'{key}' of a message is not supported", _ONLY_TEXT, key)
    if key == "function_call":
        raise ConversionError(f"'{key}' of a message is not supported", "Write 'tool_calls'.", key)
    owner = "assistant" if key == "refusal" else OF_ONE_ROLE.get(key, role)
    if owner != role:
        raise ConversionError(
            f"'{key}' is of the {owner}'s messages, and this one is the {role}'s", None, key
        )
    if key not in _KNOWN_KEYS and key != "refusal":
        hint = did_you_mean(str(key), _KNOWN_KEYS) or "It has a role and a content."
        raise ConversionError(f"a message has no '{key}'", hint, str(key))
    if key not in ("role", "content", "tool_calls") and not isinstance(value, str):
        raise ConversionError(f"'{key}' must be text, and it is {show(value)}", None, key)


def _arguments(name: str, value: Any) -> dict[str, Any]:
    """The arguments of a call: a mapping, or the JSON of one. There may be none."""
    decoded = value
    if isinstance(value, str) and value.strip():
        with contextlib.suppress(ConversionError):
            decoded = parse_json(value)
    if _is_nothing(decoded) or (isinstance(decoded, str) and not decoded.strip()):
        return {}
    if not isinstance(decoded, dict):
        raise ConversionError(
            f"the arguments of '{shortened(name)}' are a mapping, or its JSON, and not"
            f" {show(value)}",
            None,
            "tool_calls",
        )
    return decoded


def _said(role: str, content: Any) -> str:
    """The text of a message, which may come in parts; what a tool gave may be any value."""
    if content is None or (content in ([], ()) and role != "tool"):
        if role == "assistant":
            return ""
        raise ConversionError(f"the {role}'s message has no content", None, "content")
    parts = content if isinstance(content, list | tuple) else ()
    are_parts = all(isinstance(part, dict) for part in parts)
    if role == "tool" and not (parts and are_parts and all("type" in part for part in parts)):
        return text(content)
    if isinstance(content, dict) or not are_parts:
        raise ConversionError(
            f"the content of a message is text, and {show(content)} is not", None, "content"
        )
    return "".join(_part(role, part) for part in parts) if parts else text(content)


def _part(role: str, part: dict[str, Any]) -> str:
    kind = part.get("type")
    key = _IN_PARTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        what = "a part without a type" if kind is None else f"a part of type {show(kind)}"
        raise ConversionError(f"{what} is not taken", _ONLY_TEXT, "content")
    for other, given in part.items():  # how long a part is cached changes nothing about the answer
        if other not in ("type", key, "cache_control") and not _is_nothing(given):
            raise ConversionError(f"a part of a message has no '{other}'", _ONLY_TEXT, "content")
    said = part.get(key)
    if said is None and role == "assistant":
        return ""
    if not isinstance(said, str):
        raise ConversionError(
            f"'{key}' of a part must be text, and it is {show(said)}", None, "content"
        )
    return said


def _conversation(value: Any) -> list[Message]:
    """Messages from outside: also their JSON, which within a document would be a user's text."""
    if isinstance(value, str):
        with contextlib.suppress(ConversionError):
            decoded = parse_json(value)
            if isinstance(decoded, list) and decoded and all(isinstance(d, dict) for d in decoded):
                value = decoded
    return messages(value)


def _base64(value: Any) -> str:
    try:
        data = value if isinstance(value, bytes) else text(value).encode()
    except UnicodeEncodeError:
        raise ConversionError(f"{show(value)} is not Unicode text") from None
    return base64.b64encode(data).decode("ascii")


def _select(value: Any, type_: Type) -> str:
    chosen = text(value)
    if chosen not in type_.choices:
        raise ConversionError(f"{show(value)} is not one of {listed(type_.options)}")
    return chosen


def _slider(value: Any, type_: Type) -> float:
    result = integer(value) if type_.counts_whole else number(value)
    minimum, maximum, _ = type_.range
    if not minimum <= result <= maximum:
        raise ConversionError(f"{show(value)} is not between {minimum:g} and {maximum:g}")
    return result


_CONVERTERS: dict[str, Callable[[Any, Type], Any]] = {
    "text": lambda value, _: text(value),
    "string": lambda value, _: text(value),
    "markdown": lambda value, _: text(value),
    "integer": lambda value, _: integer(value),
    "number": lambda value, _: number(value),
    "boolean": lambda value, _: boolean(value),
    "list": lambda value, _: _list(value),
    "object": _object,
    "json": lambda value, _: parse_json(value) if isinstance(value, str) else value,
    "messages": lambda value, _: _conversation(value),
    "base64": lambda value, _: _base64(value),
    "select": _select,
    "slider": _slider,
}

TYPE_NAMES = tuple(_CONVERTERS)
TYPE_HELP = {
    "text": "Any value, as text. In a form, a field of several lines.",
    "number": "A finite number, or its text.",
    "integer": "A whole number, or its text.",
    "boolean": "true or false, also as yes, no, on, off, 1 or 0. In a form, a switch.",
    "select": "One of the words behind the slash, as in select/short,long.",
    "slider": "A number between two others, as in slider/0,2,0.1: minimum, maximum, step.",
    "messages": "A chat's messages: a list of them, its JSON, or a text of the user's.",
    "list": "A list, or its JSON.",
    "object": "A mapping, or its JSON; object/a,b.c picks keys.",
    "json": "Any value; a text is read as JSON.",
    "markdown": "The same as text.",
    "string": "The same as text.",
    "base64": "Text or bytes, as base64.",
}
"""What a value may be of each type, for editors: the likeliest first."""
_TAKES_OPTIONS = ("select", "slider", "object")


def check_type(type_: Type) -> None:
    """Raise ConversionError where a written type makes no sense: ``text/plain``, ``slider/1``."""
    if len(type_.options) > MAX_OPTIONS:
        raise ConversionError(
            f"type '{type_.name}' has {len(type_.options):,} words after its slash, and takes at"
            f" most {MAX_OPTIONS:,}"
        )
    if type_.options and type_.name not in _TAKES_OPTIONS:
        raise ConversionError(
            f"type '{type_.name}' takes nothing after a slash; {', '.join(_TAKES_OPTIONS)} do"
        )
    if type_.name == "select" and not type_.options:
        raise ConversionError("type 'select' needs its choices, as in select/a,b,c")
    if type_.name == "slider":
        if len(type_.options) not in (2, 3):
            raise ConversionError("type 'slider' needs its range, as in slider/0,1,0.1")
        minimum, maximum, step = type_.range
        if minimum >= maximum:
            raise ConversionError("a slider's minimum must be below its maximum")
        if step is not None and step <= 0:
            raise ConversionError("a slider's step must be above 0")


def convert(value: Any, type_: Type) -> Any:
    """A value as ``type_``, or ConversionError. Null stays null: it is the absence of a value."""
    if value is None:
        return None
    if type_.is_list:
        kind = Type(type_.name, type_.options)
        return [convert(element, kind) for element in _list(value)]
    return _CONVERTERS[type_.name](value, type_)
